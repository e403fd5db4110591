import { parseArgs } from "node:util";
import { UsageError } from "./failure.ts";

export interface Option {
  type: "string" | "boolean";
  short?: string;
  /** How the CLI writes the value's name. */
  value?: string;
  /** Another name of the same option. */
  alias?: string;
  multiple?: boolean;
}

export type Options = Record<string, Option>;

export interface ParsedArguments {
  texts(name: string): string[];
  text(name: string): string | undefined;
  flag(name: string): boolean;
  positional: string | undefined;
}

/**
 * Reads a command's arguments as the CLI does: an option that it does not know, one that stands twice, a missing value or
 * a second positional is refused.
 *
 * @throws {UsageError} with the CLI's own first line
 */
export function readArguments(args: string[], options: Options): ParsedArguments {
  const aliases = new Map(
    Object.entries(options).flatMap(([name, { alias }]) => alias ? [[alias, name] as const] : []),
  );
  const known = {
    ...options,
    ...Object.fromEntries([...aliases].map(([alias, name]) => [alias, options[name] ?? never()])),
  };
  const { tokens } = parseArgs({
    args,
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      Object.entries(known).map(([name, { type, short }]) => [
        name,
        { type, multiple: true, ...(short !== undefined && !aliases.has(name) && { short }) },
      ]),
    ),
  });
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const name = aliases.get(token.name) ?? token.name;
    const value = checkedValue(token, name, options[name]);
    if (values.has(name) && options[name]?.multiple !== true) {
      throw new UsageError(`the argument '${written(name, options[name])}' cannot be used multiple times`);
    }
    values.set(name, [...values.get(name) ?? [], value]);
  }
  if (positionals[1] !== undefined) throw new UsageError(`unexpected argument '${positionals[1]}' found`);
  return {
    texts: (name) => values.get(name) ?? [],
    text: (name) => values.get(name)?.[0],
    flag: (name) => values.has(name),
    positional: positionals[0],
  };
}

interface OptionToken {
  rawName: string;
  value?: string | undefined;
  inlineValue?: boolean | undefined;
}

function checkedValue({ rawName, value, inlineValue }: OptionToken, name: string, option: Option | undefined): string {
  if (option === undefined) throw new UsageError(`unexpected argument '${rawName}' found`);
  if (option.type === "boolean") {
    if (value === undefined) return "";
    throw new UsageError(`unexpected value '${value}' for '${rawName}' found; no more were expected`);
  }
  if (value === undefined) {
    throw new UsageError(`a value is required for '${written(name, option)}' but none was supplied`);
  }
  if (!inlineValue && value.startsWith("-")) throw new UsageError(`unexpected argument '${value}' found`);
  // `-p=ID` is `-p ID` to the CLI.
  return inlineValue && rawName.length === 2 ? value.replace(/^=/, "") : value;
}

function written(name: string, option: Option | undefined): string {
  return option?.type === "string" ? `--${name} <${option.value ?? name.toUpperCase()}>` : `--${name}`;
}

function never(): never {
  throw new Error("an alias of no option");
}
