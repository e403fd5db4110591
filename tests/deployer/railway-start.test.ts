import { once } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { troubles } from "../../local/railway/faults.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { useDatabase } from "../support/database.ts";
import { createRailwayMachine, type RailwayMachine } from "../support/railway/deployers.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

const database = useDatabase();
const stub = writeStubCli(scratchDirectory(), process.env);
let fake: FakeRailway;
let machine: RailwayMachine;

beforeEach(async () => {
  fake = await startFakeRailway();
  machine = createRailwayMachine(database, stub, fake);
});
afterEach(async () => {
  await machine.clear();
  await fake.stop();
});

/** The npm package's script, without the binary that belongs beside it. */
function shimAlone(): string {
  const file = join(scratchDirectory(), "bin", "railway.js");
  mkdirSync(join(file, ".."));
  writeFileSync(file, "#!/usr/bin/env node\n");
  chmodSync(file, 0o755);
  return file;
}

const nobody = "11111111-1111-4111-8111-111111111111";

test.each<[string, () => Record<string, string>, RegExp]>([
  [
    "no CLI",
    () => ({ RAILWAY_CLI_PATH: "/nowhere/railway" }),
    /RAILWAY_CLI_PATH is \/nowhere\/railway, which is no executable/,
  ],
  ["no CLI on PATH", () => ({ RAILWAY_CLI_PATH: "", PATH: "/nowhere" }), /there is no railway on PATH: install/],
  [
    "npm's script without its binary",
    () => ({ RAILWAY_CLI_PATH: shimAlone() }),
    /the binary that belongs beside it, .* is missing/,
  ],
  [
    "a CLI that is too old",
    () => ({ RAILWAY_CLI_PATH: writeStubCli(scratchDirectory(), process.env, "5.41.1") }),
    /the Railway CLI is 5\.41\.1, and 5\.41\.2 is the oldest that works/,
  ],
  ["no token", () => ({ RAILWAY_API_TOKEN: "" }), /RAILWAY_API_TOKEN: is not set: a token of the Railway workspace/],
  [
    "only a project token, where it belongs",
    () => ({ RAILWAY_API_TOKEN: "", RAILWAY_TOKEN: fake.tokens.project }),
    /RAILWAY_TOKEN: is not used: a project token cannot make services/,
  ],
  [
    "a project token",
    () => ({ RAILWAY_API_TOKEN: fake.tokens.project }),
    /RAILWAY_API_TOKEN is a project token \(of project/,
  ],
  ["a token that Railway does not know", () => ({ RAILWAY_API_TOKEN: "nobody" }), /Railway refuses RAILWAY_API_TOKEN/],
  ["a line break in the token", () => ({ RAILWAY_API_TOKEN: "one\ntwo" }), /RAILWAY_API_TOKEN: must be one word/],
  ["no project", () => ({ OSP_RAILWAY_PROJECT: "" }), /OSP_RAILWAY_PROJECT: is not set/],
  ["an unknown project", () => ({ OSP_RAILWAY_PROJECT: nobody }), new RegExp(`there is no Railway project ${nobody}`)],
  [
    "the project's name",
    () => ({ OSP_RAILWAY_PROJECT: "osp-workers" }),
    /OSP_RAILWAY_PROJECT: must be the id of the project/,
  ],
  [
    "an unknown environment",
    () => ({ OSP_RAILWAY_ENVIRONMENT: nobody }),
    new RegExp(`has no environment ${nobody}; OSP_RAILWAY_ENVIRONMENT is an id: production is`),
  ],
  [
    "variables that are no JSON",
    () => ({ OSP_RAILWAY_VARIABLES: "SECRET=hidden" }),
    /OSP_RAILWAY_VARIABLES: must be a JSON object of names and texts/,
  ],
  [
    "a variable that is ours",
    () => ({ OSP_RAILWAY_VARIABLES: '{"PORT":"1"}' }),
    /must not hold PORT: the deployer sets them/,
  ],
  [
    "a certificate by its path",
    () => ({ TEMPORAL_TLS_CLIENT_CERT_PATH: "/etc/cert.pem" }),
    /TEMPORAL_TLS_CLIENT_CERT_PATH: names a file of this machine, .* by TEMPORAL_TLS_CLIENT_CERT_DATA/,
  ],
])("%s: it does not start, and says what to do", async (_, environment, said) => {
  const given = environment();
  const { process: child, output } = machine.start(given);
  const [exitCode] = await once(child, "exit");
  expect({ exitCode, output: output() }).toEqual({ exitCode: 78, output: expect.stringMatching(said) });
  for (const secret of [fake.tokens.workspace, fake.tokens.project, "hidden", "one\ntwo"]) {
    expect(output()).not.toContain(secret);
  }
});

test("a project with several environments that last, unless it is allowed", async () => {
  fake.operator.addEnvironment("staging");
  fake.operator.addEnvironment("pr-7", fake.production);
  const refused = machine.start();
  const [exitCode] = await once(refused.process, "exit");
  expect(exitCode).toBe(78);
  expect(refused.output()).toMatch(
    /has the environments production, staging: a service that is made.*OSP_RAILWAY_ALLOW_ENVIRONMENTS=true/,
  );
  await machine.start({ OSP_RAILWAY_ALLOW_ENVIRONMENTS: "true" }).event("railway.ready");
});

test("forks alone are no reason to refuse", async () => {
  fake.operator.addEnvironment("pr-7", fake.production);
  await machine.start().event("railway.ready");
});

test("while Railway cannot be reached it waits, and says why once", async () => {
  fake.faults.add({ on: "LookAround", ...troubles.cutBefore(), times: 2 });
  const deployer = machine.start();
  await deployer.event("railway.ready");
  expect(deployer.output().match(/"event":"railway\.failing"/g)).toHaveLength(1);
  expect(deployer.output()).toMatch(/Cannot look at Railway project .*check the network and the proxy/);
});

test("a proxy that is not there is waited for, without its password", async () => {
  const deployer = machine.start({ HTTPS_PROXY: "http://someone:proxy-password@127.0.0.1:9" });
  await deployer.event("railway.failing");
  expect(deployer.output()).not.toContain("proxy-password");
});
