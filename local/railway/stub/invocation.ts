import type { Readable } from "node:stream";
import type { Environment } from "./credentials.ts";

/** One run of the stub. */
export interface Invocation {
  /** Of the CLI that is stood in for, "5.71.0". */
  version: string;
  environment: Environment;
  stdin: Readable;
  stdout: (text: string) => void;
  stderr: (text: string) => void;
}
