import { createHash } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { CROSSWISE } from "./races.ts";
import { inSession } from "./sessions.ts";
import { MARKER, type StormStack } from "./stack.ts";

const storedSchema = z.object({
  service_schema: z.string(),
  revision: z.int(),
  manifest: z.unknown(),
  manifest_sha256: z.string(),
});

/** Manifests that Storage does not hold as the registry has them, a line each. */
export async function storageProblems({ addresses }: StormStack): Promise<string[]> {
  const { rows } = await inSession(addresses.DB_URL, (client) =>
    client.query(
      `select service_schema, revision, manifest, manifest_sha256 from osp_metadata.worker_registry where manifest_sha256 is not null`,
    ));
  const problems = await Promise.all(
    z.array(storedSchema).parse(rows).map(async (row) => {
      const path = `${row.service_schema}/${row.revision}-${row.manifest_sha256}.json`;
      const { response, bytes } = await readStored(
        `${addresses.API_URL}/storage/v1/object/manifests/${path}`,
        addresses,
      );
      if (!response.ok) return [`Storage answers ${response.status} for ${path}: ${bytes.slice(0, 200)}`];
      if (createHash("sha256").update(bytes).digest("hex") !== row.manifest_sha256) {
        return [`Storage holds other bytes as ${path}`];
      }
      return isDeepStrictEqual(JSON.parse(bytes), row.manifest)
        ? []
        : [`The registry holds another manifest than ${path}`];
    }),
  );
  return problems.flat();
}

/** The API has connections that a restart of Postgres has cut, each of which tells that to the next who uses it, once. */
const READS = 10;

async function readStored(url: string, { SECRET_KEY }: StormStack["addresses"]) {
  for (let read = 1;; read++) {
    const response = await fetch(url, {
      headers: { authorization: `Bearer ${SECRET_KEY}`, apikey: SECRET_KEY },
      signal: AbortSignal.timeout(20_000),
    });
    const bytes = await response.text();
    if (response.status < 500 || read === READS) return { response, bytes };
  }
}

/** What no program of ours may say, however it is treated. */
const WORST =
  /unhandled|uncaught|"level":60\b|\bpanicked\b|\bTypeError\b(?!: fetch failed)|\bReferenceError\b|"event":"function\.threw"|deadlock detected/i;

/** Lines of the programs' and the workers' logs that tell of something nobody thought of. */
export function logProblems(
  { directory, workersDirectory }: Pick<StormStack, "directory" | "workersDirectory">,
): string[] {
  return [...logsBelow(directory, 1), ...logsBelow(workersDirectory, 2)].flatMap((file) =>
    readFileSync(file, "utf8").split("\n").filter((line) => WORST.test(line))
      .map((line) => `${file.slice(directory.length + 1)} says: ${line.slice(0, 500)}`)
  );
}

/**
 * What Postgres' own log tells of deadlocks, with what each of the sessions did. Whoever was its victim may have tried again.
 * Those that the storm makes on purpose are left out: of sessions that are all of its own.
 */
export function deadlocks(postgresLog: string): string[] {
  const lines = readFileSync(postgresLog, "utf8").split("\n");
  return lines.flatMap((line, index) => {
    if (!line.includes("deadlock detected")) return [];
    // DETAIL, HINT, CONTEXT and STATEMENT, until the next entry.
    const next = lines.findIndex((other, at) => at > index && /\b(ERROR|LOG|FATAL|WARNING|PANIC): /.test(other));
    const entry = lines.slice(index, next === -1 ? index + 30 : next);
    const statements = entry.filter((told) => /^\tProcess \d+: /.test(told));
    if (statements.length > 0 && statements.every((told) => told.includes(CROSSWISE))) return [];
    return [`Postgres says: ${entry.join("\n    ").slice(0, 4000)}`];
  });
}

function logsBelow(directory: string, depth: number): string[] {
  return entriesOf(directory).flatMap((entry) => {
    if (entry.isDirectory()) return depth > 1 ? logsBelow(join(directory, entry.name), depth - 1) : [];
    return entry.name.endsWith(".log") ? [join(directory, entry.name)] : [];
  });
}

function entriesOf(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return []; // no worker ever ran
  }
}

/** Processes of a storm that run: its programs by their environment, its workers by where they run. */
export function findProcesses(directory: string): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap((pid) => {
    try {
      const isOurs = readlinkSync(`/proc/${pid}/cwd`).startsWith(`${directory}/`) ||
        readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`${MARKER}=${directory}`);
      return isOurs
        ? [`${pid}: ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 200)}`]
        : [];
    } catch {
      return []; // ended meanwhile, or somebody else's
    }
  });
}
