import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Every file of the repository: tracked, or new and not ignored. Paths are relative to the root, with slashes. */
export function repositoryFiles(): string[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    encoding: "utf8",
  });
  return listed.split("\0").filter((path) => path !== "" && existsSync(path)); // git lists deleted files too
}
