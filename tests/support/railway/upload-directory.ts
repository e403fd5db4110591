import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A new directory with these files, by relative path; left out, a Dockerfile and a manifest. */
export function uploadDirectory(
  files: Record<string, string> = { "Dockerfile": "FROM node:24\n", "manifests/pdf.json": "{}\n" },
): string {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-upload-"));
  for (const [path, content] of Object.entries(files)) {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return directory;
}
