import { expect, test } from "vitest";
import { mendPostgresDriver } from "../../local/postgres-driver.ts";
import { useDatabase } from "../support/database.ts";
import { eventually } from "../support/services.ts";

const database = useDatabase();

test("a statement on a connection that was cut fails, and the next one has a new connection", async () => {
  mendPostgresDriver();
  const { default: postgres } = await import("postgres");
  const sql = postgres(database.url, { max: 1, backoff: () => 0.05, onnotice: () => {} });
  try {
    const reserved = await sql.reserve();
    const [before] = await reserved`select pg_backend_pid() as pid`;
    await database.rows(`select pg_terminate_backend($1, 5000)`, [before?.["pid"]]);
    await eventually(
      () => database.rows(`select from pg_stat_activity where pid = $1`, [before?.["pid"]]),
      (rows) => rows.length === 0,
    );
    // The first one ended the process, and any other one waited for ever.
    for (let statement = 1; statement <= 3; statement++) {
      const [outcome] = await Promise.allSettled([reserved`select ${statement}::text`]);
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "CONNECTION_CLOSED" } });
    }
    reserved.release();
    const [after] = await sql`select pg_backend_pid() as pid`;
    expect(after?.["pid"]).not.toBe(before?.["pid"]);
  } finally {
    await sql.end({ timeout: 1 });
  }
}, 60_000);
