import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parse } from "yaml";
import { z } from "zod";
import type { ReceivedCall } from "./activity-server.ts";

/** The document that endpoint authors have, as text. */
export const DOCUMENT = readFileSync(new URL("../../../docs/activity-endpoint.yaml", import.meta.url), "utf8");

const schemaSchema = z.union([z.boolean(), z.record(z.string(), z.unknown())]);
const responseSchema = z.looseObject({
  "x-outcome": z.enum(["result", "retry", "failure"]),
  headers: z.record(z.string(), z.object({ $ref: z.string() })).default({}),
  content: z.record(z.string(), z.object({ schema: schemaSchema })).default({}),
});
const documentSchema = z.looseObject({
  paths: z.object({
    "/{activity}": z.looseObject({
      post: z.looseObject({
        parameters: z.array(z.looseObject({ name: z.string(), in: z.literal("header"), schema: schemaSchema })),
        responses: z.record(z.string(), z.union([z.strictObject({ $ref: z.string() }), responseSchema])),
      }),
    }),
  }),
  components: z.looseObject({ responses: z.record(z.string(), responseSchema) }),
});
const { paths: { "/{activity}": { post } }, components } = documentSchema.parse(parse(DOCUMENT));

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema(z.record(z.string(), z.unknown()).parse(parse(DOCUMENT)), "document");

/** What of a request is not as the document says. */
export function requestProblems({ path, headers, body }: ReceivedCall): string[] {
  return [
    ...problemsOf(
      { $ref: "document#/components/schemas/Name" },
      decodeURIComponent(path.split("/").at(-1) ?? ""),
      "path",
    ),
    ...problemsOf({ $ref: "document#/components/schemas/ActivityCall" }, body, "body"),
    ...post.parameters.flatMap(({ name, schema }) => problemsOf(schema, headers[name], name)),
  ];
}

/** Statuses and ranges of statuses that the document tells of. */
export const documentedResponses = Object.keys(post.responses);

export interface GivenAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** What the document says of an answer: under which status, what becomes of the activity, and what of it is not as it says. */
export function readAnswer({ status, headers, body }: GivenAnswer) {
  const key = [String(status), `${String(status)[0]}XX`].find((name) => name in post.responses) ?? "none";
  const found = post.responses[key] ?? { $ref: "" };
  const response = "$ref" in found ? components.responses[String(found.$ref).split("/").at(-1) ?? ""] : found;
  const type = headers["content-type"] ?? "";
  const content = response?.content[type];
  return {
    key,
    outcome: response?.["x-outcome"],
    problems: [
      ...(body !== "" && content === undefined ? [`content-type ${type}`] : []),
      ...(body === "" || content === undefined
        ? []
        : problemsOf(resolve(content.schema), type === "application/json" ? JSON.parse(body) : body, "body")),
      ...Object.entries(response?.headers ?? {}).flatMap(([name, { $ref }]) =>
        headers[name] === undefined ? [] : problemsOf({ $ref: `document${$ref}/schema` }, headers[name], name)
      ),
    ],
  };
}

/** References within the document, seen from outside of it. */
function resolve(schema: boolean | Record<string, unknown>): boolean | Record<string, unknown> {
  return typeof schema === "object" && "$ref" in schema ? { $ref: `document${String(schema["$ref"])}` } : schema;
}

function problemsOf(schema: boolean | Record<string, unknown>, value: unknown, where: string): string[] {
  const validate = ajv.compile(schema);
  if (validate(value)) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${where}${instancePath} ${message}`);
}
