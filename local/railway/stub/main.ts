// Stands in for the Railway CLI where that is not built: the commands that the deployer uses, answered by the stand-in of
// Railway's backend that HTTPS_PROXY leads to. Arguments: the version to stand in for, then the CLI's own; a script that
// stub-cli.ts writes puts them together.
import { runApi } from "./api.ts";
import { workInBackground } from "./background.ts";
import { Failure, NotInStubError, printedFailure, UsageError } from "./failure.ts";
import type { Invocation } from "./invocation.ts";

const [version = "", command = "", ...args] = process.argv.slice(2);

process.exitCode = await run({
  version,
  environment: process.env,
  stdin: process.stdin,
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
});

async function run(invocation: Invocation): Promise<number> {
  try {
    return await runCommand(invocation);
  } catch (error) {
    if (error instanceof UsageError) {
      invocation.stderr(`error: ${error.message}\n\nFor more information, try '--help'.\n`);
      return 2;
    }
    if (!(error instanceof NotInStubError)) throw error;
    invocation.stderr(`${error.message}\n`);
    return 70;
  }
}

async function runCommand(invocation: Invocation): Promise<number> {
  if (command === "--version" || command === "-V") {
    // Two line ends, as the CLI has them.
    invocation.stdout(`railway ${version}\n\n`);
    return 0;
  }
  if (command.startsWith("-")) throw new UsageError(`unexpected argument '${command}' found`);
  const exitCode = await work(invocation);
  await workInBackground(invocation);
  return exitCode;
}

async function work(invocation: Invocation): Promise<number> {
  try {
    if (command === "api") return await runApi(args, invocation);
    // Loaded for it alone: packing takes a library that the other commands start without.
    if (command === "up") return await (await import("./up.ts")).runUp(args, invocation);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    invocation.stderr(printedFailure(error));
    return 1;
  }
  throw new NotInStubError(`the command ${JSON.stringify(command)}`);
}
