-- Purpose: a deployment on the platform that ran and was found unfit is not taken up by the next attempt.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.deployment_attempts add column if not exists rejected_deployment_id text;
comment on column osp_metadata.deployment_attempts.rejected_deployment_id is 'The platform''s deployment that ran and was found unfit in this attempt; null: none was.';
