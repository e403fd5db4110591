import { Failure } from "./failure.ts";

export type Environment = Record<string, string | undefined>;

/**
 * The header that carries the token. RAILWAY_TOKEN wins, and a variable that is set to nothing is set.
 *
 * @throws {Failure} for a token that is no header; undefined without any token
 */
export function authorization(environment: Environment): Record<string, string> | undefined {
  const { RAILWAY_TOKEN: project, RAILWAY_API_TOKEN: api } = environment;
  const token = project ?? api;
  if (token === undefined) return undefined;
  if (/[^\t\x20-\x7e\x80-\uffff]/.test(token)) {
    throw new Failure("Login state is corrupt. Please logout and login back in.", {
      code: "INVALID_AUTH_STATE",
      causes: ["failed to parse header value"],
    });
  }
  return project === undefined ? { authorization: `Bearer ${token}` } : { "project-access-token": token };
}

/** What the CLI makes of a refusal by the API. */
export function refusedToken(message: string, { RAILWAY_TOKEN }: Environment): Failure | undefined {
  const rest = "Please check that it is valid and has access to the resource you're trying to use.";
  if (/project token not found/i.test(message)) {
    return new Failure(`Invalid RAILWAY_TOKEN. ${rest}`, { code: "INVALID_TOKEN" });
  }
  if (!/not authorized/i.test(message)) return undefined;
  const name = RAILWAY_TOKEN === undefined ? "RAILWAY_API_TOKEN" : "RAILWAY_TOKEN";
  return new Failure(`Unauthorized. ${rest.replace("that it is", `that your ${name} is`)}`, { code: "UNAUTHORIZED" });
}
