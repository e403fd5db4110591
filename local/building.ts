import { execa } from "execa";
import { join } from "node:path";
import { cacheDirectory } from "../host/cache-directory.ts";
import { nodeProcessSettings } from "../host/node-process-settings.ts";
import { type Program, startProgram } from "./child-program.ts";
import { REPOSITORY, type StackConfig, StackError } from "./config.ts";
import type { Ports } from "./ports.ts";
import {
  activitiesProgram,
  type StackAddresses,
  type StackProgram,
  temporalBySdk,
  temporalProgram,
} from "./stack-programs.ts";
import type { StackState } from "./stack-state.ts";
import type { StackPlatform } from "./stack-platform.ts";
import { findTemporalCli } from "./temporal-cli.ts";

/** Tells what is starting and how long it took. */
export interface Progress {
  step<Result>(title: string, work: (note: (text: string) => void) => Promise<Result>): Promise<Result>;
  say(line: string): void;
}

/** A stack that is coming up, or going down. */
export interface Building {
  config: StackConfig;
  state: StackState;
  ports: Ports;
  progress: Progress;
  /** Where its workers run. */
  platform: StackPlatform;
  /** Whose PATH, HOME and tool settings are used. */
  environment: NodeJS.ProcessEnv;
  /** How to end what has started, in the order of starting. */
  stops: (() => Promise<void>)[];
}

/** Starts a program of the stack, to be ended with it. */
export async function launch(
  program: StackProgram,
  { state, progress, environment, stops }: Building,
): Promise<Program> {
  const logFile = join(state.directory, `${program.name}.log`);
  const started = await startProgram({
    ...program,
    environment: {
      ...inheritedFrom(environment),
      ...(program.command === process.execPath ? nodeProcessSettings(environment) : {}),
      ...program.environment,
    },
    logFile,
    onStarted: (process) => state.record(program.name, process),
    onDied: (name) => progress.say(`${name} ended unexpectedly and is started again; its output: ${logFile}`),
  });
  stops.push(() => started.stop());
  return started;
}

/** What no Supabase brings: Temporal, an endpoint for activities, and the bundle that workers start from. */
export function launchBesideSupabase(addresses: StackAddresses, building: Building): Promise<unknown>[] {
  const { ports, progress, state, environment } = building;
  return [
    progress.step("Workflow bundle", () => bundleWorkflows(building)),
    progress.step("Temporal", async (note) => {
      const cli = await findTemporalCli(environment, note);
      if (cli !== undefined) addresses["TEMPORAL_CLI_PATH"] = cli;
      await launch(cli === undefined ? temporalBySdk(ports, state) : temporalProgram(cli, ports, state), building);
    }),
    progress.step("Example of an activity endpoint", () => launch(activitiesProgram(ports, state), building)),
  ];
}

/** Waits for all of them even when one fails: what is still starting must be known before it can be ended. */
export async function allOrFirstFailure(steps: Promise<unknown>[]): Promise<void> {
  const failure = (await Promise.allSettled(steps)).find((step) => step.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

async function bundleWorkflows({ environment }: Building): Promise<void> {
  const { exitCode, all } = await execa(process.execPath, ["worker/bundle-workflows.ts"], {
    cwd: REPOSITORY,
    env: inheritedFrom(environment),
    extendEnv: false,
    reject: false,
    all: true,
  });
  if (exitCode !== 0) throw new StackError(`Cannot bundle the built-in workflows: ${all}`);
}

/** An environment for a program, built from nothing: no credential of the person's shell reaches a program that does not need it. */
export function inheritedFrom(environment: NodeJS.ProcessEnv): Record<string, string> {
  const kept = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "NODE_EXTRA_CA_CERTS"].flatMap((name) => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(kept), OSP_CACHE_DIR: cacheDirectory(environment) };
}
