import { afterAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";

// What a deployer says when its own settings are the trouble: the setting, and never what is in it.
const PASSWORD = "s3cr3t-of-the-url";
const database = useDatabase();
const machine = createMachine(database, () => "127.0.0.1:9");
afterAll(() => machine.clear());
const server = () => new URL(database.url).host;

test.each<[string, () => Record<string, string>, RegExp]>([
  [
    "a port that is none",
    () => ({ DATABASE_URL: `postgresql://u:${PASSWORD}@host:port/db` }),
    /DATABASE_URL: is no URL/,
  ],
  ["an open bracket", () => ({ DATABASE_URL: `postgresql://u:${PASSWORD}@[::1/db` }), /DATABASE_URL: is no URL/],
  [
    "another protocol",
    () => ({ DATABASE_URL: `mysql://u:${PASSWORD}@host/db` }),
    /DATABASE_URL: must begin with postgresql/,
  ],
  [
    "a slash in the password",
    () => ({ DATABASE_URL: `postgresql://u:${PASSWORD}/@host:5432/db` }),
    /DATABASE_URL: is no URL/,
  ],
  [
    "a password in FUNCTIONS_URL",
    () => ({ FUNCTIONS_URL: `http://u:${PASSWORD}@127.0.0.1:9/functions/v1`, OSP_WEBHOOK_SECRET: PASSWORD }),
    /FUNCTIONS_URL: must be a URL without user and password/,
  ],
  [
    "a FUNCTIONS_URL that is code",
    () => ({ FUNCTIONS_URL: `javascript:${PASSWORD}`, OSP_WEBHOOK_SECRET: PASSWORD }),
    /FUNCTIONS_URL: must be an http or https URL/,
  ],
  [
    "a secret that is too short",
    () => ({ FUNCTIONS_URL: "http://127.0.0.1:9", OSP_WEBHOOK_SECRET: "s3cr3t" }),
    /OSP_WEBHOOK_SECRET/,
  ],
  [
    "Railway's token in two words",
    () => ({ OSP_PLATFORM: "railway", RAILWAY_API_TOKEN: `${PASSWORD} x` }),
    /RAILWAY_API_TOKEN: must be one word/,
  ],
  [
    "variables that are no JSON",
    () => ({ OSP_PLATFORM: "railway", OSP_RAILWAY_VARIABLES: `{"A": "${PASSWORD}` }),
    /OSP_RAILWAY_VARIABLES: must be a JSON object/,
  ],
])("%s ends it with 78 and the setting's name", async (_, environment, told) => {
  const deployer = machine.start(environment());
  const [code] = await new Promise<[number | null]>((resolve) =>
    deployer.process.on("close", (ended) => resolve([ended]))
  );
  expect(code).toBe(78);
  expect(deployer.output()).toMatch(told);
  expect(deployer.output()).not.toContain("s3cr3t");
});

test.each<[string, () => string]>([
  [
    "refuses the password",
    () => `postgresql://osp_test_deployer:${PASSWORD}@${server()}/${new URL(database.url).pathname.slice(1)}`,
  ],
  ["does not know the user", () => `postgresql://nobody_of_ours:${PASSWORD}@${server()}/postgres`],
  ["is not there", () => `postgresql://u:${PASSWORD}@127.0.0.1:9/db`],
  ["has no such database", () => `${database.deployerUrl}_of_nobody?application_name=${PASSWORD}`],
  ["has no TLS", () => `postgresql://u:${PASSWORD}@${server()}/db?sslmode=verify-full`],
  ["has a certificate that is not there", () => `postgresql://u:${PASSWORD}@${server()}/db?sslrootcert=/nowhere`],
])("a database that %s is waited for, and the log tells why without the URL", async (_, url) => {
  const deployer = machine.start({ DATABASE_URL: url() });
  await deployer.event("registry.failing");
  await deployer.stop();
  expect(deployer.output()).not.toContain(PASSWORD);
  expect(deployer.output()).not.toContain("osp_test@");
});
