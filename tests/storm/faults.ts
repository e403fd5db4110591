import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import { signalProcess } from "../../host/process-identity.ts";
import { BrokenPromise } from "./broken-promise.ts";
import { DEPLOYERS, type Fault } from "./commands.ts";
import { serviceOf } from "./model.ts";
import { inSession, transact } from "./sessions.ts";
import type { StormStack } from "./stack.ts";
import type { Watch } from "./watch.ts";

/** What befalls a stack. Much of it lasts beside the commands that follow. */
export interface Faults {
  /** False: there was nothing that it could befall. */
  strike(fault: Fault): Promise<boolean>;
  /** When Temporal lost what it knew; undefined: it did not. */
  temporalLostAt(): number | undefined;
  /** Whether the intents were forgotten: then nobody knows any more what was deleted. */
  hasForgotten(): boolean;
  /** Everything is as it should be, but for what the product has to mend. */
  calm(): Promise<void>;
}

/** @param forgetting tells whoever watches that rows vanish meanwhile */
export function createFaults(stack: StormStack, forgetting: Watch["forgetting"]): Faults {
  const lasting = new Set<Promise<void>>();
  let restart: Promise<void> | undefined;
  let temporalLostAt: number | undefined;
  let hasForgotten = false;

  const last = (work: Promise<void>) => {
    const ended = work.finally(() => lasting.delete(ended));
    lasting.add(ended);
    ended.catch(() => {}); // thrown by calm()
  };

  async function strike(fault: Fault): Promise<boolean> {
    switch (fault.kind) {
      case "kill":
        return stack.signal(fault.program, "SIGKILL");
      case "kill_worker":
        return killWorkers(serviceOf(fault.service), stack, 1);
      case "erase_worker":
        // A worker that starts, or is told of, writes there meanwhile.
        rmSync(join(stack.workersDirectory, serviceOf(fault.service)), {
          recursive: true,
          force: true,
          maxRetries: 10,
          retryDelay: 20,
        });
        return killWorkers(serviceOf(fault.service), stack);
      case "pause_deployer": {
        if (!stack.signal(fault.program, "SIGSTOP")) return false;
        last(pause(fault.forMs).then(() => void stack.signal(fault.program, "SIGCONT")));
        return true;
      }
      case "restart_postgres": {
        if (restart !== undefined) return false;
        restart = restartPostgres(stack, fault.how, fault.awayMs).finally(() => restart = undefined);
        last(restart);
        return true;
      }
      case "doorbell_dropped":
      case "doorbell_twice":
      case "doorbell_late":
        last(disturbDoorbell(fault.kind, fault.forMs, stack));
        return true;
      case "doorbell_forged":
        return await forgeRing(stack);
      case "empty_registry":
      case "forget_everything":
        hasForgotten ||= fault.kind === "forget_everything";
        return await forgetting(() => empty(stack, fault.kind === "forget_everything"));
      case "lose_temporal":
        if (!stack.signal("temporal", "SIGKILL")) return false;
        for (const ending of ["", "-wal", "-shm"]) rmSync(`${stack.temporalFile}${ending}`, { force: true });
        temporalLostAt = Date.now();
        return true;
    }
  }

  return {
    strike,
    temporalLostAt: () => temporalLostAt,
    hasForgotten: () => hasForgotten,
    async calm() {
      await Promise.all(lasting);
      for (const deployer of DEPLOYERS) stack.signal(deployer, "SIGCONT");
      await inSession(stack.addresses.DB_URL, (client) => client.query(GOOD_DOORBELL));
    },
  };
}

/** Those that run for a service now: all, or some of them. */
function killWorkers(service: string, { workersDirectory }: StormStack, most = Infinity): boolean {
  const workers = findWorkers(workersDirectory).filter(({ serviceSchema }) => serviceSchema === service).slice(0, most);
  for (const worker of workers) signalProcess(worker, "SIGKILL");
  return workers.length > 0;
}

async function restartPostgres({ postgres }: StormStack, how: "fast" | "immediate", awayMs: number): Promise<void> {
  await postgres.stop(how);
  await pause(awayMs);
  await postgres.start();
}

const GOOD_DOORBELL =
  `update osp_local.net_faults set deliver_twice = false, refuse_until = null, delay_ms = 0, hold_ms = 0`;
const BAD_DOORBELL = {
  doorbell_dropped: `update osp_local.net_faults set refuse_until = 'infinity'`,
  doorbell_twice: `update osp_local.net_faults set deliver_twice = true`,
  doorbell_late: `update osp_local.net_faults set delay_ms = 1500`,
};

async function disturbDoorbell(how: keyof typeof BAD_DOORBELL, forMs: number, stack: StormStack): Promise<void> {
  const url = stack.addresses.DB_URL;
  // A restart may cut the session: then the doorbell stays as it is.
  await inSession(url, (client) => client.query(BAD_DOORBELL[how])).catch(() => {});
  await pause(forMs);
  await inSession(url, (client) => client.query(GOOD_DOORBELL)).catch(() => {});
}

/** @throws {BrokenPromise} where somebody who does not know the secret is let in */
async function forgeRing({ addresses, webhookSecret }: StormStack): Promise<boolean> {
  const secret = webhookSecret.replace(/.$/, (last) => last === "x" ? "y" : "x");
  try {
    const response = await fetch(`${addresses.FUNCTIONS_URL}/queue-worker-build`, {
      method: "POST",
      headers: { "x-osp-webhook-secret": secret },
      signal: AbortSignal.timeout(5000),
    });
    await response.body?.cancel();
    // The function is away now and then.
    if (response.status === 503) return false;
    if (response.status !== 401) throw new BrokenPromise([`A forged ring was answered by ${response.status}, not 401`]);
    return true;
  } catch (error) {
    if (error instanceof BrokenPromise) throw error;
    return false; // the API is away
  }
}

/** As a restore of a backup without them leaves it: without a word to anybody. */
async function empty({ addresses }: StormStack, withIntents: boolean): Promise<boolean> {
  const tables = ["worker_registry", "deployment_attempts", ...(withIntents ? ["service_intents"] : [])];
  const { fate } = await inSession(addresses.DB_URL, (client) =>
    transact(client, "commit", async () => {
      await client.query("set local session_replication_role = replica");
      await client.query(`truncate ${tables.map((table) => `osp_metadata.${table}`).join(", ")}`);
    }));
  return fate === "committed";
}
