import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { type Catalog, readCatalog } from "../support/database-catalog.ts";
import { useRoleLogins } from "../support/role-logins.ts";
import { functions, type RelationAccess, relations, type Role, roles, schemas, sequences } from "./access-cases.ts";
import { functionAttempt, relationAttempts, schemaAttempts, SCRATCH, sequenceAttempts, tryAll } from "./attempts.ts";

const database = useDatabase();
const logins = useRoleLogins(database, roles);
const OURS = `('osp'::regnamespace, 'osp_metadata'::regnamespace)`;
let catalog: Catalog;

beforeAll(async () => {
  catalog = await readCatalog(database);
  const everybody = roles.map((role) => logins.nameOf(role)).join(", ");
  await database.rows(`
    create schema ${SCRATCH};
    grant usage, create on schema ${SCRATCH} to ${everybody};
    create function ${SCRATCH}.note() returns trigger language plpgsql as 'begin return null; end';
    grant execute on function ${SCRATCH}.note to ${everybody}`);
});
afterAll(async () => {
  await database.rows(`drop schema ${SCRATCH} cascade`);
});

test("every object of the database stands in the table of cases, and nothing else does", () => {
  const differences = (found: string[], cases: object) => ({
    missing: [...new Set(found)].filter((name) => !Object.hasOwn(cases, name)),
    gone: Object.keys(cases).filter((name) => !found.includes(name)),
  });
  const none = { missing: [], gone: [] };
  expect(
    {
      relations: differences(names(catalog.relations), relations),
      functions: differences(names(catalog.functions), functions),
      sequences: differences(catalog.sequences, sequences),
    },
    "tests/database/access-cases.ts tells who may do what. Remove what is gone, and add what is missing, such as " +
      `"osp_metadata.things": { select: whole("osp_analyst") }, to relations; "osp_metadata.do_it": [] to functions where ` +
      `only its owner calls it; "osp_metadata.things_id_seq": [] to sequences`,
  ).toEqual({ relations: none, functions: none, sequences: none });
});

describe.each(roles)(
  "a login that is a member of %s can do what stands in the table of cases, and nothing else",
  (role) => {
    test("with schemas", async () => {
      await expectAccess(role, Object.entries(schemas).flatMap(([name, access]) => schemaAttempts(name, access)));
    });
    test("with tables and views, column by column", async () => {
      await expectAccess(role, catalog.relations.flatMap((found) => relationAttempts(found, accessOf(found.name))));
    });
    test("with functions", async () => {
      await expectAccess(role, catalog.functions.map((found) => functionAttempt(found, functions[found.name] ?? [])));
    });
    test("with sequences", async () => {
      await expectAccess(role, catalog.sequences.flatMap((name) => sequenceAttempts(name, sequences[name] ?? [])));
    });
  },
);

test("nobody else was granted anything: neither PUBLIC nor a role that the table of cases does not know", async () => {
  const allowed = `('${["postgres", ...roles].join("', '")}')`;
  expect(
    await database.rows(`
    select what, coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC') as grantee, privilege_type
    from (
      select c.oid::regclass::text as what, a.* from pg_class as c, aclexplode(c.relacl) as a where c.relnamespace in ${OURS}
      union all
      select c.oid::regclass || '.' || t.attname, a.* from pg_class as c inner join pg_attribute as t on t.attrelid = c.oid,
        aclexplode(t.attacl) as a where c.relnamespace in ${OURS}
      union all
      select p.oid::regprocedure::text, a.* from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
      where p.pronamespace in ${OURS}
      union all
      select n.nspname, a.* from pg_namespace as n, aclexplode(n.nspacl) as a where n.oid in ${OURS}
    ) as granted
    where grantee = 0 or grantee::regrole::text not in ${allowed} or is_grantable and grantee::regrole::text <> 'postgres'`),
  ).toEqual([]);
});

