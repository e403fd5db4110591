import { fileURLToPath } from "node:url";

/** Where a deployer is killed or paused; see fault-point.ts. */
export interface Fault {
  /** `registry`: statements on its pool. `platform`: what platform local does to files and processes. */
  port: "registry" | "platform";
  /** Counted from 1. */
  call: number;
  when: "before" | "after";
  signal: "SIGKILL" | "SIGSTOP";
  /** Only calls that hold this text count. */
  match?: string;
}

/** What a deployer is started with to come to a fault; it logs `fault.reached` there. */
export function faultEnvironment(fault: Fault): Record<string, string> {
  const preload = fileURLToPath(new URL("fault-point.ts", import.meta.url));
  return { NODE_OPTIONS: `--import ${preload}`, OSP_TEST_FAULT: JSON.stringify(fault) };
}
