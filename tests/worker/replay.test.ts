import { DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from "@temporalio/worker";
import { describe, expect, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { bundleBuiltInWorkflows } from "../../worker/workflow-bundles.ts";
import { generations, historiesOf, type History } from "./support/histories.ts";
import { exampleScenarios, troubleScenarios } from "./support/scenarios.ts";

// What workflows out there have done so far, replayed by the worker of today: it must do the same, or they are stuck.
Runtime.install({
  logger: new DefaultLogger("ERROR"),
  telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: "ERROR" }) } },
});

describe.each(generations())("what %s recorded", (generation) => {
  test.each(historiesOf(generation))("%s", async (_, history) => {
    await replay(history);
  });
});

test("the newest generation has every scenario", () => {
  const names = historiesOf(generations().at(-1) ?? "").map(([name]) => name);
  expect(names).toEqual([...exampleScenarios(), ...troubleScenarios()].map(({ name }) => name).sort());
});

test("a history that today's worker would not have written does not replay", async () => {
  const [, history] = historiesOf("01-first-plan").find(([name]) => name === "retried") ?? ["", {}];
  const scheduled = history.events?.find((event) =>
    event.activityTaskScheduledEventAttributes?.activityType?.name === "two"
  );
  Object.assign(scheduled?.activityTaskScheduledEventAttributes?.activityType ?? {}, { name: "three" });
  await expect(replay(history)).rejects.toThrow(/TMPRL1100.*two.*three|TMPRL1100.*three.*two/s);
});

async function replay(history: History): Promise<void> {
  const codePath = await bundleBuiltInWorkflows(cacheDirectory(process.env));
  await Worker.runReplayHistory({ workflowBundle: { codePath } }, history);
}
