import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { scratchDirectory } from "./scratch.ts";

/** A new directory with these files, by relative path; left out, a Dockerfile and a manifest. */
export function uploadDirectory(
  files: Record<string, string> = { "Dockerfile": "FROM node:24\n", "manifests/pdf.json": "{}\n" },
): string {
  const directory = scratchDirectory();
  for (const [path, content] of Object.entries(files)) {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return directory;
}
