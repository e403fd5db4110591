import type { TestDatabase } from "./database.ts";

export const workflows = [{ name: "doWork", activities: ["first", "second"] }];

export async function insertService(
  database: Pick<TestDatabase, "rows">,
  schema: string,
  values: { name?: string; workflows?: unknown; options?: unknown; enabled?: boolean } = {},
): Promise<void> {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows, options, enabled) values ($1, $2, $3, $4, $5)`,
    [
      schema,
      values.name ?? "A Service",
      JSON.stringify(values.workflows ?? workflows),
      JSON.stringify(values.options ?? {}),
      values.enabled ?? true,
    ],
  );
}

/** Nothing of any service is left: no row, no deployment, no intent. */
export async function clearServices(database: Pick<TestDatabase, "rows">): Promise<void> {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.worker_registry`);
  await database.rows(`delete from osp_metadata.service_intents`);
}

export interface RegistryRow {
  id: string;
  service_schema: string;
  revision: number;
  deployment_status: string;
  source: string;
  error_code: string | null;
  error_message: string | null;
  retry_count: number;
  logs: string;
}

/** The registry's rows of one service, oldest first. */
export function registryOf(database: Pick<TestDatabase, "rows">, schema: string): Promise<RegistryRow[]> {
  return database.rows<RegistryRow>(
    `select * from osp_metadata.worker_registry where service_schema = $1 order by revision`,
    [schema],
  );
}

/** Asks again until the answer satisfies; fails with the last answer after `timeoutMs`. */
export async function eventually<Answer>(
  ask: () => Promise<Answer>,
  satisfies: (answer: Answer) => boolean,
  timeoutMs = 90_000,
): Promise<Answer> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (satisfies(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
