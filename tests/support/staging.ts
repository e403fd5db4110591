import { tmpdir } from "node:os";
import { join } from "node:path";
import { noCodeSource } from "../../deployer/code/code-source.ts";
import { openGate } from "../../deployer/replay/replay-gate.ts";
import type { Scratch } from "../../deployer/scratch.ts";
import type { StagingDeps } from "../../deployer/staging.ts";

/** Staging for services without code of their own. */
export function plainStaging(scratch: Scratch): StagingDeps {
  return { scratch, code: noCodeSource, cacheDirectory: join(tmpdir(), "osp-not-used"), gate: openGate };
}
