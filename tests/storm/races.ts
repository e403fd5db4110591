import { setTimeout as pause } from "node:timers/promises";
import type pg from "pg";
import { BrokenPromise } from "./broken-promise.ts";
import { type Model, withRow } from "./model.ts";
import { inSession, type Outcome, resolve, transact } from "./sessions.ts";

/** Two sessions change the same two rows: the second waits for the first, and its change is the last. */
export async function editAtOnce(services: string[], number: number, model: Model, url: string): Promise<Model> {
  const { byFirst, bySecond, first, second } = edits(services, number, model);
  const outcomes = await inSession(url, (one) =>
    inSession(url, async (other) => {
      let waiting: Promise<Outcome> | undefined;
      const ofFirst = await transact(one, "commit", async () => {
        await rename(one, services, first);
        waiting = transact(other, "commit", () => rename(other, services, second));
        await untilItWaits(one);
      });
      // Where the first was cut before it, the second never began.
      return { first: ofFirst, second: await waiting ?? { fate: "lost" as const } };
    }));
  const problems = [outcomes.first, outcomes.second].flatMap(refusalProblems);
  if (problems.length > 0) throw new BrokenPromise(problems);
  return await resolve(url, inTurn({ model, byFirst, bySecond }, outcomes.first, outcomes.second));
}

/**
 * Marks statements that wait for each other on purpose: a transaction that changes rows one by one locks them in the order that
 * its author chose, which nobody else can mend.
 */
export const CROSSWISE = "/* crosswise */ ";

/** Two sessions change two rows in opposite orders: one of them is ended, or both come through, one after the other. */
export async function editCrosswise(services: string[], number: number, model: Model, url: string): Promise<Model> {
  const { byFirst, bySecond, first, second } = edits(services, number, model);
  const outcomes = await inSession(url, (one) =>
    inSession(url, (other) =>
      Promise.all([
        transact(one, "commit", async () => {
          for (const service of services) await rename(one, [service], first, CROSSWISE);
        }),
        transact(other, "commit", async () => {
          for (const service of services.toReversed()) await rename(other, [service], second, CROSSWISE);
        }),
      ])));
  const problems = crosswiseProblems(...outcomes);
  if (problems.length > 0) throw new BrokenPromise(problems);
  return await resolve(url, inAnyOrder({ model, byFirst, bySecond }, ...outcomes));
}

/** What osp.services holds before two sessions, and after each of them. */
interface Candidates {
  model: Model;
  byFirst: Model;
  bySecond: Model;
}

const mayHold = ({ fate }: Outcome) => fate === "committed" || fate === "unknown";

/** What osp.services may hold after two sessions of which the second came after the first. Pure. */
export function inTurn({ model, byFirst, bySecond }: Candidates, first: Outcome, second: Outcome): Model[] {
  return [
    ...mayHold(second) ? [bySecond] : [],
    ...mayHold(first) && second.fate !== "committed" ? [byFirst] : [],
    ...first.fate !== "committed" && second.fate !== "committed" ? [model] : [],
  ];
}

/** What it may hold where nobody knows which of them came last. Pure. */
export function inAnyOrder({ model, byFirst, bySecond }: Candidates, first: Outcome, second: Outcome): Model[] {
  return [
    ...mayHold(second) ? [bySecond] : [],
    ...mayHold(first) ? [byFirst] : [],
    ...first.fate !== "committed" && second.fate !== "committed" ? [model] : [],
  ];
}

/** Of two that wait for each other Postgres ends one, and says so: the person repeats it. Nothing else is refused. Pure. */
export function crosswiseProblems(...outcomes: Outcome[]): string[] {
  const isDeadlock = ({ fate, code }: Outcome) => fate === "refused" && code === "40P01";
  const refused = outcomes.filter(({ fate }) => fate === "refused");
  return refused.length === 1 && refused.every(isDeadlock) ? [] : refused.flatMap(refusalProblems);
}

function refusalProblems({ fate, code, message }: Outcome): string[] {
  return fate === "refused" ? [`One of two sessions was refused with ${code} ${message}`] : [];
}

function edits(services: string[], number: number, model: Model) {
  const first = `Service of the first session of command ${number}`;
  const second = `Service of the second session of command ${number}`;
  return { first, second, byFirst: renamed(model, services, first), bySecond: renamed(model, services, second) };
}

function renamed(model: Model, services: string[], name: string): Model {
  let after = model;
  for (const service of services) {
    const row = model.get(service);
    if (row !== undefined) after = withRow(after, service, { ...row, service_name: name });
  }
  return after;
}

async function rename(client: pg.Client, services: string[], name: string, mark = ""): Promise<void> {
  await client.query(`${mark}update osp.services set service_name = $2 where service_schema = any ($1)`, [
    services,
    name,
  ]);
}

/** Until somebody waits for what this session holds; where the rows are not there nobody will. */
async function untilItWaits(holder: pg.Client): Promise<void> {
  for (let looks = 0; looks < 20; looks++) {
    const { rowCount } = await holder.query(
      `select from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))`,
    );
    if (rowCount !== null && rowCount > 0) return;
    await pause(10);
  }
}
