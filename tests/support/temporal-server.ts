import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../../host/free-port.ts";
import { findTemporalCli } from "../../local/temporal-cli.ts";

export interface TemporalServer {
  address: string;
  stop(): Promise<void>;
}

/**
 * A Temporal dev server of this test alone, in memory.
 *
 * @param port where it must listen; left out, any free one
 * @param more arguments, such as `--dynamic-config-value`
 */
export async function startTemporalServer(port?: number, more: string[] = []): Promise<TemporalServer> {
  const chosen = port ?? await freePort();
  const child = spawn(await temporalCli(), [
    ...[
      "server",
      "start-dev",
      "--headless",
      "--ip",
      "127.0.0.1",
      "--port",
      String(chosen),
      "--log-level",
      "error",
      ...more,
    ],
  ], { stdio: "ignore" });
  await waitForPort(chosen, child);
  return {
    address: `127.0.0.1:${chosen}`,
    async stop() {
      const exited = once(child, "exit");
      if (child.exitCode === null && child.kill("SIGTERM")) await exited;
    },
  };
}

/** Installed once for this machine where there is none; tests/support/global-setup.ts sees to that. */
async function temporalCli(): Promise<string> {
  const cli = await findTemporalCli(process.env, () => {});
  if (cli === undefined) throw new Error("There is no Temporal CLI, and pip cannot install one: set TEMPORAL_CLI_PATH");
  return cli;
}

async function waitForPort(port: number, child: ChildProcess): Promise<void> {
  const failed = once(child, "error").then(([error]) => Promise.reject(error));
  const deadline = Date.now() + 20_000;
  while (!await Promise.race([isOpen(port), failed])) {
    if (child.exitCode !== null) throw new Error(`The Temporal server ended with code ${child.exitCode}`);
    if (Date.now() > deadline) throw new Error(`The Temporal server did not open port ${port} within 20 s`);
    await pause(20);
  }
  failed.catch(() => {});
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    return await Promise.race([once(socket, "connect").then(() => true), once(socket, "error").then(() => false)]);
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
