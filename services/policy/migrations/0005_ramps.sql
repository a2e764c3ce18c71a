-- Where clusters stand and how they are labelled, for the waves of ramps.
alter table cluster add column labels jsonb not null default '{}';

-- Bindings that go from audit to enforce in waves.
create table ramp (
    fleet_policy_id text primary key constraint ramp_of references fleet_policy (fleet_policy_id) on delete cascade,
    spec jsonb not null,
    -- Digest of what is ramped; empty before the first step.
    digest text not null,
    state text not null constraint ramp_state check (state in ('soaking', 'stopped', 'paused', 'completed', 'aborted')),
    wave integer not null,
    began_at timestamptz not null,
    soaking_since timestamptz,
    reason text not null,
    -- Clusters that enforce, with the wave that took them.
    turned jsonb not null,
    -- Objects that failed when the wave began, by cluster and policy.
    baseline jsonb not null
);
