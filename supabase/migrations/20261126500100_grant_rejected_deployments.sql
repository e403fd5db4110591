-- Purpose: a deployer writes down which of the platform's deployments it found unfit.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

grant update (rejected_deployment_id) on osp_metadata.deployment_attempts to osp_deployer;
