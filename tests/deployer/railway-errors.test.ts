import { expect, test } from "vitest";
import { classify, classifyResult } from "../../deployer/platforms/railway/errors.ts";
import type { CliResult } from "../../deployer/platforms/railway/railway-cli.ts";

const throttled = (seconds: number) => ({ class: "throttled", code: "railway_throttled", retryAfterSeconds: seconds });
const unreachable = { class: "unavailable", code: "railway_unreachable", isAmbiguous: true };
const unauthorized = { class: "unavailable", code: "railway_unauthorized" };
/** Met by everything alike: it uses up nobody's attempts. */
const siteFault = (code: string) => ({ class: "unavailable", code });
const permanent = (code: string) => ({ class: "permanent", code });
const transient = (code: string) => ({ class: "transient", code, isAmbiguous: true });

test.each([
  ["You are being ratelimited. Try again in 3 seconds", throttled(3)],
  ["You are being ratelimited. Try again in about 4 minutes", throttled(240)],
  ["You are being ratelimited", throttled(60)],
  ["Railway API request failed with HTTP 429 Too Many Requests", throttled(60)],
  ["Failed to upload code with status code 429 Too Many Requests", throttled(60)],
  ["You are creating services too quickly. Your plan allows 1 service per 30 seconds", throttled(35)],
  ["You do that too quickly", throttled(35)],
  ["Failed to upload code with status code 504 Gateway Timeout", transient("upload_failed")],
  ["Failed to upload code with status code 408 Request Timeout", transient("upload_failed")],
  ["Failed to upload code. File too large (104857600 bytes): Payload too large", permanent("upload_too_large")],
  ["Failed to upload code with status code 413 Payload Too Large", permanent("upload_too_large")],
  ["Failed to upload code with status code 404 Not Found", permanent("upload_refused")],
  [
    "error sending request for url (https://backboard.railway.com/): client error (Connect): invalid peer certificate: UnknownIssuer",
    siteFault("railway_certificate"),
  ],
  ["Failed to fetch: error sending request for url (https://backboard.railway.com/graphql/v2)", unreachable],
  ["error sending request for url (https://…/up): operation timed out", unreachable],
  ["dns error: failed to lookup address information", unreachable],
  ["tcp connect error: Connection refused (os error 111)", unreachable],
  ["connection error: peer closed connection without sending TLS close_notify", unreachable],
  ["tunnel error: unsuccessful", unreachable],
  ["unexpected end of file", unreachable],
  ["Failed to fetch: error decoding response body", transient("railway_answer_unreadable")],
  ["error decoding response body: missing field `deploymentId`", transient("railway_answer_unreadable")],
  ["Railway API request failed with HTTP 502 Bad Gateway", {
    ...{ class: "unavailable", code: "railway_unavailable", isAmbiguous: true },
  }],
  ["Railway API request failed with HTTP 400 Bad Request", siteFault("railway_api_mismatch")],
  ['Cannot query field "frobnicate" on type "Query"', siteFault("railway_api_mismatch")],
  ["Failed to get data from GraphQL response", transient("railway_server_error")],
  ["Internal server error", transient("railway_server_error")],
  ["Problem processing request", transient("railway_server_error")],
  ["Unauthorized. Please check that your RAILWAY_API_TOKEN is valid and has access", unauthorized],
  ["Not Authorized", unauthorized],
  ["Invalid RAILWAY_TOKEN. Please check that it is valid", unauthorized],
  ["Not signed in.", unauthorized],
  ["You do not have access to this resource", unauthorized],
  ["Login state is corrupt. Please logout and login again", unauthorized],
  ["Your token is no longer valid", unauthorized],
  ["Railway API request failed with HTTP 401 Unauthorized", unauthorized],
  ["Failed to upload code with status code 401 Unauthorized", unauthorized],
  ["Two-factor authentication is required", siteFault("railway_two_factor")],
  ['Environment "production" is restricted', siteFault("railway_environment_restricted")],
  ["No linked project found. Run railway link", siteFault("railway_project_missing")],
  ["Project not found. Run `railway link` to connect to a project.", siteFault("railway_project_missing")],
  ["Project is deleted", siteFault("railway_project_missing")],
  ["Environment is deleted", siteFault("railway_project_missing")],
  ['Environment "x" not found', siteFault("railway_project_missing")],
  ["--environment is required when using --project", siteFault("railway_project_missing")],
  ["RAILWAY_ENVIRONMENT_ID cannot be set without RAILWAY_PROJECT_ID", siteFault("railway_project_missing")],
  ["Service not found", { class: "transient", code: "railway_service_missing" }],
  ["Service 'x' not found", { class: "transient", code: "railway_service_missing" }],
  ["Service \"x\" not found in environment 'production'", { class: "transient", code: "railway_service_missing" }],
  ["ServiceInstance not found", { class: "transient", code: "railway_service_missing" }],
  ["No deployments found", permanent("railway_deployment_missing")],
  ["No deployment found for service", permanent("railway_deployment_missing")],
  ["Deployment not found", permanent("railway_deployment_missing")],
  ["Deployment x cannot be redeployed. It is building", { class: "transient", code: "railway_busy" }],
  ["A service named x already exists in this project", permanent("railway_name_taken")],
  ["name must be unique", permanent("railway_name_taken")],
  ["Multiple services found. Please specify a service", permanent("railway_call_refused")],
  ["Cannot prompt for confirmation in non-interactive mode", permanent("railway_call_refused")],
  ["The input device is not a TTY", permanent("railway_call_refused")],
  ["Invalid variable format", permanent("railway_call_refused")],
  ["prefix not found", permanent("upload_unreadable")],
  ["IO error for operation on /tmp/x: No such file or directory", permanent("upload_unreadable")],
  ["File system loop found", permanent("upload_unreadable")],
  ["\u001b[31mYou are being ratelimited. Try again in 7 seconds\u001b[0m", throttled(7)],
  ["Your subscription does not allow more than 5 services", permanent("railway_refused")],
])("%s", (said, expected) => {
  expect(classify(said)).toMatchObject(expected);
  expect(classify(said).isAmbiguous ?? false).toBe("isAmbiguous" in expected);
});

const ended = (fields: Partial<CliResult>): CliResult => ({
  ...{ exitCode: 1, stdout: "", stderr: "", failure: undefined },
  ...fields,
});

test.each([
  [{ failure: "timeout" as const, exitCode: undefined }, { code: "railway_timeout", isAmbiguous: true }],
  [{ failure: "killed" as const, exitCode: undefined }, { code: "railway_cli_killed", isAmbiguous: true }],
  [{ failure: "not_started" as const, exitCode: 126 }, siteFault("railway_cli_missing")],
  [{ exitCode: 2 }, siteFault("railway_cli_mismatch")],
  [{ exitCode: 1 }, { class: "unavailable", code: "railway_unauthorized" }],
])("a call that ended so: %j", (fields, expected) => {
  expect(classifyResult(ended(fields), "Not Authorized")).toMatchObject(expected);
});

test("what the CLI says in its own words counts before a page that it passes on", () => {
  const page = "<html><title>526: Invalid SSL certificate</title></html>";
  expect(classify("Railway API request failed with HTTP 526", page)).toMatchObject({ code: "railway_unavailable" });
  expect(classify("something", "Not Authorized")).toMatchObject({ code: "railway_unauthorized" });
});
