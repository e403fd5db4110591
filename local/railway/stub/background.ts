import { request } from "node:http";
import { authorization, type Environment } from "./credentials.ts";
import { createClient } from "./http.ts";
import type { Invocation } from "./invocation.ts";

/** What the CLI does beside its work unless its environment says no: telemetry, and a look for a newer version. */
export async function workInBackground({ version, environment }: Invocation): Promise<void> {
  if (!isOn(environment["RAILWAY_NO_TELEMETRY"]) && !isOn(environment["DO_NOT_TRACK"])) {
    const query = "mutation CliEventTrack($input: CliEventTrackInput!) { cliEventTrack(input: $input) }";
    const body = JSON.stringify({ query, variables: { input: {} }, operationName: "CliEventTrack" });
    const headers = { ...authorization(environment), "content-type": "application/json" };
    await createClient(version, environment).post("/graphql/v2", headers, body).catch(() => {});
  }
  if (!isOn(environment["RAILWAY_NO_AUTO_UPDATE"]) && !isCi(environment)) await lookForUpdate(environment);
}

function isOn(value: string | undefined): boolean {
  return value === "1" || value?.toLowerCase() === "true";
}

export function isCi({ CI }: Environment): boolean {
  return !["", "false", "0"].includes((CI ?? "").trim().toLowerCase());
}

function lookForUpdate({ HTTPS_PROXY }: Environment): Promise<void> {
  return new Promise((resolve) => {
    const asked = request(HTTPS_PROXY ?? "", { method: "CONNECT", path: "api.github.com:443" });
    asked.on("connect", (_, socket) => socket.destroy()).on("close", resolve).on("error", () => resolve());
    asked.end();
  });
}
