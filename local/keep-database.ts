import { setTimeout as pause } from "node:timers/promises";
import { isRunning } from "../host/process-identity.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import type { Building } from "./building.ts";
import { prepareDatabase } from "./database.ts";
import { startPostgres } from "./postgres.ts";
import { clusterDirectory } from "./stack-state.ts";

const LOOK_MS = 500;

/** Starts Postgres, starts it again whenever it ends, and ends it with the stack. Returns its URL. */
export async function keepDatabase({ state, ports, progress, stops }: Building): Promise<string> {
  const options = { directory: clusterDirectory(state.directory), port: ports.OSP_DB_PORT };
  let postgres = await startPostgres(options);
  state.record("postgres", postgres.process);
  const stopping = new AbortController();
  const kept = (async () => {
    while (!stopping.signal.aborted) {
      await pause(LOOK_MS, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted || isRunning(postgres.process)) continue;
      progress.say("postgres ended unexpectedly and is started again");
      try {
        postgres = await startPostgres(options);
        state.record("postgres", postgres.process);
      } catch (error) {
        progress.say(formatError(error));
      }
    }
  })();
  stops.push(async () => {
    stopping.abort();
    await kept;
    await postgres.stop();
  });
  await prepareDatabase(postgres.url);
  return postgres.url;
}
