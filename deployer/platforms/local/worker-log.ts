import { closeSync, copyFileSync, fstatSync, openSync, readSync, statSync, truncateSync } from "node:fs";
import { storable } from "../../../supabase/functions/_shared/problems.ts";

const TAIL_BYTES = 16_384;
const LOG_BYTES = 10 * 1024 * 1024;

/** The end of a worker's output, at most 16 KiB; empty when there is none. */
export function logTail(logFile: string): string {
  try {
    return storable(readTail(logFile));
  } catch {
    return "";
  }
}

function readTail(logFile: string): string {
  const file = openSync(logFile, "r");
  try {
    const { size } = fstatSync(file);
    const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const length = readSync(file, tail, 0, tail.length, size - tail.length);
    return tail.subarray(0, length).toString("utf8");
  } finally {
    closeSync(file);
  }
}

/**
 * Keeps a worker's output to two files of about 10 MiB, while it writes: copied and cut, for the worker goes on writing to
 * the file that it has, at its end. What it writes between the two is lost.
 */
export function boundLog(logFile: string): void {
  try {
    if (statSync(logFile).size <= LOG_BYTES) return;
    copyFileSync(logFile, `${logFile}.1`);
    truncateSync(logFile, 0);
  } catch {
    // there is none yet
  }
}
