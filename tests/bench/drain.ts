import { setTimeout as pause } from "node:timers/promises";
import type { LoadStack } from "./load-stack.ts";
import { type Memory, programsOf, withPeakMemory } from "./memory.ts";
import { type BenchResult, createResult } from "./result.ts";
import { startLoadDeployer } from "./start-program.ts";

const SERVICES = 10_000;
const GOAL_INSERT_S = 120;
const GOAL_PENDING_S = 60;
const GOAL_MIB = 1024;
const TIMEOUT_MS = 900_000;
const TOLD_EVERY_MS = 10_000;

const WORKFLOWS = JSON.stringify([
  { name: "processBilling", activities: ["calculateCharges", "sendInvoice"] },
  { name: "handlePayment", activities: ["validatePayment", "recordPayment"] },
]);

/** Ten thousand services in one statement, on a platform that does nothing: what the product itself takes for them. */
export async function measureDrain(stack: LoadStack, write: (line: string) => void): Promise<BenchResult[]> {
  const { client } = stack;
  // What was measured before on this stack is no part of it.
  await client.query(
    `set session_replication_role = replica; delete from osp.services; set session_replication_role = origin`,
  );
  await client.query(`truncate osp_metadata.service_intents, osp_metadata.worker_registry cascade`);

  const inserted = await withDeployer(stack, async () => {
    const startedAt = performance.now();
    await client.query(
      `insert into osp.services (service_schema, service_name, workflows)
      select 'bench_' || n, 'Service No. ' || n, $1::jsonb from generate_series(1, ${SERVICES}) as n`,
      [WORKFLOWS],
    );
    await untilAll(stack, "deployed", 1, write);
    return (performance.now() - startedAt) / 1000;
  });
  // Every service once more, with nobody there to deploy it until all of them wait.
  await client.query(`update osp.services set service_name = service_name || ', changed'`);
  await untilAll(stack, "pending", 2, write);
  const deployed = await withDeployer(stack, async () => {
    const startedAt = performance.now();
    await untilAll(stack, "deployed", 2, write);
    return (performance.now() - startedAt) / 1000;
  });
  return resultsOf(inserted, deployed);
}

async function withDeployer(stack: LoadStack, work: () => Promise<number>): Promise<{ seconds: number } & Memory> {
  const deployer = startLoadDeployer(stack.deployerUrl, {
    FUNCTIONS_URL: stack.functionsUrl,
    OSP_WEBHOOK_SECRET: stack.webhookSecret,
    OSP_CONCURRENCY: "100",
  });
  try {
    const pids = { ...programsOf(stack.directory), deployer: deployer.pid };
    const { result, ...memory } = await withPeakMemory(pids, work);
    return { seconds: result, ...memory };
  } finally {
    await deployer.stop();
  }
}

async function untilAll(
  { client }: LoadStack,
  status: string,
  revision: number,
  write: (line: string) => void,
): Promise<void> {
  let toldAt = performance.now();
  for (const deadline = performance.now() + TIMEOUT_MS;; await pause(200)) {
    const { rows: [row] } = await client.query(
      `select count(*)::integer as count from osp_metadata.worker_registry where deployment_status = $1 and revision = $2`,
      [status, revision],
    );
    if (row.count === SERVICES) return;
    if (performance.now() - toldAt > TOLD_EVERY_MS) {
      toldAt = performance.now();
      write(`  ${row.count} of ${SERVICES} ${status}`);
    }
    if (performance.now() > deadline) {
      throw new Error(`Cannot measure: ${row.count} of ${SERVICES} services are ${status} after ${TIMEOUT_MS} ms`);
    }
  }
}

function resultsOf(inserted: { seconds: number } & Memory, deployed: { seconds: number } & Memory): BenchResult[] {
  const rate = (seconds: number) => ({ services: SERVICES, services_per_second: SERVICES / seconds });
  const largest = inserted.peakOfAll > deployed.peakOfAll ? inserted : deployed;
  return [
    createResult({
      name: "insert_10000_services_to_all_deployed",
      value: inserted.seconds,
      unit: "s",
      goal: GOAL_INSERT_S,
      raw: rate(inserted.seconds),
    }),
    createResult({
      name: "pending_10000_services_to_all_deployed",
      value: deployed.seconds,
      unit: "s",
      goal: GOAL_PENDING_S,
      raw: rate(deployed.seconds),
    }),
    createResult({
      name: "memory_of_all_processes",
      value: largest.peakOfAll,
      unit: "MiB",
      goal: GOAL_MIB,
      raw: Object.fromEntries(Object.entries(largest.peaks).map(([name, size]) => [`${name}_mib`, size])),
    }),
  ];
}
