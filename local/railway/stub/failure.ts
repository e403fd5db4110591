/** A command that ends with exit code 1, in the CLI's words. */
export class Failure extends Error {
  override readonly name = "Failure";
  /** As `up --json` names it. */
  readonly code: string;
  readonly hint: string | null;
  /** What lies beneath, outermost first. */
  readonly causes: string[];

  constructor(
    message: string,
    { code = "ERROR", hint = null, causes = [] }: { code?: string; hint?: string | null; causes?: string[] } = {},
  ) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.causes = causes;
  }
}

/** A command line that the CLI does not understand: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What the real CLI may well do and the stub does not: a test that needs it needs the real one. */
export class NotInStubError extends Error {
  override readonly name = "NotInStubError";
  constructor(what: string) {
    super(`The stub of the Railway CLI does not know ${what}: add it, or use the real CLI (npm run test:railway)`);
  }
}

/** For stderr: the message, then what lies beneath it. */
export function printedFailure({ message, causes, hint }: Failure): string {
  const numbered = causes.map((cause, index) => `    ${causes.length > 1 ? `${index}: ` : ""}${cause}\n`);
  const beneath = numbered.length === 0 ? "" : `\nCaused by:\n${numbered.join("")}`;
  return `${message}\n${beneath}${hint === null ? "" : `  → ${hint}\n`}`;
}

/** For stdout, of `up --json`: keys in the CLI's order. */
export function failureJson({ message, causes, code, hint }: Failure): string {
  return JSON.stringify({ code, error: [message, ...causes].join(": "), hint });
}
