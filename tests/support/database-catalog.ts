import type { TestDatabase } from "./database.ts";

const OURS = `('osp'::regnamespace, 'osp_metadata'::regnamespace)`;

/** What the database really holds of us, by its catalog: tests that go through it see what somebody added since. */
export interface Catalog {
  relations: { name: string; kind: string; columns: { name: string; type: string }[]; primary_key: string | null }[];
  sequences: string[];
  functions: {
    name: string;
    signature: string;
    kind: string;
    arguments: string[];
    returns: string;
    volatility: string;
  }[];
}

export async function readCatalog(database: TestDatabase): Promise<Catalog> {
  const relations = await database.rows<Catalog["relations"][number]>(`
    select
      n.nspname || '.' || c.relname as name, c.relkind as kind,
      (
        select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
        from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      ) as columns,
      (
        select a.attname::text from pg_index as i inner join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1
      ) as primary_key
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where n.oid in ${OURS} and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1`);
  const sequences = await database.rows<{ name: string }>(`
    select n.nspname || '.' || c.relname as name from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where n.oid in ${OURS} and c.relkind = 'S' order by 1`);
  const functions = await database.rows<Catalog["functions"][number]>(`
    select
      n.nspname || '.' || p.proname as name, p.oid::regprocedure::text as signature, p.prokind as kind,
      array(select format_type(t, null) from unnest(p.proargtypes) as t) as arguments,
      p.prorettype::regtype::text as returns, p.provolatile as volatility
    from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
    where n.oid in ${OURS} order by 2`);
  return { relations, sequences: sequences.map(({ name }) => name), functions };
}

/** A call of a function with an argument for each parameter, as `argument` gives it by type. */
export function callOf(
  { name, kind, arguments: types }: Catalog["functions"][number],
  argument: (type: string) => string,
) {
  return `${kind === "p" ? "call" : "select"} ${name}(${types.map(argument).join(", ")})`;
}
