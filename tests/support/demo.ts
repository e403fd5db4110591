import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { expect } from "vitest";
import { allExamples } from "../../local/examples.ts";

/** Runs the demo, which must print one JSON document of all examples and exit with 0. @returns what it said beside it */
export async function expectDemo(args: string[], environment: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr, exitCode } = await execa(process.execPath, ["local/demo.ts", "--json", ...args], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: environment,
    reject: false,
    timeout: 380_000,
  });
  expect({ exitCode, document: JSON.parse(stdout || "null") }, stderr).toEqual({
    exitCode: 0,
    document: {
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
    },
  });
  return stderr;
}
