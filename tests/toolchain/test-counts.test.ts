import { expect, test } from "vitest";
import { denoCounts, sumOf, vitestCounts } from "../../scripts/test-counts.ts";

test("a vitest file that cannot be loaded counts as one failed test", () => {
  const report = {
    numPassedTests: 2,
    numFailedTests: 1,
    numPendingTests: 1,
    numTodoTests: 1,
    testResults: [
      { status: "passed", assertionResults: [{ status: "passed" }, { status: "pending" }, { status: "todo" }] },
      { status: "failed", assertionResults: [{ status: "passed" }, { status: "failed" }] },
      { status: "failed", assertionResults: [] },
    ],
  };
  expect(vitestCounts(JSON.stringify(report))).toEqual({ passed: 2, failed: 2, skipped: 2 });
});

test("Deno's JUnit report is counted by its test cases", () => {
  const report = `<testsuites name="deno test" tests="3" failures="1"><testsuite name="a-test.ts" tests="3">
    <testcase name="first" line="1"></testcase>
    <testcase name="second"><failure message="not equal">Error</failure></testcase>
    <testcase name="third"><skipped/></testcase>
  </testsuite></testsuites>`;
  expect(denoCounts(report)).toEqual({ passed: 1, failed: 1, skipped: 1 });
});

test("all runners are summed up", () => {
  expect(sumOf([{ passed: 1, failed: 2, skipped: 3 }, { passed: 10, failed: 20, skipped: 30 }])).toEqual({
    passed: 11,
    failed: 22,
    skipped: 33,
  });
});
