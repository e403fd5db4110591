// The API of Supabase on one machine: what `supabase start` serves on port 54321.
import { createServer } from "node:http";
import { join, resolve } from "node:path";
import { z } from "zod";
import { createApi } from "./api-app.ts";
import { createFetchListener } from "./fetch-listener.ts";
import { createFunctionsProxy } from "./functions-proxy.ts";
import { databaseUrlSchema, listen, portSchema, runProgram } from "./program.ts";
import { requestUrl } from "./request-url.ts";

const environmentSchema = z.object({
  DB_URL: databaseUrlSchema,
  OSP_API_PORT: portSchema.default(54_321),
  /** Objects lie in its `storage` directory. */
  OSP_STATE_DIR: z.string().default(".osp").transform((path) => resolve(path)),
  SECRET_KEY: z.string("is not set: a key such as sb_secret_…").startsWith("sb_secret_"),
  PUBLISHABLE_KEY: z.string("is not set: a key such as sb_publishable_…").startsWith("sb_publishable_"),
  /** Signs the tokens of people who have logged in (role `authenticated`); unset: nobody has one. */
  JWT_SECRET: z.string().min(32, "must have at least 32 characters").optional(),
  /** The functions server. */
  FUNCTIONS_INTERNAL_URL: z.url("must be a URL such as http://127.0.0.1:9000"),
});

/** Of postgres.js, and of the socket below it. */
const CONNECTION_LOST = /^(CONNECTION_(CLOSED|ENDED|DESTROYED)|CONNECT_TIMEOUT|ECONN(RESET|REFUSED|ABORTED)|EPIPE)$/;

await runProgram("api", environmentSchema, async (config, log) => {
  // lite leaves statements to themselves: when Postgres goes away in the middle of one, nobody else hears of it.
  process.on("unhandledRejection", (error) => {
    if (!CONNECTION_LOST.test(String(Object(error).code))) throw error;
    log.warn({ event: "database.lost", error: String(error) });
  });
  const api = await createApi({
    databaseUrl: config.DB_URL,
    storageDirectory: join(config.OSP_STATE_DIR, "storage"),
    secretKey: config.SECRET_KEY,
    publishableKey: config.PUBLISHABLE_KEY,
    jwtSecret: config.JWT_SECRET,
  }, log);
  const functions = createFunctionsProxy(config.FUNCTIONS_INTERNAL_URL, log);
  const restAndStorage = createFetchListener((request, peerAddress) => api.fetch(request, peerAddress), log);

  const server = createServer((incoming, outgoing) => {
    const { pathname = "" } = requestUrl(incoming) ?? {};
    if (pathname.startsWith("/functions/v1/")) functions(incoming, outgoing);
    // Nothing else of @supabase/lite: its own pages tell the database's URL, without a key.
    else if (/^\/(rest|storage)\/v1(\/|$)/.test(pathname)) restAndStorage(incoming, outgoing);
    else outgoing.writeHead(404, { "content-type": "application/json" }).end('{"message":"no Route matched"}');
  });
  const { port, stop } = await listen(server, config.OSP_API_PORT, "OSP_API_PORT");
  return {
    port,
    async stop() {
      await stop();
      await api.close();
    },
  };
});
