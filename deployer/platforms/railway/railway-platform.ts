import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { PlatformState } from "../../platform-state.ts";
import type { Scratch } from "../../scratch.ts";
import type { Lease, ListedService, Platform } from "../platform.ts";
import { variablesOfWorker } from "../worker-variables.ts";
import { type Access, createAccess } from "./access.ts";
import { type BudgetSettings, createMeter, createRequestBudget, type RequestBudget } from "./budget.ts";
import type { RailwaySettings } from "./deploy-context.ts";
import { deployRevision } from "./deploy-revision.ts";
import { standingOf } from "./deployment-status.ts";
import { findOwnServices, type OwnService } from "./find-services.ts";
import { healthOf, type ServiceHealth } from "./health.ts";
import { checkAlone, checkRailway, mayPass, type PreflightSettings } from "./preflight.ts";
import { createRailwayApi, type RailwayApi } from "./railway-api.ts";
import type { Fence } from "./railway-call.ts";
import type { RailwayCli } from "./railway-cli.ts";
import type { Redact } from "./redact.ts";
import { createStatusPoller } from "./status-poller.ts";
import { removeService, stopService } from "./stop-service.ts";

export interface RailwayPlatformSettings extends RailwaySettings, PreflightSettings, BudgetSettings {
  cli: RailwayCli;
  /** The same program with the token in the place of a project token, to tell whether it is one. */
  projectTokenCli: RailwayCli;
  redact: Redact;
  scratch: Scratch;
  state: PlatformState;
  pollSeconds: number;
  pollCapSeconds: number;
  probeSeconds: number;
  log: Logger;
}

export interface RailwayPlatform extends Platform {
  /** Whether anything may be begun: not before `prepare` is done, nor while Railway shuts this deployer out. */
  isOpen(): boolean;
  /** Checks CLI, token, project and environment; waits while Railway cannot be reached. @throws {PreflightError} */
  prepare(signal: AbortSignal): Promise<void>;
  /** Ends a pause when it can end. Ends with the signal. */
  watch(signal: AbortSignal): Promise<void>;
  /** How all our services are: one request for each 500 services, and one for each 50 to tell which are ours. */
  health(signal: AbortSignal): Promise<ServiceHealth[]>;
}

const NO_FENCE: Fence = () => Promise.resolve();

/** One Railway service for each OSP service, through the Railway CLI. */
export function createRailwayPlatform(settings: RailwayPlatformSettings): RailwayPlatform {
  const { instance, state, log, drainSeconds, scratch, redact } = settings;
  const budget = createRequestBudget(state, settings, log);
  const apiWith = (counted = budget, fence = NO_FENCE): RailwayApi => apiFor(settings, counted, fence);
  const api = apiWith();
  const poller = createStatusPoller({
    ask: (ids, signal) => api.deployments(ids, signal),
    firstSeconds: settings.pollSeconds,
    capSeconds: settings.pollCapSeconds,
  });
  const access = createAccess({ state, api, probeSeconds: settings.probeSeconds, log });
  const judged = async <Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> => {
    try {
      return await work;
    } catch (error) {
      throw signal.aborted ? error : await access.judge(error, signal);
    }
  };
  const checkEnvironments = (signal: AbortSignal) => checkAlone(api, settings, signal);
  const stopContext = ({ confirm }: Lease) => ({
    ...{ api: apiWith(budget, confirm), poller, instance, drainSeconds, checkEnvironments },
  });

  return {
    name: "railway",
    isOpen: access.isOpen,
    deploy: async (request, report, signal) => {
      const meter = createMeter(budget);
      const { confirm } = request.lease;
      const unfenced = apiWith(meter);
      const variables = variablesOfWorker(settings.variables, request.directory, request.serviceSchema);
      const context = {
        ...{ api: apiWith(meter, confirm), unfenced, poller, report, redact, scratch, checkEnvironments },
        settings: { ...settings, variables },
      };
      const { looks, ...deployed } = await judged(deployRevision(request, context, signal), signal);
      const { serviceSchema: service_schema, revision } = request;
      // A look is shared by all that is under way.
      log.info({ event: "railway.deployed", service_schema, revision, ...deployed, requests: meter.count, looks });
      return deployed;
    },
    stop: (request, signal) => judged(stopService(request, stopContext(request.lease), signal), signal),
    remove: (request, signal) => judged(removeService(request, stopContext(request.lease), signal), signal),
    list: async (signal) => {
      const services = await judged(findOwnServices({ api, instance }, signal), signal);
      return services.flatMap(listingsOf);
    },
    health: async (signal) => {
      const services = await judged(findOwnServices({ api, instance }, signal), signal);
      return services.map((service) => healthOf(service.serviceSchema, service));
    },
    prepare: (signal) => prepare(settings, { api, access, budget }, signal),
    watch: access.watch,
  };
}

/** Once for each deployment that serves; where none does, whether one is on its way. Pure. */
function listingsOf(service: OwnService): ListedService[] {
  const { serviceSchema, serviceId: id, activeDeployments } = service;
  const serving = activeDeployments.filter((deployment) => standingOf(deployment) === "running");
  if (serving.length > 0) {
    return serving.map((deployment) => ({ serviceSchema, id, isRunning: true, platformDeploymentId: deployment.id }));
  }
  return [{ serviceSchema, id, isRunning: healthOf(serviceSchema, service).health === "deploying" }];
}

function apiFor(settings: RailwayPlatformSettings, budget: RequestBudget, fence: Fence): RailwayApi {
  const { project, environment, cli, redact, projectTokenCli } = settings;
  return createRailwayApi({ project, environment }, { cli, budget, redact, projectTokenCli, fence });
}

const LONGEST_WAIT_MS = 60_000;

async function prepare(
  settings: RailwayPlatformSettings,
  { api, access, budget }: { api: RailwayApi; access: Access; budget: RequestBudget },
  signal: AbortSignal,
): Promise<void> {
  const { cli, state, log, project, environment } = settings;
  for (let tries = 1; !signal.aborted; tries++) {
    try {
      await budget.announce();
      const { cliVersion } = await checkRailway(cli, api, settings, signal);
      access.opened();
      // Where somebody has the platform's row locked, whoever probes a paused platform resumes it.
      const isResumed = await state.resume().catch((error: unknown) => {
        log.warn({ event: "platform.resume_failed", error: formatError(error) });
      });
      if (isResumed) log.info({ event: "platform.resumed" });
      log.info({ event: "railway.ready", cli: cliVersion, project, environment });
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!mayPass(error)) throw error;
      if (tries === 1) log.warn({ event: "railway.failing", error: formatError(error) });
      await pause(Math.min(LONGEST_WAIT_MS, 1000 * 2 ** tries), undefined, { signal }).catch(() => {});
    }
  }
}
