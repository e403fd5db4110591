import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Manifest, workflowsByTaskQueue } from "../../supabase/functions/_shared/manifest.ts";
import { CODE_DIRECTORY, CODE_FILES, codeDescriptionSchema } from "../../supabase/functions/_shared/service-code.ts";
import { PlatformError } from "../platforms/platform.ts";
import type { TemporalService } from "../readiness/temporal-service.ts";
import { orNoRoom, type Scratch } from "../scratch.ts";
import { fetchHistory, listOpenWorkflows, type OpenWorkflow } from "./open-workflows.ts";
import { replayHistories } from "./replay-histories.ts";

/** A staged revision with code of its own. */
export interface StagedCode {
  manifest: Manifest;
  /** Holds the code, unpacked. */
  codeRoot: string;
  /** Temporal's bundle of each task queue. */
  bundles: Map<string, string>;
}

/** Lets a revision pass with which the service's open workflows can go on. */
export interface ReplayGate {
  /**
   * @param report one line for people
   * @throws {PlatformError} permanent where an open workflow does not replay; unavailable where Temporal cannot be asked
   */
  check(staged: StagedCode, report: (line: string) => void, signal: AbortSignal): Promise<void>;
}

/** For deployers that ask no Temporal. */
export const openGate: ReplayGate = { check: () => Promise.resolve() };

/** As many as take a few seconds to replay; then a revision waits no longer. */
const REPLAY_MS = 120_000;
/** Of those that do not replay, so many are told of. */
const MOST_TOLD = 3;

/**
 * Old and new revisions share a queue, and a workflow of the old one that the new one's worker takes up is replayed there: where
 * the code does not fit its history it is stuck until somebody sees it. So that is tried before anything is deployed. A
 * workflow that is stuck already, or has not begun, is nothing that new code could break.
 *
 * @param mostOfType how many open workflows of each type are replayed, the newest; 0: none
 */
export function createReplayGate(temporal: TemporalService, scratch: Scratch, mostOfType: number): ReplayGate {
  return {
    async check(staged, report, signal) {
      const { manifest, codeRoot } = staged;
      if (mostOfType === 0) return;
      if (manifest.options.replay_gate === false) {
        return report("open workflows are not replayed with the new code: options.replay_gate is false");
      }
      const directory = await scratch.directory("histories");
      try {
        const open = await readOpen({ temporal, manifest, mostOfType, directory: directory.path, signal });
        const leftOut = open.filter((workflow) => workflow.leftOut !== undefined);
        if (leftOut.length > 0) {
          report(`not replayed: ${leftOut.slice(0, MOST_TOLD).map(tellLeftOut).join(", ")}${more(leftOut)}`);
        }
        const judged = open.filter((workflow) => workflow.leftOut === undefined);
        const exported = manifest.options.code === undefined ? undefined : await exportedWorkflows(codeRoot);
        const mismatches = exported === undefined
          ? judged.filter(({ isBuiltIn }) => !isBuiltIn).map((workflow) => ({ workflow, reason: WITHOUT_ITS_CODE }))
          : [
            ...judged.filter(({ type }) => !exported.has(type)).map((workflow) => ({
              workflow,
              reason: noSuchType(exported),
            })),
            ...await replay(judged.filter(({ type }) => exported.has(type)), staged.bundles, directory.path, signal),
          ];
        if (mismatches.length > 0) throw mismatchError(mismatches, judged.length, manifest.service_schema);
        if (judged.length > 0) report(`${judged.length} open workflows can go on with the new code`);
      } finally {
        await directory.remove();
      }
    },
  };
}

/** An open workflow with its history, in a file. */
interface ReadWorkflow extends OpenWorkflow {
  file: string;
  isBuiltIn: boolean;
  /** Why it is not judged. */
  leftOut?: string | undefined;
}

interface Mismatch {
  workflow: OpenWorkflow;
  reason: string;
}

const WITHOUT_ITS_CODE = "code of the service's own began it, and the new revision has none of its workflows";

