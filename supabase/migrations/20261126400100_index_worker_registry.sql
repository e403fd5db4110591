-- Purpose: what is asked of the registry all the time costs the same after years of history, and however many rows wait.
-- Writers wait while an index is built: a second or two for a million rows. One that is built CONCURRENTLY would have to stand
-- outside of the transaction, and where it failed half-way its ruin would pass for the index.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- The claim reads the oldest of those that wait or are worked on. Only the claim says `created_at > '-infinity'`, so nothing
-- else is planned on this index: while few rows wait, reading all of it looks as cheap as looking one service or one row up,
-- and a plan that is kept from then on reads every row that waits, also when thousands do.
create index if not exists worker_registry_claimable_idx on osp_metadata.worker_registry (created_at, id)
where deployment_status in ('pending', 'deploying') and created_at > '-infinity';
drop index if exists osp_metadata.worker_registry_claim_idx;

-- A renewal finds its rows by their tokens. The expiry is in no index, so that a renewal writes to none (a HOT update).
create index if not exists worker_registry_lease_token_idx on osp_metadata.worker_registry (lease_token)
where lease_token is not null;

-- What runs of a service, without a look at its older revisions: one that is edited all day has thousands.
create index if not exists worker_registry_deployed_idx on osp_metadata.worker_registry (service_schema, revision)
where deployment_status = 'deployed';

-- What people ask: the last days, and the last failures, however long ago those were.
create index if not exists worker_registry_created_at_idx on osp_metadata.worker_registry (created_at);
create index if not exists worker_registry_failed_idx on osp_metadata.worker_registry (created_at)
where deployment_status = 'failed';
