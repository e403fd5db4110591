import { readFileSync } from "node:fs";
import { buildSchema, type GraphQLSchema, isEnumType, isInputObjectType, isObjectType } from "graphql";
import { expect, inject, test } from "vitest";
import { readCliSchema } from "../../local/railway/graphql.ts";

const path = inject("railwaySchema");

test.skipIf(path === null)("what the stand-in answers is a part of Railway's own schema", () => {
  const own = buildSchema(readFileSync(new URL("../../local/railway/api.graphql", import.meta.url), "utf8"));
  const real = linesOf(readCliSchema(path ?? ""));
  const ours = linesOf(own);
  expect(ours.size).toBeGreaterThan(150);
  expect([...ours].filter((line) => !real.has(line))).toEqual([]);
});

/** Every field with its arguments, every input field and enum value, a line each. */
function linesOf(schema: GraphQLSchema): Set<string> {
  const lines = Object.values(schema.getTypeMap()).filter(({ name }) => !name.startsWith("__")).flatMap((type) => {
    if (isEnumType(type)) return type.getValues().map(({ name }) => `${type.name} ${name}`);
    if (isInputObjectType(type)) {
      return Object.values(type.getFields()).map((field) =>
        `${type.name} ${field.name}: ${String(field.type)} = ${String(field.defaultValue)}`
      );
    }
    if (!isObjectType(type)) return [type.name];
    return Object.values(type.getFields()).flatMap((field) => [
      `${type.name} ${field.name}: ${String(field.type)}`,
      ...field.args.map((each) => `${type.name} ${field.name}(${each.name}: ${String(each.type)})`),
    ]);
  });
  return new Set(lines);
}
