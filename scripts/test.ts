// Runs the tests. Arguments go to vitest: `npm test -- tests/worker -t replay`. The last line on stdout sums up.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { type Counts, vitestCounts } from "./test-counts.ts";

const reports = mkdtempSync(join(tmpdir(), "osp-test-"));
try {
  const { passed, failed, skipped } = await runVitest(join(reports, "vitest.json"), process.argv.slice(2));
  if (passed + failed === 0) console.error("No test ran.");
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
} finally {
  rmSync(reports, { recursive: true, force: true });
}

/** A run that fails without a failed test (it crashed, or a test left an error behind) counts as one failed test. */
async function runVitest(report: string, args: string[]): Promise<Counts> {
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const { failed: hasFailed, shortMessage } = await execa("vitest", ["run", ...reporters, ...args], {
    preferLocal: true,
    stdio: ["ignore", "inherit", "inherit"],
    reject: false,
    ...(process.stdout.isTTY ? {} : { env: { NO_COLOR: "1" } }),
  });
  const counts = countsOrNone(() => vitestCounts(readFileSync(report, "utf8")));
  if (!hasFailed || counts.failed > 0) return counts;
  console.error(`${shortMessage}, though no test failed: counted as one`);
  return { ...counts, failed: 1 };
}

function countsOrNone(readCounts: () => Counts): Counts {
  try {
    return readCounts();
  } catch {
    return { passed: 0, failed: 0, skipped: 0 }; // no report: the runner ended before it wrote one
  }
}
