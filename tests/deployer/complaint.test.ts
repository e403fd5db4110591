import { pino } from "pino";
import { beforeEach, expect, test } from "vitest";
import { createComplaint } from "../../deployer/complaint.ts";

let told: string[];
let now: number;
let complaint: ReturnType<typeof createComplaint>;
beforeEach(() => {
  told = [];
  now = 0;
  const log = pino({}, {
    write: (line: string) => void told.push([JSON.parse(line).event, JSON.parse(line).error].join(" ").trim()),
  });
  complaint = createComplaint(log, "registry", () => now);
});
const fails = (reason: string) => complaint.about(Promise.reject(new Error(reason)), "fallback");
const works = () => complaint.about(Promise.resolve("result"), "fallback");

test("each reason is told once, however often and in whatever order it comes", async () => {
  for (const reason of ["away", "away", "late", "away", "late"]) expect(await fails(reason)).toBe("fallback");
  expect(told).toEqual(["registry.failing away", "registry.failing late"]);
});

test("what works for a moment has not recovered; what works for a while has, and fails anew", async () => {
  expect(await works()).toBe("result");
  await fails("away");
  now = 9000;
  await works();
  await fails("away");
  now = 18_000;
  await works();
  expect(told).toEqual(["registry.failing away"]);
  now = 19_000;
  await works();
  await works();
  await fails("away");
  expect(told).toEqual(["registry.failing away", "registry.recovered", "registry.failing away"]);
});
