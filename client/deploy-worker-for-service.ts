import { z } from "zod";
import { manifestPath } from "../supabase/functions/_shared/manifest.ts";
import { formatProblems, notAnObject, problemsOf } from "../supabase/functions/_shared/problems.ts";
import { serviceSchemaName } from "../supabase/functions/_shared/names.ts";
import { serviceSchema as rowSchema } from "../supabase/functions/_shared/service.ts";
import { refuseUnusedActivities, serviceOptionsSchema } from "../supabase/functions/_shared/service-options.ts";
import { deployService, type OspSupabase, redeploy } from "./data-api.ts";
import { InvalidServiceError } from "./errors.ts";
import { type DeploymentProgress, type EndedDeployment, followDeployment } from "./follow-deployment.ts";
import { createPatience, type Patience, type PatienceOptions } from "./patience.ts";

const serviceToDeploySchema = z.strictObject(
  {
    serviceSchema: serviceSchemaName,
    serviceName: rowSchema.shape.service_name,
    workflows: rowSchema.shape.workflows,
    /** Left out: the row keeps the options it has. */
    options: serviceOptionsSchema.optional(),
  },
  notAnObject("must be an object with serviceSchema, serviceName and workflows"),
).superRefine(refuseUnusedActivities);
export type ServiceToDeploy = z.input<typeof serviceToDeploySchema>;

export interface DeployOptions extends PatienceOptions {
  /** Return only when it is deployed or has failed. Default: return as soon as the request is written. */
  wait?: boolean;
  /** While waiting: called at each change of status, and when a newer revision has taken its place. */
  onProgress?: (progress: DeploymentProgress) => void;
}

interface DeploymentOutcome {
  service_schema: string;
  /** Where the worker finds what to run. */
  manifest_path: string;
  /** Id of the row of `osp_metadata.worker_registry`; a newer one's when that took its place while waiting. */
  deployment_id: string;
  revision: number;
}

export interface DeploymentAccepted extends DeploymentOutcome {
  success: true;
  deployment_status: "requested" | "deployed";
}

export interface DeploymentFailed extends DeploymentOutcome {
  success: false;
  deployment_status: "failed" | "stopped";
  error: string;
}

/**
 * Writes a service's row, which deploys its worker. The same call twice is one deployment.
 *
 * @returns at once, or with `wait` when it has ended; `success: false` is the outcome of a deployment
 * @throws {InvalidServiceError} for bad input, listing every problem
 * @throws {TransportError} when the API cannot be reached, or refuses
 * @throws {DeploymentAbortedError | DeploymentTimeoutError} when the call was ended first
 */
export async function deployWorkerForService(
  supabase: OspSupabase,
  service: ServiceToDeploy,
  options: DeployOptions = {},
): Promise<DeploymentAccepted | DeploymentFailed> {
  const { serviceSchema, serviceName, workflows, options: serviceOptions } = parseInput(
    `deploy service ${JSON.stringify(Object(service).serviceSchema) ?? "undefined"}`,
    serviceToDeploySchema,
    service,
  );
  const row = {
    service_schema: serviceSchema,
    service_name: serviceName,
    workflows,
    ...(serviceOptions === undefined ? {} : { options: serviceOptions }),
  };
  return await request(supabase, serviceSchema, options, (patience) => deployService(supabase, row, patience));
}

/**
 * Asks for a new deployment of a service as it stands. Each call is one more deployment.
 *
 * @returns and throws as `deployWorkerForService` does; a service that is unknown or disabled is bad input
 */
export async function queueWorkerBuild(
  supabase: OspSupabase,
  serviceSchema: string,
  options: DeployOptions = {},
): Promise<DeploymentAccepted | DeploymentFailed> {
  const schema = parseInput("redeploy a service", serviceSchemaName, serviceSchema);
  return await request(supabase, schema, options, (patience) => redeploy(supabase, schema, patience));
}

/** @throws {InvalidServiceError} */
function parseInput<Schema extends z.ZodType>(action: string, schema: Schema, input: unknown): z.output<Schema> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const problems = problemsOf(parsed.error, input);
  throw new InvalidServiceError(`Cannot ${action}: ${formatProblems(problems)}`, problems, { cause: parsed.error });
}

async function request(
  supabase: OspSupabase,
  service_schema: string,
  options: DeployOptions,
  write: (patience: Patience) => Promise<{ revision: number; deployment_id: string }>,
): Promise<DeploymentAccepted | DeploymentFailed> {
  const patience = createPatience(options);
  patience.check(`Nothing was asked for service "${service_schema}"`);
  const { revision, deployment_id } = await write(patience);
  const requested = { service_schema, manifest_path: manifestPath(service_schema), deployment_id, revision };
  if (!options.wait) return { success: true, ...requested, deployment_status: "requested" };
  const ended = await followDeployment(supabase, requested, options.onProgress ?? (() => {}), patience);
  return outcomeOf(requested, ended);
}

function outcomeOf(requested: DeploymentOutcome, ended: EndedDeployment): DeploymentAccepted | DeploymentFailed {
  const { deployment_status, id: deployment_id, revision } = ended;
  const outcome = { ...requested, deployment_id, revision };
  if (deployment_status === "deployed") return { success: true, ...outcome, deployment_status };
  return { success: false, ...outcome, deployment_status, error: errorOf(requested.service_schema, ended) };
}

/** Why a deployment is not deployed. */
export function errorOf(
  service_schema: string,
  { revision, deployment_status, error_message, logs }: EndedDeployment,
): string {
  const lastLine = logs?.split("\n").at(-1) ?? "its log is empty";
  return error_message ?? `Revision ${revision} of service "${service_schema}" is ${deployment_status}: ${lastLine}`;
}
