// A stand-in of Railway that runs what is uploaded to it, as a program of the local stack. What it tells the others lies in
// `railway/` of the state directory.
import { join, resolve } from "node:path";
import { z } from "zod";
import { runProgram } from "./program.ts";
import { createUploadRunner } from "./railway/container/run-upload.ts";
import { startFakeRailway } from "./railway/fake-railway.ts";
import { writeAccess, writeSummary } from "./railway/state-files.ts";

const environmentSchema = z.object({ OSP_STATE_DIR: z.string().default(".osp").transform((path) => resolve(path)) });

await runProgram("railway", environmentSchema, async ({ OSP_STATE_DIR }) => {
  const directory = join(OSP_STATE_DIR, "railway");
  const stopping = new AbortController();
  const runDeployment = createUploadRunner({
    directory: join(directory, "containers"),
    environment: process.env,
    signal: stopping.signal,
  });
  const railway = await startFakeRailway({ runDeployment });
  writeAccess(directory, {
    ...railway.environment,
    token: railway.tokens.workspace,
    project: railway.project.id,
    environment: railway.production.id,
  });
  return {
    port: 0,
    async stop() {
      stopping.abort();
      await railway.stop();
      writeSummary(directory, railway.journal);
    },
  };
});
