-- How many objects of a cluster broke a policy, as last seen in the hours in which that changed.
create table compliance_change (
    cluster_id text not null,
    policy_id text not null,
    -- The hour's start, by our clock: clusters' clocks differ.
    hour timestamptz not null,
    failing bigint not null,
    primary key (cluster_id, policy_id, hour)
);
