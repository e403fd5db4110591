import type { Server } from "node:http";
import { type Logger, pino } from "pino";
import { z } from "zod";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

export type Log = Logger;

/** A long-running program of the local stack. */
export interface Running {
  /** Where it listens on 127.0.0.1; 0 for a program that listens nowhere. */
  port: number;
  stop(): Promise<void>;
}

/** A message for whoever starts the program: printed without a stack. */
class ProgramError extends Error {
  override readonly name = "ProgramError";
}

export const portSchema = z.coerce.number("must be a port, 0 to 65535").int().min(0).max(65_535);
export const databaseUrlSchema = z.string("is not set: the URL of a Postgres superuser").regex(
  /^postgres(ql)?:\/\//,
  "must begin with postgresql://",
).refine(
  (url) => URL.canParse(url),
  "is no URL: a character such as / # ? @ : in the password must be percent-encoded",
);

/**
 * Runs a program until SIGTERM or SIGINT, then exits with 0; 1 when it cannot start. Stdout gets one line, once it
 * serves: `{"event":"ready","port":54321,"url":"http://127.0.0.1:54321"}`. The log goes to stderr.
 */
export async function runProgram<Schema extends z.ZodType>(
  name: string,
  environmentSchema: Schema,
  start: (config: z.output<Schema>, log: Log) => Promise<Running>,
): Promise<void> {
  let starting: Promise<Running> | undefined;
  const stop = async () => {
    const running = await starting;
    await running?.stop();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void stop());
  try {
    starting = start(parseEnvironment(name, environmentSchema, process.env), createLog(name));
    const { port } = await starting;
    const url = port === 0 ? {} : { url: `http://127.0.0.1:${port}` };
    process.stdout.write(`${JSON.stringify({ event: "ready", port, ...url })}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof ProgramError ? error.message : String(Object(error).stack ?? error)}\n`);
    process.exit(1);
  }
}

/** Blank means not set. The message names every bad variable at once, never a value: some are secrets. */
function parseEnvironment<Schema extends z.ZodType>(
  name: string,
  schema: Schema,
  environment: NodeJS.ProcessEnv,
): z.output<Schema> {
  const parsed = schema.safeParse(Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim())));
  if (parsed.success) return parsed.data;
  throw new ProgramError(`Cannot start ${name}: ${formatProblems(problemsOf(parsed.error, undefined))}`);
}

/** JSON lines, written at once: a line that waits in a buffer is lost when the process exits. */
function createLog(name: string): Log {
  return pino(
    { base: { program: name }, messageKey: "message", errorKey: "error" },
    pino.destination({ dest: 2, sync: true }),
  );
}

const CLOSE_GRACE_MS = 3000;

/**
 * Listens on 127.0.0.1 only.
 *
 * @param variable names the port's setting in the message when the port is taken
 */
export async function listen(server: Server, port: number, variable: string): Promise<Running> {
  // Longer than any client keeps an idle connection, else a request can meet one that we are closing.
  server.keepAliveTimeout = 75_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, port, variable)));
    server.listen(port, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    port: address !== null && typeof address === "object" ? address.port : port,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const cutOff = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      await closed;
      clearTimeout(cutOff);
    },
  };
}

function listenError(error: Error, port: number, variable: string): Error {
  const code = "code" in error ? error.code : undefined;
  const remedy = `set ${variable} to another port, or to 0 for any free one`;
  if (code === "EADDRINUSE") {
    return new ProgramError(`Cannot listen on 127.0.0.1:${port}: another program does; ${remedy}`, { cause: error });
  }
  if (code === "EACCES") {
    return new ProgramError(`Cannot listen on 127.0.0.1:${port}: not allowed to this user; ${remedy}`, {
      cause: error,
    });
  }
  return error;
}
