import { stripVTControlCharacters } from "node:util";
import type { z } from "zod";
import { formatError, storable } from "../../../supabase/functions/_shared/problems.ts";
import { refusalSchema } from "./answers.ts";
import type { RequestBudget } from "./budget.ts";
import { classifyResult, RailwayError } from "./errors.ts";
import type { CliResult, RailwayCli } from "./railway-cli.ts";
import type { Redact } from "./redact.ts";

export interface CallDeps {
  cli: RailwayCli;
  budget: RequestBudget;
  redact: Redact;
}

/** To be awaited before anything that changes Railway. @throws when the right to change it is lost */
export type Fence = () => Promise<void>;

export interface ApiCall<Answer> {
  /** For errors, as in "Cannot …". */
  doing: string;
  document: string;
  variables: Record<string, unknown>;
  answer: z.ZodType<Answer>;
  /** Of a change. */
  fence?: Fence;
  signal?: AbortSignal | undefined;
}

const LONGEST_WORDS = 2000;

/**
 * One GraphQL request by `railway api`. Values go on stdin: a command line can be read by everybody on the machine.
 *
 * @throws {RailwayError}
 */
export async function callApi<Answer>(call: ApiCall<Answer>, deps: CallDeps): Promise<Answer> {
  const { doing, document, variables, answer, fence, signal } = call;
  await deps.budget.take(1);
  await fence?.();
  const args = ["api", document, "--operation-name", operationName(document), "--variables", "@-", "--compact"];
  const result = await deps.cli.run({ args, input: JSON.stringify(variables), signal });
  if (result.exitCode !== 0) throw await refused(doing, result, deps);
  const body = jsonOf(result.stdout);
  const parsed = answer.safeParse(dataOf(body));
  if (parsed.success) return parsed.data;
  // Never with the answer itself: it may hold the service's variables.
  const said = `the answer is not what was asked for: ${formatError(parsed.error)}`;
  throw new RailwayError(doing, deps.redact(said).slice(0, LONGEST_WORDS), {
    class: "transient",
    code: "railway_answer_unreadable",
    mend: "if it stays so, Railway's API and this deployer no longer fit: update the deployer",
    isAmbiguous: true,
  });
}

function operationName(document: string): string {
  return /^\s*(?:query|mutation)\s+(\w+)/.exec(document)?.[1] ?? "";
}

/** The error of a call that did not end with exit code 0. */
export async function refused(doing: string, result: CliResult, { redact, budget }: CallDeps): Promise<RailwayError> {
  const refusal = refusalSchema.safeParse(jsonOf(result.stdout));
  const messages = refusal.success ? refusal.data.errors.map(({ message }) => message).join("; ") : undefined;
  // What the API says in its body tells more than the line that the CLI adds.
  const said = messages === undefined ? [result.stderr, result.stdout] : [messages, result.stderr];
  const verdict = classifyResult(result, ...said);
  if (verdict.retryAfterSeconds !== undefined) await budget.throttle(verdict.retryAfterSeconds);
  // Before the cut: half a secret would not be known as one.
  const words = storable(redact(messages ?? wordsOf(result))).slice(0, LONGEST_WORDS);
  const aliases = refusal.success ? refusal.data.errors.flatMap(({ path }) => path?.[0] ?? []).map(String) : [];
  return new RailwayError(doing, words, verdict, { exitCode: result.exitCode, aliases });
}

const FAILURES = {
  timeout: "the Railway CLI did not end in time and was killed",
  aborted: "the deployer ended it",
  killed: "the Railway CLI was killed",
  not_started: "the Railway CLI cannot be started",
  too_much_output: "the Railway CLI printed more than 32 MiB",
};

function wordsOf(result: CliResult): string {
  const printed = [result.stderr, result.stdout].map((text) => stripVTControlCharacters(text).trim()).filter(Boolean)
    .join("; ").replaceAll(/\s*\n\s*/g, " ");
  if (result.failure !== undefined) return [FAILURES[result.failure], printed].filter(Boolean).join(": ");
  return printed === "" ? `the Railway CLI ended with exit code ${result.exitCode} and said nothing` : printed;
}

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function dataOf(body: unknown): unknown {
  return typeof body === "object" && body !== null && "data" in body ? body.data : undefined;
}

/** Undefined: what was asked about does not exist. */
export async function orMissing<Answer>(code: string, ask: () => Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof RailwayError && error.code === code) return undefined;
    throw error;
  }
}
