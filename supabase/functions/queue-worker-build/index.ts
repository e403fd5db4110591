import { parseConfig } from "./config.ts";
import { createHandler } from "./handler.ts";
import { connect, createIntentQueue, createManifestStore, createPrunedObjects } from "./supabase-adapter.ts";

const config = parseConfig(Deno.env.toObject());
const client = connect(config.supabaseUrl, config.secretKey);

const log = (event: Record<string, unknown>) => console.log(JSON.stringify(event));

const handler = createHandler({
  webhookSecret: config.webhookSecret,
  defaults: { activityEndpoint: config.defaultActivityEndpoint },
  queue: createIntentQueue(client),
  store: createManifestStore(client),
  pruned: createPrunedObjects(client),
  ringAgain,
  log,
  now: () => performance.now(),
});

Deno.serve(async (request) => {
  try {
    return await handler(request);
  } catch (error) {
    log({ event: "request.failed", error: error instanceof Error ? error.stack : String(error) });
    return Response.json({ error: "Internal", message: "See the function's log" }, { status: 500 });
  }
});

/** The next run goes on while this answer is on its way; where it gets lost, the deployer's sweep rings. */
function ringAgain(): void {
  const ring = fetch(`${config.supabaseUrl}/functions/v1/queue-worker-build`, {
    method: "POST",
    headers: { "x-osp-webhook-secret": config.webhookSecret },
    signal: AbortSignal.timeout(5000),
  }).then((response) => response.body?.cancel(), (error) => log({ event: "ring.failed", error: String(error) }));
  const runtime: { waitUntil?: (promise: Promise<unknown>) => void } | undefined = Reflect.get(
    globalThis,
    "EdgeRuntime",
  );
  runtime?.waitUntil?.(ring);
}
