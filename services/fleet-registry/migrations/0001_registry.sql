-- Clusters: declared by an administrator, a token or a fleet's manifest; known by their kube-system UID once enrolled.
create table cluster (
    cluster_id bigint generated always as identity primary key,
    name text not null constraint cluster_name_is_taken unique,
    uid text constraint cluster_uid_is_taken unique,
    version bigint not null default 1,
    state text not null,
    reason text not null default '',
    schedulability text not null default 'open',
    labels jsonb not null default '{}',
    region text not null default '',
    takes_jobs boolean not null default false,
    -- What the agent said last, as it said it.
    preflight jsonb,
    inventory jsonb,
    agent_version text not null default '',
    -- Denormalised from fleets and price books, so that a change of either is a change of the cluster.
    fleets jsonb not null default '[]',
    prices jsonb not null default '[]',
    -- Certificates that may connect: the current one and, until that is first used, the one before.
    fingerprint text,
    previous_fingerprint text,
    -- The stream that counts; a later one takes its place.
    session uuid,
    -- Counts desired changes of this cluster, for whichever replica holds its stream.
    desired_sequence bigint not null default 0,
    remove_workloads boolean not null default false,
    last_seen_at timestamptz,
    -- Since when it has been heard without a gap.
    steady_since_at timestamptz,
    lease_expires_at timestamptz,
    enrolled_at timestamptz,
    created_at timestamptz not null default now()
);

create table fleet (
    fleet_id bigint generated always as identity primary key,
    name text not null constraint fleet_name_is_taken unique,
    version bigint not null default 1,
    manifest text not null,
    -- Of the manifest; the same fleet from another namespace is a collision.
    namespace text not null,
    created_at timestamptz not null default now()
);

create table price_book (
    price_book_id bigint generated always as identity primary key,
    name text not null constraint price_book_name_is_taken unique,
    version bigint not null default 1,
    manifest text not null,
    created_at timestamptz not null default now()
);

create table enrolment_token (
    enrolment_token_id bigint generated always as identity primary key,
    name text not null constraint enrolment_token_name_is_taken unique,
    version bigint not null default 1,
    cluster text not null,
    secret_hash bytea not null constraint enrolment_token_secret_is_taken unique,
    expires_at timestamptz not null,
    used_at timestamptz,
    created_at timestamptz not null default now()
);

create table access_token (
    access_token_id bigint generated always as identity primary key,
    name text not null constraint access_token_name_is_taken unique,
    version bigint not null default 1,
    subject text not null,
    role text not null,
    secret_hash bytea not null constraint access_token_secret_is_taken unique,
    expires_at timestamptz,
    created_at timestamptz not null default now()
);

-- Manifests by content: stored once for every cluster.
create table bundle (
    digest text primary key,
    content bytea not null,
    created_at timestamptz not null default now()
);

-- The greatest leader epoch an owner has shown; older ones are refused.
create table owner_epoch (
    owner text primary key,
    epoch bigint not null
);

-- The owner's last change of a cluster.
create table desired_owner (
    cluster_id bigint not null references cluster on delete cascade,
    owner text not null,
    generation bigint not null,
    content_digest text not null,
    primary key (cluster_id, owner)
);

create table desired_item (
    cluster_id bigint not null references cluster on delete cascade,
    owner text not null,
    name text not null,
    incarnation bigint not null,
    generation bigint not null,
    -- The cluster's desired_sequence when it was written.
    sequence bigint not null,
    bundle_digest text constraint desired_item_has_its_bundle references bundle,
    tombstone boolean not null,
    -- The rest of the item, as proto3 JSON.
    options jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (cluster_id, owner, name)
);

create index desired_item_sequence on desired_item (cluster_id, sequence);
create index desired_item_bundle on desired_item (bundle_digest);

-- The latest observation of every item.
create table observation (
    cluster_id bigint not null references cluster on delete cascade,
    owner text not null,
    name text not null,
    incarnation bigint not null,
    generation bigint not null,
    version bigint not null,
    -- The observation as proto3 JSON.
    body jsonb not null,
    stored_at timestamptz not null default now(),
    primary key (cluster_id, owner, name)
);

create index observation_owner on observation (owner, cluster_id, name);

-- Questions to an agent and its answers, so that any replica may ask and the one with the stream answers.
create table link_request (
    request_id uuid primary key,
    cluster_id bigint not null references cluster on delete cascade,
    request bytea not null,
    sent boolean not null default false,
    created_at timestamptz not null default now()
);

create index link_request_cluster on link_request (cluster_id) where not sent;

create table link_answer (
    request_id uuid not null references link_request on delete cascade,
    sequence bigint generated always as identity,
    answer bytea not null,
    primary key (request_id, sequence)
);
