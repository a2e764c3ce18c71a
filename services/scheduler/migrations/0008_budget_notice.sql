-- When it was last told that a budget is spent: once in each of its windows, whoever leads.
create table budget_notice (
    queue text not null references queue (name) on delete cascade,
    -- Its place among the queue's budgets, from 0.
    number integer not null,
    told_at timestamptz not null,
    primary key (queue, number)
);
