-- Workers of its elastic group that a run had before it was told to have more, until its cluster has those.
alter table run add column grown_from integer;
-- When its cluster last refused to have it larger, and how many workers are there, until it is decided what it gives back.
alter table run add column refused_at timestamptz;
alter table run add column refused_workers integer;
