-- What moving data into the cluster costs, by the region it comes out of: resolved from the price books as prices are.
alter table cluster add column egress jsonb not null default '[]';
