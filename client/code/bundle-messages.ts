import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Message, Metafile } from "esbuild";

/** Modules whose name is computed cannot be put into a bundle: esbuild says so only where it is asked to. */
export const REFUSED = {
  "unsupported-require-call": "error",
  "indirect-require": "error",
  "unsupported-dynamic-import": "error",
} as const;

/** A message of esbuild's on one line, in words that say what to do. */
export function tell({ id, text, location }: Message): string {
  const place = location === null ? "" : `${location.file}:${location.line}: `;
  if (id in REFUSED) return `${place}loads a module whose name it computes, which cannot be bundled`;
  const [, addon] = /^No loader is configured for "\.node" files: (.*)$/.exec(text) ?? [];
  if (addon !== undefined) return `${place}imports ${addon}, a native addon, which cannot be bundled`;
  const [, name] = /^Could not resolve "(.*)"$/.exec(text) ?? [];
  if (name !== undefined) {
    return `${place}imports "${name}", which is not there: install it; or, where it is never used, name it in package.json: ` +
      `{"osp": {"ignoreModules": ["${name}"]}}`;
  }
  return `${place}${text.replace(/\s+/g, " ")}`;
}

export function nothingExported(file: string): string {
  return `${file} exports nothing by name: write "export async function …" (the exports of CommonJS, and a default one, have no ` +
    `name that Temporal finds)`;
}

type Output = Metafile["outputs"][string];

/** What reads files that lie beside it will not find them. Told by package. */
export function notesOf(output: Output, directory: string): string[] {
  const readers = Object.entries(output.inputs).filter(([path, { bytesInOutput }]) => {
    if (bytesInOutput === 0 || !/\.(ts|mts|tsx|js|mjs|cjs|jsx)$/.test(path)) return false;
    return /\b__dirname\b|\b__filename\b|\bimport\.meta\.(url|dirname|filename)\b/.test(read(join(directory, path)));
  });
  return [...new Set(readers.map(([path]) => partOf(path)))].map((part) =>
    `${part} asks where it lies: files beside it are not part of the code`
  );
}

/** Empty where there is no such file: the bundler makes some. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

export function largestOf(output: Output): string[] {
  const sizes = new Map<string, number>();
  for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
    sizes.set(partOf(path), (sizes.get(partOf(path)) ?? 0) + bytesInOutput);
  }
  return [...sizes].sort(([, one], [, other]) => other - one).slice(0, 3)
    .map(([part, bytes]) => `${part}: ${(bytes / 1_000_000).toFixed(1)} MB`);
}

/** `node_modules/@scope/name` of a file in a package, else the file. */
function partOf(path: string): string {
  const [found] = /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path) ?? [];
  return found ?? path;
}
