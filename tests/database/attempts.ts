import pg from "pg";
import { callOf, type Catalog } from "../support/database-catalog.ts";
import type { Grants, RelationAccess, Role } from "./access-cases.ts";

/** One thing that a role does, and whether it may. */
export interface Attempt {
  what: string;
  sql: string;
  isOpen: (role: Role) => boolean;
}

/** Schema in which every role may create, for verbs that need a place of one's own. */
export const SCRATCH = "scratch";

/** Everything that can be done with a table or a view, column by column where Postgres grants so. */
export function relationAttempts({ name, columns, primary_key }: Catalog["relations"][number], access: RelationAccess) {
  const reference = columns.find((column) => column.name === primary_key);
  return [
    attempt(`select * from ${name}`, (role) => columns.every((column) => isGranted(access.select, role, column.name))),
    ...columns.flatMap((column): Attempt[] => [
      attempt(`select ${column.name} from ${name}`, (role) => isGranted(access.select, role, column.name)),
      attempt(
        `insert into ${name} (${column.name}) values (default)`,
        (role) => isGranted(access.insert, role, column.name),
      ),
      attempt(
        `update ${name} set ${column.name} = default where false`,
        (role) => isGranted(access.update, role, column.name),
      ),
    ]),
    ...(reference === undefined ? [] : [
      attempt(
        `create table ${SCRATCH}.referring (key ${reference.type} references ${name} (${reference.name}))`,
        (role) => isGranted(access.references, role, reference.name),
      ),
    ]),
    attempt(`delete from ${name} where false`, (role) => isIn(access.delete, role)),
    attempt(`truncate ${name}`, (role) => isIn(access.truncate, role)),
    attempt(
      `create trigger noted before insert on ${name} for each statement execute function ${SCRATCH}.note()`,
      (role) => isIn(access.trigger, role),
    ),
    attempt(`alter table ${name} rename to renamed`, () => false),
  ];
}

/** What a function refuses later, for a reason of its own, is a call that was allowed. */
export function functionAttempt(found: Catalog["functions"][number], open: Role[]): Attempt {
  // Not a constant: a strict function of one is worked out before anybody asks who may call it.
  return attempt(callOf(found, (type) => `(select null::${type})`), (role) => open.includes(role));
}

export function sequenceAttempts(name: string, open: Role[]): Attempt[] {
  return [`select nextval('${name}')`, `select setval('${name}', 1)`, `select last_value from ${name}`].map((sql) =>
    attempt(sql, (role) => open.includes(role))
  );
}

export function schemaAttempts(name: string, access: { usage: Role[]; create: Role[] }): Attempt[] {
  return [
    attempt(`select ${name}.there_is_none()`, (role) => access.usage.includes(role)),
    ...[
      `create table ${name}.made ()`,
      `create view ${name}.made as select 1`,
      `create function ${name}.made() returns integer language sql return 1`,
      `create type ${name}.made as enum ()`,
      `create sequence ${name}.made`,
      `alter schema ${name} rename to renamed`,
      `drop schema ${name} cascade`,
    ].map((sql) => attempt(sql, (role) => access.create.includes(role) && sql.startsWith("create"))),
  ];
}

/** Tries all in a transaction that is rolled back. Returns a line for each that turned out otherwise than it should. */
export async function tryAll(client: pg.Client, role: Role, attempts: Attempt[]): Promise<string[]> {
  const wrong: string[] = [];
  await client.query("begin");
  for (const { what, sql, isOpen } of attempts) {
    await client.query("savepoint before");
    const refusal = await client.query(sql).then(() => undefined, refusalOf);
    await client.query("rollback to before");
    if (refusal === undefined && !isOpen(role)) wrong.push(`${role} may: ${what}`);
    if (refusal !== undefined && isOpen(role)) wrong.push(`${role} may not: ${what} (${refusal})`);
  }
  await client.query("rollback");
  return wrong;
}

/** The message where there is no right to do it, or where it is a view, with which nobody can; any other error is let be. */
function refusalOf(error: unknown): string | undefined {
  if (!(error instanceof pg.DatabaseError)) throw error;
  const isRefusal = error.code === "42501" ||
    /^cannot (insert into|update|delete from) view |is not a table$/.test(error.message);
  return isRefusal ? error.message : undefined;
}

function attempt(sql: string, isOpen: Attempt["isOpen"]): Attempt {
  return { what: sql, sql, isOpen };
}

function isGranted(grants: Grants | undefined, role: Role, column: string): boolean {
  const granted = grants?.[role];
  return granted === "*" || granted?.includes(column) === true;
}

function isIn(roles: Role[] | undefined, role: Role): boolean {
  return roles?.includes(role) === true;
}
