// Deno: serves the project's Edge Functions in one process, as the edge runtime does behind /functions/v1.
// Started by the command of functions-server-command.ts; the first argument may name another directory of functions.
import { z } from "zod";
import { formatError, formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

type Handler = (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>;

const environmentSchema = z.object({
  OSP_FUNCTIONS_PORT: z.coerce.number("must be a port, 0 to 65535").int().min(0).max(65_535).default(0),
});

const realServe = Deno.serve.bind(Deno);
const background = new Set<Promise<unknown>>();
const log = (event: Record<string, unknown>) => console.error(JSON.stringify(event));

await main();

async function main(): Promise<void> {
  const parsed = environmentSchema.safeParse(Deno.env.toObject());
  if (!parsed.success) fail(`Cannot start functions: ${formatProblems(problemsOf(parsed.error, undefined))}`);
  provideEdgeRuntime();
  const handlers = await loadFunctions(directoryUrl(Deno.args[0]));
  serve(handlers, parsed.data.OSP_FUNCTIONS_PORT);
}

function serve(handlers: Map<string, Handler>, port: number): void {
  try {
    const server = realServe({
      hostname: "127.0.0.1",
      port,
      onListen: (address) => sayReady(address.port),
      onError: (error) => {
        log({ event: "function.threw", error: error instanceof Error ? error.stack : String(error) });
        return new Response("Internal Server Error", { status: 500 });
      },
    }, (request, info) => {
      const [, name = ""] = new URL(request.url).pathname.split("/");
      return handlers.get(name)?.(request, info) ?? new Response("Function not found", { status: 404 });
    });
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      Deno.addSignalListener(signal, () => void stop(server));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    fail(
      `Cannot listen on 127.0.0.1:${port}: another program does; set OSP_FUNCTIONS_PORT to another port, or to 0 for any free one`,
    );
  }
}

function sayReady(port: number): void {
  console.log(JSON.stringify({ event: "ready", port, url: `http://127.0.0.1:${port}` }));
}

/** Answers what it has begun, and lets what runs behind an answer end, within a few seconds. */
async function stop(server: Deno.HttpServer): Promise<void> {
  const tooLong = new Promise((resolve) => setTimeout(resolve, 3000));
  await Promise.race([server.shutdown().then(() => Promise.allSettled(background)), tooLong]);
  Deno.exit(0);
}

/** Every function by the name of its directory; one that does not load answers why, as the others go on. */
async function loadFunctions(directory: URL): Promise<Map<string, Handler>> {
  const handlers = new Map<string, Handler>();
  for (const { name, isDirectory } of [...Deno.readDirSync(directory)]) {
    if (!isDirectory || name.startsWith("_") || name === "tests") continue;
    try {
      handlers.set(name, await loadFunction(new URL(`${name}/index.ts`, directory).href));
    } catch (error) {
      const message = formatError(error);
      log({ event: "function.boot_failed", function: name, message });
      handlers.set(name, () => Response.json({ code: "BOOT_ERROR", message }, { status: 503 }));
    }
  }
  return handlers;
}

/** What a function gives to Deno.serve while it is imported, or its `export default { fetch }`. */
async function loadFunction(url: string): Promise<Handler> {
  let served: Handler | undefined;
  const never = new Promise<void>(() => {});
  // Deno.serve(handler), Deno.serve(options, handler) and Deno.serve({ handler, ...options })
  const capture = (...given: unknown[]) => {
    served = given.map((one) => (typeof one === "function" ? one : Object(one).handler)).findLast((one) => one);
    return { finished: never, ref() {}, unref() {}, shutdown: () => Promise.resolve() };
  };
  Object.defineProperty(Deno, "serve", { configurable: true, writable: true, value: capture });
  try {
    const module = await import(url);
    const handler = served ?? module.default?.fetch?.bind(module.default);
    if (handler === undefined) throw new Error("it neither calls Deno.serve nor exports { fetch } as its default");
    return handler;
  } finally {
    Object.defineProperty(Deno, "serve", { configurable: true, writable: true, value: realServe });
  }
}

/** `EdgeRuntime.waitUntil`, by which a function keeps work going behind its answer. */
function provideEdgeRuntime(): void {
  const waitUntil = (promise: Promise<unknown>) => {
    const watched = promise.catch((error) => log({ event: "background.failed", message: formatError(error) }))
      .finally(() => background.delete(watched));
    background.add(watched);
  };
  Object.defineProperty(globalThis, "EdgeRuntime", { value: { waitUntil } });
}

function directoryUrl(argument: string | undefined): URL {
  if (argument === undefined) return new URL("../supabase/functions/", import.meta.url);
  return new URL(`${argument.replace(/\/+$/, "")}/`, `file://${Deno.cwd()}/`);
}

function fail(message: string): never {
  console.error(message);
  Deno.exit(1);
}
