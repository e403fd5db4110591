import { tmpdir } from "node:os";
import { execa } from "execa";
import type { FakeRailway } from "../../../local/railway/fake-railway.ts";
import { scratchDirectory } from "./scratch.ts";

export interface CliRun {
  exitCode: number | undefined;
  stdout: string;
  stderr: string;
  /** Operations that reached the stand-in, in their order. */
  operations: string[];
}

export interface RunOptions {
  /** Written to stdin; left out, stdin is closed. */
  input?: string;
  /** Added to the environment; undefined takes a variable away. */
  environment?: Record<string, string | undefined>;
  cwd?: string;
}

export type RunCli = (args: string[], options?: RunOptions) => Promise<CliRun>;

/** Runs a CLI against a stand-in, in an environment built from nothing and a HOME of its own. */
export function createRunCli(binary: string, fake: FakeRailway): RunCli {
  return async (args, { input, environment, cwd } = {}) => {
    const before = fake.journal.requests.length;
    const home = scratchDirectory();
    const { exitCode, stdout, stderr } = await execa(binary, args, {
      cwd: cwd ?? home,
      env: { ...cliEnvironment(home, fake), ...environment },
      extendEnv: false,
      reject: false,
      timeout: 30_000,
      ...(input === undefined ? { stdin: "ignore" as const } : { input }),
    });
    return { exitCode, stdout, stderr, operations: fake.journal.requests.slice(before).map((each) => each.operation) };
  };
}

function cliEnvironment(home: string, fake: FakeRailway): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    TMPDIR: tmpdir(),
    RAILWAY_API_TOKEN: fake.tokens.workspace,
    RAILWAY_NO_TELEMETRY: "1",
    RAILWAY_NO_AUTO_UPDATE: "1",
    RAILWAY_AGENT_ADVISORY: "0",
    RAILWAY_CAC_DEPRECATION_WARNING: "0",
    RAILWAY_HTTP_TIMEOUT: "20",
    RAILWAY_CALLER: "ci:osp-worker-automation",
    NO_COLOR: "1",
    ...fake.environment,
  };
}
