-- Purpose: the outbox. One durable row per service: its newest revision and what that wants.
-- Written in the transaction of the change itself, so a committed change is never lost and a rolled-back one never deploys.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create table if not exists osp_metadata.service_intents (
  service_schema text not null,
  revision integer not null,
  wanted text not null,
  source text not null,
  requested_at timestamptz not null default clock_timestamp(),
  requested_by text not null,
  deployment_id uuid not null default gen_random_uuid(),
  enqueued_revision integer not null default 0,
  attempts integer not null default 0,
  lease_token uuid,
  lease_expires_at timestamptz,
  last_error text,
  last_error_at timestamptz,
  constraint service_intents_pkey primary key (service_schema),
  constraint service_intents_revision_check check (revision >= 1),
  constraint service_intents_wanted_check check (wanted in ('run', 'stop')),
  constraint service_intents_enqueued_revision_check check (enqueued_revision between 0 and revision),
  constraint service_intents_last_error_check check ((last_error is null) = (last_error_at is null))
);
comment on table osp_metadata.service_intents is 'What each service should come to. One row per service ever seen, kept after it is deleted so that revisions are never numbered twice.';
comment on column osp_metadata.service_intents.service_schema is 'Name of the service.';
comment on column osp_metadata.service_intents.revision is 'Newest revision of the service: 1, 2, 3 …; never reused.';
comment on column osp_metadata.service_intents.wanted is 'What the newest revision wants: run or stop.';
comment on column osp_metadata.service_intents.source is 'What made the newest revision: insert, update, enable, disable, delete, redeploy, rollback or reconcile.';
comment on column osp_metadata.service_intents.requested_at is 'When the newest revision was requested.';
comment on column osp_metadata.service_intents.requested_by is 'Database role that requested it.';
comment on column osp_metadata.service_intents.deployment_id is 'Id that the row of worker_registry for the newest revision gets, known before that row is there.';
comment on column osp_metadata.service_intents.enqueued_revision is 'Newest revision that has a row in worker_registry; below revision means: waits for the Edge Function.';
comment on column osp_metadata.service_intents.attempts is 'How often the Edge Function has taken this revision without an end.';
comment on column osp_metadata.service_intents.lease_token is 'Who may enqueue it now; null: nobody has taken it.';
comment on column osp_metadata.service_intents.lease_expires_at is 'Until when; afterwards it can be taken again.';
comment on column osp_metadata.service_intents.last_error is 'Why the newest revision could not be enqueued yet and what to do; null: nothing is known to be in its way. Cleared when it is enqueued and by a newer revision.';
comment on column osp_metadata.service_intents.last_error_at is 'When that was met last; null: never.';

-- Only what waits is ever searched for, and only a few rows ever wait.
create index if not exists service_intents_waiting_idx on osp_metadata.service_intents (requested_at, service_schema)
where revision > enqueued_revision;

alter table osp_metadata.service_intents enable row level security;
