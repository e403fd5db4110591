import { createClient } from "@supabase/supabase-js";
import type { OspStorage } from "./data-api.ts";
import type { Database } from "./database.types.ts";
import {
  type DeploymentAccepted,
  type DeploymentFailed,
  type DeployOptions,
  deployWorkerForService,
  queueWorkerBuild,
  type ServiceToDeploy,
} from "./deploy-worker-for-service.ts";
import { type PushedServiceCode, type PushOptions, pushServiceCode } from "./push-service-code.ts";

export type { Database } from "./database.types.ts";
export type { DeploymentAccepted, DeploymentFailed, DeployOptions, PushedServiceCode, PushOptions, ServiceToDeploy };
export type { DeploymentProgress } from "./follow-deployment.ts";
export {
  DeploymentAbortedError,
  DeploymentTimeoutError,
  InvalidCodeError,
  InvalidServiceError,
  TransportError,
} from "./errors.ts";

/** The project's API and its secret key, or a supabase-js client that was made with it. */
export type OspConnection = { url: string; secretKey: string } | { supabase: OspStorage };

export interface OspClient {
  /** See `deployWorkerForService` in deploy-worker-for-service.ts. */
  deployWorkerForService(
    service: ServiceToDeploy,
    options?: DeployOptions,
  ): Promise<DeploymentAccepted | DeploymentFailed>;
  /** See `queueWorkerBuild` in deploy-worker-for-service.ts. */
  queueWorkerBuild(
    service_schema: string,
    options?: DeployOptions,
  ): Promise<DeploymentAccepted | DeploymentFailed>;
  /** See `pushServiceCode` in push-service-code.ts. */
  pushServiceCode(service_schema: string, directory: string, options?: PushOptions): Promise<PushedServiceCode>;
}

/** What OSP's code calls instead of writing SQL. It holds no connection and needs no closing. */
export function createOspClient(connection: OspConnection): OspClient {
  const supabase = "supabase" in connection ? connection.supabase : connect(connection.url, connection.secretKey);
  return {
    deployWorkerForService: (service, options) => deployWorkerForService(supabase, service, options),
    queueWorkerBuild: (service_schema, options) => queueWorkerBuild(supabase, service_schema, options),
    pushServiceCode: (service_schema, directory, options) =>
      pushServiceCode(supabase, service_schema, directory, options),
  };
}

/** A program's client: nobody signs in, so there is no session to keep or to refresh. */
function connect(url: string, secretKey: string): OspStorage {
  return createClient<Database>(url, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
}
