-- Policies, what binds them to fleets, what was sent to clusters, and what clusters reported.

-- The contents of policies, by digest: the same policy from two places is one row.
create table document (
    digest text primary key,
    content jsonb not null
);

-- Policies by name.
create table policy (
    policy_id text primary key,
    -- The namespace its manifest named; the same name from another one is a collision.
    namespace text not null,
    manifest text not null,
    digest text not null constraint policy_document references document (digest),
    rules jsonb not null,
    version bigint not null,
    created_at timestamptz not null default clock_timestamp()
);

-- Bindings of policies to a fleet.
create table fleet_policy (
    fleet_policy_id text primary key,
    namespace text not null,
    manifest text not null,
    fleet_id text not null,
    version bigint not null,
    created_at timestamptz not null default clock_timestamp()
);

-- One policy of a binding. `own_digest` is what it brings itself (inline, or from git); `digest` is what holds, and is
-- null, with the problem, while nothing does.
create table bound_policy (
    fleet_policy_id text not null constraint bound_policy_of references fleet_policy (fleet_policy_id) on delete cascade,
    position integer not null,
    policy_id text not null,
    source text not null constraint bound_policy_source check (source in ('policy', 'inline', 'git')),
    repository text constraint bound_policy_repository check ((repository is null) = (source <> 'git')),
    path text constraint bound_policy_path check ((path is null) = (source <> 'git')),
    action text constraint bound_policy_action check (action in ('audit', 'enforce')),
    namespaces text[] not null,
    allow_not_evaluated boolean not null,
    own_digest text constraint bound_policy_own references document (digest),
    commit_id text not null,
    fetch_problem text not null,
    digest text constraint bound_policy_document references document (digest),
    problem text not null,
    primary key (fleet_policy_id, position)
);

create index bound_policy_name on bound_policy (policy_id);

-- Raised with every change that may change a verdict.
create table policy_revision (
    one boolean primary key default true constraint policy_revision_is_one check (one),
    n bigint not null
);

insert into policy_revision (n) values (1);

-- Projection of the registry's clusters.
create table cluster (
    cluster_id text primary key,
    is_enrolled boolean not null,
    runs_kyverno boolean not null
);

-- Projection of the registry's fleets.
create table fleet_member (
    fleet_id text not null,
    cluster_id text not null,
    primary key (fleet_id, cluster_id)
);

create index fleet_member_cluster on fleet_member (cluster_id);

-- What a cluster was last told, and the number it was told under.
create table distribution (
    cluster_id text primary key,
    generation bigint not null,
    incarnation bigint not null,
    content_digest text not null,
    policies text[] not null
);

-- What a cluster's agent said last, and about which generation.
create table observation (
    cluster_id text primary key,
    generation bigint not null,
    incarnation bigint not null,
    observed_at timestamptz not null
);

-- Its report, a row a policy.
create table policy_report (
    cluster_id text not null constraint policy_report_of references observation (cluster_id) on delete cascade,
    policy_id text not null,
    rules jsonb not null,
    violations jsonb not null,
    failing bigint not null,
    primary key (cluster_id, policy_id)
);
