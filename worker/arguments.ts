import { parseArgs } from "node:util";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";

export interface WorkerArguments {
  /** Validate only. */
  isCheck: boolean;
  /** In place of `MANIFEST_PATH`. */
  manifestPath: string | undefined;
}

/**
 * How the program was called: by nothing, or `--check [manifest]`.
 *
 * @throws {WorkerExitError}
 */
export function parseArguments(args: readonly string[]): WorkerArguments {
  const parsed = parse(args);
  if (parsed !== undefined) return parsed;
  const problem = `arguments ${JSON.stringify(args.join(" "))}: there is --check [manifest], which only validates`;
  throw new WorkerExitError(EXIT_CODES.unusable, [problem]);
}

function parse(args: readonly string[]): WorkerArguments | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { check: { type: "boolean" } },
    });
    const { check: isCheck = false } = values;
    // A worker that polls is told by its environment alone: that is what platforms set.
    if (positionals.length > (isCheck ? 1 : 0)) return undefined;
    return { isCheck, manifestPath: positionals[0] };
  } catch {
    return undefined;
  }
}
