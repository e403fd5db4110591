import { beforeAll, describe, expect, test } from "vitest";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { type Catalog, readCatalog } from "../support/database-catalog.ts";
import { send, signToken } from "../support/raw-http.ts";
import { functions, type Grants, relations, type Role } from "./access-cases.ts";

// The same table of cases as access.test.ts, through the Data API: by its keys and by tokens instead of by logins.
const JWT_SECRET = "a-secret-that-signs-tokens-of-people";
const database = useDatabase();
const api = useApi(database, () => ({ JWT_SECRET }));
let catalog: Catalog;
beforeAll(async () => {
  catalog = await readCatalog(database);
  await database.rows(`create function public.who_asks() returns text language sql return current_user`);
});

const inAnHour = Math.floor(Date.now() / 1000) + 3600;
const token = (role: string, secret: string | null = JWT_SECRET) =>
  `Bearer ${signToken({ role, aud: role, sub: crypto.randomUUID(), exp: inAnHour }, secret)}`;

const callers: Partial<Record<Role, Record<string, string>>> = {
  anon: { apikey: KEYS.PUBLISHABLE_KEY },
  authenticated: { apikey: KEYS.PUBLISHABLE_KEY, authorization: token("authenticated") },
  service_role: { apikey: KEYS.SECRET_KEY },
};

/** Not null: a strict function of null is worked out before anybody asks who may call it. */
const examples: Record<string, unknown> = {
  text: "x",
  integer: 1,
  boolean: true,
  jsonb: [],
  "text[]": [],
  uuid: crypto.randomUUID(),
};

/** Refused for want of a right, or because nobody can write to a view; anything else is an answer of the matter. */
async function isRefused(
  method: string,
  path: string,
  profile: string,
  headers: Record<string, string>,
  body?: object,
) {
  const json = { "content-type": "application/json", "accept-profile": profile, "content-profile": profile };
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const { status, text } = await send(api.url, { method, path, headers: { ...headers, ...json }, ...sent });
  const { code } = text === "" ? { code: undefined } : Object(JSON.parse(text));
  if (code === "42501") expect([401, 403]).toContain(status);
  return code === "42501" || code === "55000";
}

describe.each(Object.entries(callers))("%s", (name, headers) => {
  const role = Object.keys(callers).find((one): one is Role => one === name);
  const holds = (grants: Grants | undefined) => role !== undefined && grants?.[role] !== undefined;

  test("is who asks, in the database", async () => {
    const { text } = await send(api.url, { method: "POST", path: "/rest/v1/rpc/who_asks", headers });
    expect(JSON.parse(text)).toBe(name);
  });

  test("reads, writes and deletes what the table of cases says", async () => {
    const wrong: string[] = [];
    for (const { name: relation, columns } of catalog.relations) {
      const [schema = "", table = ""] = relation.split(".");
      const access = relations[relation] ?? {};
      const column = columns.at(-1)?.name ?? ""; // not the first: Postgres refuses to be told an identity
      const nowhere = `/rest/v1/${table}?${column}=is.null`;
      const tries = [
        { verb: "select", is: await isRefused("GET", nowhere, schema, headers), may: holds(access.select) },
        {
          verb: "insert",
          is: await isRefused("POST", `/rest/v1/${table}`, schema, headers, { [column]: null }),
          may: holds(access.insert),
        },
        {
          verb: "update",
          is: await isRefused("PATCH", nowhere, schema, headers, { [column]: null }),
          may: holds(access.update),
        },
        {
          verb: "delete",
          is: await isRefused("DELETE", nowhere, schema, headers),
          may: role !== undefined && access.delete?.includes(role) === true,
        },
      ];
      wrong.push(
        ...tries.filter(({ is, may }) => is === may).map(({ verb, may }) =>
          `${verb} ${relation}: ${may ? "refused" : "allowed"}`
        ),
      );
    }
    expect(wrong).toEqual([]);
  });

  test("calls what the table of cases says", async () => {
    const named = await database.rows<{ name: string; parameters: string[] | null; types: string[] }>(`
      select
        n.nspname || '.' || p.proname as name, p.proargnames[1:p.pronargs] as parameters,
        array(select format_type(t, null) from unnest(p.proargtypes) as t) as types
      from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
      where n.nspname in ('osp', 'osp_metadata') and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)`);
    const wrong: string[] = [];
    for (const { name: signature, parameters, types } of named) {
      const [schema = "", called = ""] = signature.split(".");
      const may = role !== undefined && functions[signature]?.includes(role) === true;
      const body = Object.fromEntries(
        (parameters ?? []).map((parameter, place) => [parameter, examples[types[place] ?? ""] ?? null]),
      );
      const is = await isRefused("POST", `/rest/v1/rpc/${called}`, schema, headers, body);
      if (is === may) wrong.push(`${signature}: ${may ? "refused" : "allowed"}`);
    }
    expect(wrong).toEqual([]);
  });
});

describe("nobody becomes somebody else by a token", () => {
  const read = async (authorization: string, apikey = KEYS.PUBLISHABLE_KEY) =>
    await send(api.url, { path: "/rest/v1/services", headers: { apikey, authorization, "accept-profile": "osp" } });

  test.each([
    ["unsigned", token("service_role", null)],
    ["signed with another secret", token("service_role", "another-secret-of-thirty-two-characters")],
    ["signed with nothing", token("service_role", "")],
    ["of half its parts", token("service_role").split(".").slice(0, 2).join(".")],
    ["that is no token", "Bearer x.y.z"],
    ["that has expired", `Bearer ${signToken({ role: "service_role", exp: 1 }, JWT_SECRET)}`],
  ])("%s", async (_, authorization) => {
    const { status, text } = await read(authorization);
    expect({ status, text }).toMatchObject({ status: 401 });
    expect(text).not.toContain("service_schema");
  });
});
