import type { z } from "zod";

/** One thing to correct. `path` is written as in JavaScript: `workflows[1].name`; empty means the whole value. */
export interface Problem {
  path: string;
  message: string;
}

/** Every problem that zod found, each with its path and, where it is short, the value that broke the rule. */
export function problemsOf(error: z.ZodError, input: unknown): Problem[] {
  return error.issues.map((issue) => ({
    path: formatPath(issue.path),
    message: `${quoteValue(valueAt(input, issue.path))}${issue.message}`,
  }));
}

/** `workflows[1].name: "1x" must match …; options: …`, for one line of a log or of a row. */
export function formatProblems(problems: readonly Problem[]): string {
  return problems.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`)).join("; ");
}

function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? String(key) : `${text}.${String(key)}`;
  }, "");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = Reflect.get(value, key);
  }
  return value;
}

const QUOTED_CHARACTERS = 80;

function quoteValue(value: unknown): string {
  if (value === undefined || (typeof value === "object" && value !== null)) return "";
  const text = jsonOf(value);
  return text.length <= QUOTED_CHARACTERS ? `${text} ` : `${storable(text.slice(0, QUOTED_CHARACTERS))}… `;
}

/** A text as Postgres can hold it: without NUL, and without the half of a character that a cut leaves. */
export function storable(text: string): string {
  return text.replaceAll("\0", "").toWellFormed();
}

const TOLD_CAUSES = 4;

/** An error's message with those of its causes, on one line. What zod found is told by whoever threw for it. */
export function formatError(error: unknown): string {
  const messages: string[] = [];
  for (const cause of chainOf(error)) {
    if (cause instanceof Error && cause.name === "ZodError" && messages.length > 0) break;
    const message = textOf(cause instanceof Error ? cause.message || cause.name : cause);
    if (!messages.some((earlier) => earlier.includes(message))) messages.push(message);
    if (messages.length === TOLD_CAUSES) break;
  }
  return storable(messages.join(": ").replaceAll(/\s*\n\s*/g, " "));
}

/** What was thrown and its causes, outermost first. Causes can form a circle: each is told once. */
function chainOf(error: unknown): Set<unknown> {
  const chain = new Set<unknown>();
  let cause = error;
  do {
    chain.add(cause);
    cause = Object(cause).cause;
  } while (cause !== undefined && !chain.has(cause));
  return chain;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : jsonOf(value);
}

/** A value as JSON; of what JSON cannot hold (a circle, a bigint, a function) its type. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    return typeof value;
  }
}

/** For `z.strictObject`: a message for what is no object at all; an unknown key keeps zod's own, which names it. */
export function notAnObject(message: string) {
  return { error: (issue: { code?: string | undefined }) => issue.code === "unrecognized_keys" ? undefined : message };
}
