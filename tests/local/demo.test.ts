import { execa } from "execa";
import { expect, test } from "vitest";
import { allExamples } from "../../local/examples.ts";

test("the demo runs every example and prints exactly one JSON document", async () => {
  const { stdout, exitCode } = await execa(process.execPath, ["local/demo.ts", "--json"], {
    cwd: new URL("../..", import.meta.url),
    reject: false,
    timeout: 150_000,
  });
  const document = JSON.parse(stdout);
  expect(document).toEqual({
    ok: true,
    services: allExamples().map(({ service }) => ({
      service_schema: service.service_schema,
      deployment_status: "deployed",
      insert_to_polling_ms: expect.any(Number),
      workflows: service.workflows.map(({ name, activities }) => ({
        name,
        result: { steps: activities, input: expect.anything() },
      })),
    })),
  });
  expect(exitCode).toBe(0);
}, 180_000);
