// Loaded into a deployer before its own program (`--import`): at its n-th call of a port the process is killed or paused,
// before the call is made or when it has taken effect. The program itself is the real one.
import child_process from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import pg from "pg";
import type { Fault } from "./faults.ts";

const fault: Fault = JSON.parse(process.env["OSP_TEST_FAULT"] ?? "{}");
const kill = process.kill.bind(process);
let calls = 0;

/** The call with this number, `what` being the statement or the action, has come so far. */
function reach(call: number, what: string, when: Fault["when"]): void {
  if (when !== fault.when || call !== fault.call) return;
  fs.writeSync(2, `${JSON.stringify({ event: "fault.reached", call, what: what.trim().slice(0, 200) })}\n`);
  kill(process.pid, fault.signal);
}

/** The call's number; others may be under way at the same time. */
function begin(what: string): number {
  if (fault.match !== undefined && !what.includes(fault.match)) return 0;
  const call = ++calls;
  reach(call, what, "before");
  return call;
}

function around<Args extends unknown[], Result>(
  name: string,
  call: (...args: Args) => Result,
): (...args: Args) => Result {
  return (...args) => {
    const what = `${name} ${args.flat().filter((part) => typeof part === "string").join(" ")}`;
    const number = begin(what);
    const result = call(...args);
    reach(number, what, "after");
    return result;
  };
}

if (fault.port === "registry") {
  const query: (this: pg.Pool, ...args: unknown[]) => Promise<unknown> = pg.Pool.prototype.query;
  Object.assign(pg.Pool.prototype, {
    async query(this: pg.Pool, ...args: unknown[]) {
      const [first] = args;
      const text = typeof first === "string" ? first : String(Object(first).text);
      const number = begin(text);
      const result = await query.apply(this, args);
      reach(number, text, "after");
      return result;
    },
  });
} else {
  // What platform local does to this machine: worker records, processes, and the signals that end them.
  fs.renameSync = around("renameSync", fs.renameSync);
  fs.rmSync = around("rmSync", fs.rmSync);
  Object.assign(child_process, { spawn: around("spawn", child_process.spawn) });
  const signal = around("kill", kill);
  process.kill = (pid, name) => pid === process.pid ? kill(pid, name) : signal(pid, name);
  syncBuiltinESMExports();
}
