import { createServer, type Server, type ServerResponse } from "node:http";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import type { Readiness } from "./readiness.ts";

export interface HealthServer {
  port: number;
  /** Until then /readyz says 503. */
  reportReadiness(check: () => Promise<Readiness>): void;
}

const NOT_STARTED = async (): Promise<Readiness> => ({ ready: false, queues: [] });

/**
 * `/healthz`: the process lives. `/readyz`: 200 only while every queue is polled.
 *
 * @throws {WorkerExitError} when the port cannot be had
 */
export async function startHealthServer(port: number): Promise<HealthServer> {
  let check = NOT_STARTED;
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    if (path === "/healthz") answer(response, 200, { status: "ok" });
    else if (path === "/readyz") {
      void check().then((readiness) => answer(response, readiness.ready ? 200 : 503, readiness));
    } else answer(response, 404, { message: "there are /healthz and /readyz" });
  });
  await listen(server, port);
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    reportReadiness: (next) => {
      check = next;
    },
  };
}

async function listen(server: Server, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(port, resolve);
  try {
    await promise;
  } catch (error) {
    const { code } = Object(error);
    const problem = `environment variable PORT: cannot listen on ${port}: ${code}. Choose a free port, or 0 for any`;
    throw new WorkerExitError(EXIT_CODES.unusable, [problem], { cause: error });
  }
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}
