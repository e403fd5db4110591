import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { vi } from "vitest";

/** The kernel's own limit on what a group of processes may hold: what a container's limit is made of. */
export interface MemoryCgroup {
  /** Moves a process into the group; what it starts and takes from now on counts. */
  add(pid: number): void;
  /** The most that its processes held at once, in MB. */
  peakMb(): number;
  remove(): Promise<void>;
}

/** Where groups are made, and how the kernel names what they have. */
interface Version {
  root: string;
  limit: string;
  peak: string;
  /** Swap counts apart there, and would hold what the limit keeps out. */
  swapLimit?: string;
}

const V1: Version = {
  root: "/sys/fs/cgroup/memory",
  limit: "memory.limit_in_bytes",
  peak: "memory.max_usage_in_bytes",
};
/** Written by the kernel's documentation and not yet run: that takes a machine that mounts v2. `memory.peak` is of Linux 5.19. */
const V2: Version = {
  root: "/sys/fs/cgroup",
  limit: "memory.max",
  peak: "memory.peak",
  swapLimit: "memory.swap.max",
};

/** `undefined` where none can be made: that takes root, and a cgroup file system with the memory controller for writing. */
export function createMemoryCgroup(name: string, limitMb: number): MemoryCgroup | undefined {
  const version = mounted();
  const path = `${version.root}/osp-${name}`;
  try {
    mkdirSync(path);
  } catch {
    return undefined;
  }
  try {
    setLimit(path, version, limitMb);
  } catch {
    rmdirSync(path);
    return undefined;
  }
  return {
    add: (pid) => writeFileSync(`${path}/cgroup.procs`, String(pid)),
    peakMb: () => Number(readFileSync(`${path}/${version.peak}`, "utf8")) / 1024 ** 2,
    // A killed process leaves its group a moment after its parent was told.
    remove: () => vi.waitFor(() => rmdirSync(path)),
  };
}

/** This file is in the root of v2 alone: with v1 the root holds a directory for each controller. */
function mounted(): Version {
  return existsSync(`${V2.root}/cgroup.controllers`) ? V2 : V1;
}

/** @throws where the group has no memory controller: its files are not there, and cannot be made */
function setLimit(path: string, { limit, peak, swapLimit }: Version, limitMb: number): void {
  writeFileSync(`${path}/${limit}`, String(limitMb * 1024 ** 2));
  readFileSync(`${path}/${peak}`);
  // Missing in a kernel without swap.
  if (swapLimit !== undefined && existsSync(`${path}/${swapLimit}`)) writeFileSync(`${path}/${swapLimit}`, "0");
}
