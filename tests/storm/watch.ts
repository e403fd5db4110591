import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { inSession } from "./sessions.ts";
import type { StormStack } from "./stack.ts";
import { currentRevisions } from "./workers.ts";

const snapshotSchema = z.object({
  deployments: z.array(z.object({
    id: z.string(),
    service_schema: z.string(),
    revision: z.int(),
    deployment_status: z.enum(["pending", "deploying", "deployed", "failed", "stopped"]),
  })),
  /** Newest revision by service. */
  intents: z.record(z.string(), z.int()),
  /** Deployments of the attempts that go on. */
  open_attempts: z.array(z.string()),
});
/** What the tables say at one moment. */
export type Snapshot = z.infer<typeof snapshotSchema>;

const SNAPSHOT = `
select
  (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'service_schema', service_schema, 'revision', revision, 'deployment_status', deployment_status
    )), '[]')
    from osp_metadata.worker_registry
  ) as deployments,
  (select coalesce(jsonb_object_agg(service_schema, revision), '{}') from osp_metadata.service_intents) as intents,
  (
    select coalesce(jsonb_agg(deployment_id), '[]') from osp_metadata.deployment_attempts where ended_at is null
  ) as open_attempts`;

/** What may become of a deployment: a row that ended never reopens. */
const NEXT: Record<string, string[]> = {
  pending: ["deploying", "deployed", "failed", "stopped"],
  deploying: ["pending", "deployed", "failed", "stopped"],
  deployed: ["stopped"],
  failed: [],
  stopped: [],
};

/** What must not be in what the tables say, and not have become of what they said before; a line each. Pure. */
export function snapshotProblems(now: Snapshot, before: Snapshot | undefined): string[] {
  return [
    ...doubled(now.deployments.filter((row) => row.deployment_status === "deployed").map((row) => row.service_schema))
      .map((service) => `${service}: two deployed rows`),
    ...doubled(now.open_attempts).map((id) => `deployment ${id}: two attempts at the same time`),
    ...(before === undefined ? [] : changeProblems(now, before)),
  ];
}

function doubled(values: string[]): string[] {
  return [...new Set(values.filter((value, index) => values.indexOf(value) !== index))];
}

function changeProblems(now: Snapshot, before: Snapshot): string[] {
  const rows = new Map(now.deployments.map((row) => [row.id, row]));
  const numbered = new Map(now.deployments.map((row) => [`${row.service_schema}/${row.revision}`, row.id]));
  return [
    ...before.deployments.flatMap(({ id, service_schema, revision, deployment_status: from }) => {
      const what = `${service_schema} revision ${revision}`;
      const row = rows.get(id);
      if (row === undefined) {
        return numbered.has(`${service_schema}/${revision}`)
          ? [`${what}: its number was used again`]
          : [`${what}: its row is gone`];
      }
      const to = row.deployment_status;
      return from === to || NEXT[from]?.includes(to) ? [] : [`${what}: was ${from} and is ${to}`];
    }),
    ...Object.entries(before.intents).flatMap(([service, from]) => {
      const to = now.intents[service];
      return to !== undefined && to >= from
        ? []
        : [`${service}: its newest revision was ${from} and is ${to ?? "gone"}`];
    }),
  ];
}

/**
 * Beside its successor an older worker drains; it is no longer `current` then. So long both may be: a deployer that died
 * between the two is replaced, and its successor has its own trouble with the storm.
 */
const BOTH_CURRENT_SECONDS = 45;
const LOOK_MS = 200;

/** Looks at a stack from outside for as long as a storm lasts. */
export interface Watch {
  /** What was seen that must not be, a line each. */
  problems(): readonly string[];
  /** Longest time for which two revisions of a service were both kept running, in seconds. */
  longestOverlapSeconds(): number;
  /** How often the tables were seen. */
  looks(): number;
  /** During this rows may vanish, and numbers begin again. */
  forgetting(work: () => Promise<boolean>): Promise<boolean>;
  end(): Promise<void>;
}

export function startWatch(stack: StormStack): Watch {
  const problems = new Set<string>();
  const over = new AbortController();
  let before: Snapshot | undefined;
  let looking: Promise<void> = Promise.resolve();
  let isBlind = false;
  let looks = 0;
  const overlaps = new Map<string, number>(); // since when
  let longestMs = 0;

  async function look(): Promise<void> {
    const now = await readSnapshot(stack.addresses.DB_URL);
    for (const problem of snapshotProblems(now, before)) problems.add(problem);
    before = now;
    looks++;
  }

  function lookAtWorkers(): void {
    const current = currentRevisions(stack.workersDirectory);
    for (const [service, revisions] of current) {
      if (revisions.length < 2) {
        overlaps.delete(service);
        continue;
      }
      const since = overlaps.get(service) ?? Date.now();
      overlaps.set(service, since);
      longestMs = Math.max(longestMs, Date.now() - since);
      if (Date.now() - since > BOTH_CURRENT_SECONDS * 1000) {
        problems.add(
          `${service}: revisions ${revisions.join(" and ")} both run for more than ${BOTH_CURRENT_SECONDS} s`,
        );
      }
    }
    for (const service of overlaps.keys()) if (!current.has(service)) overlaps.delete(service);
  }

  const watching = (async () => {
    while (!over.signal.aborted) {
      lookAtWorkers();
      if (!isBlind) {
        looking = look().catch((error: unknown) => {
          // A restart cuts the session: the next look tells.
          if (!isOfDatabase(error)) problems.add(`The watch itself failed: ${formatError(error)}`);
        });
      }
      await looking;
      await pause(LOOK_MS, undefined, { signal: over.signal }).catch(() => {});
    }
  })();

  return {
    problems: () => [...problems],
    longestOverlapSeconds: () => longestMs / 1000,
    looks: () => looks,
    async forgetting(work) {
      isBlind = true;
      try {
        await looking;
        return await work();
      } finally {
        before = undefined;
        isBlind = false;
      }
    },
    async end() {
      over.abort();
      await watching;
    },
  };
}

async function readSnapshot(url: string): Promise<Snapshot> {
  const { rows: [row] } = await inSession(url, (client) => client.query(SNAPSHOT));
  return snapshotSchema.parse(row);
}

function isOfDatabase(error: unknown): boolean {
  return !(error instanceof z.ZodError || error instanceof TypeError);
}
