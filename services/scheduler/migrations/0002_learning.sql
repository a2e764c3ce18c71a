-- What a new leader learns from: the jobs that ran and ended last.
create index job_finished on job (finished_at desc) where finished_at is not null and started_at is not null and not charged;
