import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";

/** The right to change something on the platform, for one deployment. */
export interface Lease {
  /**
   * To be awaited before anything that changes the platform.
   *
   * @throws {PlatformError} when it is lost
   */
  confirm(): Promise<void>;
  /** Whether the deployment is still to come about, by whoever has it now: then what was begun for it may go on. */
  isOpen(): Promise<boolean>;
}

/** What a deployer has in hand only waits for something else: meanwhile it may take up more. */
export type Idle = <Result>(waiting: Promise<Result>) => Promise<Result>;

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
  known: Known;
  lease: Lease;
  idle: Idle;
  /**
   * Persists ids as soon as they are known, so that whoever takes over adopts what is there.
   *
   * @throws {PlatformError} when the lease is lost
   */
  remember(ids: PlatformIds): Promise<void>;
  /**
   * Resolves when Temporal answers. To be awaited before what takes long and would be in vain without it.
   *
   * @throws {PlatformError} unavailable
   */
  untilTemporalAnswers(signal: AbortSignal): Promise<void>;
  /**
   * Resolves once Temporal shows this revision polling. To be awaited when the platform says that it runs, and before an
   * older revision is ended.
   *
   * @throws {PlatformError} when it does not serve in time
   */
  untilServing(signal: AbortSignal): Promise<void>;
}

/** The platform's own ids. */
export interface PlatformIds {
  serviceId?: string | undefined;
  /** Of this registry row, not of an older revision. */
  deploymentId?: string | undefined;
}

export interface Known extends PlatformIds {
  /** Deployments of this row that ran and were found unfit: they are not taken up again. */
  rejectedDeploymentIds: readonly string[];
  /** Whether it may be there twice: nothing of it ever came to serve, or a comparison found it so. */
  mayBeDouble: boolean;
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
  /** The platform's own id of what runs, where it gives each deployment one. */
  platformDeploymentId?: string | undefined;
}

export interface DeployResult {
  serviceId: string;
  deploymentId: string;
}

/** A stop or a removal. */
export interface StopRequest extends PlatformService {
  lease: Lease;
  idle: Idle;
}

/** Tells how far a deployment has come: one line for people. */
export type ProgressReporter = (line: string) => void;

export interface Platform {
  readonly name: string;
  /** Ends with only `request.revision` running or draining; adopts what an earlier attempt left. Throws PlatformError. */
  deploy(request: DeployRequest, report: ProgressReporter, signal: AbortSignal): Promise<DeployResult>;
  /** Ends its processes; already stopped is success. */
  stop(request: StopRequest, signal: AbortSignal): Promise<void>;
  /** Forgets it; already gone is success. */
  remove(request: StopRequest, signal: AbortSignal): Promise<void>;
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
  /** The platform's deployment that ran and was found unfit: no later attempt takes it up. */
  rejectedDeploymentId?: string | undefined;
  /** It had replaced the older revision already, which serves no more. */
  hasReplaced?: boolean | undefined;
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
