import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { createErrorMemory } from "./api-errors.ts";
import { refuseBody } from "./json-body.ts";
import { mendPostgresDriver } from "./postgres-driver.ts";
import type { Log } from "./program.ts";
import { addErrorCode, listFolder } from "./storage-answers.ts";
import { createFileStorage } from "./storage-files.ts";

export interface ApiOptions {
  databaseUrl: string;
  storageDirectory: string;
  secretKey: string;
  publishableKey: string;
  /** Signs the tokens of people who have logged in; undefined: nobody has one. */
  jwtSecret: string | undefined;
}

export interface Api {
  fetch(request: Request, peerAddress: string | null): Promise<Response>;
  close(): Promise<void>;
}

/**
 * The Data API and Storage of Supabase by `@supabase/lite`, on a Postgres that may come and go.
 *
 * Waits for Postgres. What a Supabase database has for both beforehand is put into it: `api-schema.sql`.
 */
export async function createApi(options: ApiOptions, log: Log): Promise<Api> {
  // lite reads both while it is imported.
  Object.assign(process.env, { EXPERIMENTAL_STORAGE: "1", LITE_TELEMETRY: "0" });
  // It talks to the console: on stdout, and in lines that are not JSON.
  const say = (...said: unknown[]) => log.warn({ event: "lite.said" }, said.map(String).join(" "));
  Object.assign(console, { log: say, info: say, warn: say, error: say });
  mendPostgresDriver();
  const { App } = await import("@supabase/lite");
  const { createPostgresConnection } = await import("@supabase/lite/postgres");

  const connection = createPostgresConnection({
    url: options.databaseUrl,
    // The driver's own pauses after a lost connection grow to 20 s, and requests wait in them.
    postgresOptions: { max: 10, connect_timeout: 5, backoff: () => 0.2, onnotice: () => {}, types: valueTypes },
  });
  // Private to lite: "unknown" makes its first query grant everything on our schemas to anon.
  Reflect.set(connection, "rlsState", "active");
  const errors = createErrorMemory();
  const withContext = connection.withContext.bind(connection);
  connection.withContext = (...query) => errors.watch(() => withContext(...query));
  const app = new App({
    connection,
    api: { schemas: ["public", "osp", "osp_metadata"] },
    auth: {
      enabled: options.jwtSecret !== undefined, // it looks at tokens; its routes are not served
      jwt_secret: options.jwtSecret ?? randomBytes(32).toString("hex"),
      secret_key: options.secretKey,
      publishable_key: options.publishableKey,
    },
    storage: { enabled: true },
  });
  Reflect.set(app, "_storageAdapter", createFileStorage(options.storageDirectory));

  const sql = connection.driver;
  await untilAnswers(() => sql`select 1`, log);
  await app.init();
  await app.ensureSystemSchema(); // swallows its errors; the next statement does not
  await sql.unsafe(readFileSync(new URL("api-schema.sql", import.meta.url), "utf8"));
  // As PostgREST does: tables and functions are read once, and again when the database says that they changed. Listening
  // anew after a lost connection counts as a change.
  const forget = () => void connection.clearSchemaCache();
  await sql.listen("pgrst", forget, forget);

  const ask = (request: Request, peerAddress: string | null) => app.fetch(request, { peerAddress });
  const inTurn = createTurns();
  return {
    async fetch(request, peerAddress) {
      const { pathname } = new URL(request.url);
      const response = await (pathname.startsWith("/storage/v1/")
        // One at a time for an object: lite looks whether it exists, writes its bytes, and then its row.
        ? inTurn(pathname, () => answerStorage(request, (asked) => ask(asked, peerAddress)))
        : errors.answer(async () => await refuseUnreadable(request) ?? await ask(request, peerAddress)));
      if (!isDoubtful(response.status)) return response;
      if (await answers(() => sql`select 1`)) return response;
      await response.body?.cancel();
      return databaseAway();
    },
    close: () => sql.end({ timeout: 1 }),
  };
}

async function refuseUnreadable(request: Request): Promise<Response | undefined> {
  const body = request.body === null ? undefined : await request.clone().bytes();
  return body === undefined || body.length === 0 ? undefined : refuseBody(body, request.headers.get("content-type"));
}

async function answerStorage(request: Request, ask: (request: Request) => Promise<Response>): Promise<Response> {
  const isList = request.method === "POST" &&
    /^\/storage\/v1\/object\/list\/[^/]+$/.test(new URL(request.url).pathname);
  return addErrorCode(await (isList ? listFolder(request, ask) : ask(request)));
}

/** Runs tasks of the same name one after another. */
function createTurns() {
  const last = new Map<string, Promise<unknown>>();
  return async <Result>(name: string, task: () => Promise<Result>): Promise<Result> => {
    const turn = (last.get(name) ?? Promise.resolve()).then(task, task);
    last.set(name, turn);
    try {
      return await turn;
    } finally {
      if (last.get(name) === turn) last.delete(name);
    }
  };
}

/** How values travel. By name as lite has them, for its own are replaced by these. */
const valueTypes = {
  // lite hands JSON over as text in some places and as values in others; the driver would quote the text once more, and
  // a function would get a string for an array.
  jsonb: {
    to: 3802,
    from: [3802],
    serialize: (value: unknown) => (typeof value === "string" && isJson(value) ? value : JSON.stringify(value)),
    parse: (text: string): unknown => JSON.parse(text),
  },
  // As PostgREST writes instants, which are to_json's: 2026-11-24T01:53:59.2+00:00.
  timestamptz: {
    to: 1184,
    from: [1184],
    serialize: (value: unknown) => value,
    parse: (text: string) => text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"),
  },
};

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Without Postgres lite finds no tables, so it answers "not found" as readily as "failed". */
function isDoubtful(status: number): boolean {
  return status === 404 || status >= 500;
}

/** In the words of both: PostgREST reads `code`, Storage `statusCode`. */
function databaseAway(): Response {
  const message = "Could not connect with the database";
  return Response.json({
    code: "PGRST001",
    statusCode: "503",
    error: "DatabaseAway",
    message,
    details: null,
    hint: null,
  }, {
    status: 503,
  });
}

async function answers(query: () => Promise<unknown>): Promise<boolean> {
  try {
    await Promise.race([query(), pause(3000).then(() => Promise.reject(new Error("no answer within 3 s")))]);
    return true;
  } catch {
    return false;
  }
}

async function untilAnswers(query: () => Promise<unknown>, log: Log): Promise<void> {
  for (let attempt = 1; !await answers(query); attempt++) {
    if (attempt === 1) log.warn({ event: "database.awaited", message: "Postgres does not answer yet" });
    await pause(200);
  }
}
