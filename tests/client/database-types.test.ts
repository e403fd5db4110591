import { expect, test } from "vitest";
import { generateTypes } from "../../scripts/generate-types.ts";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

test("client/database.types.ts is what the migrations make (npm run types writes it anew)", async () => {
  await expect(await generateTypes(database.url)).toMatchFileSnapshot("../../client/database.types.ts");
});
