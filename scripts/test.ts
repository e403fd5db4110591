// Runs the tests: vitest, and Deno for the functions' own. Arguments go to vitest (`npm test -- tests/worker -t replay`),
// which then runs alone. The last line on stdout sums up all runners.
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { type Counts, denoCounts, sumOf, vitestCounts } from "./test-counts.ts";

const vitestArguments = process.argv.slice(2);
const denoTests = vitestArguments.length === 0 ? globSync("supabase/functions/tests/**/*-test.ts") : [];
const reports = mkdtempSync(join(tmpdir(), "osp-test-"));
try {
  const counts = [await runVitest(join(reports, "vitest.json"))];
  if (denoTests.length > 0) counts.push(await runDeno(join(reports, "deno.xml")));
  const { passed, failed, skipped } = sumOf(counts);
  if (passed + failed === 0) console.error("No test ran.");
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
} finally {
  rmSync(reports, { recursive: true, force: true });
}

function runVitest(report: string): Promise<Counts> {
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  return run("vitest", ["run", ...reporters, ...vitestArguments], () => vitestCounts(readFileSync(report, "utf8")));
}

function runDeno(report: string): Promise<Counts> {
  const options = ["-A", "--no-lock", "--cached-only", "--node-modules-dir=manual", `--junit-path=${report}`];
  return run("deno", ["test", ...options, ...denoTests], () => denoCounts(readFileSync(report, "utf8")));
}

/** A runner that fails without a failed test (it crashed, or a test left an error behind) counts as one failed test. */
async function run(program: string, args: string[], readCounts: () => Counts): Promise<Counts> {
  const { failed: hasFailed, shortMessage } = await execa(program, args, {
    preferLocal: true,
    stdio: ["ignore", "inherit", "inherit"],
    reject: false,
  });
  const counts = countsOrNone(readCounts);
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
