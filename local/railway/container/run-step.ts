import { createInterface } from "node:readline";
import { execa } from "execa";

export interface StepSettings {
  cwd: string;
  environment: Record<string, string>;
  onLine: (line: string) => void;
  signal: AbortSignal;
}

/** A step of a build does not take longer. */
const STEP_MS = 10 * 60_000;

/** Runs one step of a build, its output line by line. @throws {Error} when it does not end with 0 */
export async function runStep(command: string[], { cwd, environment, onLine, signal }: StepSettings): Promise<void> {
  const [program = "", ...args] = command;
  const child = execa(program, args, {
    cwd,
    env: environment,
    extendEnv: false,
    stdin: "ignore",
    all: true,
    buffer: false,
    reject: false,
    timeout: STEP_MS,
    cancelSignal: signal,
    forceKillAfterDelay: 1000,
  });
  const lines = createInterface({ input: child.all });
  lines.on("line", onLine);
  const { exitCode, shortMessage } = await child;
  if (exitCode !== 0) throw new Error(`The step failed with ${exitCode ?? shortMessage}: ${command.at(-1)}`);
}
