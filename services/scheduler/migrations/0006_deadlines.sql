-- When a job should be done, if it says so.
alter table job add column deadline timestamptz;
