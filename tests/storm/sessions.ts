import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { z } from "zod";
import { BrokenPromise } from "./broken-promise.ts";
import type { Model, ServiceRow } from "./model.ts";
import { isSame } from "./statements.ts";

/** Postgres is away for a moment at most. */
const CONNECT_SECONDS = 60;

/** A session that is closed after the work, whatever happens. Waits for a database that is being restarted. */
export async function inSession<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = await connect(url);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

async function connect(url: string): Promise<pg.Client> {
  for (const deadline = Date.now() + CONNECT_SECONDS * 1000;;) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3000 });
    client.on("error", () => {}); // cut on purpose: the query under way, or the next, tells it
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end().catch(() => {});
      if (Date.now() > deadline) throw error;
      await pause(50);
    }
  }
}

/** What became of a transaction: `unknown` where the connection was cut while it was being committed. */
export type Fate = "committed" | "refused" | "lost" | "unknown";

export interface Outcome {
  fate: Fate;
  /** Of a refusal. */
  code?: string;
  message?: string;
}

/** Runs work between `begin` and `commit` or `rollback`. What the database refuses is an outcome, not an error. */
export async function transact(
  client: pg.Client,
  ends: "commit" | "rollback",
  work: () => Promise<void>,
): Promise<Outcome> {
  let isEnding = false;
  try {
    await client.query("begin");
    await work();
    isEnding = ends === "commit";
    await client.query(ends);
    return { fate: ends === "commit" ? "committed" : "lost" };
  } catch (error) {
    if (error instanceof BrokenPromise) throw error;
    const code = error instanceof pg.DatabaseError ? error.code : undefined;
    // 57P0x: the server is being stopped.
    if (code === undefined || /^(57P0|08)/.test(code)) return { fate: isEnding ? "unknown" : "lost" };
    await client.query("rollback").catch(() => {});
    return { fate: "refused", code, message: error instanceof Error ? error.message : "" };
  }
}

const serviceRows = z.array(z.object({
  service_schema: z.string(),
  service_name: z.string(),
  workflows: z.array(z.object({ name: z.string(), activities: z.array(z.string()) })),
  options: z.record(z.string(), z.unknown()),
  enabled: z.boolean(),
}));

/** osp.services as it stands. */
export async function readServices(client: Pick<pg.Client, "query">): Promise<Model> {
  const { rows } = await client.query(
    `select service_schema, service_name, workflows, options, enabled from osp.services order by service_schema`,
  );
  return new Map(
    serviceRows.parse(rows).map(({ service_schema, ...row }): [string, ServiceRow] => [service_schema, row]),
  );
}

/** What the two differ in, a line for each service. Pure. */
export function differences(expected: Model, found: Model): string[] {
  const services = new Set([...expected.keys(), ...found.keys()]);
  return [...services].flatMap((service) => {
    const [one, other] = [expected.get(service), found.get(service)];
    if (one === undefined && other === undefined) return [];
    if (one !== undefined && other !== undefined && isSame(one, other)) return [];
    return [
      `osp.services, ${service}: ${JSON.stringify(other ?? "no row")} instead of ${JSON.stringify(one ?? "no row")}`,
    ];
  });
}

/** Which of these osp.services holds after a transaction whose end nobody saw. @throws {BrokenPromise} where it is none */
export async function resolve(url: string, candidates: Model[]): Promise<Model> {
  const found = await inSession(url, readServices);
  const match = candidates.find((candidate) => differences(candidate, found).length === 0);
  if (match !== undefined) return match;
  throw new BrokenPromise([
    "A transaction took effect in part, or a committed one was lost",
    ...candidates.flatMap((candidate) => differences(candidate, found)),
  ]);
}
