/** The instructions that the worker's Dockerfile is made of, each with its line. */
export type Instruction =
  & { line: string }
  & (
    | { kind: "FROM"; image: string }
    | { kind: "ENV"; variables: Record<string, string> }
    | { kind: "USER" }
    | { kind: "WORKDIR"; path: string }
    | { kind: "COPY"; sources: string[]; target: string }
    | { kind: "RUN"; command: string }
    | { kind: "CMD"; command: string[] }
  );

/** A Dockerfile that Docker would refuse, or that uses more of its language than we know. */
export class DockerfileError extends Error {
  override readonly name = "DockerfileError";
}

/** @throws {DockerfileError} naming the line */
export function parseDockerfile(text: string): Instruction[] {
  const lines = text.replaceAll(/^\s*#.*\n?/gm, "").replaceAll(/\\\n/g, " ").split("\n").map((line) => line.trim());
  const instructions = lines.filter(Boolean).map(parseLine);
  if (instructions[0]?.kind !== "FROM") throw new DockerfileError("A Dockerfile begins with FROM");
  if (instructions.at(-1)?.kind !== "CMD") {
    throw new DockerfileError("The image has no CMD at its end: it starts nothing");
  }
  return instructions;
}

function parseLine(line: string): Instruction {
  const [kind = "", ...rest] = line.split(/\s+/);
  const argument = line.slice(kind.length).trim();
  switch (kind) {
    case "FROM":
      return { line, kind, image: argument };
    case "ENV":
      return { line, kind, variables: Object.fromEntries(rest.map((pair) => variableOf(pair, line))) };
    case "USER":
      return { line, kind };
    case "WORKDIR":
      if (!argument.startsWith("/")) throw unknown(line);
      return { line, kind, path: argument };
    case "COPY": {
      // Ownership is of no account where every process is the same user.
      const paths = rest.filter((word) => !word.startsWith("--chown="));
      const target = paths.pop();
      if (target === undefined || paths.length === 0 || paths.some((path) => path.startsWith("-"))) throw unknown(line);
      return { line, kind, sources: paths, target };
    }
    case "RUN":
      return { line, kind, command: argument };
    case "CMD":
      return { line, kind, command: execForm(argument, line) };
    default:
      throw unknown(line);
  }
}

function variableOf(pair: string, line: string): [string, string] {
  const [, name, value] = /^([A-Za-z_]\w*)=([^"'$\\]*)$/.exec(pair) ?? [];
  if (name === undefined || value === undefined) throw unknown(line);
  return [name, value];
}

/** Only the exec form: under the shell form a signal reaches the shell and not the worker. */
function execForm(argument: string, line: string): string[] {
  try {
    const words: unknown = JSON.parse(argument);
    if (Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === "string")) return words;
  } catch {
    // no JSON: the shell form
  }
  throw unknown(line);
}

function unknown(line: string): DockerfileError {
  return new DockerfileError(`The stand-in of Railway's builder does not know this instruction: ${line}`);
}
