-- What a GPU draws, and what a GPU-hour emits, as they were at the decision, so that a run's energy and emissions are counted as its money
-- is. Null where nobody said; a run from before counts as nothing.
alter table run add column watts integer;
alter table run add column emissions_mg bigint;
alter table cost add column watts integer;
-- Milligrams of CO2e per GPU-hour.
alter table cost add column emissions_mg bigint;
