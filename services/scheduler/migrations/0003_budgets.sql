-- How long a run counts in budgets at least while it is not over, in milliseconds. A run from before counts with what it has used.
alter table run add column counted_ms bigint not null default 0;

-- A budget counts what ended within its window.
create index cost_of_queue_until on cost (queue, finished_at);
drop index cost_of_queue;
