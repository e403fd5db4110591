import { expect, inject, onTestFinished, test } from "vitest";
import { startFakeRailway } from "../../local/railway/fake-railway.ts";
import { runDoctor } from "../support/railway/doctor.ts";

test("the doctor's questions are ones that the real CLI asks and Railway's own schema knows", async () => {
  const fake = await startFakeRailway({ cliSchema: inject("railwaySchema") ?? undefined });
  onTestFinished(fake.stop);
  fake.operator.createService("billing", { OSP_INSTANCE: "marker-1" });
  fake.operator.moveTo(fake.operator.redeploy("billing").id, "SUCCESS");
  const { exitCode, stdout, stderr } = await runDoctor(inject("railwayCli"), fake);
  expect({ exitCode, stderr, violations: fake.journal.violations }).toEqual({
    exitCode: 0,
    stderr: "",
    violations: [],
  });
  expect(stdout).not.toMatch(/^✗/m);
  expect(stdout).toContain("✓ what the deployer changes");
});
