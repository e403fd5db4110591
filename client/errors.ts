import type { Problem } from "../supabase/functions/_shared/problems.ts";

/** What was asked for cannot be done: the caller must correct it. Nothing was written. */
export class InvalidServiceError extends Error {
  override readonly name = "InvalidServiceError";
  readonly problems: readonly Problem[];

  constructor(message: string, problems: readonly Problem[], options?: ErrorOptions) {
    super(message, options);
    this.problems = problems;
  }
}

/** The API could not be reached, or refused: whether anything was written is not known. The same call again is safe. */
export class TransportError extends Error {
  override readonly name = "TransportError";
}

/** The caller's signal ended the call. A deployment that was asked for goes on. */
export class DeploymentAbortedError extends Error {
  override readonly name = "DeploymentAbortedError";
}

/** The call took longer than `timeoutMs`. A deployment that was asked for goes on. */
export class DeploymentTimeoutError extends Error {
  override readonly name = "DeploymentTimeoutError";
}

/** Code that cannot be pushed: its author must correct it. Nothing was stored. */
export class InvalidCodeError extends Error {
  override readonly name = "InvalidCodeError";
  readonly problems: readonly string[];

  constructor(action: string, problems: readonly string[], options?: ErrorOptions) {
    super(`${action}: ${problems.join("; ")}`, options);
    this.problems = problems;
  }
}
