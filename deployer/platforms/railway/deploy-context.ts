import type { ProgressReporter } from "../platform.ts";
import type { ServiceSettings } from "./desired-service.ts";
import type { Scratch } from "../../scratch.ts";
import type { RailwayApi } from "./railway-api.ts";
import type { Redact } from "./redact.ts";
import type { Followed, StatusPoller } from "./status-poller.ts";

/** How Railway services are looked after. */
export interface RailwaySettings extends ServiceSettings {
  /** From the upload until a deployment must run. */
  deployTimeoutSeconds: number;
  /** How long the replicas of one that runs must stay up. */
  settleSeconds: number;
}

/** What one deployment works with. */
export interface DeployContext {
  /** Its changes are made only while the lease is held. */
  api: RailwayApi;
  /** To end what was begun when the lease is lost. */
  unfenced: RailwayApi;
  redact: Redact;
  scratch: Scratch;
  poller: StatusPoller;
  settings: RailwaySettings;
  report: ProgressReporter;
  /** @throws {PlatformError} when what is done to a service would reach other environments */
  checkEnvironments: (signal: AbortSignal) => Promise<void>;
}

/** A deployment that was uploaded. */
export interface Begun {
  id: string;
  followed: Followed;
  /** Railway named it in answer to our upload. Else we found it where ours must be, and Temporal has to confirm it. */
  isCertain: boolean;
}
