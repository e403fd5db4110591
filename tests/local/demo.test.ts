import { execa } from "execa";
import { expect, test } from "vitest";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { expectDemo } from "../support/demo.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

test("the demo runs every example and prints exactly one JSON document", async () => {
  await expectDemo([]);
}, 400_000);

test("the demo on platform railway does the same, by uploads that Railway would take", async () => {
  const said = await expectDemo(["--platform", "railway"], {
    RAILWAY_CLI_PATH: writeStubCli(scratchDirectory(), process.env),
  });
  expect(said).toMatch(/Railway was asked \d+ times: .*\bup 4\b/);
  expect(said).not.toContain("would not have been asked");
}, 400_000);

test.each([
  ["--nope", /Cannot run the demo: Unknown option '--nope'/],
  ["--platform=heroku", /Cannot run the demo: --platform is heroku; it is local or railway/],
])("the demo refuses %s", async (argument, said) => {
  const { exitCode, stderr } = await execa(process.execPath, ["local/demo.ts", argument], { reject: false });
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(said);
});
