import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { identifyProcess, type ProcessIdentity } from "../../../host/process-identity.ts";

/**
 * Workers that run on this machine below a directory, of one instance or of any, by the marker in their environment: also
 * one whose deployer was killed between starting it and writing it down. The directory tells them from those of a copy of
 * the database, which carries the same marker. Linux only; elsewhere nothing is found.
 */
export function findWorkers(directory: string, instance?: string): ProcessIdentity[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) =>
    runsBelow(pid, directory) && carriesMarker(pid, instance)
  )
    .flatMap((pid) => identifyProcess(pid) ?? []);
}

/** A removed code root still tells: the link then ends in " (deleted)". */
function runsBelow(pid: number, directory: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${directory}/`);
  } catch {
    return false; // ended meanwhile
  }
}

function carriesMarker(pid: number, instance: string | undefined): boolean {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    const isMarked = instance === undefined
      ? variables.some((line) => line.startsWith("OSP_INSTANCE="))
      : variables.includes(`OSP_INSTANCE=${instance}`);
    return isMarked && variables.some((line) => line.startsWith("MANIFEST_PATH="));
  } catch {
    return false; // ended meanwhile, or somebody else's
  }
}
