-- Queues, jobs, runs, what they cost, what clusters are told of them, and the projection of the registry's clusters.

-- Rises with every change of a queue or a cluster, so that what is derived from them knows when it is old.
create sequence scheduling_revision;

-- Manifests by content: a million queued jobs share their templates.
create table manifest (
    digest text primary key,
    content text not null
);

create table queue (
    queue_id bigint generated always as identity primary key,
    name text not null constraint queue_name_is_unique unique,
    -- Queues have no namespace here; two of one name from two namespaces collide.
    namespace text not null,
    manifest text not null,
    version bigint not null default 1,
    revision bigint not null default nextval('scheduling_revision'),
    created_at timestamptz not null
);

create table job (
    -- Also the order of submission among equal times.
    job_id bigint generated always as identity primary key,
    namespace text not null,
    name text not null,
    queue text not null,
    manifest_digest text not null references manifest,
    -- volcano, batch, jobset, pytorch, ray
    kind text not null,
    -- The engine's gang, as JSON.
    gang jsonb not null,
    gpus integer not null,
    priority integer not null,
    max_retries integer not null,
    movable boolean not null,
    model text not null,
    state text not null,
    reason text not null,
    -- Of the latest run; 0 before the first.
    epoch integer not null default 0,
    -- Whether that run is charged to the queue and holds its nodes: from the decision until its end is known.
    charged boolean not null default false,
    retries integer not null default 0,
    -- End of the back-off.
    not_before timestamptz,
    -- Revision of all policies that the last verdict was taken from.
    policy_revision text not null,
    traceparent text not null,
    -- The last 50 changes of state, oldest first.
    history jsonb not null default '[]',
    version bigint not null default 1,
    submitted_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    constraint job_name_is_unique unique (namespace, name)
);

-- What counts against a queue, and what an engine is folded from: the few jobs that are not over.
create index job_of_queue on job (queue) where state not in ('succeeded', 'failed', 'cancelled', 'refused') or charged;
create index job_not_over on job (job_id) where state not in ('succeeded', 'failed', 'cancelled', 'refused') or charged;
create index job_charged on job (job_id) where charged;
create index job_of_manifest on job (manifest_digest);

create table run (
    job_id bigint not null references job on delete cascade,
    epoch integer not null,
    cluster text not null,
    flavor text not null,
    gpus integer not null,
    -- The plan: [{group, node, workers}].
    slots jsonb not null,
    -- Price of a GPU-hour at the decision, in millionths; null without a price.
    price_micros bigint,
    currency text not null,
    state text not null,
    reason text not null,
    -- Why it is to end early: cancel, suspend, move, refuse; null while it is not.
    stopping text,
    -- Whether the cluster should hold it.
    wanted boolean not null default true,
    -- Its composed object; null until the verdict at dispatch has allowed it.
    bundle_digest text,
    -- The generation that removed its item; null while it was not.
    removed_generation bigint,
    pods jsonb not null default '{}',
    traceparent text not null,
    placed_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    primary key (job_id, epoch)
);

create index run_wanted on run (cluster) where wanted;
create index run_uncleared on run (placed_at, job_id) where wanted and bundle_digest is null;
create index run_to_retire on run (finished_at) where wanted;
create index run_of_bundle on run (bundle_digest) where wanted;

-- What each run that began is charged for. Stays when the job is deleted.
create table cost (
    job_id bigint not null,
    epoch integer not null,
    namespace text not null,
    job text not null,
    queue text not null,
    model text not null,
    cluster text not null,
    gpus integer not null,
    -- Millionths of the currency per GPU-hour at the decision; null without a price.
    price_micros bigint,
    currency text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    primary key (job_id, epoch)
);

create index cost_of_queue on cost (queue);

-- The registry's clusters, as far as scheduling needs them.
create table cluster (
    name text primary key,
    facts jsonb not null,
    -- Until then movable runs are certainly allowed to run there.
    lease_expires_at timestamptz,
    revision bigint not null default nextval('scheduling_revision')
);

-- What the leader's engine has not yet seen: any replica adds, the leader takes away in the transaction in which it
-- decides. Taking away, and no cursor, is what makes late commits harmless.
create table inbox (
    inbox_id bigint generated always as identity primary key,
    -- job (by row number), queue or cluster (by name)
    kind text not null,
    subject text not null
);

-- Per cluster: the last change we numbered, and whether there may be another.
create table desired_cluster (
    cluster text primary key,
    generation bigint not null default 0,
    dirty boolean not null default true
);

-- What a cluster was told last, the pending change included.
create table desired_item (
    cluster text not null,
    name text not null,
    generation bigint not null,
    -- The registry's; null until it has answered.
    incarnation bigint,
    bundle_digest text not null,
    traceparent text not null,
    run text,
    movable boolean not null,
    after text[] not null,
    primary key (cluster, name)
);

create index desired_item_of_bundle on desired_item (bundle_digest);

-- The change that was numbered and is not known to be applied. At most one a cluster; sent until answered.
create table desired_change (
    cluster text primary key,
    base_generation bigint not null,
    generation bigint not null,
    content_digest text not null,
    upserts text[] not null,
    deletes text[] not null
);

-- Bundles that some item names.
create table bundle (
    digest text primary key,
    content bytea not null
);
