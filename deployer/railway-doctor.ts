// `npm run railway:doctor`: asks Railway, with the operator's own token, what no test can know. Only reads.
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { type DoctorConfig, parseDoctorConfig } from "./config.ts";
import { createMeter } from "./platforms/railway/budget.ts";
import { cliSettings, pick, PROXIES } from "./platforms/railway/cli-settings.ts";
import { examineRailway, type Finding } from "./platforms/railway/doctor.ts";
import { createRailwayApi } from "./platforms/railway/railway-api.ts";
import { createRailwayCli } from "./platforms/railway/railway-cli.ts";
import { createRedact, passwordsOf } from "./platforms/railway/redact.ts";

/** sysexits.h: the configuration is wrong. */
const EX_CONFIG = 78;
const MARKS = { ok: "✓", wrong: "✗", open: "?" } satisfies Record<Finding["verdict"], string>;

async function main(environment: NodeJS.ProcessEnv): Promise<number> {
  const { deps, requests } = createDeps(parseDoctorConfig(environment), environment);
  let isWell = true;
  for await (const { about, verdict, said } of examineRailway(deps, new AbortController().signal)) {
    console.log(`${MARKS[verdict]} ${about}: ${said}`);
    if (verdict === "wrong") isWell = false;
  }
  console.log(
    `\nRailway was asked ${requests()} times, and nothing was changed. ✓ as believed, ✗ wrong, ? not known yet`,
  );
  return isWell ? 0 : 1;
}

function createDeps(config: DoctorConfig, environment: NodeJS.ProcessEnv) {
  const { railway, RAILWAY_CLI_PATH: path, OSP_RAILWAY_CALL_TIMEOUT_SECONDS: timeoutSeconds } = config;
  const { token, project, environment: place } = railway;
  const settings = cliSettings({ path, token, timeoutSeconds }, environment);
  const cli = createRailwayCli({ ...settings, tokenKind: "RAILWAY_API_TOKEN" });
  const projectTokenCli = createRailwayCli({ ...settings, tokenKind: "RAILWAY_TOKEN" });
  // No database that would count for all: these few requests come on top of the deployers'.
  const budget = createMeter({ take: () => Promise.resolve(), throttle: () => Promise.resolve() });
  const redact = createRedact([token, ...passwordsOf(pick(environment, PROXIES))]);
  const call = { cli, budget, redact };
  const deps = {
    cli,
    call,
    api: createRailwayApi({ project, environment: place }, { ...call, projectTokenCli }),
    settings: { project, environment: place, allowsOtherEnvironments: config.OSP_RAILWAY_ALLOW_ENVIRONMENTS },
  };
  return { deps, requests: () => budget.count };
}

try {
  process.exitCode = await main(process.env);
} catch (error) {
  console.error(formatError(error));
  process.exitCode = EX_CONFIG;
}
