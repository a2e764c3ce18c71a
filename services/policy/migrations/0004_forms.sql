-- What a cluster serves decides in which form it has a policy; null: not known yet, and the cluster is told nothing.
alter table cluster add column served jsonb;
alter table cluster drop column runs_kyverno;

-- The form of each policy in what a cluster was told last.
alter table distribution add column forms jsonb not null default '[]';

-- How far a cluster's agent came with applying what it was told.
create table installation (
    cluster_id text primary key,
    generation bigint not null,
    incarnation bigint not null,
    observed_at timestamptz not null,
    stage text not null constraint installation_stage check (stage in ('applying', 'in_force', 'refused')),
    message text not null
);
