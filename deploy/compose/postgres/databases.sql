-- One for each service; each makes its own tables.
create database muster_registry;
create database muster_scheduler;
create database muster_rollout;
create database muster_policy;
