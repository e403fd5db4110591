import type { z } from "zod";
import { visible } from "./visible-text.ts";

/** One thing to correct. `path` is written as in JavaScript: `workflows[1].name`; empty means the whole value. */
export interface Problem {
  path: string;
  message: string;
}

const MESSAGE_CHARACTERS = 400;

/** Every problem that zod found, each with its path and, where it is short, the value that broke the rule. */
export function problemsOf(error: z.ZodError, input: unknown): Problem[] {
  return error.issues.map((issue) => ({
    path: shorten(visible(formatPath(issue.path)), MESSAGE_CHARACTERS),
    // zod names unknown keys as they are.
    message: shorten(visible(`${quoteValue(valueAt(input, issue.path))}${issue.message}`), MESSAGE_CHARACTERS),
  }));
}

/** More would fill a log, and help nobody. */
const TOLD_PROBLEMS = 30;

/** `workflows[1].name: "1x" must match …; options: …`, for one line of a log or of a row. */
export function formatProblems(problems: readonly Problem[]): string {
  return tellProblems(problems).join("; ");
}

/** Each problem as a line, bounded: the last one says how many there are beyond. */
export function tellProblems(problems: readonly Problem[]): string[] {
  const told = problems.slice(0, TOLD_PROBLEMS).map(({ path, message }) =>
    path === "" ? message : `${path}: ${message}`
  );
  const left = problems.length - told.length;
  return left > 0 ? [...told, `and ${left} more problems`] : told;
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
  // JSON has no word for what JSON.parse makes of 1e999.
  const text = typeof value === "number" ? String(value) : jsonOf(value);
  return `${shorten(text, QUOTED_CHARACTERS)} `;
}

function shorten(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters).toWellFormed()}…`;
}

/** A text of many lines as Postgres can hold it: without NUL, half characters, or anything else that would act where it is shown. */
export function storable(text: string): string {
  return visible(text, "\n\t");
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
  return visible(messages.join(": ").replaceAll(/\s*\n\s*/g, " "));
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
