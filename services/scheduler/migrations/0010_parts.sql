-- A run whose gang spans several clusters has a row for each of them, its parts, numbered from 0. Every other run is part 0 alone.
alter table run add column part integer not null default 0;
alter table run drop constraint run_pkey;
alter table run add primary key (job_id, epoch, part);

-- Each part is charged at its own cluster's price.
alter table cost add column part integer not null default 0;
alter table cost drop constraint cost_pkey;
alter table cost add primary key (job_id, epoch, part, piece);
