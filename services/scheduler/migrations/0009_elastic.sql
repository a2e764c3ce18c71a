-- Runs of elastic gangs change their size. `slots` and `gpus` are of the size that is charged, the workers that were told to leave and have
-- not yet included; these are here too.
alter table run add column leaving jsonb not null default '[]';
-- When it got its present size, and the work that it had done by then, in milliseconds at the full size and normal speed; null and 0 as
-- long as it has the size with which it began.
alter table run add column sized_at timestamptz;
alter table run add column done_ms bigint not null default 0;
-- Which part of the full gang it is, in thousandths.
alter table run add column part_permille integer not null default 1000;
-- Whether its object has another number of workers than it should: a verdict is to be taken of one that has not.
alter table run add column resizing boolean not null default false;

create index run_resizing on run (placed_at, job_id) where wanted and resizing;

-- A run is charged by piece, one for each size that it has had, in their order.
alter table cost add column piece integer not null default 0;
alter table cost drop constraint cost_pkey;
alter table cost add primary key (job_id, epoch, piece);
