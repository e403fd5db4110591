// Makes node_modules match package-lock.json; run before every npm script, so that a fresh clone needs no step by hand.
// Plain JavaScript without dependencies: the `node` on PATH may be 18, and nothing is installed yet. Speaks on stderr
// only, because what runs next may print JSON on stdout.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lockfile = join(root, "package-lock.json");
const recordedHash = join(root, "node_modules", ".osp-lock-sha256");
const projectNode = join(root, "node_modules", ".bin", "node");
/** Outside node_modules, which is not there yet; `.osp/` is ignored by git. */
const guard = join(root, ".osp", "setup.lock");
/** No install takes this long: past it, the guard's pid belongs to another process by now. */
const guardMaxAgeMs = 30 * 60_000;

try {
  if (!isInstalled()) await installGuarded();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

async function installGuarded() {
  await takeGuard();
  process.on("exit", () => rmSync(guard, { force: true }));
  if (isInstalled()) return; // by the one we waited for
  if (!matchesLockfile()) await install();
  writeFileSync(recordedHash, lockfileHash());
}

async function install() {
  const began = Date.now();
  say("Installing dependencies, because node_modules is absent or differs from package-lock.json ...");
  const { ended, output } = await npmInstall();
  if (ended !== "exit code 0") {
    const tail = output.trimEnd().split("\n").slice(-30).join("\n");
    throw new Error(
      `${tail}\nCannot install dependencies: npm install ended with ${ended}, its last lines are above. Check the network, ` +
        `the registry (npm config get registry) and free disk space, then run the same command again.`,
    );
  }
  if (!matchesLockfile()) {
    throw new Error(
      "Cannot install dependencies: npm install succeeded, but node_modules is not what package-lock.json says. Install " +
        "scripts must be allowed (npm config get ignore-scripts: false) and package.json must agree with " +
        "package-lock.json. Then remove node_modules and run the same command again.",
    );
  }
  say(`Installed dependencies in ${Math.round((Date.now() - began) / 1000)} s.`);
}

/** Resolves with how npm ended and all it printed. */
function npmInstall() {
  // Not `npm ci`: it refuses a lockfile without the optional packages of all platforms, and ours lacks those that the
  // registry did not offer when it was written. `--no-save` leaves the lockfile alone; matchesLockfile compares after.
  // Dev dependencies are needed whatever NODE_ENV says; loglevel, because `npm --silent test` hands its own down.
  const args = ["install", "--no-save", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  // Inside `npm run`, npm names itself and its own node; the node running this file may be one that npm replaces.
  const { npm_execpath: npm, npm_node_execpath: node } = process.env;
  const [command, commandArgs] = npm?.endsWith(".js") ? [node || process.execPath, [npm, ...args]] : ["npm", args];
  return new Promise((resolve, reject) => {
    const child = spawn(command, commandArgs, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    // End when npm has ended, not before, and so through `exit`. Ctrl-C reaches npm by itself, the others do not.
    process.on("SIGINT", () => {});
    for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => output += text);
    }
    child.on("error", (error) => reject(new Error(`Cannot install dependencies: cannot start npm: ${error.message}`)));
    child.on("close", (code, signal) => resolve({ ended: signal ?? `exit code ${code}`, output }));
  });
}

function isInstalled() {
  return existsSync(projectNode) && existsSync(recordedHash) &&
    readFileSync(recordedHash, "utf8").trim() === lockfileHash();
}

/** Compares the lockfile with npm's own record of what it installed, also when somebody ran npm by hand. */
function matchesLockfile() {
  const record = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(projectNode) || !existsSync(record)) return false;
  const installed = JSON.parse(readFileSync(record, "utf8")).packages;
  const { "": _, ...locked } = JSON.parse(readFileSync(lockfile, "utf8")).packages;
  return Object.entries(locked).every(([path, { version, optional }]) =>
    path in installed ? installed[path].version === version : optional
  );
}

function lockfileHash() {
  return createHash("sha256").update(readFileSync(lockfile)).digest("hex");
}

/** Waits until no other set-up of this clone runs. Linking is atomic: the guard never exists without its pid. */
async function takeGuard() {
  mkdirSync(dirname(guard), { recursive: true });
  const mine = `${guard}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    for (let waited = false; !tryLink(mine); waited = true) {
      if (!waited) say(`Waiting for another set-up of this directory to end (${guard}) ...`);
      if (isGuardStale()) rmSync(guard, { force: true });
      else await pause(200);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

function tryLink(mine) {
  try {
    linkSync(mine, guard);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
}

function isGuardStale() {
  try {
    if (Date.now() - statSync(guard).mtimeMs > guardMaxAgeMs) return true;
    process.kill(Number(readFileSync(guard, "utf8")), 0); // signal 0 only asks whether the process exists
    return false;
  } catch (error) {
    return error.code === "ESRCH"; // ENOENT: given back just now; EPERM: runs as another user
  }
}

function say(message) {
  process.stderr.write(`${message}\n`);
}
