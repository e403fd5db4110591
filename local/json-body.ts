const MOST_DEEP = 512;

/**
 * What is wrong with the body of a request to the Data API, in PostgREST's words; undefined for one that can be passed on.
 * `@supabase/lite` reads it with JavaScript, which takes what Postgres refuses (half a character, broken UTF-8) and ends with
 * its stack at great depth.
 *
 * @param type content type; without one PostgREST reads JSON
 */
export function refuseBody(body: Uint8Array, type: string | null): Response | undefined {
  const text = decode(body);
  if (text === undefined) return refusal("22021", 'invalid byte sequence for encoding "UTF8"');
  if (type && !type.includes("json")) return undefined;
  if (isTooDeep(text)) return refusal("PGRST102", `JSON is nested more than ${MOST_DEEP} deep`);
  const value = parse(text);
  if (typeof value !== "object" || value === null) return refusal("PGRST102", "Empty or invalid json");
  if (holdsHalfCharacter(text, value)) {
    return refusal(
      "22P02",
      "invalid input syntax for type json",
      "Unicode low surrogate must follow a high surrogate.",
    );
  }
  return undefined;
}

function refusal(code: string, message: string, details: string | null = null): Response {
  return Response.json({ code, message, details, hint: null }, { status: 400 });
}

function decode(body: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    return undefined;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Without a stack of our own, and in one pass: counts what is open, outside of strings. */
function isTooDeep(text: string): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (letter === '"') isInString = !isInString;
    else if (isInString) at += letter === "\\" ? 1 : 0; // an escape: what follows ends nothing
    else if (letter === "[" || letter === "{") depth++;
    else if (letter === "]" || letter === "}") depth--;
    if (depth > MOST_DEEP) return true;
  }
  return false;
}

/** JSON.stringify writes an escape for half a character, and for nothing else of that range. */
function holdsHalfCharacter(text: string, value: unknown): boolean {
  return /\\ud[89a-f]/i.test(text) && /(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(JSON.stringify(value));
}
