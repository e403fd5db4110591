import type { SupabaseClient } from "@supabase/supabase-js";
import { z } from "zod";
import type { Database } from "./database.types.ts";
import { InvalidServiceError, TransportError } from "./errors.ts";
import type { Patience } from "./patience.ts";

/** A supabase-js client made with the project's secret key, or with one whose role is osp_writer. */
export type OspSupabase = Pick<SupabaseClient<Database>, "schema">;
/** The same, with Storage: what a push of code needs. */
export type OspStorage = Pick<SupabaseClient<Database>, "schema" | "storage">;

const requestedSchema = z.tuple([z.object({ revision: z.int(), deployment_id: z.string() })]);
type Requested = z.infer<typeof requestedSchema>[0];

const deploymentsSchema = z.array(z.object({
  id: z.string(),
  revision: z.int(),
  deployment_status: z.enum(["pending", "deploying", "deployed", "failed", "stopped"]),
  error_message: z.string().nullable(),
  logs: z.string().nullable(),
}));
/** A row of `osp_metadata.worker_registry`. */
export type Deployment = z.infer<typeof deploymentsSchema>[number];

type DeployArguments = Database["osp"]["Functions"]["deploy_service"]["Args"];

export async function deployService(
  supabase: OspSupabase,
  service: DeployArguments,
  patience: Patience,
): Promise<Requested> {
  const action = `deploy service "${service.service_schema}"`;
  const answer = await supabase.schema("osp").rpc("deploy_service", service).abortSignal(patience.signal);
  return readAnswer(action, requestedSchema, answer, patience)[0];
}

export async function redeploy(supabase: OspSupabase, schema: string, patience: Patience): Promise<Requested> {
  const answer = await supabase.schema("osp").rpc("redeploy", { schema }).abortSignal(patience.signal);
  return readAnswer(`redeploy service "${schema}"`, requestedSchema, answer, patience)[0];
}

/**
 * The deployment that decides what becomes of a revision: its own, or the next one where a newer revision stopped it.
 * A stopped one when none is left; undefined while none is in the registry.
 */
export async function findDecidingDeployment(
  supabase: OspSupabase,
  { service_schema, revision }: { service_schema: string; revision: number },
  patience: Patience,
): Promise<Deployment | undefined> {
  // A read that finds no connection, or a 503, is tried again by supabase-js itself for some seconds.
  const answer = await supabase.schema("osp_metadata").from("worker_registry")
    .select("id, revision, deployment_status, error_message, logs")
    .eq("service_schema", service_schema).gte("revision", revision)
    // First those that are not stopped, the oldest of them before; then what was stopped last.
    .order("stopped_at", { ascending: false, nullsFirst: true }).order("revision", { ascending: true })
    .limit(1).abortSignal(patience.signal);
  const action = `read how revision ${revision} of service "${service_schema}" is doing`;
  return readAnswer(action, deploymentsSchema, answer, patience)[0];
}

const serviceRowsSchema = z.array(z.object({
  service_schema: z.string(),
  service_name: z.string(),
  workflows: z.unknown(),
  options: z.record(z.string(), z.unknown()),
}));
/** A row of `osp.services`, as far as code must fit it. */
export type ServiceRow = z.infer<typeof serviceRowsSchema>[number];

/** Undefined: there is no such row yet. */
export async function readService(
  supabase: OspSupabase,
  schema: string,
  patience: Patience,
): Promise<ServiceRow | undefined> {
  const answer = await supabase.schema("osp").from("services").select(
    "service_schema, service_name, workflows, options",
  )
    .eq("service_schema", schema).abortSignal(patience.signal);
  return readAnswer(`read service "${schema}"`, serviceRowsSchema, answer, patience)[0];
}

/** False: the same code is just being removed. */
export async function recordCode(
  supabase: OspSupabase,
  pushed: { service_schema: string; code: string; bytes: number },
  patience: Patience,
): Promise<boolean> {
  const answer = await supabase.schema("osp").rpc("record_code", pushed).abortSignal(patience.signal);
  return readAnswer(`record the code of service "${pushed.service_schema}"`, z.boolean(), answer, patience);
}

export async function setCode(
  supabase: OspSupabase,
  { service_schema: schema, code }: { service_schema: string; code: string },
  patience: Patience,
): Promise<Requested> {
  const answer = await supabase.schema("osp").rpc("set_code", { schema, code }).abortSignal(patience.signal);
  return readAnswer(`set the code of service "${schema}"`, requestedSchema, answer, patience)[0];
}

interface Answer {
  data: unknown;
  error: { code: string; message: string; hint: string } | null;
}

/** SQLSTATEs that only the caller can mend: a value that is refused, a service that is not there or disabled. */
const CALLERS_FAULT = new Set(["23514", "22P02", "22P05", "P0002"]);

function readAnswer<Schema extends z.ZodType>(
  action: string,
  schema: Schema,
  { data, error }: Answer,
  patience: Patience,
): z.output<Schema> {
  if (error === null) {
    const parsed = schema.safeParse(data);
    if (parsed.success) return parsed.data;
    throw new TransportError(`Cannot ${action}: the API's answer has another form: ${z.prettifyError(parsed.error)}`, {
      cause: parsed.error,
    });
  }
  const reason = [error.message, error.hint].filter((text) => text).join(". ");
  if (CALLERS_FAULT.has(error.code)) {
    const message = reason.startsWith("Cannot") ? reason : `Cannot ${action}: ${reason}`;
    throw new InvalidServiceError(message, [{ path: "", message: reason }], { cause: error });
  }
  patience.check(`Cannot ${action}`, error);
  throw new TransportError(`Cannot ${action}: ${reason}`, { cause: error });
}
