import { DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from "@temporalio/worker";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { bundleBuiltInWorkflows } from "../../worker/workflow-bundles.ts";
import { commandsOf, generations, historiesOf, RECORD } from "./support/histories.ts";
import { exampleScenarios, runScenario, type Scenario, troubleScenarios } from "./support/scenarios.ts";
import { type ServiceFixture, startServiceFixture } from "./support/service-fixture.ts";

Runtime.install({
  logger: new DefaultLogger("ERROR"),
  telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: "ERROR" }) } },
});

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

const newest = new Map(historiesOf(generations().at(-1) ?? ""));

async function runAndReplay(scenario: Scenario) {
  const ran = await runScenario(fixture, scenario);
  const codePath = await bundleBuiltInWorkflows(cacheDirectory(process.env));
  await Worker.runReplayHistory({ workflowBundle: { codePath } }, ran.history);
  expect(commandsOf(ran.history), RECORD).toEqual(commandsOf(newest.get(scenario.name) ?? {}));
  return ran;
}

describe("each example runs on a real server as its row says, replays, and does what the newest histories have", () => {
  test.each(exampleScenarios())("$name", async (scenario) => {
    const { status, result, calls } = await runAndReplay(scenario);
    const { activities, input } = scenario;
    expect(status).toBe("COMPLETED");
    expect(result).toEqual({ steps: activities, input });
    expect(calls.map(({ body }) => body["activity"])).toEqual(activities);
    expect(calls[0]?.body).toMatchObject({ workflow_type: scenario.workflow, attempt: 1, input });
  });
});

describe("and so does what can happen to a run", () => {
  test.each(troubleScenarios())("$name", async (scenario) => {
    expect((await runAndReplay(scenario)).status).toBe(scenario.ends);
  });
});
