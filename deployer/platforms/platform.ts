import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";

/** What to run: one revision of one service. */
export interface DeployRequest {
  serviceSchema: string;
  revision: number;
  /** The registry row, `worker_registry.id`. */
  deploymentId: string;
  manifest: Manifest;
  /** Staged upload: the future code root. Belongs to the caller, who removes it. */
  directory: string;
  /** What is known of it on the platform from earlier attempts and revisions. */
  known: KnownIds;
  /**
   * Persists ids as soon as they are known, so that whoever takes over adopts what is there. Without ids it only asks
   * whether the lease is still held: to be awaited before anything that changes the platform.
   *
   * @throws {PlatformError} when the lease is lost
   */
  remember(ids: Partial<KnownIds>): Promise<void>;
  /**
   * Resolves once Temporal shows this revision polling. To be awaited when the platform says that it runs, and before an
   * older revision is ended.
   *
   * @throws {PlatformError} when it does not serve in time
   */
  untilServing(signal: AbortSignal): Promise<void>;
}

/** The platform's own ids. */
export interface KnownIds {
  serviceId: string | undefined;
  /** Of this registry row, not of an older revision. */
  deploymentId: string | undefined;
}

/** What a platform knows of one OSP service. */
export interface PlatformService {
  serviceSchema: string;
  /** The platform's own id of it; the schema where none is known. */
  id: string;
}

/** What a platform lists. */
export interface ListedService extends PlatformService {
  /** Whether it serves, or may come to serve without us: it is starting, or the platform starts it again. */
  isRunning: boolean;
  /** The registry row that it runs, where the platform knows; a service may be listed once for each. */
  deploymentId?: string | undefined;
}

export interface DeployResult {
  serviceId: string;
  deploymentId: string;
}

/** Tells how far a deployment has come: one line for people. */
export type ProgressReporter = (line: string) => void;

export interface Platform {
  readonly name: string;
  /** Ends with only `request.revision` running or draining; adopts what an earlier attempt left. Throws PlatformError. */
  deploy(request: DeployRequest, report: ProgressReporter, signal: AbortSignal): Promise<DeployResult>;
  /** Ends its processes; already stopped is success. */
  stop(service: PlatformService, signal: AbortSignal): Promise<void>;
  /** Forgets it; already gone is success. */
  remove(service: PlatformService, signal: AbortSignal): Promise<void>;
  /** Only what carries our marker, and all of it. @throws when that cannot be told: half a list is none */
  list(signal: AbortSignal): Promise<ListedService[]>;
}

/**
 * Whether trying again can help:
 * - permanent: never; somebody must change something first
 * - transient: it may; uses up an attempt
 * - unavailable: a dependency is away; tried again without using up an attempt
 * - throttled: the platform, or our budget for it, says to wait; the same, after `facts.retryAfterSeconds`
 */
export type ErrorClass = "permanent" | "transient" | "unavailable" | "throttled";

export interface FailureFacts {
  exitCode?: number | undefined;
  logTail?: string | undefined;
  /** Only of what is throttled. */
  retryAfterSeconds?: number | undefined;
}

/** A step of a deployment that failed, with what decides how it goes on. */
export class PlatformError extends Error {
  override readonly name = "PlatformError";
  readonly class: ErrorClass;
  /** Short name for grouping: `worker_exited`. */
  readonly code: string;
  readonly facts: FailureFacts;

  constructor(errorClass: ErrorClass, code: string, message: string, facts: FailureFacts = {}, options?: ErrorOptions) {
    super(message, options);
    this.class = errorClass;
    this.code = code;
    this.facts = facts;
  }
}
