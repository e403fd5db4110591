import { mkdir } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../../../host/free-port.ts";
import { type DeploymentRunner, log, regionsOf, type TellStatus } from "../lifecycle.ts";
import type { Deployment } from "../world.ts";
import { createImageBuilder, type Image } from "./image.ts";
import { runReplica } from "./replica.ts";

export interface ContainerSettings {
  /** Images lie here; nothing in it is needed after the end. */
  directory: string;
  /** Whose PATH, and whose settings for npm, the steps of a build have. */
  environment: NodeJS.ProcessEnv;
  /** Ends all that is built. */
  signal: AbortSignal;
}

const LOOK_MS = 100;
const DEFAULT_HEALTHCHECK_SECONDS = 300;

/**
 * Builds what was uploaded and runs it, as Railway would: BUILDING, DEPLOYING, then SUCCESS once every replica passes its
 * health check; FAILED or CRASHED, with its logs. What it does not prove: see `createImageBuilder`.
 */
export function createUploadRunner(settings: ContainerSettings): DeploymentRunner {
  // First of all the Node that we run on, which the image names.
  const path = { PATH: `${dirname(process.execPath)}${delimiter}${settings.environment["PATH"] ?? ""}` };
  const { directory, signal } = settings;
  const builder = createImageBuilder({
    directory,
    environment: { ...path, ...npmSettings(settings.environment) },
    signal,
  });
  return async (deployment, tell) => {
    const ending = deployment.ending.signal;
    tell("BUILDING");
    const image = await builder.build(deployment.files, (line) => log(deployment, "build", line), ending);
    if (ending.aborted) return;
    tell("DEPLOYING");
    await runContainers(deployment, image, path, tell);
  };
}

/** npm in a build has a HOME of its own, and yet this machine's registry and cache. */
function npmSettings(environment: NodeJS.ProcessEnv): Record<string, string> {
  const home = environment["HOME"] ?? "";
  const own = Object.entries(environment).filter(([name]) => /^npm_config_(registry|cache|userconfig)$/i.test(name));
  return {
    npm_config_userconfig: join(home, ".npmrc"),
    npm_config_cache: join(home, ".npm"),
    npm_config_prefer_offline: "true",
    ...Object.fromEntries(own.flatMap(([name, value]) => (value === undefined ? [] : [[name.toLowerCase(), value]]))),
  };
}

async function runContainers(
  deployment: Deployment,
  image: Image,
  path: { PATH: string },
  tell: TellStatus,
): Promise<void> {
  const { settings } = deployment;
  const count = Object.values(regionsOf(settings)).reduce((sum, { numReplicas }) => sum + numReplicas, 0);
  const stop = new AbortController();
  const ending = deployment.ending.signal;
  ending.addEventListener("abort", () => void endAfterOverlap(ending, settings["overlapSeconds"], stop), {
    once: true,
  });
  if (ending.aborted) stop.abort();
  const replicas = Array.from({ length: count }, (_, index) => startReplica(index, { deployment, image, path, stop }));
  const outcome = await Promise.race([
    Promise.all(replicas.map(({ healthy }) => healthy)).then((all) => (all.every(Boolean) ? "healthy" : "unhealthy")),
    ...replicas.map(({ ended }) => ended.then(() => "ended" as const)),
  ]);
  if (outcome === "healthy" && !ending.aborted) tell("SUCCESS");
  else stop.abort();
  const ends = await Promise.all(replicas.map(({ ended }) => ended));
  if (ending.aborted) return;
  if (outcome !== "healthy") tell("FAILED");
  else if (ends.some((end) => end.why === "exited" && end.exitCode !== 0)) tell("CRASHED");
}

/** One that a newer deployment replaces goes on beside it for a while. */
async function endAfterOverlap(ending: AbortSignal, overlapSeconds: unknown, stop: AbortController): Promise<void> {
  if (ending.reason === "replaced") await pause(Number(overlapSeconds ?? 0) * 1000);
  stop.abort();
}

