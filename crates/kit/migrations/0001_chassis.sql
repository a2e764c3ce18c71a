-- The chassis' own tables; they stand in every service's database.

-- Which life of the database this is. Raised when the Postgres system or its timeline changes (a restore, a failover
-- that lost something), and when a peer shows that it remembers more.
create table incarnation (
    one boolean primary key default true constraint incarnation_is_one check (one),
    incarnation bigint not null,
    system_identifier text not null,
    timeline integer not null
);

-- What happened, once: feeds Kafka and Watch. Read in (xid, event_id) order and only below the snapshot's horizon,
-- since transactions commit in another order than their ids.
create table event (
    event_id bigint generated always as identity primary key,
    xid xid8 not null default pg_current_xact_id(),
    topic text not null,
    type text not null,
    aggregate text not null,
    version bigint not null,
    deleted boolean not null,
    state jsonb not null,
    traceparent text not null,
    occurred_at timestamptz not null default clock_timestamp()
);

create index event_order on event (xid, event_id);

-- Up to where the log has been cut off at its old end: a cursor before it is too old.
create table event_horizon (
    one boolean primary key default true constraint event_horizon_is_one check (one),
    xid xid8 not null,
    event_id bigint not null
);

insert into event_horizon (xid, event_id) values ('0', 0);

-- How far the relay has published.
create table relay_cursor (
    one boolean primary key default true constraint relay_cursor_is_one check (one),
    xid xid8 not null,
    event_id bigint not null
);

insert into relay_cursor (xid, event_id) values ('0', 0);

-- How far a consumer has come in a partition, advanced by compare-and-set in the transaction of the effect.
create table consumer_offset (
    kafka_cluster text not null,
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    primary key (kafka_cluster, topic, partition)
);

-- Answers to mutations that carried a request_id (AIP-155), kept for a day.
create table request (
    caller text not null,
    method text not null,
    request_id uuid not null,
    request_digest bytea not null,
    response bytea,
    created_at timestamptz not null default now(),
    primary key (caller, method, request_id)
);

create index request_age on request (created_at);

-- Who changed what, in the transaction of the change.
create table audit (
    audit_id bigint generated always as identity primary key,
    caller text not null,
    action text not null,
    resource text not null,
    traceparent text not null,
    at timestamptz not null default clock_timestamp()
);

create index audit_resource on audit (resource, audit_id);

-- Who leads. The epoch rises with every change of holder; an older one is refused.
create table lease (
    name text primary key,
    holder uuid not null,
    epoch bigint not null,
    expires_at timestamptz not null
);
