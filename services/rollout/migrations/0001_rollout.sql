-- Where commits come from. A row is a document of a user and what was seen of the repository it names.
create table git_repository (
    namespace text not null,
    repository text not null,
    manifest text not null,
    version bigint not null default 1,
    -- Absent before the first successful look.
    commit_id text,
    commit_seen_at timestamptz,
    fetched_at timestamptz,
    -- What is wrong with it, for people; empty if nothing.
    problem text not null default '',
    -- The next look; wound back to ask for one now.
    due_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    constraint git_repository_key primary key (namespace, repository)
);

create index git_repository_due on git_repository (due_at);

-- What is released, and where to.
create table application (
    namespace text not null,
    application text not null,
    manifest text not null,
    version bigint not null default 1,
    state text not null default 'pending',
    reason text not null default '',
    -- The release on its way or completed last; absent before the first.
    current_release text,
    -- What the last decision on a commit was taken from: commit, manifest and targets, hashed. Empty: none yet.
    decided_from text not null default '',
    -- Why the last commit is not released (it does not render, it is blocked); empty if nothing is in its way.
    problem text not null default '',
    -- The commit of the last completed release: where a range to revert begins.
    completed_commit text,
    -- Numbers its releases.
    releases integer not null default 0,
    traceparent text not null default '',
    created_at timestamptz not null default now(),
    constraint application_key primary key (namespace, application)
);

-- What a target of an application runs, whichever release brought it.
create table application_target (
    namespace text not null,
    application text not null,
    cluster text not null,
    -- What it is told to run now, before copies and weights are composed; absent before the first.
    desired_digest text,
    -- What the last completed release rendered for it; moves when a release completes, never per wave.
    last_good_digest text,
    -- Managed workload to the subset that routes know its copy by, of last good.
    last_good_subsets jsonb not null default '{}',
    -- It may run something else than last good.
    touched boolean not null default false,
    constraint application_target_key primary key (namespace, application, cluster),
    constraint application_target_of foreign key (namespace, application) references application on delete cascade
);

-- Every rendering that a completed release brought to a target: what takes the fast lane.
create table completed_rendering (
    namespace text not null,
    application text not null,
    cluster text not null,
    rendered_digest text not null,
    constraint completed_rendering_key primary key (namespace, application, cluster, rendered_digest),
    constraint completed_rendering_of foreign key (namespace, application) references application on delete cascade
);

-- Renderings that failed and are not deployed again by themselves.
create table blocked_rendering (
    namespace text not null,
    application text not null,
    cluster text not null,
    rendered_digest text not null,
    -- The release that failed with it.
    release text not null,
    constraint blocked_rendering_key primary key (namespace, application, cluster, rendered_digest),
    constraint blocked_rendering_of foreign key (namespace, application) references application on delete cascade
);

-- One commit on its way.
create table release (
    namespace text not null,
    application text not null,
    release text not null,
    number integer not null,
    version bigint not null default 1,
    commit_id text not null,
    title text not null,
    state text not null,
    fast_lane boolean not null,
    reason text not null default '',
    -- From 0.
    wave integer not null default 0,
    step integer not null default 0,
    promoted boolean not null default false,
    -- The application's document as the release was made from it: its waves and its traffic.
    manifest text not null,
    -- What led to its renderings, relative to the repository's root: the paths a revert looks at.
    paths text[] not null default '{}',
    model_version text not null default '',
    -- Revision of the policies its verdict was taken from; empty before the verdict.
    policy_revision text not null default '',
    warnings text[] not null default '{}',
    revert text not null default 'none',
    -- Commits that the revert takes back, newest first.
    revert_commits text[] not null default '{}',
    revert_commit text not null default '',
    revert_due_at timestamptz not null default now(),
    -- When a time alone may change something; absent: only an observation.
    due_at timestamptz,
    traceparent text not null default '',
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint release_key primary key (namespace, application, release),
    constraint release_number unique (namespace, application, number),
    constraint release_of foreign key (namespace, application) references application on delete cascade
);

create index release_age on release (created_at desc, namespace, application, number desc);
create index release_open on release (state) where state in ('pending', 'progressing', 'paused', 'rolling_back');
create index release_revert on release (revert_due_at) where revert = 'pending';

