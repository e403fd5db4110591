import { Connection } from "@temporalio/client";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { readyLine, startProgram } from "../../local/child-program.ts";
import { findTemporalCli } from "../../local/temporal-cli.ts";

// The download itself cannot be tested without the internet: the same program is given the server that is here.
test("the SDK's own server serves, on the ports that it is given", async () => {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-temporal-"));
  const [port, uiPort] = [await freePort(), await freePort()];
  const program = await startProgram({
    name: "temporal",
    command: process.execPath,
    arguments: ["local/temporal-server.ts"],
    environment: {
      PATH: process.env["PATH"] ?? "",
      HOME: directory,
      OSP_CACHE_DIR: directory,
      OSP_TEMPORAL_PORT: String(port),
      OSP_TEMPORAL_UI_PORT: String(uiPort),
      OSP_TEMPORAL_DB: join(directory, "temporal.db"),
      TEMPORAL_CLI_PATH: await findTemporalCli(process.env, () => {}) ?? "",
    },
    logFile: join(directory, "temporal.log"),
    isReady: (output) => readyLine(output) !== undefined,
    onStarted: () => {},
    onDied: () => {},
  });
  const connection = await Connection.connect({ address: `127.0.0.1:${port}` });
  const { namespaceInfo } = await connection.workflowService.describeNamespace({ namespace: "default" });
  expect(namespaceInfo?.name).toBe("default");
  expect((await fetch(`http://127.0.0.1:${uiPort}`)).ok).toBe(true);
  await connection.close();
  await program.stop();
  rmSync(directory, { recursive: true, force: true });
});
