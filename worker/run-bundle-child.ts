import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runIsolated } from "../host/isolated-node.ts";

const CHILD = fileURLToPath(new URL("./bundle-child.ts", import.meta.url));
const CHILD_MS = 120_000;

export const bundleRequestSchema = z.object({
  entryFile: z.string(),
  outputFile: z.string(),
  /** The same bytes wherever the files lie: names in the bundle are relative to this directory, and no source is in it. */
  portableFrom: z.string().optional(),
});
export type BundleRequest = z.infer<typeof bundleRequestSchema>;

const bundleAnswerSchema = z.object({
  problems: z.array(z.string()),
  /** Absolute paths of all files that were read. */
  dependencies: z.array(z.string()),
  /** Absolute paths that were looked for and not found: a file that appears there changes the bundle. */
  missing: z.array(z.string()),
});
export type BundleAnswer = z.infer<typeof bundleAnswerSchema>;

/** Bundles in a child process with an empty environment; problems with the code are in the answer. */
export async function runBundleChild(request: BundleRequest): Promise<BundleAnswer> {
  const { outputFile, portableFrom } = request;
  const end = await runIsolated({
    script: CHILD,
    input: JSON.stringify(request),
    timeoutMs: CHILD_MS,
    // Pushed code is all in its directory, and may be anybody's: a source map that it names is read too.
    ...(portableFrom === undefined
      ? {}
      : { access: { read: [portableFrom], write: [dirname(outputFile)], addons: true } }),
  });
  if (end.code === 0) return bundleAnswerSchema.parse(JSON.parse(end.answer));
  const how = end.isLate ? `took longer than ${CHILD_MS / 1000} s` : `ended with ${end.signal ?? end.code}`;
  throw new Error(`Cannot bundle workflows: the bundling process ${how}: ${end.stderr.slice(-2_000)}`);
}
