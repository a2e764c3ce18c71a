-- What the agents' evaluation of live workloads says, row by row, so that a change costs what changed.
create sequence verdict_version;

create table verdict_set (
    verdict_set_id bigint generated always as identity primary key,
    cluster_id bigint not null references cluster on delete cascade,
    owner text not null,
    name text not null,
    -- Which generation of the item was evaluated.
    incarnation bigint not null,
    generation bigint not null,
    -- The last change: a number of verdict_version, and the life of the database that gave it.
    version_incarnation bigint not null,
    version bigint not null,
    -- The version since which it is known which rows went.
    horizon bigint not null,
    -- The exclusive or of the keys of the rows that are held.
    digest bytea not null,
    held integer not null,
    gone integer not null,
    evaluated_at timestamptz not null,
    constraint verdict_set_of_an_item unique (cluster_id, owner, name)
);

create table verdict (
    verdict_set_id bigint not null references verdict_set on delete cascade,
    key bytea not null,
    -- A VerdictRow without its key.
    body bytea not null,
    -- The version in which it came or went last.
    version bigint not null,
    is_held boolean not null,
    primary key (verdict_set_id, key)
);

create index verdict_version_of_set on verdict (verdict_set_id, version);

-- Verdicts stood in the observations, whole, before.
update observation set body = body - 'verdicts' where owner = 'policy';
update event set state = state #- '{observation,verdicts}' where aggregate like 'clusters/%/items/policy/%';
