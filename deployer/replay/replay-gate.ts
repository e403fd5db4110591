import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Manifest, workflowsByTaskQueue } from "../../supabase/functions/_shared/manifest.ts";
import { CODE_DIRECTORY, CODE_FILES, codeDescriptionSchema } from "../../supabase/functions/_shared/service-code.ts";
import { PlatformError } from "../platforms/platform.ts";
import type { TemporalService } from "../readiness/temporal-service.ts";
import { type Scratch, scratchError } from "../scratch.ts";
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
 * the code does not fit its history it is stuck until somebody sees it. So that is tried before anything is deployed.
 *
 * @param mostOfType how many open workflows of each type are replayed, the newest; 0: none
 */
export function createReplayGate(temporal: TemporalService, scratch: Scratch, mostOfType: number): ReplayGate {
  return {
    async check({ manifest, codeRoot, bundles }, report, signal) {
      if (manifest.options.replay_gate === false) {
        return report("open workflows are not replayed with the new code: options.replay_gate is false");
      }
      const exported = await exportedWorkflows(codeRoot);
      // Without workflows of its own the built-in one runs them, and any revision of that goes on with any history.
      if (exported === undefined || mostOfType === 0) return;
      const open = await listAll(temporal, manifest, mostOfType, report);
      if (open.length === 0) return;
      const directory = await scratch.directory("histories");
      try {
        const mismatches = [
          ...open.filter(({ type }) => !exported.has(type)).map((workflow) => ({
            workflow,
            reason: noSuchType(exported),
          })),
          ...await replay(temporal, open.filter(({ type }) => exported.has(type)), bundles, directory.path, signal),
        ];
        if (mismatches.length > 0) throw mismatchError(mismatches, open.length, manifest.service_schema);
        report(`${open.length} open workflows replay with the new code`);
      } finally {
        await directory.remove();
      }
    },
  };
}

interface Mismatch {
  workflow: OpenWorkflow;
  reason: string;
}

async function exportedWorkflows(codeRoot: string): Promise<Set<string> | undefined> {
  const text = await readFile(join(codeRoot, CODE_DIRECTORY, CODE_FILES.description), "utf8");
  const { workflows } = codeDescriptionSchema.parse(JSON.parse(text));
  return workflows && new Set(workflows);
}

async function listAll(
  temporal: TemporalService,
  manifest: Manifest,
  mostOfType: number,
  report: (line: string) => void,
): Promise<OpenWorkflow[]> {
  try {
    const found = [];
    for (const [taskQueue, workflows] of workflowsByTaskQueue(manifest)) {
      found.push(await listOpenWorkflows(temporal, taskQueue, workflows.map(({ name }) => name), mostOfType));
    }
    const tooLarge = found.flatMap((ofQueue) => ofQueue.tooLarge);
    if (tooLarge.length > 0) {
      report(`not replayed, for their histories are too large: ${tooLarge.slice(0, MOST_TOLD).join(", ")}`);
    }
    return found.flatMap((ofQueue) => ofQueue.workflows).filter(({ type }) => !type.startsWith("__osp_"));
  } catch (error) {
    throw unreachable(temporal, error);
  }
}

async function replay(
  temporal: TemporalService,
  workflows: OpenWorkflow[],
  bundles: StagedCode["bundles"],
  directory: string,
  signal: AbortSignal,
): Promise<Mismatch[]> {
  const mismatches: Mismatch[] = [];
  for (const [taskQueue, ofQueue] of Map.groupBy(workflows, (workflow) => workflow.taskQueue)) {
    const bundlePath = bundles.get(taskQueue);
    if (bundlePath === undefined) throw new Error(`worker --check named no bundle for task queue "${taskQueue}"`);
    const histories = await writeHistories(temporal, ofQueue, directory, signal);
    const refused = await replayHistories({ bundlePath, histories }, directory, REPLAY_MS, signal);
    for (const { runId, reason } of refused) {
      const workflow = ofQueue.find((candidate) => candidate.runId === runId);
      if (workflow !== undefined) mismatches.push({ workflow, reason });
    }
  }
  return mismatches;
}

async function writeHistories(
  temporal: TemporalService,
  workflows: OpenWorkflow[],
  directory: string,
  signal: AbortSignal,
) {
  await mkdir(directory, { recursive: true });
  const histories = [];
  for (const workflow of workflows) {
    signal.throwIfAborted();
    const file = join(directory, `${workflow.runId}.history`);
    const history = await fetchHistory(temporal, workflow).catch((error: unknown) => {
      throw unreachable(temporal, error);
    });
    await writeFile(file, history).catch((error: unknown) => {
      throw scratchError(error);
    });
    histories.push({ workflowId: workflow.workflowId, runId: workflow.runId, file });
  }
  return histories;
}

function noSuchType(exported: Set<string>): string {
  return `the new code has no such workflow; it has ${[...exported].join(", ")}`;
}

function mismatchError(mismatches: Mismatch[], count: number, schema: string): PlatformError {
  const told = mismatches.slice(0, MOST_TOLD).map(({ workflow, reason }) =>
    `workflow "${workflow.workflowId}" (${workflow.type}): ${reason}`
  );
  const more = mismatches.length > MOST_TOLD ? ` and ${mismatches.length - MOST_TOLD} more` : "";
  return new PlatformError(
    "permanent",
    "replay_mismatch",
    `${mismatches.length} of ${count} open workflows of service "${schema}" cannot go on with the new code, and the older ` +
      `revision keeps running: ${
        told.join("; ")
      }${more}. Keep what they do by patched() of @temporalio/workflow, wait until they ` +
      "have ended, or set options.replay_gate to false",
  );
}

function unreachable(temporal: TemporalService, error: unknown): PlatformError {
  return new PlatformError("unavailable", "temporal_unreachable", temporal.explain(error), {}, { cause: error });
}
