// An example of a service's own activities: answers those of every service, by HTTP, so that a row works as it stands.
import { createServer } from "node:http";
import { z } from "zod";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";
import { createFetchListener } from "./fetch-listener.ts";
import { listen, portSchema, runProgram } from "./program.ts";

const environmentSchema = z.object({ OSP_ACTIVITY_PORT: portSchema.default(54_330) });

/** What a built-in activity posts; what is not named here is for logs. */
const callSchema = z.looseObject({
  service_schema: z.string().min(1),
  activity: z.string().min(1),
  input: z.json(),
});

/** What an activity answers, and so the next one's input. No clock and no chance: the same call, the same answer. */
const resultSchema = z.strictObject({
  /** Every activity so far, in order: the workflow's result proves which of them ran. */
  steps: z.array(z.string()),
  /** What the workflow was started with. */
  input: z.json(),
});
type ActivityResult = z.infer<typeof resultSchema>;

/** The first activity of a workflow gets its input; each further one gets the answer of the one before. */
function runActivity({ activity, input }: z.infer<typeof callSchema>): ActivityResult {
  const before = resultSchema.safeParse(input);
  return before.success
    ? { steps: [...before.data.steps, activity], input: before.data.input }
    : { steps: [activity], input };
}

/** `POST /<service_schema>/<activity>` with a call as its body. */
async function answer(request: Request): Promise<Response> {
  if (request.method !== "POST") return refuse(405, `${request.method} is not served: an activity is a POST`);
  const [, ...path] = new URL(request.url).pathname.split("/").map(decodeURIComponent);
  const body: unknown = await request.json().catch(() => undefined);
  if (body === undefined) return refuse(400, "The body must be JSON");
  const call = callSchema.safeParse(body);
  if (!call.success) return refuse(400, `Not a call of an activity: ${formatProblems(problemsOf(call.error, body))}`);
  const { service_schema, activity } = call.data;
  if (path.join("/") !== `${service_schema}/${activity}`) {
    return refuse(
      400,
      `The path /${path.join("/")} and the body differ: the body names /${service_schema}/${activity}`,
    );
  }
  return Response.json(runActivity(call.data));
}

function refuse(status: number, message: string): Response {
  return Response.json({ error: "BadRequest", message }, { status });
}

await runProgram("activities", environmentSchema, async (config, log) => {
  return await listen(createServer(createFetchListener(answer, log)), config.OSP_ACTIVITY_PORT, "OSP_ACTIVITY_PORT");
});
