import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type IsolatedEnd, runIsolated } from "../host/isolated-node.ts";
import type { BundleCheck } from "./check-bundle.ts";
import type { ModuleFile } from "./code-root.ts";

const CHILD = fileURLToPath(new URL("./inspect-child.ts", import.meta.url));
const CHILD_MS = 30_000;
const HEAP_MB = 512;

export const inspectRequestSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("workflows"),
    bundlePath: z.string(),
    /** Names that the bundle must export, with the module each comes from. */
    expected: z.array(z.object({ name: z.string(), module: z.string() })),
  }),
  z.object({ kind: z.literal("activities"), file: z.string() }),
]);
type InspectRequest = z.infer<typeof inspectRequestSchema>;

const workflowsAnswerSchema = z.object({
  problems: z.array(z.string()),
  unverified: z.string().optional(),
  functions: z.array(z.string()),
});

/** The `typeof` of each export, or why the module cannot be loaded. */
const activitiesAnswerSchema = z.union([
  z.object({ types: z.record(z.string(), z.string()) }),
  z.object({ failure: z.string() }),
]);
export type ActivitiesAnswer = z.infer<typeof activitiesAnswerSchema>;

/** What a module of activities exports, the `typeof` of each; else why it cannot be known. */
export type InspectedActivities =
  | { types: Map<string, string> }
  /** Loading it failed, which it may not do where it runs: there it has an environment. */
  | { failure: string }
  /** It did not let itself be loaded at all. */
  | { problem: string };

/** Loads a bundle as a Temporal Worker would, and compares its exports with the names that it should have. */
export async function inspectWorkflows(
  bundlePath: string,
  expected: { name: string; module: string }[],
  isPushed: boolean,
): Promise<BundleCheck> {
  const end = await inspect({ kind: "workflows", bundlePath, expected }, bundlePath, isPushed);
  const answer = answerOf(end, workflowsAnswerSchema);
  return answer ?? { problems: [`workflows cannot be loaded: ${whyNot(end)}`], functions: [] };
}

export async function inspectActivities({ file, kind }: ModuleFile): Promise<InspectedActivities> {
  const end = await inspect({ kind: "activities", file }, file, kind === "pushed");
  const answer = answerOf(end, activitiesAnswerSchema);
  if (answer === undefined) return { problem: whyNot(end) };
  return "types" in answer ? { types: new Map(Object.entries(answer.types)) } : answer;
}

/**
 * Pushed code may be anybody's who could write to Storage, and is looked at on the deployer's machine: it sees its own
 * files and the network, and signals nobody. Code that lies in a code root was put there by whoever runs the worker.
 */
async function inspect(request: InspectRequest, file: string, isPushed: boolean): Promise<IsolatedEnd> {
  return await runIsolated({
    script: CHILD,
    input: JSON.stringify(request),
    timeoutMs: CHILD_MS,
    heapMb: HEAP_MB,
    ...(isPushed ? { access: { read: [dirname(file)] } } : {}),
  });
}

function answerOf<Schema extends z.ZodType>(
  { code, answer }: IsolatedEnd,
  schema: Schema,
): z.output<Schema> | undefined {
  if (code !== 0) return undefined;
  try {
    return schema.parse(JSON.parse(answer));
  } catch {
    return undefined; // it ended the process before the answer was written, or wrote one itself
  }
}

function whyNot({ isLate, code, signal, stderr }: IsolatedEnd): string {
  if (isLate) {
    return `it is not loaded after ${CHILD_MS / 1000} s: does a module loop, or wait for something, at its top level?`;
  }
  const last = stderr.trim().split("\n").at(-1) ?? "";
  return `loading it ended the process with ${signal ?? `exit code ${code}`}${
    last === "" ? "" : `: ${last.slice(0, 300)}`
  }`;
}
