import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { vi } from "vitest";

/** The kernel's own limit on what a group of processes may hold: what a container's limit is made of. */
export interface MemoryCgroup {
  /** Moves a process into the group; what it starts and takes from now on counts. */
  add(pid: number): void;
  /** The most that its processes held at once, in MB. */
  peakMb(): number;
  remove(): Promise<void>;
}

const ROOT = "/sys/fs/cgroup/memory";

/** `undefined` where none can be made: that takes root, and a machine with cgroup v1 mounted for writing. */
export function createMemoryCgroup(name: string, limitMb: number): MemoryCgroup | undefined {
  const path = `${ROOT}/osp-${name}`;
  try {
    mkdirSync(path);
    writeFileSync(`${path}/memory.limit_in_bytes`, String(limitMb * 1024 ** 2));
  } catch {
    return undefined;
  }
  return {
    add: (pid) => writeFileSync(`${path}/cgroup.procs`, String(pid)),
    peakMb: () => Number(readFileSync(`${path}/memory.max_usage_in_bytes`, "utf8")) / 1024 ** 2,
    // A killed process leaves its group a moment after its parent was told.
    remove: () => vi.waitFor(() => rmdirSync(path)),
  };
}
