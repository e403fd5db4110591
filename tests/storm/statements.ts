import { isDeepStrictEqual } from "node:util";
import type { Statement } from "./commands.ts";
import { type Model, rowOf, serviceOf, type ServiceRow, withRow } from "./model.ts";

/** What is said to the database in one transaction, and what must come of it. */
export interface Plan {
  steps: { text: string; values: unknown[] }[];
  ends: "commit" | "rollback";
  /** osp.services after it. */
  after: Model;
  /** How many revisions each service gets by it. Others get none. */
  revisions: ReadonlyMap<string, number>;
  /** SQLSTATE that it must be refused with; undefined: it must not. */
  refusal?: string;
  /** Takes the whole table: what it will change cannot be locked before it. */
  locksTable?: boolean;
}

/** Plans that are pure: those of two sessions, and of a rollback, need to look first. */
export type PlannedStatement = Exclude<Statement, { kind: "edit_at_once" | "edit_crosswise" | "rollback" }>;

const NO_DATA_FOUND = "P0002";
/** In the name of every row that must never be seen, for its transaction is rolled back. */
export const NEVER = "Never to be seen";

/** @param number of the command: makes what it writes different from everything before */
export function planOf(statement: PlannedStatement, number: number, model: Model): Plan {
  const name = `Service of command ${number}`;
  if (statement.kind === "bulk_insert") {
    return bulkInsert(statement.services.map(serviceOf), rowOf(name, statement.variant), model);
  }
  if (statement.kind === "truncate") {
    const truncate = plan([{ text: "truncate osp.services", values: [] }], new Map(), [...model.keys()]);
    return { ...truncate, locksTable: true };
  }
  return ofOneService(statement, name, model);
}

function ofOneService(
  statement: Exclude<PlannedStatement, { kind: "bulk_insert" | "truncate" }>,
  name: string,
  model: Model,
): Plan {
  const service = serviceOf(statement.service);
  const row = model.get(service);
  /** The row is changed to this one, by the statement; where there is none nothing happens. */
  const changing = (text: string, values: unknown[], changed: Partial<ServiceRow>): Plan => {
    const step = { text, values: [service, ...values] };
    if (row === undefined) return plan([step], model, []);
    const after = { ...row, ...changed };
    return plan([step], withRow(model, service, after), isRevised(row, after) ? [service] : []);
  };
  switch (statement.kind) {
    case "insert": {
      const inserted = rowOf(name, statement.variant);
      const step = { ...insert(service, inserted), text: `${INSERT} on conflict (service_schema) do nothing` };
      return row === undefined ? plan([step], withRow(model, service, inserted), [service]) : plan([step], model, []);
    }
    case "change": {
      const { workflows, options } = rowOf(name, statement.variant);
      const values = [JSON.stringify(workflows), JSON.stringify(options)];
      return changing(`update ${OF_ONE} workflows = $2, options = $3 ${WHERE}`, values, { workflows, options });
    }
    case "change_nothing":
      return changing(
        `update ${OF_ONE} service_name = service_name, options = options, enabled = enabled ${WHERE}`,
        [],
        {},
      );
    case "rename":
      return changing(`update ${OF_ONE} service_name = $2 ${WHERE}`, [name], { service_name: name });
    case "disable":
      return changing(`update ${OF_ONE} enabled = false ${WHERE}`, [], { enabled: false });
    case "enable":
      return changing(`update ${OF_ONE} enabled = true ${WHERE}`, [], { enabled: true });
    case "delete":
      return plan([remove(service)], withRow(model, service, undefined), row === undefined ? [] : [service]);
    case "redeploy": {
      const redeploy = plan([{ text: "select * from osp.redeploy($1)", values: [service] }], model, [service]);
      return row?.enabled === true ? redeploy : { ...redeploy, revisions: new Map(), refusal: NO_DATA_FOUND };
    }
    case "insert_change_delete":
      return row === undefined ? insertChangeDelete(service, name, model) : deleteInsertChange(service, name, model);
    case "transaction_rolled_back":
      return { ...plan(unseen(service), model, []), ends: "rollback" };
    case "change_untriggered":
      return untriggered(changing(`update ${OF_ONE} service_name = $2 ${WHERE}`, [name], { service_name: name }));
    case "delete_untriggered":
      return untriggered(plan([remove(service)], withRow(model, service, undefined), []));
  }
}

