-- Which of the registry's versions of a cluster's verdicts the reports are made of.
alter table observation
    add column version_incarnation bigint not null default 0,
    add column version bigint not null default 0;
