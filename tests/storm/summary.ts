import type { Kind } from "./commands.ts";
import type { StormReport } from "./storm.ts";

type Group = "statements" | "workflows" | "kills" | "restarts" | "pauses" | "rings" | "losses";

/** What a person asks about first: how much was said, and how much befell it. What is not here is a statement. */
const OTHERS: ReadonlyMap<string, Group> = new Map(Object.entries(
  {
    start_workflow: "workflows",
    kill: "kills",
    kill_worker: "kills",
    erase_worker: "kills",
    lose_temporal: "kills",
    restart_postgres: "restarts",
    pause_deployer: "pauses",
    doorbell_dropped: "rings",
    doorbell_twice: "rings",
    doorbell_late: "rings",
    doorbell_forged: "rings",
    empty_registry: "losses",
    forget_everything: "losses",
  } satisfies Partial<Record<Kind, Group>>,
));

/** What all of these storms did, in a few lines. */
export function summaryOf(storms: StormReport[]): string[] {
  const all = storms.flatMap(({ commands }) => Object.entries(commands));
  const of = (group: Group) => count(all.filter(([kind]) => (OTHERS.get(kind) ?? "statements") === group));
  const sum = (name: Exclude<keyof StormReport, "seed" | "commands">) =>
    storms.reduce((total, storm) => total + storm[name], 0);
  const most = (name: "rest_s" | "longest_overlap_s") => Math.max(...storms.map((storm) => storm[name]));
  return [
    `${of("statements")} statements, ${of("kills")} SIGKILLs, ${of("restarts")} restarts of Postgres, ` +
    `${of("pauses")} pauses of a deployer, ${of("rings")} faults of the doorbell, ${
      of("losses")
    } losses of the registry ` +
    `(${sum("idle")} more met nothing)`,
    `${sum("revisions")} revisions, ${sum("deployments")} deployments (${sum("replicated")} served by several ` +
    `workers, ${sum("failed")} failed as they must), ` +
    `${sum("attempts")} attempts (${sum("abandoned")} abandoned), ${sum("workflows")} workflows, ` +
    `${sum("activities")} activities`,
    `looked ${sum("looks")} times on the way; at rest after ${most("rest_s")} s at most, ` +
    `two revisions both kept running for ${most("longest_overlap_s")} s at most`,
    [...Map.groupBy(all, ([kind]) => kind)].map(([kind, times]) => `${kind} ${count(times)}`).sort().join(", "),
  ];
}

function count(times: [string, number][]): number {
  return times.reduce((total, [, one]) => total + one, 0);
}
