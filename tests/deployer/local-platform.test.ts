import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { createLocalPlatform, type LocalPlatform } from "../../deployer/platforms/local/local-platform.ts";
import { stopAllWorkers } from "../../deployer/platforms/local/stop-all.ts";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import { createRestarts } from "../../deployer/platforms/local/restarts.ts";
import { createTurns } from "../../deployer/platforms/local/turns.ts";
import { boundLog, logTail } from "../../deployer/platforms/local/worker-log.ts";
import type { WorkerRecord } from "../../deployer/platforms/local/worker-record.ts";
import type { WorkerSettings } from "../../deployer/platforms/local/workers.ts";
import type { DeployRequest } from "../../deployer/platforms/platform.ts";
import { buildManifest } from "../../supabase/functions/_shared/build-manifest.ts";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { isRunning } from "../../host/process-identity.ts";
import { requestDefaults, stopRequest } from "../support/deploy-request.ts";
import { eventually } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

const SERVICE = "a_service";
/** That of the service is on this machine. */
const ENDPOINTS = { OSP_ACTIVITY_NETWORKS: "127.0.0.1" };
const never = new AbortController().signal;
let temporal: TemporalServer;
let directory: string;
beforeAll(async () => void (temporal = await startTemporalServer()));
afterAll(() => temporal.stop());
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "osp-test-platform-"))));
afterEach(async () => {
  await stopAllWorkers(directory, 8000);
  rmSync(directory, { recursive: true, force: true });
});

function platformOf(settings: Partial<WorkerSettings> = {}): LocalPlatform {
  return createLocalPlatform({
    directory,
    instance: "an-instance",
    environment: {
      PATH: process.env["PATH"] ?? "",
      HOME: process.env["HOME"] ?? "",
      OSP_CACHE_DIR: cacheDirectory(process.env),
    },
    decisiveEnvironment: { TEMPORAL_ADDRESS: temporal.address, ...ENDPOINTS },
    deployTimeoutSeconds: 60,
    drainSeconds: 2,
    log: pino({ level: "silent" }),
    ...settings,
  });
}

async function requestOf(
  revision: number,
  { options = {}, ...changes }: Partial<DeployRequest> & { options?: object } = {},
): Promise<DeployRequest> {
  const spec = {
    id: "00000000-0000-4000-8000-000000000000",
    service_schema: SERVICE,
    service_name: "A Service",
    workflows: [{ name: "work", activities: ["first"] }],
    options,
    enabled: true,
  };
  const { manifest, json } = await buildManifest(spec, revision, { activityEndpoint: "http://127.0.0.1:9/{activity}" });
  const upload = join(directory, `upload-${revision}`);
  const file = join(upload, "manifests", `${SERVICE}.json`);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, json);
  return {
    serviceSchema: SERVICE,
    revision,
    deploymentId: `deployment-${revision}`,
    manifest,
    directory: upload,
    ...requestDefaults(),
    ...changes,
  };
}
const deploy = async (platform: LocalPlatform, revision: number, changes: Parameters<typeof requestOf>[1] = {}) =>
  await platform.deploy(await requestOf(revision, changes), () => {}, never);
