import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { REFUSED_ACTIVITY } from "./model.ts";

const callSchema = z.looseObject({
  service_schema: z.string(),
  workflow_id: z.string(),
  activity: z.string(),
  input: z.json(),
});

/** One activity of one workflow: however often it was called, it is the same. */
export interface Call {
  workflowId: string;
  activity: string;
  times: number;
}

/** The services' own endpoint: answers their activities, and remembers each by its idempotency key. */
export interface Endpoint {
  calls(): Call[];
  /** What the same key was used for that is not the same, a line each. */
  problems(): string[];
  close(): Promise<void>;
}

/** Result of an activity, and input of the next: the steps so far, and what the workflow was started with. */
export const resultSchema = z.strictObject({ steps: z.array(z.string()), input: z.json() });

export async function startEndpoint(port: number): Promise<Endpoint> {
  const calls = new Map<string, Call>();
  const problems: string[] = [];
  const server = createServer((request, response) => {
    void answer(request.headers["idempotency-key"], request).then(({ status, body }) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    }, (error: unknown) => {
      problems.push(`The endpoint was called in a way that it does not know: ${String(error)}`);
      response.writeHead(400).end();
    });
  });

  async function answer(key: unknown, request: AsyncIterable<Uint8Array>) {
    const { workflow_id: workflowId, activity, input } = callSchema.parse(JSON.parse(await text(request)));
    const call = calls.get(z.string().parse(key)) ?? { workflowId, activity, times: 0 };
    if (call.workflowId !== workflowId || call.activity !== activity) {
      problems.push(
        `The key ${String(key)} of ${call.workflowId} ${call.activity} came again for ${workflowId} ${activity}`,
      );
    }
    calls.set(String(key), { ...call, times: call.times + 1 });
    if (activity === REFUSED_ACTIVITY) return { status: 409, body: { message: "refused on purpose" } };
    const before = resultSchema.safeParse(input);
    const { steps, input: first } = before.success ? before.data : { steps: [], input };
    return { status: 200, body: { steps: [...steps, activity], input: first } };
  }

  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return { calls: () => [...calls.values()], problems: () => problems, close: () => close(server) };
}

async function close(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}
