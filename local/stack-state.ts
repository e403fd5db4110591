import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import {
  endProcess,
  identifyProcess,
  isRunning,
  type ProcessIdentity,
  processIdentitySchema,
} from "../host/process-identity.ts";
import { StackError } from "./config.ts";
import { removeCluster, stopServer } from "./postgres.ts";

const processesSchema = z.object({
  stack: processIdentitySchema,
  children: z.record(z.string(), processIdentitySchema),
});

/** What a stack keeps in its state directory: who runs, and the keys that stay the same from start to start. */
export interface StackState {
  directory: string;
  keys: StackKeys;
  /** Writes down a process of ours, so that the next start finds it whatever happens to us. */
  record(name: string, process: ProcessIdentity): void;
  /** The last word of a stack that ended in order: nothing of it runs. */
  clear(): void;
}

export interface StackKeys {
  PUBLISHABLE_KEY: string;
  SECRET_KEY: string;
  OSP_WEBHOOK_SECRET: string;
  DEPLOYER_PASSWORD: string;
  OSP_ACTIVITY_SECRET: string;
}

/**
 * Takes the state directory for this process and ends what a killed stack left in it.
 *
 * @throws {StackError} when a stack runs on it
 */
export async function takeState(directory: string): Promise<StackState> {
  makePrivate(directory);
  const file = join(directory, "processes.json");
  await endLeftovers(directory, file);
  const self = identifyProcess(process.pid);
  if (self === undefined) throw new Error("Cannot identify this process");
  const children: Record<string, ProcessIdentity> = {};
  const save = () => writeWhole(file, JSON.stringify({ stack: self, children }));
  save();
  return {
    directory,
    keys: readKeys(directory),
    record(name, child) {
      children[name] = child;
      save();
    },
    clear() {
      for (const name of Object.keys(children)) delete children[name];
      writeWhole(file, JSON.stringify({ stack: { pid: self.pid, started: "ended" }, children }));
    },
  };
}

/**
 * Nobody else reads what lies in it: keys, output, what workflows were given. As root one that is there stays as open as it
 * is, for Postgres, which runs as another account, may have its cluster in it.
 */
function makePrivate(directory: string): void {
  const isNew = mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined;
  if (!isNew && process.getuid?.() !== 0) chmodSync(directory, 0o700);
}

async function endLeftovers(directory: string, file: string): Promise<void> {
  if (!existsSync(file)) return;
  const parsed = processesSchema.safeParse(JSON.parse(readFileSync(file, "utf8")));
  if (!parsed.success) return;
  const { stack, children } = parsed.data;
  if (isRunning(stack)) {
    throw new StackError(
      `A stack runs already on ${directory} (process ${stack.pid}). See ${
        join(directory, "stack.env")
      } for its addresses; ` +
        `stop it with Ctrl-C or: kill ${stack.pid}. For a second one set OSP_STATE_DIR and the ports`,
    );
  }
  const { postgres, ...others } = children;
  await Promise.all(Object.values(others).map((child) => endProcess(child, 5000)));
  if (postgres !== undefined && isRunning(postgres)) await stopServer(postgres);
}

/** Those of the first start; of a state directory from before there was one of them, with that one added. */
function readKeys(directory: string): StackKeys {
  const file = join(directory, "keys.json");
  const random = () => randomBytes(24).toString("base64url");
  const keys = z.object({
    PUBLISHABLE_KEY: z.string().default(() => `sb_publishable_${random()}`),
    SECRET_KEY: z.string().default(() => `sb_secret_${random()}`),
    OSP_WEBHOOK_SECRET: z.string().default(random),
    DEPLOYER_PASSWORD: z.string().default(random),
    OSP_ACTIVITY_SECRET: z.string().default(random),
  }).parse(existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {});
  writeWhole(file, JSON.stringify(keys));
  return keys;
}

/** Where the stack's Postgres keeps its cluster. */
export function clusterDirectory(directory: string): string {
  return join(directory, "postgres");
}

/** Removes a state directory and the data that lies elsewhere. Nothing may run on it. */
export function removeState(directory: string): void {
  removeCluster(clusterDirectory(directory));
  rmSync(directory, { recursive: true, force: true });
}

const portsSchema = z.record(z.string(), z.int());

/** The ports of the last start: a stack that may take any free ones takes the same again, for its data names them. */
export function readPorts(directory: string): Record<string, number> {
  const file = join(directory, "ports.json");
  return existsSync(file) ? portsSchema.parse(JSON.parse(readFileSync(file, "utf8"))) : {};
}

export function writePorts(directory: string, ports: Record<string, number>): void {
  writeWhole(join(directory, "ports.json"), JSON.stringify(ports));
}

/** Addresses and keys in the form and under the names of `supabase status -o env`. */
export function writeStackEnv(directory: string, values: Record<string, string>): void {
  writeWhole(
    join(directory, "stack.env"),
    Object.entries(values).map(([name, value]) => `${name}="${value}"\n`).join(""),
  );
}

function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