const pids = () => findWorkers(directory).map(({ pid }) => pid);
const recordOf = (revision: number | string): WorkerRecord | undefined => {
  const file = join(directory, SERVICE, `${revision}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
};
const until = (running: number[]) =>
  eventually(
    () => Promise.resolve(pids()),
    (found) => found.length === running.length && running.every((pid) => found.includes(pid)),
  );
const only = (revision: number) => [recordOf(revision)?.process?.pid ?? -1];

test("the older worker serves until Temporal shows the newer one, and goes on where it does not", async () => {
  const platform = platformOf();
  await deploy(platform, 1);
  const older = pids();
  const running: number[][] = [];
  const untilServing = () => {
    running.push(pids());
    return Promise.reject(new Error("nobody polls"));
  };
  await expect(deploy(platform, 2, { untilServing })).rejects.toThrow("nobody polls");
  expect(running[0]).toHaveLength(2);
  expect(running[0]).toEqual(expect.arrayContaining(older));
  expect(pids()).toEqual(older);
  expect(recordOf(2)).toBeUndefined();
});

test("where nothing can be kept, workers start from their sources, which is said once", async () => {
  const lines: string[] = [];
  const platform = platformOf({
    environment: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", OSP_CACHE_DIR: "/dev/null/cache" },
    log: pino({}, { write: (line: string) => void lines.push(line) }),
  });
  await deploy(platform, 1, { options: { replicas: 2 } });
  expect(pids()).toHaveLength(2);
  for (const pid of pids()) expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toContain("OSP_WORKER_PROGRAM");
  expect(lines.filter((line) => line.includes("worker.not_bundled"))).toEqual([
    expect.stringContaining("/dev/null/cache"),
  ]);
});

test("a candidate that a deployer left is ended by the next revision", async () => {
  const leave = new AbortController();
  const untilServing = (signal: AbortSignal) => {
    leave.abort("shutdown");
    return Promise.reject(signal.reason);
  };
  const first = await requestOf(1, { untilServing });
  await expect(platformOf().deploy(first, () => {}, leave.signal)).rejects.toBe("shutdown");
  expect(recordOf(1)?.state).toBe("candidate");

  const successor = platformOf();
  await successor.adopt();
  await deploy(successor, 2);
  await until(only(2));
  expect(recordOf(1)).toBeUndefined();
});

test("another deployment under the same number replaces the process of the first", async () => {
  const platform = platformOf();
  await deploy(platform, 1);
  const before = pids();
  await deploy(platform, 1, { deploymentId: "deployment-of-another-registry" });
  expect(pids()).not.toEqual(before);
  expect(pids()).toEqual(only(1));
});

test("a stop whose lease is lost says so at once, and the workers of others are not waited for", async () => {
  const platform = platformOf();
  await deploy(platform, 1);
  const stop = new AbortController();
  stop.abort("lease_lost");
  await expect(platform.stop(stopRequest(SERVICE), stop.signal)).rejects.toBe("lease_lost");
  expect(pids()).toHaveLength(1);
  await platform.stop(stopRequest("another_service"), never);
  await platform.remove(stopRequest(SERVICE), never);
  expect(pids()).toEqual([]);
});

test("as many workers run as the manifest says, each kept running; the deployment is listed once", async () => {
  const platform = platformOf();
  const said: string[] = [];
  const request = await requestOf(1, { options: { replicas: 3 } });
  const { deploymentId } = await platform.deploy(request, (line) => said.push(line), never);
  const processes = ["1", "1-2", "1-3"].map((name) => recordOf(name)?.process?.pid ?? -1);
  await until(processes);
  expect(deploymentId).toBe(processes.join(" "));
  expect(said.join("\n")).toMatch(/1\.log\n.*1-2\.log\n.*1-3\.log$/);
  expect(await platform.list(never)).toMatchObject([{ serviceSchema: SERVICE, isRunning: true }]);

  const supervising = new AbortController();
  const loop = platform.supervise({ isHeld: () => true, holdsLock: () => true }, supervising.signal);
  process.kill(processes[1] ?? 0, "SIGKILL");
  await eventually(() => Promise.resolve(recordOf("1-2")?.process?.pid), (pid) => pid !== processes[1]);
  supervising.abort();
  await loop;
  await until([processes[0] ?? 0, recordOf("1-2")?.process?.pid ?? 0, processes[2] ?? 0]);

  const successor = platformOf();
  await successor.adopt();
  expect(pids()).toHaveLength(3);
  await deploy(successor, 2);
  await until(only(2));
  await successor.remove(stopRequest(SERVICE), never);
  expect(pids()).toEqual([]);
});

test("a deployment of which a worker died is running, for it is started again; of which one is lost, is not", async () => {
  const platform = platformOf();
  const runs = async (of = platform) => (await of.list(never)).map((one) => one.isRunning);
  await deploy(platform, 1, { options: { replicas: 2 } });
  expect(await runs()).toEqual([true]);
  const second = recordOf("1-2")?.process;
  if (!second) throw new Error("the second worker has a process");
  process.kill(second.pid, "SIGKILL");
  // Its place in the file system goes first, and with it what `pids` sees; a little later it does not run any more.
  await eventually(() => Promise.resolve(isRunning(second)), (isAlive) => !isAlive);
  expect(await runs()).toEqual([true]);

  const root = join(directory, SERVICE, "1-2");
  renameSync(root, `${root}-away`); // cannot be started without it
  expect(await runs()).toEqual([false]);
  renameSync(`${root}-away`, root);
  expect(await runs()).toEqual([true]);

  rmSync(join(directory, SERVICE, "1-2.json"));
  const successor = platformOf();
  await successor.adopt();
  expect(await runs(successor)).toEqual([false]);
  await deploy(successor, 2, { options: { replicas: 2 } });
  expect(await runs(successor)).toEqual([true]);
});

test("a revision whose replicas cannot all be started leaves none, and the older one serves on", async () => {
  const platform = platformOf();
  await deploy(platform, 1, { options: { replicas: 2 } });
  const before = pids();
  mkdirSync(join(directory, SERVICE, "2-2.log")); // where its output would go
  await expect(deploy(platform, 2, { options: { replicas: 2 } })).rejects.toThrow("EISDIR");
  await until(before);
});

test("stops at the same time end a worker once, in order", async () => {
  const platform = platformOf();
  await deploy(platform, 1);
  const log = join(directory, SERVICE, "1.log");
  const service = stopRequest(SERVICE);
  await Promise.all([platform.stop(service, never), platform.remove(service, never), platform.stop(service, never)]);
  expect(logTail(log).match(/"event":"worker.exit","code":0/g)).toHaveLength(1);
});

test("workers are started again under another Temporal, not under another PATH", async () => {
  await deploy(platformOf(), 1);
  const before = pids();
  const moved = platformOf({ environment: { PATH: `${process.env["PATH"]}:/somewhere`, HOME: "/nowhere" } });
  await moved.adopt();
  await eventually(() => moved.list(never), (services) => services.length === 1);
  expect(pids()).toEqual(before);

  const elsewhere = platformOf({
    decisiveEnvironment: { TEMPORAL_ADDRESS: temporal.address, TEMPORAL_NAMESPACE: "b", ...ENDPOINTS },
  });
  await elsewhere.adopt();
  await eventually(() => Promise.resolve(pids()), ([pid, ...more]) => more.length === 0 && pid !== before[0] && !!pid);
});

test("a worker that another deployer has started again is not started twice", async () => {
  const first = platformOf();
  await deploy(first, 1);
  const supervising = new AbortController();
  const second = platformOf();
  await second.adopt();
  const loops = [first, second].map((platform) =>
    platform.supervise({ isHeld: () => true, holdsLock: () => true }, supervising.signal)
  );
  const [before] = pids();
  process.kill(before ?? 0, "SIGKILL");
  await eventually(() => Promise.resolve(pids()), ([pid]) => pid !== undefined && pid !== before);
  // Either has looked since: a death is acted upon after half a second, by the clock of each.
  await eventually(
    () => Promise.resolve(logTail(join(directory, SERVICE, "1.log"))),
    // The first may have been killed before it could say so.
    (text) =>
      text.split(`"event":"worker.starting"`).length > 2 &&
      /"worker.ready"/.test(text.split("worker.starting").at(-1) ?? ""),
  );
  supervising.abort();
  await Promise.all(loops);
  expect(pids()).toHaveLength(1);
});

test("a running worker's output stays bounded, and its newest lines are in it", () => {
  const log = join(directory, "worker.log");
  appendFileSync(log, "x".repeat(11 * 1024 * 1024));
  boundLog(log);
  expect(statSync(log).size).toBe(0);
  expect(statSync(`${log}.1`).size).toBe(11 * 1024 * 1024);
  appendFileSync(log, `${"é".repeat(20_000)}the newest`);
  expect(logTail(log)).toMatch(/éthe newest$/);
  boundLog(log);
  expect(statSync(log).size).toBeGreaterThan(0);
});

test("turns on one key run one after another, on others at once, and a failure ends its own alone", async () => {
  const turns = createTurns();
  const order: string[] = [];
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const first = turns.take("a", async () => {
    order.push("a1 begins");
    await mayEnd;
    order.push("a1 ends");
    throw new Error("a1");
  });
  const second = turns.take("a", () => Promise.resolve(order.push("a2")));
  await turns.take("b", () => Promise.resolve(order.push("b1")));
  expect(turns.isTaken("a")).toBe(true);
  end();
  await expect(first).rejects.toThrow("a1");
  await second;
  expect(order).toEqual(["a1 begins", "b1", "a1 ends", "a2"]);
  await eventually(() => Promise.resolve(turns.isTaken("a")), (isTaken) => !isTaken);
});

test("a worker that dies again and again is started later each time, and in the end taken for lost", () => {
  let now = 0;
  const restarts = createRestarts(() => now);
  const waits: number[] = [];
  for (let death = 1; death <= 8; death++) {
    const { isNew, inMs } = restarts.due("s/1");
    expect(isNew).toBe(true);
    expect(restarts.isHopeless("s/1")).toBe(death >= 6);
    waits.push(inMs);
    now += inMs;
    expect(restarts.due("s/1").isDue).toBe(true);
  }
  expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  now += 60_001; // it lives that long
  expect(restarts.isHopeless("s/1")).toBe(false);
  expect(restarts.due("s/1").inMs).toBe(500);
});

test("without the lock nothing is done to a worker, and its record is left to whoever has it", async () => {
  const platform = platformOf();
  await deploy(platform, 1);
  const before = pids();
  const over = new AbortController();
  over.abort();
  await platform.supervise({ isHeld: () => false, holdsLock: () => false }, over.signal);
  await expect(deploy(platform, 2)).rejects.toMatchObject({ code: "lease_lost" });
  await expect(platform.remove(stopRequest(SERVICE), never)).rejects.toMatchObject({
    code: "lease_lost",
  });
  expect(pids()).toEqual(before);
  expect(recordOf(1)?.state).toBe("current");
  expect(recordOf(2)).toBeUndefined();
});
