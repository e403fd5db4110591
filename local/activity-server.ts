// An example of a service's own activities: answers those of every service, by HTTP, so that a row works as it stands.
import { createServer } from "node:http";
import { z } from "zod";
import { activitySecret } from "../host/activity-settings.ts";
import type { ActivityCall } from "../supabase/functions/_shared/activity-call.ts";
import {
  ActivityRequestError,
  parseActivityCall,
  verifyActivityRequestAt,
} from "../supabase/functions/_shared/verify-activity-request.ts";
import { createFetchListener } from "./fetch-listener.ts";
import { listen, portSchema, runProgram } from "./program.ts";

const environmentSchema = z.object({
  OSP_ACTIVITY_PORT: portSchema.default(54_330),
  /** As the workers have it; unset: whoever reaches the port may call. */
  OSP_ACTIVITY_SECRET: activitySecret.optional(),
});

/** What an activity answers, and so the next one's input. No clock and no chance: the same call, the same answer. */
const resultSchema = z.strictObject({
  /** Every activity so far, in order: the workflow's result proves which of them ran. */
  steps: z.array(z.string()),
  /** What the workflow was started with. */
  input: z.unknown(),
});
type ActivityResult = z.infer<typeof resultSchema>;

/** The first activity of a workflow gets its input; each further one gets the answer of the one before. */
function runActivity({ activity, input }: ActivityCall): ActivityResult {
  const before = resultSchema.safeParse(input);
  return before.success
    ? { steps: [...before.data.steps, activity], input: before.data.input }
    : { steps: [activity], input };
}

/** `POST /<service_schema>/<activity>` with a call as its body, signed where there is a secret. */
async function answer(request: Request, secret: string | undefined): Promise<Response> {
  if (request.method !== "POST") return refuse(405, `${request.method} is not served: an activity is a POST`);
  const [, ...path] = new URL(request.url).pathname.split("/").map(decodeURIComponent);
  try {
    const call = await readCall(request, secret);
    const called = `${call.service_schema}/${call.activity}`;
    if (path.join("/") === called) return Response.json(runActivity(call));
    return refuse(400, `The path /${path.join("/")} and the body differ: the body names /${called}`);
  } catch (error) {
    if (error instanceof ActivityRequestError) return refuse(error.status, error.message);
    throw error;
  }
}

async function readCall(request: Request, secret: string | undefined): Promise<ActivityCall> {
  if (secret !== undefined) return await verifyActivityRequestAt(Date.now(), request, { secret });
  return parseActivityCall(new Uint8Array(await request.arrayBuffer()));
}

function refuse(status: number, message: string): Response {
  return Response.json({ message }, { status });
}

await runProgram("activities", environmentSchema, async (config, log) => {
  return await listen(
    createServer(createFetchListener((request) => answer(request, config.OSP_ACTIVITY_SECRET), log)),
    config.OSP_ACTIVITY_PORT,
    "OSP_ACTIVITY_PORT",
  );
});
