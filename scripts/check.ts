// Runs every check and reports all that fail: `npm run check`, or `npm run check -- types imports` for some of them.
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { execa } from "execa";

interface Step {
  name: string;
  command: string[];
  /** What the command works on, appended to it. Without any file there is nothing to check. */
  files?: string[];
}

const denoSources = globSync(["supabase/functions/**/*.ts", "local/functions-server.ts"]);

const steps: Step[] = [
  { name: "types", command: ["tsc", "--noEmit"] },
  // --cached-only: everything is in node_modules; a missing package is to fail here, not to be fetched.
  { name: "types-deno", command: ["deno", "check", "--quiet", "--no-lock", "--cached-only"], files: denoSources },
  {
    name: "lint",
    command: ["oxlint", "--type-aware", "--deny-warnings", "--report-unused-disable-directives", "--format=unix"],
  },
  { name: "lint-deno", command: ["deno", "lint", "--quiet", "supabase/functions"] },
  { name: "format", command: ["deno", "fmt", "--check"] },
  { name: "unused", command: ["knip"] },
  { name: "migrations", command: ["squawk", "--reporter", "gcc"], files: globSync("supabase/migrations/*.sql").sort() },
  { name: "imports", command: ["node", "scripts/check-imports.ts"] },
  { name: "versions", command: ["node", "scripts/check-versions.ts"] },
  { name: "text", command: ["node", "scripts/check-text.ts"] },
];

const named = process.argv.slice(2);
const unknown = named.filter((name) => !steps.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`Cannot check ${unknown.join(", ")}: the checks are ${steps.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const queue = steps.filter(({ name }) => named.length === 0 || named.includes(name));
const failed: string[] = [];
// Most of the tools use several cores by themselves; two at a time keep both cores of a small machine busy.
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, runQueue));
console.log(failed.length === 0 ? "\nAll checks passed." : `\nFailed: ${failed.join(", ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;

async function runQueue(): Promise<void> {
  for (let step = queue.shift(); step !== undefined; step = queue.shift()) await runStep(step);
}

/** A line for a step that passes; with all its output for one that fails. */
async function runStep({ name, command, files }: Step): Promise<void> {
  if (files?.length === 0) return console.log(`skip ${name} (no files)`);
  const [program = "", ...args] = [...command, ...(files ?? [])];
  const { failed: hasFailed, all, durationMs, shortMessage } = await execa(program, args, {
    preferLocal: true,
    stdin: "ignore",
    all: true,
    reject: false,
    env: { NO_COLOR: "1", RUST_BACKTRACE: "0" }, // the output is read in CI's log as well
  });
  const seconds = (durationMs / 1000).toFixed(1);
  if (!hasFailed) return console.log(`ok   ${name} (${seconds} s)`);
  failed.push(name);
  console.log(`FAIL ${name} (${seconds} s): ${command.join(" ")}\n${indent(all || (shortMessage ?? ""))}`);
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^(?=.)/gm, "     ");
}
