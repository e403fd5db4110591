import { StartError } from "../../start-error.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import { PlatformError } from "../platform.ts";
import type { Surroundings } from "./answers.ts";
import { RailwayError } from "./errors.ts";
import type { Place, RailwayApi } from "./railway-api.ts";
import type { RailwayCli } from "./railway-cli.ts";

/** The oldest CLI whose `api` and `up --json` are what we build on. */
const OLDEST = [5, 41, 2] as const;

export interface PreflightSettings extends Place {
  /** Whether the project may have other environments that what we do to a service would reach. */
  allowsOtherEnvironments: boolean;
}

/** The deployer cannot work as it is set up: each problem with its mend. */
export class PreflightError extends StartError {
  override readonly name = "PreflightError";
}

/**
 * Whether the CLI, the token, the project and the environment are such that deployments can go well.
 *
 * @throws {PreflightError} naming what to change
 * @throws {PlatformError} unavailable or throttled, when Railway could not be asked
 */
export async function checkRailway(
  cli: RailwayCli,
  api: RailwayApi,
  settings: PreflightSettings,
  signal: AbortSignal,
): Promise<{ cliVersion: string }> {
  const cliVersion = await checkVersion(cli, signal);
  const { project } = await api.lookAround(signal).catch((error: unknown) => {
    throw explained(error, settings);
  }).catch(async (error: unknown) => {
    throw await tokenProblem(error, api, signal);
  });
  checkEnvironments(project, settings);
  return { cliVersion };
}

/**
 * Whether what is done to a service stays in our environment, as at the start: a person may have added another since.
 *
 * @throws {PlatformError} unavailable
 */
export async function checkAlone(api: RailwayApi, settings: PreflightSettings, signal: AbortSignal): Promise<void> {
  const { project } = await api.lookAround(signal);
  try {
    checkEnvironments(project, settings);
  } catch (error) {
    throw new PlatformError("unavailable", "railway_environments", formatError(error), {}, { cause: error });
  }
}

async function checkVersion(cli: RailwayCli, signal: AbortSignal): Promise<string> {
  const { exitCode, stdout, stderr } = await cli.run({ args: ["--version"], signal });
  signal.throwIfAborted();
  const version = /(\d+)\.(\d+)\.(\d+)/.exec(stdout);
  if (exitCode !== 0 || version === null) {
    throw new PreflightError(`the Railway CLI does not tell its version: ${(stderr || stdout).trim()}; install 5.71.0`);
  }
  const parts = version.slice(1, 4).map(Number);
  const differing = parts.findIndex((part, index) => part !== OLDEST[index]);
  if (differing >= 0 && (parts[differing] ?? 0) < (OLDEST[differing] ?? 0)) {
    throw new PreflightError(
      `the Railway CLI is ${version[0]}, and ${
        OLDEST.join(".")
      } is the oldest that works: install 5.71.0, or set RAILWAY_CLI_PATH`,
    );
  }
  return version[0];
}

function explained(error: unknown, { project }: Place): unknown {
  if (!(error instanceof RailwayError) || error.code !== "railway_project_missing") return error;
  return new PreflightError(
    `there is no Railway project ${project}, or the token's workspace has none: OSP_RAILWAY_PROJECT is its id, as in its ` +
      "URL in Railway",
  );
}

async function tokenProblem(error: unknown, api: RailwayApi, signal: AbortSignal): Promise<unknown> {
  if (!(error instanceof RailwayError) || error.code !== "railway_unauthorized") return error;
  const ofProject = await api.projectOfToken(signal).catch(() => undefined);
  return new PreflightError(
    ofProject === undefined
      ? "Railway refuses RAILWAY_API_TOKEN, for it is not valid or may not see OSP_RAILWAY_PROJECT: make a token of the " +
        "project's workspace (Railway, Account Settings, Tokens) and correct OSP_RAILWAY_PROJECT"
      : `RAILWAY_API_TOKEN is a project token (of project ${ofProject}), which cannot make services: give it a token of ` +
        "the workspace (Railway, Account Settings, Tokens)",
  );
}

/** @throws {PreflightError} */
function checkEnvironments(project: Surroundings["project"], settings: PreflightSettings): void {
  const { name: projectName } = project;
  const environments = project.environments.edges.map(({ node }) => node).filter(({ deletedAt }) => deletedAt === null);
  const ours = environments.find(({ id }) => id === settings.environment);
  if (ours === undefined) {
    const names = environments.map(({ id, name }) => `${name} is ${id}`).join(", ");
    throw new PreflightError(
      `Railway project ${projectName} has no environment ${settings.environment}; OSP_RAILWAY_ENVIRONMENT is an id: ${names}`,
    );
  }
  const lasting = environments.filter(({ isEphemeral }) => !isEphemeral);
  if (ours.isEphemeral || lasting.length <= 1 || settings.allowsOtherEnvironments) return;
  throw new PreflightError(
    `Railway project ${projectName} has the environments ${
      lasting.map(({ name }) => name).join(", ")
    }: a service that is ` +
      "made, set up or deleted in one is so in all of them. Give the workers a project with one environment, or set " +
      "OSP_RAILWAY_ALLOW_ENVIRONMENTS=true",
  );
}

/** Whether it makes sense to ask again later. */
export function mayPass(error: unknown): boolean {
  return error instanceof PlatformError && error.class !== "permanent" && error.code !== "railway_unauthorized";
}
