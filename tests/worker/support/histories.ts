import proto from "@temporalio/proto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const { History } = proto.temporal.api.history.v1;
export type History = proto.temporal.api.history.v1.IHistory;

const DIRECTORY = fileURLToPath(new URL("../histories/", import.meta.url));

/** Each generation: histories that one form of the built-in workflow wrote, and that workflows out there still have. */
export function generations(): string[] {
  return readdirSync(DIRECTORY).sort();
}

/** The histories of a generation by the name of their scenario. */
export function historiesOf(generation: string): [string, History][] {
  return readdirSync(join(DIRECTORY, generation)).sort().map((file) => [
    file.replace(/\.json$/, ""),
    History.fromObject(JSON.parse(readFileSync(join(DIRECTORY, generation, file), "utf8"))),
  ]);
}

/** Written once: what workflows out there have cannot be changed any more. */
export function writeHistory(generation: string, name: string, history: History): void {
  const file = join(DIRECTORY, generation, `${name}.json`);
  if (existsSync(file)) throw new Error(`${file} is there already: record a generation of a new name`);
  mkdirSync(join(DIRECTORY, generation), { recursive: true });
  const plain = History.toObject(History.fromObject(history), { longs: String, enums: String, bytes: String });
  writeFileSync(file, `${JSON.stringify(plain, withoutMachine, 2)}\n`);
}

/** Said where today's workflow does something else than the newest generation. */
export const RECORD =
  "the built-in workflow does something else than the newest of tests/worker/histories: if that is meant, " +
  "keep all of them and record what it does now, node_modules/.bin/node tests/worker/record-histories.ts 03-what-is-new";

/** What a run asked Temporal for, in order; where its endpoint was is left out. */
export function commandsOf({ events }: History): unknown[] {
  return (events ?? []).flatMap((event): unknown[] => {
    const { activityTaskScheduledEventAttributes: activity, markerRecordedEventAttributes: marker } = event;
    if (marker) {
      return [{ marker: marker.markerName, result: (marker.details?.["result"]?.payloads ?? []).map(readPayload) }];
    }
    if (activity) {
      const { activityType, startToCloseTimeout, heartbeatTimeout, retryPolicy, input } = activity;
      const [, ...further] = (input?.payloads ?? []).map(readPayload);
      const timeouts = [startToCloseTimeout, heartbeatTimeout].map((timeout) => Number(timeout?.seconds ?? 0));
      return [{ activity: activityType?.name, timeouts, retryPolicy: JSON.stringify(retryPolicy), further }];
    }
    const ended = Object.keys(event).find((key) => /^workflowExecution(Completed|Failed|Canceled)/.test(key));
    return ended === undefined ? [] : [ended];
  });
}

function readPayload({ data }: { data?: Uint8Array | null }): unknown {
  return JSON.parse(Buffer.from(data ?? []).toString().replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, "http://endpoint"));
}

/** What tells of the machine that recorded it, and no replay looks at. */
function withoutMachine(key: string, value: unknown): unknown {
  if (key === "stackTrace") return undefined;
  return typeof value === "string" ? value.replaceAll(`@${hostname()}`, "@host") : value;
}
