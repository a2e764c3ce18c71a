-- Whether a run may differ from what its cluster was told of it, so that telling a cluster of one run does not read all others.
alter table run add column untold boolean not null default true;

create index run_untold on run (cluster) where untold;

-- Whether a cluster's whole desired state is to be held against what it was told: after it was adopted, when a queue that it
-- holds has changed, and when rows of runs that it may still hold are gone.
alter table desired_cluster add column whole boolean not null default true;

-- Runs that are not over, by cluster, and the few jobs that wait for a lost cluster: looked for twice a second.
create index run_not_over on run (cluster) where finished_at is null;
create index job_lost on job (job_id) where state = 'lost';
