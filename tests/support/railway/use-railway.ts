import { afterEach, beforeEach, expect } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../../local/railway/fake-railway.ts";
import { type TestDatabase, useDatabase } from "../database.ts";
import { createRailwayMachine, type RailwayMachine } from "./deployers.ts";
import { resetDatabase } from "./reset.ts";

/** A stand-in of Railway, a database and a machine of deployers, new for each test. */
export interface UsedRailway {
  database: TestDatabase;
  cli: string;
  fake: FakeRailway;
  machine: RailwayMachine;
  /** Requests so far, by operation. */
  operations(from?: number): string[];
  /** Deploys a service again, unchanged. */
  redeploy(schema: string): Promise<void>;
}

/**
 * Each test ends with nothing of it running, and fails when Railway would not have been asked as it was.
 *
 * @param cli the real CLI or the stub
 * @param cliSchema of the real CLI's sources, where they are
 */
export function useRailway(cli: string, cliSchema?: string): UsedRailway {
  const database = useDatabase();
  let fake: FakeRailway;
  let machine: RailwayMachine;
  beforeEach(async () => {
    await resetDatabase(database);
    fake = await startFakeRailway({ cliSchema });
    machine = createRailwayMachine(database, cli, fake);
  });
  afterEach(async () => {
    await machine.clear();
    await fake.stop();
    expect(fake.journal.violations).toEqual([]);
  });
  return {
    database,
    cli,
    get fake() {
      return fake;
    },
    get machine() {
      return machine;
    },
    operations: (from = 0) => fake.journal.requests.slice(from).map(({ operation }) => operation),
    async redeploy(schema) {
      await database.rows(`select osp.redeploy($1)`, [schema]);
      await machine.ringBell();
    },
  };
}
