import { describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

async function append(logs: string | null, line: string | null): Promise<string> {
  const [row] = await database.rows<{ logs: string }>(`select osp_metadata.append_log($1, $2) as logs`, [logs, line]);
  return row?.logs ?? "";
}

/** The log after so many entries, each appended to the one before, as rows have it. */
async function appendMany(entries: string[]): Promise<string> {
  const [row] = await database.rows<{ logs: string }>(
    `with recursive grown (n, logs) as (
      select 0, null::text
      union all
      select n + 1, osp_metadata.append_log(logs, ($1::text[])[n + 1]) from grown where n < cardinality($1::text[])
    ) select logs from grown order by n desc limit 1`,
    [entries],
  );
  return row?.logs ?? "";
}
const bytes = (text: string) => new TextEncoder().encode(text).length;
const stamp = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;

test("an entry is a line with the instant before it", async () => {
  const logs = await append(await append(null, "first"), "second");
  expect(logs).toMatch(new RegExp(`^${stamp} first\n${stamp} second$`));
});

test("further lines of an entry are set in, and its end is no empty line", async () => {
  expect(await append(null, "two problems:\n- one\n- two\n\r\n")).toMatch(
    new RegExp(`^${stamp} two problems:\n  - one\n  - two$`),
  );
});

describe("at most 64 KiB: the oldest entries go, whole", () => {
  test.each([
    ["of one byte a character", "x", 100],
    ["of two bytes a character", "ü", 701],
    ["of three bytes a character", "世", 333],
    ["of four bytes a character", "🍜", 257],
    ["of all of them, in many lines", "xü世🍜\nxü世🍜\n\n世", 29],
  ])("%s", async (_title, text, times) => {
    const entry = (number: number) => `entry ${number} ${text.repeat(times)} end ${number}`;
    const count = Math.ceil(120_000 / bytes(entry(0)));
    const logs = await appendMany(Array.from({ length: count }, (_, number) => entry(number)));
    expect(bytes(logs)).toBeLessThanOrEqual(65_536);
    // No room was left for one more.
    expect(bytes(logs)).toBeGreaterThan(65_536 - bytes(entry(count)) * 2);
    const entries = logs.split(new RegExp(`\n(?=${stamp} )`));
    const first = count - entries.length;
    expect(first).toBeGreaterThan(0);
    entries.forEach((found, index) => {
      const [, rest = ""] = new RegExp(`^${stamp} ([^]*)$`).exec(found) ?? [];
      expect(rest).toBe(entry(first + index).replaceAll("\n", "\n  "));
    });
  });
});

test.each([
  ["after one of one byte", "", "x", 16_384],
  ["before one of two bytes", "x", "ü", 16_383],
  ["before one of three", "xx", "世", 16_382],
  ["before one of four", "x", "🍜", 16_381],
])("an entry that is too long is cut %s, and says how much is missing", async (_title, begin, character, kept) => {
  const line = begin + character.repeat(40_000);
  const [, text = "", more] = /Z ([^]*) … \((\d+) bytes more\)$/.exec(await append(null, line)) ?? [];
  expect(line.startsWith(text)).toBe(true);
  expect(bytes(text)).toBe(kept);
  expect(Number(more)).toBe(bytes(line) - kept);
});

test("the longest entry of nothing but new lines leaves room for itself", async () => {
  const logs = await append("old ".repeat(20_000), `x${"\n".repeat(16_000)}y`);
  expect(bytes(logs)).toBeLessThanOrEqual(65_536);
  expect(logs).toMatch(new RegExp(`^${stamp} x\n`));
});

test("a log from before there were entries is cut to whole lines and goes on", async () => {
  const logs = await append(Array.from({ length: 9000 }, (_, number) => `line ${number}`).join("\n"), "new");
  expect(logs).toMatch(new RegExp(`^${stamp} new$`));
});
