// The peer's worker in a process of its own, as our deployer has one: tells its parent when a job starts.
import { openPool } from "../../deployer/open-pool.ts";
import { runPeer } from "./peer.ts";
import type { ClaimedMessage } from "./start-program.ts";

const pool = openPool(process.env["DATABASE_URL"] ?? "", 10);
pool.on("connect", (client) => client.on("error", () => {})); // the peer complains where nobody listens
const runner = await runPeer(pool, { concurrency: 4 }, (id) => {
  const message: ClaimedMessage = { claimed: [id], at: performance.timeOrigin + performance.now() };
  process.send?.(message);
});
process.once("SIGTERM", () => void stop());

async function stop(): Promise<void> {
  await runner.stop();
  await pool.end();
  process.disconnect?.();
}
