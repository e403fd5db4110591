import { z } from "zod";

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** The parts we read of vitest's JSON report. */
const vitestReportSchema = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  numPendingTests: z.int(),
  numTodoTests: z.int(),
  testResults: z.array(z.object({
    status: z.string(),
    assertionResults: z.array(z.object({ status: z.string() })),
  })),
});

/** A file that fails without a failed test (it cannot be loaded, a hook threw) counts as one failed test. */
export function vitestCounts(report: string): Counts {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = vitestReportSchema.parse(
    JSON.parse(report),
  );
  const failedFiles = testResults.filter(({ status, assertionResults }) =>
    status === "failed" && assertionResults.every((test) => test.status !== "failed")
  );
  return {
    passed: numPassedTests,
    failed: numFailedTests + failedFiles.length,
    skipped: numPendingTests + numTodoTests,
  };
}

/** From Deno's JUnit report: one `<testcase>` per test, with a `<failure>`, `<error>` or `<skipped>` inside. */
export function denoCounts(report: string): Counts {
  const count = (pattern: RegExp) => report.match(pattern)?.length ?? 0;
  const failed = count(/<(failure|error)[\s>]/g);
  const skipped = count(/<skipped[\s/>]/g);
  return { passed: count(/<testcase[\s>]/g) - failed - skipped, failed, skipped };
}

export function sumOf(all: Counts[]): Counts {
  const sum = (key: keyof Counts) => all.reduce((total, counts) => total + counts[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}
