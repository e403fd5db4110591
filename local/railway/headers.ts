import type { IncomingHttpHeaders } from "node:http";
import type { Token, World } from "./world.ts";

/** What is wrong with how a request presents itself, a sentence each. The CLI writes the same headers every time. */
export function headerProblems(headers: IncomingHttpHeaders, contentType: string): string[] {
  const problems: string[] = [];
  const expect = (name: string, wanted: RegExp) => {
    const value = String(headers[name] ?? "");
    if (!wanted.test(value)) problems.push(`header ${name} is ${JSON.stringify(value)}`);
  };
  expect("content-type", new RegExp(`^${contentType}$`));
  expect("user-agent", /^CLI \d+\.\d+\.\d+$/);
  expect("x-source", /^CLI \d+\.\d+\.\d+$/);
  expect("x-railway-opencode-protocols", /^v1,v2$/);
  if (headers["x-railway-caller"] !== undefined) problems.push("header x-railway-caller reports an AI agent");
  const isProject = headers["project-access-token"] !== undefined;
  const isBearer = headers.authorization !== undefined;
  if (isProject === isBearer) problems.push(isProject ? "two tokens at once" : "no token");
  return problems;
}

/** The message of a request whose token is not known, or sits in the other kind's header. */
export type Refusal = "Not Authorized" | "Project Token not found";

export function authenticate(headers: IncomingHttpHeaders, world: World): Token | Refusal {
  const project = headers["project-access-token"];
  if (project !== undefined) {
    const token = world.tokens.get(String(project));
    return token?.kind === "project" ? token : "Project Token not found";
  }
  const token = world.tokens.get(/^Bearer (.*)$/.exec(headers.authorization ?? "")?.[1] ?? "");
  return token === undefined || token.kind === "project" ? "Not Authorized" : token;
}
