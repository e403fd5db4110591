/** The command `osp`: what OSP's people do from a shell. */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cacheDirectory } from "../host/cache-directory.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { visible } from "../supabase/functions/_shared/visible-text.ts";
import { connectionOf, type Environment } from "./cli-connection.ts";
import { createOspClient, InvalidCodeError, type PushedServiceCode } from "./index.ts";

const USAGE = `Usage: osp code push <service_schema> <directory> [--set] [--wait]

Bundles the code of a service, checks it against its row in osp.services and stores it. Prints the SQL that deploys it.

  --set    name the code in the service's row, which deploys it
  --wait   the same, and wait until it is deployed

Where to: SUPABASE_URL and SUPABASE_SECRET_KEY, or API_URL and SECRET_KEY; else the stack of \`npm start\`.
`;

/** sysexits.h: the command was used in a wrong way. */
const EX_USAGE = 64;

async function main(argv: string[], environment: Environment): Promise<number> {
  const parsed = parse(argv);
  if (parsed === undefined || parsed.isHelp) {
    (parsed === undefined ? process.stderr : process.stdout).write(USAGE);
    return parsed === undefined ? EX_USAGE : 0;
  }
  const { schema, directory, set, wait } = parsed;
  const { url, secretKey } = connectionOf(environment, stackOf(environment));
  const path = resolve(calledIn(environment), directory);
  const pushed = await createOspClient({ url, secretKey }).pushServiceCode(schema, path, {
    set,
    wait,
    cacheDirectory: cacheDirectory(environment),
    onProgress: ({ deployment_status, revision }) => console.error(`revision ${revision}: ${deployment_status}`),
  });
  for (const line of linesOf(pushed, url)) console.log(line);
  return pushed.deployment?.error === undefined ? 0 : 1;
}

/** Undefined: there is no such command. */
function parse(argv: string[]) {
  try {
    const { values, positionals: [command, verb, schema, directory, ...more] } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: { set: { type: "boolean" }, wait: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
    const { set = false, wait = false, help: isHelp = false } = values;
    const isComplete = command === "code" && verb === "push" && schema !== undefined && directory !== undefined;
    if (!isHelp && (!isComplete || more.length > 0)) return undefined;
    return { schema: schema ?? "", directory: directory ?? "", set: set || wait, wait, isHelp };
  } catch {
    return undefined;
  }
}

const REPOSITORY = fileURLToPath(new URL("../", import.meta.url));

/**
 * Where whoever called us was. npm runs scripts in the directory of their package, and says in which npm was called: that
 * counts for `npm run osp` here. A service's own script means its own directory, wherever in it npm was called.
 */
function calledIn({ INIT_CWD, npm_package_json: packageFile }: Environment): string {
  const isOurScript = packageFile !== undefined && isSameFile(packageFile, join(REPOSITORY, "package.json"));
  return isOurScript && INIT_CWD !== undefined ? INIT_CWD : process.cwd();
}

function isSameFile(one: string, other: string): boolean {
  return existsSync(one) && realpathSync(one) === realpathSync(other);
}

/** What `npm start` of this repository wrote down. */
function stackOf(environment: Environment): string | undefined {
  const file = join(resolve(REPOSITORY, environment["OSP_STATE_DIR"] ?? ".osp"), "stack.env");
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

function linesOf(pushed: PushedServiceCode, url: string): string[] {
  const { service_schema, code, bytes, is_new, notes, sql, deployment } = pushed;
  const names = (found: string[] | undefined) => (found === undefined ? "built in" : visible(found.join(", ")));
  const size = `${(bytes / 1024).toFixed(0)} KiB`;
  return [
    `workflows: ${names(pushed.workflows)}`,
    `activities: ${names(pushed.activities)}`,
    ...notes.map((note) => `note: ${visible(note)}`),
    `${is_new ? "stored" : "was stored already"}: code/${service_schema}/${code}.tar.gz, ${size}, at ${url}`,
    ...(deployment === undefined ? ["", "Deploy it by:", sql] : [
      `revision ${deployment.revision} of ${service_schema}: ${deployment.deployment_status}`,
      ...(deployment.error === undefined ? [] : [visible(deployment.error)]),
    ]),
  ];
}

try {
  process.exitCode = await main(process.argv.slice(2), process.env);
} catch (error) {
  if (error instanceof InvalidCodeError) {
    console.error(
      `Nothing was pushed: ${error.problems.length} ${error.problems.length === 1 ? "problem" : "problems"}`,
    );
    for (const problem of error.problems) console.error(`  ${visible(problem)}`);
  } else console.error(formatError(error));
  process.exitCode = 1;
}
