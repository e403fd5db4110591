import { text } from "node:stream/consumers";
import { type Options, type ParsedArguments, readArguments } from "./arguments.ts";
import { authorization } from "./credentials.ts";
import { Failure, NotInStubError } from "./failure.ts";
import { createClient, NetworkError, type Response } from "./http.ts";
import type { Invocation } from "./invocation.ts";

const options: Options = {
  "variables": { type: "string", value: "JSON|@PATH" },
  "var": { type: "string", value: "KEY=VALUE", multiple: true },
  "raw-var": { type: "string", value: "KEY=VALUE", multiple: true },
  "operation-name": { type: "string", value: "NAME" },
  "compact": { type: "boolean" },
  "allow-errors": { type: "boolean" },
};

/** `railway api QUERY`: one request; the answer is printed even when it is a refusal. */
export async function runApi(args: string[], invocation: Invocation): Promise<number> {
  if (["schema", "search", "describe"].includes(args[0] ?? "")) throw new NotInStubError(`api ${args[0]}`);
  const given = readArguments(args, options);
  if (given.positional === undefined) throw new NotInStubError("api without a query argument");
  const variables = await readVariables(given, invocation);
  const headers = authorization(invocation.environment);
  if (headers === undefined) throw new Failure("Unauthorized. Please login with `railway login`");
  const operationName = given.text("operation-name");
  const body = { query: given.positional, variables, ...(operationName !== undefined && { operationName }) };
  const client = createClient(invocation.version, invocation.environment);
  const sent = { ...headers, "content-type": "application/json" };
  print(await post(), given.flag("compact"), given.flag("allow-errors"), invocation);
  return 0;

  async function post(): Promise<Response> {
    try {
      return await client.post("/graphql/v2", sent, JSON.stringify(body));
    } catch (error) {
      if (error instanceof NetworkError) throw new Failure(error.message, { causes: error.causes });
      throw error;
    }
  }
}

async function readVariables(given: ParsedArguments, { stdin }: Invocation): Promise<Record<string, unknown>> {
  const raw = given.text("variables");
  if (raw?.startsWith("@") && raw !== "@-") throw new NotInStubError("variables from a file");
  const variables = raw === undefined ? {} : parseVariables(raw === "@-" ? await text(stdin) : raw);
  for (const item of given.texts("var")) {
    const [key, value] = splitItem(item);
    variables[key] = jsonOrText(value);
  }
  for (const item of given.texts("raw-var")) {
    const [key, value] = splitItem(item);
    variables[key] = value;
  }
  return variables;
}

function parseVariables(json: string): Record<string, unknown> {
  let read: unknown;
  try {
    read = JSON.parse(json);
  } catch (error) {
    throw new Failure("Failed to parse GraphQL variables as JSON", { causes: [String(error)] });
  }
  if (typeof read !== "object" || read === null || Array.isArray(read)) {
    throw new Failure("GraphQL variables must be a JSON object");
  }
  return { ...read };
}

function splitItem(item: string): [string, string] {
  const at = item.indexOf("=");
  if (at < 0) throw new Failure(`Expected KEY=VALUE, got ${JSON.stringify(item)}`);
  const key = item.slice(0, at).trim();
  if (key === "") throw new Failure("Variable key cannot be empty");
  return [key, item.slice(at + 1)];
}

function jsonOrText(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function print(
  { status, statusText, body }: Response,
  isCompact: boolean,
  allowsErrors: boolean,
  to: Invocation,
): void {
  const answer = parsed(body);
  if (answer === undefined) to.stdout(body);
  else to.stdout(`${JSON.stringify(sorted(answer), null, isCompact ? 0 : 2)}\n`);
  if (status < 200 || status > 299) throw new Failure(`Railway API request failed with HTTP ${statusText}`);
  const errors = answer !== null && typeof answer === "object" && "errors" in answer ? answer.errors : [];
  const count = Array.isArray(errors) ? errors.length : 0;
  if (count > 0 && !allowsErrors) throw new Failure(`Railway API returned ${count} GraphQL error(s)`);
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** The CLI prints the keys of an answer in alphabetical order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([one], [other]) => one < other ? -1 : 1);
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]));
}
