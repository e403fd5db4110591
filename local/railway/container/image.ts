import { createHash, randomUUID } from "node:crypto";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { UploadedFile } from "../upload.ts";
import { DockerfileError, type Instruction, parseDockerfile } from "./dockerfile.ts";
import { linkTree } from "./link-tree.ts";
import { runStep } from "./run-step.ts";

/** What a container starts from. */
export interface Image {
  /** Holds what the container sees as `/`. */
  root: string;
  /** As the container sees it. */
  workdir: string;
  /** Of the image; paths lead into `root`. */
  environment: Record<string, string>;
  command: string[];
}

export interface BuilderSettings {
  /** Images and layers lie here. */
  directory: string;
  /** For every step: PATH, and what npm needs to reach its registry. */
  environment: Record<string, string>;
  /** Ends what several builds wait for. */
  signal: AbortSignal;
}

export interface ImageBuilder {
  /** @throws {Error} when a step fails; its output has gone to `onLine` */
  build(files: UploadedFile[], onLine: (line: string) => void, signal: AbortSignal): Promise<Image>;
}

interface BuildContext {
  settings: BuilderSettings;
  /** What was uploaded, on disk. */
  context: string;
  files: UploadedFile[];
  onLine: (line: string) => void;
  signal: AbortSignal;
}

/** The state after an instruction, of which the next one makes another. */
interface Layer extends Image {
  /** Of all that went into it. */
  key: string;
}

/**
 * Runs the steps of an uploaded Dockerfile as plain processes, in a directory that stands for the container's root. It is no
 * container: all steps are this machine's user, see all of this machine, and have its libc.
 */
export function createImageBuilder(settings: BuilderSettings): ImageBuilder {
  // As Docker does: what several images begin with is made once. The last layers, with a service's own files, are not kept.
  const layers = new Map<string, Promise<Layer>>();
  return {
    async build(files, onLine, signal) {
      const id = randomUUID();
      const context = join(settings.directory, "contexts", id);
      await writeFiles(files, context);
      try {
        const building = { settings, context, files, onLine, signal };
        const instructions = parseDockerfile(textOf(files, "Dockerfile"));
        const shared = instructions.findIndex(({ kind, line }) => kind === "COPY" && line.endsWith(" . ."));
        let layer = baseLayer(instructions[0], settings);
        for (const [index, instruction] of instructions.entries()) {
          const isShared = index < shared;
          layer =
            await (isShared ? once(layers, instruction, layer, building) : step(instruction, layer, building, id));
        }
        return layer;
      } finally {
        await rm(context, { recursive: true, force: true });
      }
    },
  };
}

async function writeFiles(files: UploadedFile[], directory: string): Promise<void> {
  for (const { path, content, mode } of files) {
    const file = join(directory, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content, { mode });
  }
}

function textOf(files: UploadedFile[], path: string): string {
  const file = files.find((each) => each.path === path);
  if (file === undefined) throw new DockerfileError(`The upload has no ${path}`);
  return file.content.toString("utf8");
}

/** The base image is this machine, which has its Node. */
function baseLayer(from: Instruction | undefined, { directory }: BuilderSettings): Layer {
  const version = from?.kind === "FROM"
    ? /^node:(\d+\.\d+\.\d+)-(bookworm|trixie)(-slim)?$/.exec(from.image)?.[1]
    : undefined;
  if (version !== process.versions.node) {
    throw new DockerfileError(
      `${from?.line}: the stand-in has node:${process.versions.node} on glibc and no other image`,
    );
  }
  return { key: "", root: join(directory, "nothing"), workdir: "/", environment: {}, command: [] };
}

/** A layer that others begin with as well is made by whoever comes first. One that failed is made again. */
function once(
  layers: Map<string, Promise<Layer>>,
  instruction: Instruction,
  below: Layer,
  building: BuildContext,
): Promise<Layer> {
  const key = keyOf(instruction, below, building.files);
  // That one build is given up is no reason for the others to fail.
  const forAll = { ...building, signal: building.settings.signal };
  const made = layers.get(key) ?? step(instruction, below, forAll, key.slice(0, 32));
  layers.set(key, made);
  made.catch(() => layers.delete(key));
  return made;
}

function keyOf(instruction: Instruction, { key }: Layer, files: UploadedFile[]): string {
  const hash = createHash("sha256").update(`${key}\n${instruction.line}\n`);
  const sources = instruction.kind === "COPY" ? instruction.sources : [];
  for (const { path, content } of files.filter((file) => sources.includes(file.path))) {
    hash.update(path).update(content);
  }
  return hash.digest("hex");
}

async function step(instruction: Instruction, below: Layer, building: BuildContext, name: string): Promise<Layer> {
  building.onLine(instruction.line);
  const layer = { ...below, key: keyOf(instruction, below, building.files) };
  switch (instruction.kind) {
    case "FROM":
      return await emptyRoot(join(building.settings.directory, "images", name), layer);
    case "USER":
      return layer;
    case "ENV":
      return { ...layer, environment: { ...below.environment, ...insideRoot(instruction.variables, below.root) } };
    case "CMD":
      return { ...layer, command: instruction.command };
    case "WORKDIR":
      layer.workdir = instruction.path;
      await mkdir(join(below.root, instruction.path), { recursive: true });
      return layer;
    case "COPY":
    case "RUN":
      return await changedRoot(instruction, layer, building, name);
  }
}

/** With the home of the image's user `node`. */
async function emptyRoot(root: string, layer: Layer): Promise<Layer> {
  const home = join(root, "home", "node");
  await mkdir(home, { recursive: true });
  return { ...layer, root, environment: { HOME: home } };
}

/** Paths of a container, as they are on this machine. */
function insideRoot(variables: Record<string, string>, root: string): Record<string, string> {
  const entries = Object.entries(variables);
  return Object.fromEntries(entries.map(([name, value]) => [name, value.startsWith("/") ? join(root, value) : value]));
}

/** RUN and COPY change files: above what lies below, which others may begin with. */
async function changedRoot(
  instruction: Instruction & { kind: "RUN" | "COPY" },
  below: Layer,
  { settings, context, onLine, signal }: BuildContext,
  name: string,
): Promise<Layer> {
  const root = join(settings.directory, "images", name);
  if (root !== below.root) await linkTree(below.root, root);
  const environment = Object.fromEntries(
    Object.entries(below.environment).map(([key, value]) => [key, value.replace(below.root, root)]),
  );
  const cwd = join(root, below.workdir);
  if (instruction.kind === "RUN") {
    const environmentOfStep = { ...settings.environment, ...environment };
    await runStep(["sh", "-c", instruction.command], { cwd, environment: environmentOfStep, onLine, signal });
  } else {
    for (const source of instruction.sources) {
      const target = instruction.sources.length > 1
        ? join(cwd, instruction.target, source)
        : join(cwd, instruction.target);
      await cp(join(context, source), target, { recursive: true });
    }
  }
  return { ...below, root, environment };
}
