import type { TestDatabase } from "./database.ts";

/** A deployment as it once was. */
export interface PastDeployment {
  revision: number;
  /** Default: stopped. */
  status?: "pending" | "deploying" | "deployed" | "failed" | "stopped";
  /** When it ended, or for one that goes on when it was enqueued. Default: 100. */
  daysAgo?: number;
  source?: string;
  /** Known on the platform by this id. */
  serviceId?: string;
  /** Default: it has one. */
  hasManifest?: boolean;
}

/** A service's deployments, each with one attempt, and the intent that is left of them: the newest one's. */
export async function insertHistory(
  database: Pick<TestDatabase, "rows">,
  schema: string,
  deployments: PastDeployment[],
): Promise<void> {
  const rows = deployments.map((
    { status = "stopped", daysAgo = 100, source = "update", hasManifest = true, ...row },
  ) => ({
    status,
    daysAgo,
    source,
    sha256: hasManifest ? String(row.revision).padStart(64, "0") : null,
    ...row,
  }));
  await database.rows(
    `with d as (
      select *, clock_timestamp() - make_interval(secs => "daysAgo" * 86400) as at from jsonb_to_recordset($2) as d (
        revision integer, status text, "daysAgo" float8, source text, "serviceId" text, sha256 text
      )
    ), deployed as (
      insert into osp_metadata.worker_registry (
        service_schema, manifest_path, revision, source, deployment_status, created_at, deployed_at, stopped_at, lease_token,
        platform, platform_service_id, manifest, spec, manifest_sha256, error_code
      )
      select
        $1, 'manifests/' || $1 || '.json', revision, source, status, at - interval '1 hour',
        case when status = 'deployed' then at end, case when status = 'stopped' then at end,
        case when status = 'deploying' then gen_random_uuid() end, 'local', "serviceId",
        case when sha256 is not null then '{}'::jsonb end, '{}', sha256, case when status = 'failed' then 'not_polling' end
      from d
      returning id, revision, deployment_status
    ), attempted as (
      insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer, ended_at, outcome)
      select r.id, $1, r.revision, 1, 'host:1', d.at, case when d.status = 'failed' then 'failed' else 'deployed' end
      from deployed as r inner join d on d.revision = r.revision
      where d.status in ('failed', 'stopped', 'deployed')
    )
    insert into osp_metadata.service_intents (service_schema, revision, enqueued_revision, wanted, source, requested_by)
    select $1, revision, revision, case when source in ('delete', 'disable') then 'stop' else 'run' end, source, 'postgres'
    from d order by revision desc limit 1`,
    [schema, JSON.stringify(rows)],
  );
}
