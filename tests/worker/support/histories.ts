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

/** What tells of the machine that recorded it, and no replay looks at. */
function withoutMachine(key: string, value: unknown): unknown {
  if (key === "stackTrace") return undefined;
  return typeof value === "string" ? value.replaceAll(`@${hostname()}`, "@host") : value;
}
