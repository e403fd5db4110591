import type pg from "pg";
import { z } from "zod";
import { BrokenPromise } from "./broken-promise.ts";
import type { Statement } from "./commands.ts";
import { type Model, serviceOf, type ServiceRow, withRow } from "./model.ts";
import { editAtOnce, editCrosswise } from "./races.ts";
import { inSession, type Outcome, resolve, transact } from "./sessions.ts";
import { type Plan, plan, planOf } from "./statements.ts";

/** Says a statement to the database, and returns what osp.services must hold after it. */
export async function write(statement: Statement, number: number, model: Model, url: string): Promise<Model> {
  if (statement.kind === "edit_at_once") return await editAtOnce(statement.services.map(serviceOf), number, model, url);
  if (statement.kind === "edit_crosswise") {
    return await editCrosswise(statement.services.map(serviceOf), number, model, url);
  }
  const planned = statement.kind === "rollback"
    ? await planRollback(serviceOf(statement.service), statement.back, model, url)
    : planOf(statement, number, model);
  return planned === undefined ? model : await carryOut(planned, model, url);
}

/** @throws {BrokenPromise} where the database does with it what it should not, or makes other revisions of it */
async function carryOut(planned: Plan, model: Model, url: string): Promise<Model> {
  const outcome = await inSession(
    url,
    (client) => transact(client, planned.ends, () => runPlan(planned, model, client)),
  );
  const problems = planProblems(planned, outcome);
  if (problems.length > 0) throw new BrokenPromise(problems);
  if (outcome.fate === "unknown") return await resolve(url, [model, planned.after]);
  return outcome.fate === "committed" ? planned.after : model;
}

/**
 * What became of a statement that should not: it was refused, or was not. A deadlock as well, whatever the statement: everybody
 * locks in the same order, TRUNCATE too. Pure.
 */
export function planProblems({ refusal, steps }: Pick<Plan, "refusal" | "steps">, outcome: Outcome): string[] {
  const { fate, code, message } = outcome;
  if (fate === "committed" && refusal !== undefined) return [`Was not refused: ${JSON.stringify(steps)}`];
  return fate === "refused" && code !== refusal ? [`Refused with ${code} ${message}: ${JSON.stringify(steps)}`] : [];
}

async function runPlan(planned: Plan, model: Model, client: pg.Client): Promise<void> {
  const { steps, after, revisions, locksTable = false } = planned;
  const services = [...new Set([...model.keys(), ...after.keys(), ...revisions.keys()])].sort();
  // In the order in which everybody locks. Locked, so that no reconcile makes another revision meanwhile.
  if (!locksTable) {
    await client.query(`select from osp.services where service_schema = any ($1) order by service_schema for update`, [
      services,
    ]);
  }
  const before = await readRevisions(services, client, !locksTable);
  for (const { text, values } of steps) await client.query(text, values);
  if (planned.ends === "rollback") return;
  const made = await readRevisions(services, client, false);
  const problems = services.flatMap((service) => {
    const [from, to, expected] = [before.get(service) ?? 0, made.get(service) ?? 0, revisions.get(service) ?? 0];
    // TRUNCATE sees the intents alone: what has none, for they were forgotten, it cannot know.
    const isAsExpected = locksTable ? from === 0 || to - from >= expected : to - from === expected;
    return isAsExpected
      ? []
      : [`${service}: ${to - from} revisions instead of ${expected} by ${JSON.stringify(steps)}`];
  });
  if (problems.length > 0) throw new BrokenPromise(problems);
}

const revisionRows = z.array(z.object({ service_schema: z.string(), revision: z.int() }));

async function readRevisions(services: string[], client: pg.Client, locks: boolean): Promise<Map<string, number>> {
  const { rows } = await client.query(
    `select service_schema, revision from osp_metadata.service_intents where service_schema = any ($1)
    order by service_schema ${locks ? "for update" : ""}`,
    [services],
  );
  return new Map(revisionRows.parse(rows).map(({ service_schema, revision }) => [service_schema, revision]));
}

const targetSchema = z.object({
  revision: z.int(),
  spec: z.looseObject({
    service_name: z.string(),
    workflows: z.array(z.object({ name: z.string(), activities: z.array(z.string()) })),
    options: z.record(z.string(), z.unknown()),
  }),
});

/** To one of the newest revisions that it can go back to; undefined: it has none. */
async function planRollback(service: string, back: number, model: Model, url: string): Promise<Plan | undefined> {
  const { rows: targets } = await inSession(url, (client) =>
    client.query(
      `select revision, spec from osp_metadata.worker_registry where service_schema = $1 and manifest is not null
      order by revision desc limit 4`,
      [service],
    ));
  const target = z.array(targetSchema).parse(targets)[back % Math.max(targets.length, 1)];
  if (target === undefined) return undefined;
  const { service_name, workflows, options } = target.spec;
  const row: ServiceRow = { service_name, workflows, options, enabled: true };
  const steps = [{ text: "select * from osp.rollback($1, $2)", values: [service, target.revision] }];
  return plan(steps, withRow(model, service, row), [service]);
}