interface Container {
  deployment: Deployment;
  image: Image;
  path: { PATH: string };
  stop: AbortController;
}

function startReplica(index: number, { deployment, image, path, stop }: Container) {
  const { settings, variables, replicas } = deployment;
  const states = replicas[index];
  const port = freePort();
  const ended = (async () => {
    const temporary = join(image.root, "tmp");
    await mkdir(temporary, { recursive: true });
    const end = await runReplica({
      command: typeof settings["startCommand"] === "string" ? settings["startCommand"].split(" ") : image.command,
      cwd: join(image.root, image.workdir),
      // Each container of Railway's has all ports for itself; on one machine each gets another.
      environment: {
        ...path,
        ...image.environment,
        TMPDIR: temporary,
        ...variables,
        ...railwaysOwn(deployment),
        PORT: String(await port),
      },
      restartPolicy: restartPolicyOf(settings),
      maxRestarts: Number(settings["restartPolicyMaxRetries"] ?? 10),
      drainSeconds: Number(settings["drainingSeconds"] ?? variables["RAILWAY_DEPLOYMENT_DRAINING_SECONDS"] ?? 0),
      onLine: (line) => logLine(deployment, line),
      onState: (state) => {
        if (states !== undefined) states.status = state;
      },
    }, stop.signal);
    if (states !== undefined && end.why === "exited") states.status = end.exitCode === 0 ? "EXITED" : "CRASHED";
    return end;
  })();
  return { ended, healthy: untilHealthy(port, settings, AbortSignal.any([stop.signal, whenEnded(ended)])) };
}

function restartPolicyOf({ restartPolicyType }: Record<string, unknown>) {
  return restartPolicyType === "ALWAYS" || restartPolicyType === "NEVER" ? restartPolicyType : "ON_FAILURE";
}

/** What Railway gives every container, whether it wants it or not. */
function railwaysOwn({ projectId, environmentId, serviceId, id }: Deployment): Record<string, string> {
  return {
    RAILWAY_PROJECT_ID: projectId,
    RAILWAY_ENVIRONMENT_ID: environmentId,
    RAILWAY_SERVICE_ID: serviceId,
    RAILWAY_DEPLOYMENT_ID: id,
  };
}

function whenEnded(ended: Promise<unknown>): AbortSignal {
  const over = new AbortController();
  void ended.then(() => over.abort(), () => over.abort());
  return over.signal;
}

/** False: not within the time that it has, or it has ended. */
async function untilHealthy(
  port: Promise<number>,
  { healthcheckPath, healthcheckTimeout }: Record<string, unknown>,
  over: AbortSignal,
): Promise<boolean> {
  if (typeof healthcheckPath !== "string") return true;
  const url = `http://127.0.0.1:${await port}${healthcheckPath}`;
  const seconds = Number(healthcheckTimeout ?? DEFAULT_HEALTHCHECK_SECONDS);
  const late = AbortSignal.any([over, AbortSignal.timeout(seconds * 1000)]);
  while (!late.aborted) {
    const answer = await fetch(url, { signal: late }).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.status === 200) return true;
    await pause(LOOK_MS, undefined, { signal: late }).catch(() => {});
  }
  return false;
}

/** A line that is JSON is taken apart, as Railway does it: its message, and everything else as attributes, each as JSON. */
function logLine(deployment: Deployment, line: string): void {
  const entry = objectIn(line);
  if (entry === undefined) return log(deployment, "deployment", line);
  const { message, ...attributes } = entry;
  const texts = Object.entries(attributes).map(([name, value]) => [name, JSON.stringify(value)]);
  log(deployment, "deployment", typeof message === "string" ? message : "", Object.fromEntries(texts));
}

function objectIn(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return { ...Object(JSON.parse(line)) };
  } catch {
    return undefined;
  }
}
