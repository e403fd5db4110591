import { Client, Connection } from "@temporalio/client";
import { bundleWorkflowCode, DefaultLogger } from "@temporalio/worker";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { nodeProcessSettings } from "../../../host/node-process-settings.ts";
import { keepWorkerProgram } from "../../../deployer/worker-program.ts";
import { startTemporalServer } from "../../support/temporal-server.ts";
import { manifestOf } from "../../worker/support/manifests.ts";
import { withScratch } from "../scratch.ts";

const OURS = fileURLToPath(new URL("../../../worker/launch-worker.ts", import.meta.url));
const PEER = fileURLToPath(new URL("hand-written-worker.ts", import.meta.url));
const PEER_WORKFLOWS = fileURLToPath(new URL("hand-written-workflows.ts", import.meta.url));
const TIMEOUT_MS = 60_000;

/** A Temporal server, an endpoint, and workers to start on them. */
export interface WorkerStand {
  client: Client;
  /** Our worker of a service without code, and the hand-written one of the same steps. */
  start(kind: "ours" | "hand-written", schema: string): Promise<RunningWorker>;
  /** How the endpoint answers from now on. */
  respond(answer: (response: ServerResponse) => void): void;
}

export interface RunningWorker {
  child: ChildProcess;
  taskQueue: string;
  /** From the process's start until Temporal lists it as polling for both types of task. */
  pollingMs: number;
  residentMib(): number;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
}

/** Runs `work` on a stand of its own, and ends all that was started on it. */
export async function withWorkerStand<Result>(work: (stand: WorkerStand) => Promise<Result>): Promise<Result> {
  return await withScratch(async (directory) => {
    const temporal = await startTemporalServer();
    const endpoint = await startEndpoint();
    const connection = await Connection.connect({ address: temporal.address });
    const children: ChildProcess[] = [];
    try {
      const bundlePath = await bundlePeer(directory);
      const cache = join(directory, "cache");
      const program = await keepWorkerProgram(cache);
      return await work({
        client: new Client({ connection }),
        respond: endpoint.respond,
        async start(kind, schema) {
          const codeRoot = writeCodeRoot(join(directory, schema), schema, endpoint.url);
          const startedAt = performance.now();
          const child = spawn(process.execPath, [kind === "ours" ? OURS : PEER], {
            cwd: codeRoot,
            env: {
              PATH: process.env["PATH"],
              TEMPORAL_ADDRESS: temporal.address,
              MANIFEST_PATH: "manifest.json",
              OSP_CACHE_DIR: cache,
              // As a platform starts ours; a cache of compiled modules whoever starts Node has for the asking.
              ...(kind === "ours"
                ? { ...nodeProcessSettings({ OSP_CACHE_DIR: cache }), OSP_WORKER_PROGRAM: program }
                : {}),
              NODE_COMPILE_CACHE: join(cache, "compile-cache"),
              OSP_ACTIVITY_NETWORKS: "127.0.0.0/8",
              BUNDLE_PATH: bundlePath,
              TASK_QUEUE: `${schema}-tasks`,
              ACTIVITY_ENDPOINT: endpoint.url,
            },
            stdio: ["ignore", "ignore", "pipe"],
          });
          let complaint = "";
          child.stderr.on("data", (text) => complaint = `${complaint}${text}`.slice(-2000));
          children.push(child);
          await untilPolling(connection, `${schema}-tasks`, child, () => complaint);
          return runningWorker(child, `${schema}-tasks`, performance.now() - startedAt);
        },
      });
    } finally {
      await Promise.all(children.map(endNow));
      await connection.close();
      await endpoint.close();
      await temporal.stop();
    }
  });
}

function runningWorker(child: ChildProcess, taskQueue: string, pollingMs: number): RunningWorker {
  return {
    child,
    taskQueue,
    pollingMs,
    residentMib() {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
    },
    async stop() {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      await exited;
      return child.exitCode;
    },
  };
}

/** @throws {Error} when it ends, or nobody polls in time */
async function untilPolling(
  connection: Connection,
  taskQueue: string,
  child: ChildProcess,
  complaint: () => string,
): Promise<void> {
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await pause(10)) {
    if (child.exitCode !== null) {
      throw new Error(`Cannot measure: the worker ended with ${child.exitCode}: ${complaint()}`);
    }
    const counts = await Promise.all([1, 2].map(async (taskQueueType) => {
      const request = { namespace: "default", taskQueue: { name: taskQueue, kind: 1 }, taskQueueType };
      return (await connection.workflowService.describeTaskQueue(request)).pollers?.length ?? 0;
    }));
    if (counts.every((count) => count > 0)) return;
  }
  throw new Error(`Cannot measure: nobody polls ${taskQueue} after ${TIMEOUT_MS} ms: ${complaint()}`);
}

async function bundlePeer(directory: string): Promise<string> {
  const logger = new DefaultLogger("ERROR");
  const { code } = await bundleWorkflowCode({ workflowsPath: PEER_WORKFLOWS, logger });
  const path = join(directory, "hand-written-bundle.js");
  writeFileSync(path, code);
  return path;
}

function writeCodeRoot(path: string, schema: string, endpoint: string): string {
  mkdirSync(path, { recursive: true });
  const manifest = manifestOf({
    schema,
    workflows: { bill: ["charge", "book"] },
    options: { activity_endpoint: endpoint },
  });
  writeFileSync(join(path, "manifest.json"), JSON.stringify(manifest));
  return path;
}

async function startEndpoint() {
  let answer = (response: ServerResponse) => void response.end("{}");
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.setHeader("content-type", "application/json");
      answer(response);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The endpoint has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    respond: (next: typeof answer) => void (answer = next),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function endNow(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}
