import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { BundleAnswer, BundleRequest } from "./bundle-child.ts";

const CHILD = fileURLToPath(new URL("./bundle-child.ts", import.meta.url));
const CHILD_MS = 120_000;

/** Bundles in a child process with an empty environment; problems with the code are in the answer. */
export async function runBundleChild(
  directory: string,
  { entry, outputFile, expected }: { entry: string } & Omit<BundleRequest, "entryFile">,
): Promise<BundleAnswer> {
  // .mjs: whatever package.json lies above it, the entry is a module.
  const entryFile = join(directory, "entry.mjs");
  writeFileSync(entryFile, entry);
  const child = spawn(process.execPath, [CHILD], { env: {}, timeout: CHILD_MS, killSignal: "SIGKILL" });
  const ended = Promise.withResolvers<number | NodeJS.Signals | null>();
  child.on("error", ended.reject);
  child.on("close", (code, signal) => ended.resolve(code ?? signal));
  child.stdin.on("error", () => {}); // a child that died: its exit code tells
  child.stdin.end(JSON.stringify({ entryFile, outputFile, expected } satisfies BundleRequest));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended.promise]);
  if (code === 0) return JSON.parse(stdout);
  throw new Error(`Cannot bundle workflows: the bundling process ended with ${code}: ${stderr.slice(-2_000)}`);
}
