-- When the revision was made: exceptions hold that had not ended by then, so that equal revisions mean equal verdicts.
alter table policy_revision add column as_of timestamptz not null default clock_timestamp();
