import { join } from "node:path";
import { execa } from "execa";
import { type Building, inheritedFrom, launch } from "./building.ts";
import { REPOSITORY } from "./config.ts";
import { findRailwayCli } from "./railway/railway-cli.ts";
import { type RailwayAccess, readAccess } from "./railway/state-files.ts";
import { writeStubCli } from "./railway/stub-cli.ts";
import { deployerProgram, railwayProgram, type StackAddresses, type StackProgram } from "./stack-programs.ts";

/** Where the workers of a stack run: as child processes of its deployer, or on a stand-in of Railway. */
export const STACK_PLATFORMS = ["local", "railway"] as const;
export type StackPlatform = (typeof STACK_PLATFORMS)[number];

/** Starts the deployer, and before it the platform that it deploys to. */
export async function launchDeployer(addresses: StackAddresses, building: Building): Promise<void> {
  const { platform, progress } = building;
  if (platform === "local") return await progress.step("Deployer", () => launchLocal(addresses, building));
  const settings = await progress.step("Railway (stand-in)", (note) => launchRailway(building, note));
  await progress.step("Deployer (platform railway)", () => {
    return launch(deployerProgram(addresses, building.config, building.state, settings, "deployer.started"), building);
  });
}

async function launchLocal(addresses: StackAddresses, building: Building): Promise<void> {
  const program = deployerProgram(
    addresses,
    building.config,
    building.state,
    { OSP_PLATFORM: "local" },
    "supervision.gained",
  );
  // Workers outlive a deployer; they do not outlive the stack. Ended after the deployer, which would start them again.
  building.stops.push(() => stopWorkers(program, building));
  await launch(program, building);
}

async function stopWorkers(program: StackProgram, { environment }: Building): Promise<void> {
  await execa(program.command, [...program.arguments, "--stop-workers"], {
    cwd: REPOSITORY,
    env: { ...inheritedFrom(environment), ...program.environment },
    extendEnv: false,
    reject: false,
    stdin: "ignore",
    timeout: 60_000,
  });
}

/** The deployer's settings for it. The CLI is the real one where this machine has it, else a stub. */
async function launchRailway(
  building: Building,
  note: (text: string) => void,
): Promise<Record<string, string>> {
  const { state, environment } = building;
  const directory = join(state.directory, "railway");
  await launch(railwayProgram(state), building);
  const found = await findRailwayCli(environment, note, { mayBuild: false });
  note(found === undefined ? "there is no Railway CLI: a stub of it is used" : `by the CLI ${found}`);
  return deployerSettings(readAccess(directory), found ?? writeStubCli(directory, environment));
}

/** Railway on one machine answers at once: nobody wants to wait as long as for the real one. */
function deployerSettings(access: RailwayAccess, cli: string): Record<string, string> {
  return {
    OSP_PLATFORM: "railway",
    RAILWAY_CLI_PATH: cli,
    RAILWAY_API_TOKEN: access.token,
    OSP_RAILWAY_PROJECT: access.project,
    OSP_RAILWAY_ENVIRONMENT: access.environment,
    HTTPS_PROXY: access.HTTPS_PROXY,
    SSL_CERT_FILE: access.SSL_CERT_FILE,
    OSP_RAILWAY_POLL_SECONDS: "1",
    OSP_RAILWAY_POLL_CAP_SECONDS: "2",
    OSP_RAILWAY_SETTLE_SECONDS: "1",
    OSP_RAILWAY_OVERLAP_SECONDS: "1",
  };
}
