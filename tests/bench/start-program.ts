import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { nodeProcessSettings } from "../../host/node-process-settings.ts";

const messageSchema = z.object({ claimed: z.array(z.string()), at: z.number() });
/** Ids of registry rows, or of the peer's jobs, that a process has in hand from `at` on, in milliseconds since the epoch. */
export type ClaimedMessage = z.infer<typeof messageSchema>;

export interface ClaimingProgram {
  pid: number;
  /** When a row or job was in hand; resolves at once where it was already. */
  claimed(id: string): Promise<number>;
  /** How many were taken each time. */
  readonly batches: number[];
  /** SIGTERM, and SIGKILL where that does not end it. */
  stop(): Promise<void>;
}

const STOP_TIMEOUT_MS = 30_000;
const CLAIM_TIMEOUT_MS = 60_000;

/** A deployer without a platform, in a process of its own, as a stack starts it. @param settings its environment, see deployer/config.ts */
export function startLoadDeployer(databaseUrl: string, settings: Record<string, string> = {}): ClaimingProgram {
  return startProgram("load-deployer.ts", {
    ...nodeProcessSettings(process.env),
    DATABASE_URL: databaseUrl,
    OSP_PLATFORM: "local",
    ...settings,
  });
}

/** The peer's worker with its own defaults. */
export function startPeerWorker(databaseUrl: string): ClaimingProgram {
  return startProgram("peer-worker.ts", { DATABASE_URL: databaseUrl });
}

function startProgram(file: string, environment: Record<string, string>): ClaimingProgram {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const child = fork(path, { env: environment, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  if (child.pid === undefined) throw new Error(`Cannot start ${path}`);
  const moments = new Map<string, number>();
  const waiting = new Map<string, (at: number) => void>();
  const batches: number[] = [];
  child.on("message", (message) => {
    const { claimed, at } = messageSchema.parse(message);
    batches.push(claimed.length);
    for (const id of claimed) {
      moments.set(id, at);
      waiting.get(id)?.(at);
    }
  });
  return {
    pid: child.pid,
    batches,
    async claimed(id) {
      const at = moments.get(id);
      if (at !== undefined) return at;
      return await new Promise((resolve, reject) => {
        const tooLate = setTimeout(
          () => reject(new Error(`Cannot measure: ${file} has not taken ${id} in ${CLAIM_TIMEOUT_MS} ms`)),
          CLAIM_TIMEOUT_MS,
        );
        waiting.set(id, (moment) => {
          clearTimeout(tooLate);
          resolve(moment);
        });
      });
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      const kill = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(kill);
    },
  };
}
