import { expect, test } from "vitest";
import { backoffSeconds, settleFailure } from "../../deployer/outcome.ts";

const rules = { maxAttempts: 3, retrySeconds: 5, retryCapSeconds: 300, deferSeconds: 5, deferCapSeconds: 60 };
const failure = (errorClass: "permanent" | "transient" | "unavailable") => ({
  class: errorClass,
  code: "x",
  message: "m",
  facts: {},
});

test.each([[1, 5], [2, 10], [3, 20], [7, 300]])("after %i failures the next try waits %i s", (failures, seconds) => {
  expect(backoffSeconds(failures, 5, 300, 0)).toBe(seconds);
  expect(backoffSeconds(failures, 5, 300, 1)).toBeCloseTo(seconds * 0.8);
});

test("a permanent failure ends it at once, a transient one after the last attempt", () => {
  expect(settleFailure(failure("permanent"), { attempt: 1, deferrals: 0, mayFail: true }, rules, 0)).toMatchObject({
    outcome: "failed",
  });
  expect(settleFailure(failure("transient"), { attempt: 2, deferrals: 0, mayFail: true }, rules, 0)).toMatchObject({
    outcome: "retry",
    delaySeconds: 10,
  });
  expect(settleFailure(failure("transient"), { attempt: 3, deferrals: 0, mayFail: true }, rules, 0)).toMatchObject({
    outcome: "failed",
  });
});

test("what is unavailable is deferred however often, at most 60 s", () => {
  expect(settleFailure(failure("unavailable"), { attempt: 3, deferrals: 40, mayFail: true }, rules, 0)).toMatchObject({
    outcome: "deferred",
    delaySeconds: 60,
  });
});

test("a stop is tried for as long as it takes", () => {
  for (const errorClass of ["permanent", "transient"] as const) {
    expect(settleFailure(failure(errorClass), { attempt: 2000, deferrals: 0, mayFail: false }, rules, 0)).toMatchObject(
      {
        outcome: "retry",
        delaySeconds: 300,
      },
    );
  }
});

test("what is throttled waits as long as it was told to, and a little longer", () => {
  const throttled = { class: "throttled", code: "x", message: "m", facts: { retryAfterSeconds: 600 } } as const;
  const state = { attempt: 3, deferrals: 0, mayFail: true };
  expect(settleFailure(throttled, state, rules, 0)).toMatchObject({ outcome: "throttled", delaySeconds: 600 });
  expect(settleFailure(throttled, state, rules, 1)).toMatchObject({ outcome: "throttled", delaySeconds: 610 });
});
