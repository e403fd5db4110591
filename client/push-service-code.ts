import { cacheDirectory } from "../host/cache-directory.ts";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";
import { serviceSchemaName } from "../supabase/functions/_shared/names.ts";
import { buildCode } from "./code/build-code.ts";
import { findSources } from "./code/service-sources.ts";
import { storeCode } from "./code/store-code.ts";
import { insertSql, updateSql } from "./code/suggest-sql.ts";
import { type OspStorage, readService, setCode } from "./data-api.ts";
import { errorOf } from "./deploy-worker-for-service.ts";
import { InvalidServiceError } from "./errors.ts";
import { type DeploymentProgress, followDeployment } from "./follow-deployment.ts";
import { createPatience, type Patience, type PatienceOptions } from "./patience.ts";

export interface PushOptions extends PatienceOptions {
  /** Name the code in the service's row, which deploys it. Default: only store it. */
  set?: boolean;
  /** With `set`: return only when it is deployed or has failed. Default: return as soon as the request is written. */
  wait?: boolean;
  /** While waiting: called at each change of status, and when a newer revision has taken its place. */
  onProgress?: (progress: DeploymentProgress) => void;
  /** Where bundles are kept between pushes; default: `~/.cache/osp`. */
  cacheDirectory?: string;
}

export interface PushedServiceCode {
  service_schema: string;
  /** What `options.code` is to name: SHA-256 of the stored archive. */
  code: string;
  bytes: number;
  /** False: the same code was there already. */
  is_new: boolean;
  /** Functions that the modules export; undefined: the code brings no such module, and the built-in one serves. */
  workflows: string[] | undefined;
  activities: string[] | undefined;
  /** What may be wrong, and can only be known where it runs. */
  notes: string[];
  /** What to run in SQL to deploy it: an update of the row, or an insert where there is none yet. */
  sql: string;
  /** With `set`: what was asked for, and with `wait` what has become of it. */
  deployment?: {
    revision: number;
    deployment_id: string;
    deployment_status: "requested" | "deployed" | "failed" | "stopped";
    /** Why it is not deployed. */
    error?: string;
  };
}

/**
 * Bundles a service's own code, checks it against the service's row, where there is one, and stores it. The same sources give
 * the same code.
 *
 * @throws {InvalidServiceError} for a service that cannot be, or that has no row where `set` is asked for
 * @throws {InvalidCodeError} listing every problem of the code; nothing was stored
 * @throws {TransportError} when the API cannot be reached, or refuses
 * @throws {DeploymentAbortedError | DeploymentTimeoutError} when the call was ended first
 */
export async function pushServiceCode(
  supabase: OspStorage,
  serviceSchema: string,
  directory: string,
  options: PushOptions = {},
): Promise<PushedServiceCode> {
  const service_schema = parseSchema(serviceSchema);
  const patience = createPatience(options);
  patience.check(`Nothing was pushed for service "${service_schema}"`);
  const sources = await findSources(directory);
  const row = await readService(supabase, service_schema, patience);
  if (row === undefined && options.set === true) throw noRow(service_schema);
  const built = await buildCode(sources, {
    row,
    cacheDirectory: options.cacheDirectory ?? cacheDirectory({}),
    signal: patience.signal,
  }).catch((error: unknown) => {
    patience.check(`Nothing was pushed for service "${service_schema}"`, error);
    throw error;
  });
  const { archive, code, workflows, activities, notes } = built;
  const is_new = await storeCode(supabase, { service_schema, code, archive }, patience);
  const pushed = { service_schema, code, workflows, activities };
  return {
    ...pushed,
    bytes: archive.length,
    is_new,
    notes,
    sql: row === undefined ? insertSql(pushed) : updateSql(pushed),
    ...(options.set === true ? { deployment: await deploy(supabase, pushed, options, patience) } : {}),
  };
}

async function deploy(
  supabase: OspStorage,
  pushed: { service_schema: string; code: string },
  { wait, onProgress = () => {} }: PushOptions,
  patience: Patience,
): Promise<NonNullable<PushedServiceCode["deployment"]>> {
  const requested = await setCode(supabase, pushed, patience);
  if (wait !== true) return { ...requested, deployment_status: "requested" };
  const { service_schema } = pushed;
  const ended = await followDeployment(supabase, { service_schema, ...requested }, onProgress, patience);
  const { id: deployment_id, revision, deployment_status } = ended;
  const error = deployment_status === "deployed" ? {} : { error: errorOf(service_schema, ended) };
  return { revision, deployment_id, deployment_status, ...error };
}

function parseSchema(given: string): string {
  const parsed = serviceSchemaName.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = problemsOf(parsed.error, given);
  throw new InvalidServiceError(
    `Cannot push code for service ${JSON.stringify(given)}: ${formatProblems(problems)}`,
    problems,
  );
}

function noRow(schema: string): InvalidServiceError {
  const message =
    `osp.services has no row "${schema}" whose code could be set: push without setting it, which tells how to insert one`;
  return new InvalidServiceError(`Cannot push code for service "${schema}": ${message}`, [{ path: "", message }]);
}
