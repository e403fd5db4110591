import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runIsolated } from "./isolated-node.ts";

const LAUNCH_WORKER = fileURLToPath(new URL("../worker/launch-worker.ts", import.meta.url));
/** Bundling alone took 13 s on a busy machine, and every module may take its time to load. */
const CHECK_MS = 180_000;

export interface CodeRootToCheck {
  codeRoot: string;
  /** Relative to the code root. */
  manifestPath: string;
  /** Bundles are kept there for whoever starts the worker. */
  cacheDirectory: string;
  signal?: AbortSignal;
}

/** How `worker --check` ended. `problems` is undefined where it did not come to say so. */
export interface CodeRootVerdict {
  /** As worker/exit.ts has them; 0: all that the manifest names is there. Undefined: it did not come to tell. */
  code: number | undefined;
  problems: string[] | undefined;
  /** What could not be looked at here, though it may well be right. */
  unverified: string[];
  /** Temporal's bundle of each task queue; empty where there is a problem. */
  bundles: Map<string, string>;
  output: string;
}

const lineSchema = z.object({
  event: z.string(),
  code: z.int().optional(),
  problems: z.array(z.string()).optional(),
  reason: z.string().optional(),
  bundles: z.record(z.string(), z.string()).optional(),
});

/** Runs `worker --check` on a code root, in a process that knows nothing but where it lies. */
export async function checkCodeRoot(
  { codeRoot, manifestPath, cacheDirectory, signal }: CodeRootToCheck,
): Promise<CodeRootVerdict> {
  const end = await runIsolated({
    script: LAUNCH_WORKER,
    args: ["--check", manifestPath],
    cwd: codeRoot,
    environment: { OSP_CACHE_DIR: cacheDirectory },
    timeoutMs: CHECK_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  const lines = end.stdout.split("\n").flatMap((line) => parseLine(line) ?? []);
  const exit = lines.findLast(({ event }) => event === "worker.exit");
  const checked = lines.find(({ event }) => event === "worker.checked");
  const late = end.isLate ? [`it is not checked after ${CHECK_MS / 1000} s`] : undefined;
  const code = end.code ?? exit?.code;
  // A process that ended well has checked nothing unless it says so.
  const isUnsaid = code === 0 && checked === undefined;
  return {
    code: isUnsaid ? undefined : code,
    problems: isUnsaid ? ["its process ended before all of it was checked"] : exit?.problems ?? late,
    unverified: lines.filter(({ event }) => event === "worker.exports_unverified").flatMap(({ reason }) =>
      reason ?? []
    ),
    bundles: new Map(Object.entries(checked?.bundles ?? {})),
    output: `${end.stdout}${end.stderr}`,
  };
}

function parseLine(line: string): z.infer<typeof lineSchema> | undefined {
  try {
    return lineSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined; // not a line of the worker's own
  }
}
