#!/usr/bin/env node
// The command `osp`, from any directory and with any Node: installs what is missing, then runs client/osp.ts with the Node of this
// repository. As a link on PATH (npm link), or `npm run osp --`.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

await import("./setup.mjs");

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const child = spawn(join(root, "node_modules", ".bin", "node"), [
  join(root, "client", "osp.ts"),
  ...process.argv.slice(2),
], {
  stdio: "inherit",
});
// A Ctrl-C reaches both; the command decides.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  process.stderr.write(`Cannot start osp: ${error.message}\n`);
  process.exitCode = 1;
});
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === null ? 1 : 130);
});