-- A release at one cluster.
create table release_target (
    namespace text not null,
    application text not null,
    release text not null,
    cluster text not null,
    -- From 0.
    wave integer not null,
    rendered_digest text not null,
    last_good_digest text,
    -- Where the state machine stands with it: domain::release::Target.
    progress jsonb not null,
    -- Copies of the candidate by managed workload (subset), as composed last.
    subsets jsonb not null default '{}',
    -- What its pods are called in metrics.
    candidate_version text not null default '',
    candidate_revision text not null default '',
    -- The item's revision in desired_item when it was told last; an older one is not this target's.
    told_revision bigint not null default 0,
    constraint release_target_key primary key (namespace, application, release, cluster),
    constraint release_target_of foreign key (namespace, application, release) references release on delete cascade
);

-- What gates measured. Rows of one round share a time.
create table measurement (
    measurement_id bigint generated always as identity primary key,
    namespace text not null,
    application text not null,
    release text not null,
    cluster text not null,
    wave integer not null,
    step integer not null,
    query text not null,
    value double precision,
    verdict text not null,
    reason text not null,
    measured_at timestamptz not null,
    constraint measurement_of foreign key (namespace, application, release) references release on delete cascade
);

create index measurement_release on measurement (namespace, application, release, measurement_id);

-- What happened to a release.
create table release_transition (
    release_transition_id bigint generated always as identity primary key,
    namespace text not null,
    application text not null,
    release text not null,
    state text not null,
    wave integer not null,
    reason text not null,
    happened_at timestamptz not null,
    constraint release_transition_of foreign key (namespace, application, release) references release on delete cascade
);

create index release_transition_release on release_transition (namespace, application, release, release_transition_id);

-- Object lists by digest: what was rendered, and what was composed of it.
create table bundle (
    digest text constraint bundle_key primary key,
    content bytea not null,
    -- Whether the registry has it.
    uploaded boolean not null default false,
    created_at timestamptz not null default now()
);

-- What the registry is to be told, by cluster and item.
create table desired_item (
    cluster text not null,
    item text not null,
    bundle_digest text not null,
    self_heal boolean not null,
    prune boolean not null,
    tombstone boolean not null default false,
    traceparent text not null,
    -- Counts changes; the registry has it where pushed_revision is equal.
    revision bigint not null default 1,
    pushed_revision bigint not null default 0,
    -- The generation under which the registry took the pushed revision.
    incarnation bigint not null default 0,
    generation bigint not null default 0,
    pushed_at timestamptz,
    constraint desired_item_key primary key (cluster, item)
);

create index desired_item_open on desired_item (cluster) where pushed_revision < revision;

-- The number of our last change of a cluster's desired state.
create table cluster_generation (
    cluster text constraint cluster_generation_key primary key,
    generation bigint not null
);

-- The latest word of an agent about an item.
create table observation (
    cluster text not null,
    item text not null,
    incarnation bigint not null,
    generation bigint not null,
    phase text not null,
    reason text not null,
    message text not null,
    observed_at timestamptz not null default now(),
    constraint observation_key primary key (cluster, item)
);

-- Projection of the registry's clusters.
create table cluster (
    cluster text constraint cluster_key primary key,
    -- domain::cluster::Cluster.
    state jsonb not null,
    version bigint not null
);

-- Projection of the registry's fleets.
create table fleet (
    fleet text constraint fleet_key primary key,
    members text[] not null
);

-- What training makes.
create table model (
    model text constraint model_key primary key,
    manifest text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now()
);

create table model_version (
    model text not null,
    model_version text not null,
    digest text not null,
    uri text not null,
    completed_at timestamptz not null,
    image text not null,
    metrics jsonb not null,
    dataset text not null,
    job text not null,
    run_epoch bigint not null,
    event text not null,
    commit_state text not null,
    commit_id text not null default '',
    reason text not null default '',
    due_at timestamptz not null default now(),
    attempts integer not null default 0,
    traceparent text not null,
    created_at timestamptz not null default now(),
    constraint model_version_key primary key (model, model_version),
    constraint model_version_digest unique (model, model_version, digest),
    constraint model_version_of foreign key (model) references model
);

create index model_version_newest on model_version (model, completed_at desc);
create index model_version_open on model_version (due_at) where commit_state in ('pending', 'blocked');

-- Events of strangers that were taken, within a window of thirty days.
create table inbound_event (
    source text not null,
    id text not null,
    received_at timestamptz not null default now(),
    constraint inbound_event_key primary key (source, id)
);

create index inbound_event_age on inbound_event (received_at);
