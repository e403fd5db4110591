import { expect, test } from "vitest";
import { textProblems } from "../../scripts/check-text.ts";

// What this file holds up to the check is no offence of its own, hence the comments.
test.each([
  ["a home directory", "const cache = '/root/.cache';"], // check-allow: a case
  ["a working directory", `cd ${["", "work", "main"].join("/")}`],
  ["a registry", "https://registry.example.org/zod"], // check-allow: a case
  ["a linter exception without a reason", "// oxlint-disable-next-line no-console"], // check-allow: a case
  ["a compiler exception without a reason", "// @ts-expect-error"], // check-allow: a case
])("refuses %s", (_, line) => {
  expect(textProblems("README.md", `first\n${line}\n`)).toEqual([expect.stringMatching(/^README\.md:2 "/)]);
});

test.each([
  ["a relative path of that name", "see docs/work/plan.md and ./root/a"],
  ["a page about a package", "https://www.npmjs.com/package/zod"],
  ["an identifier", "osp_metadata.worker_registry"],
  ["an exception with its reason", "// oxlint-disable-next-line no-console -- the only output there is"], // check-allow: a case
  ["a line that is allowed with a reason", "cd /work/ # check-allow: the container's own directory"], // check-allow: a case
])("accepts %s", (_, line) => {
  expect(textProblems("README.md", line)).toEqual([]);
});
