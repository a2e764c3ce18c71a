-- What moving a run's dataset to its cluster is estimated to cost, once, at the decision: millionths, and their currency (ISO 4217). Null
-- where nothing was moved, or where nobody says what that costs.
alter table run add column egress_micros bigint;
alter table run add column egress_currency text;
alter table cost add column egress_micros bigint;
alter table cost add column egress_currency text;