/** What is there already gets the new name alone. */
function bulkInsert(services: string[], row: ServiceRow, model: Model): Plan {
  const values = services.map((_, index) =>
    `($${4 * index + 1}, $${4 * index + 2}, $${4 * index + 3}, $${4 * index + 4})`
  );
  const text = `insert into osp.services (service_schema, service_name, workflows, options) values ${values.join(", ")}
    on conflict (service_schema) do update set service_name = excluded.service_name`;
  let after = model;
  for (const service of services) {
    const before = model.get(service);
    after = withRow(after, service, before === undefined ? row : { ...before, service_name: row.service_name });
  }
  const revised = services.filter((service) => model.get(service)?.enabled !== false);
  return plan([{ text, values: services.flatMap((service) => insert(service, row).values) }], after, revised);
}

function insertChangeDelete(service: string, name: string, model: Model): Plan {
  const steps = [
    insert(service, rowOf(name, { steps: 0, options: 0 })),
    rename(service, `${name}, changed`),
    remove(service),
  ];
  return plan(steps, model, [service, service, service]);
}

function deleteInsertChange(service: string, name: string, model: Model): Plan {
  const row = rowOf(name, { steps: 1, options: 1 });
  const renamed = { ...row, service_name: `${name}, changed` };
  const steps = [remove(service), insert(service, row), rename(service, renamed.service_name)];
  return plan(steps, withRow(model, service, renamed), [service, service, service]);
}

/** Whatever is there, and whatever is not. */
function unseen(service: string): Plan["steps"] {
  return [
    { text: `update osp.services set service_name = $1`, values: [NEVER] },
    remove(service),
    insert(service, rowOf(NEVER, { steps: 0, options: 0 })),
  ];
}

/** As a restore does it: no trigger sees it, and the next reconcile finds it. */
function untriggered(triggered: Plan): Plan {
  const unseenByTriggers = { text: "set local session_replication_role = replica", values: [] };
  return { ...triggered, steps: [unseenByTriggers, ...triggered.steps], revisions: new Map() };
}

const OF_ONE = "osp.services set";
const WHERE = "where service_schema = $1";
const INSERT = "insert into osp.services (service_schema, service_name, workflows, options) values ($1, $2, $3, $4)";

function insert(service: string, { service_name, workflows, options }: ServiceRow) {
  return { text: INSERT, values: [service, service_name, JSON.stringify(workflows), JSON.stringify(options)] };
}

function rename(service: string, name: string) {
  return { text: `update ${OF_ONE} service_name = $2 ${WHERE}`, values: [service, name] };
}

function remove(service: string) {
  return { text: `delete from osp.services ${WHERE}`, values: [service] };
}

/** @param revised services that get a revision, one each time */
export function plan(steps: Plan["steps"], after: Model, revised: string[]): Plan {
  const revisions = new Map<string, number>();
  for (const service of revised) revisions.set(service, (revisions.get(service) ?? 0) + 1);
  return { steps, ends: "commit", after, revisions };
}

/** What a disabled service changes reaches its worker when it is enabled. */
function isRevised(before: ServiceRow, after: ServiceRow): boolean {
  return before.enabled !== after.enabled || (after.enabled && !isSame(before, after));
}

/** Whatever the order of an option's members: jsonb has its own. */
export function isSame(one: ServiceRow, other: ServiceRow): boolean {
  return isDeepStrictEqual(one, other);
}
