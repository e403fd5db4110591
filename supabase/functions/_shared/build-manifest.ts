import { endpointOfService } from "./activity-endpoint.ts";
import { canonicalJson, sha256Hex } from "./canonical-json.ts";
import {
  BUILT_IN_ACTIVITIES_PATH,
  BUILT_IN_WORKFLOWS_PATH,
  type Manifest,
  parseManifest,
  taskQueueOf,
} from "./manifest.ts";
import { formatProblems, problemsOf } from "./problems.ts";
import { type Service, serviceSchema } from "./service.ts";
import { CODE_ACTIVITIES_PATH, CODE_WORKFLOWS_PATH } from "./service-code.ts";

/** What the project sets for all services. */
export interface ProjectDefaults {
  /** `OSP_DEFAULT_ACTIVITY_ENDPOINT`: where a service without an endpoint of its own sends its activities. */
  activityEndpoint: string | undefined;
}

export interface BuiltManifest {
  manifest: Manifest;
  /** Canonical form: the bytes that are stored and hashed. */
  json: string;
  sha256: string;
}

/** A revision that cannot become a manifest as its row stands. `code` is the registry's `error_code`. */
export class SpecRejectedError extends Error {
  override readonly name = "SpecRejectedError";
  readonly code: "spec_invalid" | "activity_endpoint_missing";

  constructor(code: SpecRejectedError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * The manifest of one revision. Same spec, revision and defaults: same bytes.
 *
 * @param spec the row of `osp.services`; columns that do not reach the worker are passed over
 * @throws {SpecRejectedError} naming every problem and what to do
 */
export async function buildManifest(
  spec: unknown,
  revision: number,
  defaults: ProjectDefaults,
): Promise<BuiltManifest> {
  const service = parseSpec(spec);
  const { service_schema, service_name, options } = service;
  const endpoint = options.activity_endpoint ?? defaults.activityEndpoint;
  // Code may bring the activities as well: the worker looks, and asks for an endpoint where it does not.
  const hasCode = options.code !== undefined;
  const unposted = endpoint === undefined && !hasCode ? activityWithoutEndpoint(service) : undefined;
  if (unposted !== undefined) {
    throw new SpecRejectedError(
      "activity_endpoint_missing",
      `Service "${service_schema}" names no endpoint for its activity "${unposted}" and the project has no default: set ` +
        `options.activity_endpoint of the row in osp.services, or OSP_DEFAULT_ACTIVITY_ENDPOINT where the Edge Function ` +
        `runs and then: select osp.redeploy('${service_schema}')`,
    );
  }
  const manifest = parseManifest(`of service "${service_schema}"`, {
    manifest_version: 1,
    service_schema,
    service_name,
    revision,
    activities_path: hasCode ? CODE_ACTIVITIES_PATH : BUILT_IN_ACTIVITIES_PATH,
    workflows: service.workflows.map(({ name, activities }) => ({
      name,
      task_queue: taskQueueOf(service_schema),
      workflows_path: hasCode ? CODE_WORKFLOWS_PATH : BUILT_IN_WORKFLOWS_PATH,
      activities,
    })),
    options: withEndpoints(options, endpoint, service_schema),
  });
  const json = canonicalJson(manifest);
  return { manifest, json, sha256: await sha256Hex(json) };
}

function activityWithoutEndpoint({ workflows, options }: Service): string | undefined {
  const names = workflows.flatMap(({ activities }) => activities);
  return names.find((name) => options.activities?.[name]?.endpoint === undefined);
}

/** Every endpoint with the service's name in it. */
function withEndpoints(options: Service["options"], endpoint: string | undefined, schema: string): Service["options"] {
  const activities = Object.entries(options.activities ?? {}).map(([name, own]) =>
    [name, own.endpoint === undefined ? own : { ...own, endpoint: endpointOfService(own.endpoint, schema) }] as const
  );
  return {
    ...options,
    ...(endpoint === undefined ? {} : { activity_endpoint: endpointOfService(endpoint, schema) }),
    activities: Object.fromEntries(activities),
  };
}

function parseSpec(spec: unknown) {
  const { service_schema, service_name, workflows, options } = Object(spec);
  const input = { service_schema, service_name, workflows, options };
  const parsed = serviceSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw new SpecRejectedError(
    "spec_invalid",
    `Service "${String(service_schema)}" is not valid: ${formatProblems(problemsOf(parsed.error, input))}. ` +
      `Correct the row in osp.services`,
    { cause: parsed.error },
  );
}
