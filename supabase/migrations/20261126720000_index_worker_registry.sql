-- Purpose: what is asked of the registry and the intents all the time costs the same after years of history, and however many rows wait.
-- Writers wait while an index is built: a second or two for a million rows. One that is built CONCURRENTLY would have to stand
-- outside of the transaction, and where it failed half-way its ruin would pass for the index.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- At once all that is needed below: building an index takes less, and a claim that came in between would be in the way of dropping
-- the old one, as this would be in its: a deadlock, which the migration always lost.
do $$ begin lock table osp_metadata.worker_registry in access exclusive mode; end $$;

-- The claim reads the oldest of those that wait or are worked on. Only the claim says `deployment_status || ''`, so nothing else
-- is planned on this index, nor the claim on another: while few rows wait, reading all of them looks as cheap as reading the
-- oldest, or as looking one service or one row up, and a plan that is kept from then on reads every row that waits, also when
-- thousands do.
create index if not exists worker_registry_claimable_idx on osp_metadata.worker_registry (created_at, id)
where deployment_status || '' in ('pending', 'deploying');
drop index if exists osp_metadata.worker_registry_claim_idx;

-- A renewal finds its rows by their tokens. The expiry is in no index, so that a renewal writes to none (a HOT update).
create index if not exists worker_registry_lease_token_idx on osp_metadata.worker_registry (lease_token)
where lease_token is not null;

-- By status alone this index was a trap of the same kind: to find what waits of one service the planner read all that waits, or
-- did not, as its last sample of the table had it. With the service in it either way is short, and so is that to what runs of
-- a service: its older revisions, of which one that is edited all day has thousands, are not read.
drop index if exists osp_metadata.idx_worker_registry_status;
create index idx_worker_registry_status on osp_metadata.worker_registry (deployment_status, service_schema);

-- What people ask: the last days, and the last failures, however long ago those were.
create index if not exists worker_registry_created_at_idx on osp_metadata.worker_registry (created_at);
create index if not exists worker_registry_failed_idx on osp_metadata.worker_registry (created_at)
where deployment_status = 'failed';

-- The claim asks what of a service has served, and which id the newest of that had. Only this index has the order that it asks
-- for: of a service that is edited all day thousands of revisions never served, and any other index leads through all of them.
create index if not exists worker_registry_served_idx on osp_metadata.worker_registry (service_schema, deployed_at)
where deployed_at is not null;

-- Whose worker has fallen silent, asked by people and by each look after the workers. Each sight of a worker writes to this
-- index, and so to all others: of a hundred thousand workers, once a minute each, that is a few seconds of it.
create index if not exists worker_registry_health_idx on osp_metadata.worker_registry (last_health_check)
where deployment_status = 'deployed';

-- Every taking looks for intents that ended the Edge Function too often, mostly in vain, however many wait.
create index if not exists service_intents_exhausted_idx on osp_metadata.service_intents (service_schema)
where revision > enqueued_revision and attempts >= 5;
