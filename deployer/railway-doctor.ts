// `npm run railway:doctor`: asks Railway, with the operator's own token, what no test can know. Only reads.
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { type DoctorConfig, parseDoctorConfig } from "./config.ts";
import { createMeter } from "./platforms/railway/budget.ts";
import { cliSettings, pick, PROXIES } from "./platforms/railway/cli-settings.ts";
import { examineRailway, type Finding } from "./platforms/railway/doctor.ts";
import { createRailwayApi } from "./platforms/railway/railway-api.ts";
import { createRailwayCli } from "./platforms/railway/railway-cli.ts";
import { createRedact, passwordsOf } from "./platforms/railway/redact.ts";
import { createScratch } from "./scratch.ts";

/** sysexits.h: the configuration is wrong. */
const EX_CONFIG = 78;
const MARKS = { ok: "✓", wrong: "✗", open: "?" } satisfies Record<Finding["verdict"], string>;

async function main(environment: NodeJS.ProcessEnv): Promise<number> {
  const { deps, scratch, requests } = createDeps(parseDoctorConfig(environment), environment);
  let isWell = true;
  try {
    for await (const { about, verdict, said } of examineRailway(deps, new AbortController().signal)) {
      console.log(`${MARKS[verdict]} ${about}: ${said}`);
      if (verdict === "wrong") isWell = false;
    }
  } finally {
    await scratch.close();
  }
  console.log(
    `\nRailway was asked ${requests()} times, and nothing was changed. ✓ as believed, ✗ wrong, ? not known yet`,
  );
  return isWell ? 0 : 1;
}

/** Nothing here may change anything. */
function refuseChange(): Promise<never> {
  return Promise.reject(new Error("The doctor only reads"));
}

function createDeps(config: DoctorConfig, environment: NodeJS.ProcessEnv) {
  const { railway, RAILWAY_CLI_PATH: path, OSP_RAILWAY_CALL_TIMEOUT_SECONDS: timeoutSeconds } = config;
  const { token, project, environment: place } = railway;
  const scratch = createScratch();
  const settings = cliSettings({ path, token, timeoutSeconds, concurrency: 1, scratch }, environment);
  const cli = createRailwayCli({ ...settings, tokenKind: "RAILWAY_API_TOKEN" });
  const projectTokenCli = createRailwayCli({ ...settings, tokenKind: "RAILWAY_TOKEN" });
  // No database that would count for all: these few requests come on top of the deployers'.
  const nobody = () => Promise.resolve();
  const budget = createMeter({ take: nobody, throttle: nobody, announce: nobody });
  const redact = createRedact([token, ...passwordsOf(pick(environment, PROXIES))]);
  const call = { cli, budget, redact };
  const deps = {
    cli,
    call,
    api: createRailwayApi({ project, environment: place }, { ...call, projectTokenCli, fence: refuseChange }),
    settings: { project, environment: place, allowsOtherEnvironments: config.OSP_RAILWAY_ALLOW_ENVIRONMENTS },
  };
  return { deps, scratch, requests: () => budget.count };
}

try {
  process.exitCode = await main(process.env);
} catch (error) {
  console.error(formatError(error));
  process.exitCode = EX_CONFIG;
}
