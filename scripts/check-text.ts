// Checks what no linter looks at: text that binds the repository to one machine, and exceptions without a reason.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { allowance } from "./allowance.ts";
import { repositoryFiles } from "./repository-files.ts";

const rules = [
  {
    pattern: /(?<![\w.~*}-])\/(work|root)\//,
    because: "names a directory of one machine: use a relative path, or one from the environment",
  },
  {
    pattern: /https?:\/\/[^\s/"'`]*\b(registry|artifactory|nexus|verdaccio)\b[^\s/"'`]*/i,
    because: "names a package registry: npm's own configuration says which one to use",
  },
  {
    pattern: /(oxlint|eslint)-disable(?!.* -- \S)|deno-lint-ignore(?!.* -- \S)|@ts-(ignore|expect-error)(?!.* -- \S)/,
    because: "is an exception without its reason: write ` -- <reason>` behind it",
  },
];

/** What is wrong with the text of one file, a line each. Pure. */
export function textProblems(path: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) =>
    rules
      .filter(({ pattern }) => pattern.test(line) && !allowance.test(line))
      .map(({ because, pattern }) => `${path}:${index + 1} "${pattern.exec(line)?.[0]}" ${because}`)
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const problems = repositoryFiles().flatMap((path) => textProblems(path, readFileSync(path, "utf8")));
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
