import { fileURLToPath } from "node:url";
import { execa } from "execa";
import type { FakeRailway } from "../../../local/railway/fake-railway.ts";

const DOCTOR = fileURLToPath(new URL("../../../deployer/railway-doctor.ts", import.meta.url));

/** Runs the doctor against a stand-in. @param environment changes its own; undefined takes a variable away */
export async function runDoctor(
  cli: string,
  fake: FakeRailway,
  environment: Record<string, string | undefined> = {},
): Promise<{ exitCode: number | undefined; stdout: string; stderr: string }> {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [DOCTOR], {
    env: {
      PATH: process.env["PATH"],
      RAILWAY_CLI_PATH: cli,
      RAILWAY_API_TOKEN: fake.tokens.workspace,
      OSP_RAILWAY_PROJECT: fake.project.id,
      OSP_RAILWAY_ENVIRONMENT: fake.production.id,
      ...fake.environment,
      ...environment,
    },
    extendEnv: false,
    reject: false,
    timeout: 60_000,
  });
  return { exitCode, stdout, stderr };
}
