import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runIsolated } from "../../host/isolated-node.ts";
import { CODE_DIRECTORY } from "../../supabase/functions/_shared/service-code.ts";
import { PlatformError } from "../platforms/platform.ts";
import { orNoRoom, scratchError } from "../scratch.ts";

const CHILD = fileURLToPath(new URL("./unpack-child.ts", import.meta.url));
const UNPACK_MS = 60_000;
const HEAP_MB = 128;
const answerSchema = z.object({ problem: z.string().optional(), no_room: z.string().optional() });

/**
 * Unpacks a service's code into a code root, in a process that can write there and nowhere else.
 *
 * @throws {PlatformError} permanent for an archive that nobody should unpack, unavailable where there is no room for it
 */
export async function unpackCode(archive: Buffer, codeRoot: string, signal: AbortSignal): Promise<void> {
  const directory = join(codeRoot, CODE_DIRECTORY);
  await orNoRoom(mkdir(directory));
  const end = await runIsolated({
    script: CHILD,
    args: [directory],
    input: archive,
    timeoutMs: UNPACK_MS,
    signal,
    access: { write: [directory] },
    heapMb: HEAP_MB,
  });
  if (end.code !== 0) {
    const how = end.isLate ? `is not done after ${UNPACK_MS / 1000} s` : `ends with ${end.signal ?? end.code}`;
    throw new Error(`Unpacking the service's code ${how}: ${end.stderr.slice(-2000)}`);
  }
  const { problem, no_room } = answerSchema.parse(JSON.parse(end.answer));
  if (no_room !== undefined) throw scratchError(new Error(no_room));
  if (problem !== undefined) {
    throw new PlatformError(
      "permanent",
      "code_unusable",
      `The service's code cannot be unpacked: ${problem}. Push it by \`osp code push\``,
    );
  }
}