test("MAINTAIN, which cannot be tried because VACUUM and the like only warn, is granted by the table of cases", async () => {
  const rows = await database.rows<{ name: string; role: Role }>(
    `select name, role from unnest($1::text[]) as name, unnest($2::text[]) as role where has_table_privilege(role, name, 'maintain')`,
    [names(catalog.relations), roles],
  );
  expect(rows.filter(({ name, role }) => !accessOf(name).maintain?.includes(role))).toEqual([]);
});

test("an analyst reads every table and view, and calls nothing that could write", () => {
  expect(names(catalog.relations).filter((name) => relations[name]?.select?.osp_analyst !== "*")).toEqual([]);
  const volatile = catalog.functions.filter(({ volatility }) => volatility === "v").map(({ name }) => name);
  expect(volatile.filter((name) => functions[name]?.includes("osp_analyst"))).toEqual([]);
});

test("our roles are groups without a login, an attribute or a membership", async () => {
  expect(
    await database.rows(`
    select r.rolname from pg_roles as r
    where r.rolname in ('osp_writer', 'osp_deployer', 'osp_analyst') and (
      r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
      or exists (select from pg_auth_members as m where m.member = r.oid)
    )`),
  ).toEqual([]);
});

test("row level security is on for every table, and its policies name the roles that the grants name", async () => {
  expect(
    await database.rows(
      `select oid::regclass::text from pg_class where relnamespace in ${OURS} and relkind in ('r', 'p') and not relrowsecurity`,
    ),
  ).toEqual([]);
  const policies = await database.rows<{ relation: string; verb: string; role: Role }>(`
    select distinct p.schemaname || '.' || p.tablename as relation, verb, role::text as role
    from pg_policies as p, unnest(p.roles) as role, unnest(
      case p.cmd when 'ALL' then array['select', 'insert', 'update', 'delete'] else array[lower(p.cmd)] end
    ) as verb
    where p.schemaname in ('osp', 'osp_metadata')`);
  const opened = new Set(policies.map(({ relation, verb, role }) => `${relation} ${verb} ${role}`));
  const tables = catalog.relations.filter(({ kind }) => kind === "r" || kind === "p");
  const granted = tables.flatMap(({ name }) =>
    (["select", "insert", "update", "delete"] as const).flatMap((verb) =>
      rolesWith(verb, accessOf(name)).map((role) => `${name} ${verb} ${role}`)
    )
  );
  expect([...opened].sort()).toEqual(granted.sort());
});

test("views ask with the rights of whoever reads", async () => {
  expect(
    await database.rows(`
    select oid::regclass::text from pg_class
    where relnamespace in ${OURS} and relkind in ('v', 'm') and not coalesce(reloptions @> '{security_invoker=on}' or reloptions @> '{security_invoker=true}', false)`),
  ).toEqual([]);
});

test("every table, column, view and function has a comment", async () => {
  expect(
    await database.rows(`
    select c.relname || coalesce('.' || a.attname, '') as uncommented
    from pg_class as c
    left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace in ${OURS} and c.relkind in ('r', 'v')
      and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)
    union all
    select p.oid::regprocedure::text from pg_proc as p where p.pronamespace in ${OURS} and obj_description(p.oid, 'pg_proc') is null`),
  ).toEqual([]);
});

async function expectAccess(role: Role, attempts: Parameters<typeof tryAll>[2]): Promise<void> {
  expect(attempts.length).toBeGreaterThan(0);
  expect(await tryAll(await logins.connect(role), role, attempts)).toEqual([]);
}

function accessOf(name: string): RelationAccess {
  return relations[name] ?? {};
}

function rolesWith(verb: "select" | "insert" | "update" | "delete", access: RelationAccess): Role[] {
  if (verb === "delete") return access.delete ?? [];
  const grants = access[verb] ?? {};
  return roles.filter((role) => grants[role] !== undefined);
}

function names(found: { name: string }[]): string[] {
  return found.map(({ name }) => name);
}
