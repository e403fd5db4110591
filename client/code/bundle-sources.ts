import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runIsolated } from "../../host/isolated-node.ts";

export const bundleRequestSchema = z.object({
  /** The service's directory. */
  directory: z.string(),
  kind: z.enum(["workflows", "activities"]),
  /** The module, relative to the directory. */
  file: z.string(),
  ignoreModules: z.array(z.string()),
  outputFile: z.string(),
});
export type BundleRequest = z.infer<typeof bundleRequestSchema>;

export const bundleAnswerSchema = z.object({
  problems: z.array(z.string()),
  /** What may be wrong, and can only be known where it runs. */
  notes: z.array(z.string()),
  /** Names that the module exports, `default` apart. */
  exported: z.array(z.string()),
  /** Its largest parts: `node_modules/large: 12.3 MB`. */
  largest: z.array(z.string()),
});
export type BundleAnswer = z.infer<typeof bundleAnswerSchema>;

const CHILD = fileURLToPath(new URL("./bundle-child.ts", import.meta.url));
const BUNDLE_MS = 120_000;

/**
 * Makes one file of a module and all that it imports, but `@temporalio/*` and what Node brings: an ES module for Node 24. In a
 * process of its own with an empty environment; nothing of what is bundled runs.
 */
export async function bundleSources(request: BundleRequest, signal: AbortSignal | undefined): Promise<BundleAnswer> {
  const end = await runIsolated({
    script: CHILD,
    input: JSON.stringify(request),
    timeoutMs: BUNDLE_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (end.code === 0) return bundleAnswerSchema.parse(JSON.parse(end.answer));
  const how = end.isLate ? `is not done after ${BUNDLE_MS / 1000} s` : `ends with ${end.signal ?? end.code}`;
  const problem = `${request.file}: bundling ${how}: ${end.stderr.trim().slice(-500)}`;
  return { problems: [problem], notes: [], exported: [], largest: [] };
}