/** Undefined: it has no workflows of its own, the built-in one runs them. */
async function exportedWorkflows(codeRoot: string): Promise<Set<string> | undefined> {
  const text = await readFile(join(codeRoot, CODE_DIRECTORY, CODE_FILES.description), "utf8");
  const { workflows } = codeDescriptionSchema.parse(JSON.parse(text));
  return workflows && new Set(workflows);
}

interface Reading {
  temporal: TemporalService;
  manifest: Manifest;
  mostOfType: number;
  directory: string;
  signal: AbortSignal;
}

async function readOpen({ temporal, manifest, mostOfType, directory, signal }: Reading): Promise<ReadWorkflow[]> {
  const read: ReadWorkflow[] = [];
  for (const [taskQueue, workflows] of workflowsByTaskQueue(manifest)) {
    const types = workflows.map(({ name }) => name);
    const listed = await orUnreachable(temporal, listOpenWorkflows(temporal, taskQueue, types, mostOfType));
    for (const workflow of listed.filter(({ type }) => !type.startsWith("__osp_"))) {
      signal.throwIfAborted();
      const file = join(directory, `${workflow.runId}.history`);
      const history = await orUnreachable(temporal, fetchHistory(temporal, workflow));
      // What has not begun fits any code.
      if (history === "gone" || (typeof history === "object" && !history.hasBegun && !history.isStuck)) continue;
      if (history === "too large") {
        read.push({ ...workflow, taskQueue, file, isBuiltIn: true, leftOut: "its history is too large" });
        continue;
      }
      await orNoRoom(writeFile(file, history.bytes));
      const leftOut = history.isStuck ? "it is stuck already" : undefined;
      read.push({ ...workflow, taskQueue, file, isBuiltIn: history.isBuiltIn, leftOut });
    }
  }
  return read;
}

async function replay(
  workflows: ReadWorkflow[],
  bundles: StagedCode["bundles"],
  directory: string,
  signal: AbortSignal,
): Promise<Mismatch[]> {
  const mismatches: Mismatch[] = [];
  for (const [taskQueue, histories] of Map.groupBy(workflows, (workflow) => workflow.taskQueue)) {
    const bundlePath = bundles.get(taskQueue);
    if (bundlePath === undefined) throw new Error(`worker --check named no bundle for task queue "${taskQueue}"`);
    const refused = await replayHistories({ bundlePath, histories }, directory, REPLAY_MS, signal);
    for (const { runId, reason } of refused) {
      const workflow = histories.find((candidate) => candidate.runId === runId);
      if (workflow !== undefined) mismatches.push({ workflow, reason });
    }
  }
  return mismatches;
}

function tellLeftOut({ workflowId, leftOut }: ReadWorkflow): string {
  return `workflow "${workflowId}" (${leftOut})`;
}

function noSuchType(exported: Set<string>): string {
  return `the new code has no such workflow; it has ${[...exported].join(", ")}`;
}

function more(all: readonly unknown[]): string {
  return all.length > MOST_TOLD ? ` and ${all.length - MOST_TOLD} more` : "";
}

function mismatchError(mismatches: Mismatch[], count: number, schema: string): PlatformError {
  const told = mismatches.slice(0, MOST_TOLD).map(({ workflow, reason }) =>
    `workflow "${workflow.workflowId}" (${workflow.type}): ${reason}`
  );
  return new PlatformError(
    "permanent",
    "replay_mismatch",
    `${mismatches.length} of ${count} open workflows of service "${schema}" cannot go on with this revision, which was not ` +
      `deployed: ${told.join("; ")}${
        more(mismatches)
      }. Keep what they do by patched() of @temporalio/workflow, wait until they ` +
      `have ended and run select osp.redeploy('${schema}'), or set options.replay_gate to false`,
  );
}

async function orUnreachable<Result>(temporal: TemporalService, asked: Promise<Result>): Promise<Result> {
  try {
    return await asked;
  } catch (error) {
    throw new PlatformError("unavailable", "temporal_unreachable", temporal.explain(error), {}, { cause: error });
  }
}
