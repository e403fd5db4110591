// Temporal's dev server by the SDK's own download, for a machine that has neither the Temporal CLI nor pip.
import { TestWorkflowEnvironment } from "@temporalio/testing";
import { z } from "zod";
import { portSchema, runProgram } from "./program.ts";

const environmentSchema = z.object({
  OSP_TEMPORAL_PORT: portSchema,
  OSP_TEMPORAL_UI_PORT: portSchema,
  /** File that the server keeps its workflows in. */
  OSP_TEMPORAL_DB: z.string(),
  /** Where the download is kept. */
  OSP_CACHE_DIR: z.string(),
  /** A CLI that is there already; with it nothing is downloaded. */
  TEMPORAL_CLI_PATH: z.string().optional(),
});

await runProgram("temporal", environmentSchema, async (config) => {
  const { TEMPORAL_CLI_PATH: path, OSP_CACHE_DIR: downloadDir } = config;
  const environment = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: path === undefined ? { type: "cached-download", downloadDir } : { type: "existing-path", path },
      ip: "127.0.0.1",
      port: config.OSP_TEMPORAL_PORT,
      dbFilename: config.OSP_TEMPORAL_DB,
      ui: true,
      uiPort: config.OSP_TEMPORAL_UI_PORT,
    },
  });
  // The server is a child of the SDK's native part, which does not keep Node running.
  const alive = setInterval(() => {}, 60_000);
  return {
    port: config.OSP_TEMPORAL_PORT,
    async stop() {
      clearInterval(alive);
      await environment.teardown();
    },
  };
});
