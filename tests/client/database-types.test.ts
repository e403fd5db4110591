import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { generateTypes } from "../../scripts/generate-types.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

test("client/database.types.ts is what the migrations make (else: node scripts/generate-types.ts <postgres url>)", async () => {
  expect(readFileSync("client/database.types.ts", "utf8")).toBe(await generateTypes(database.url));
});
