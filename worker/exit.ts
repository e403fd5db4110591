import { visible } from "../supabase/functions/_shared/visible-text.ts";

/** How a worker ends. BSD's sysexits.h where it has a number; the deployer reads them. */
export const EXIT_CODES = {
  clean: 0,
  /** Temporal could not be reached before the deadline: worth another start. */
  unreachable: 69,
  /** Something broke while running: worth another start. */
  fatal: 70,
  /** Configuration, manifest or code cannot work as they are: another start cannot help. */
  unusable: 78,
} as const;

/** Ends the process: `code` is its exit code, `problems` what the last log line says. */
export class WorkerExitError extends Error {
  override readonly name = "WorkerExitError";
  readonly code: number;
  readonly problems: readonly string[];

  constructor(code: number, problems: readonly string[], options?: ErrorOptions) {
    super(problems.join("; "), options);
    this.code = code;
    this.problems = problems;
  }
}

/** An error's words on one line, with those of its causes. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return visible(String(error));
  const own = error instanceof AggregateError ? error.errors.map(describeError).join(", ") : error.message;
  const cause = error.cause === undefined ? "" : `: ${describeError(error.cause)}`;
  return visible(`${own}${own.includes(cause.slice(2)) ? "" : cause}`.replace(/\s+/g, " ").trim());
}
