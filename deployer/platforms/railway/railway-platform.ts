import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "pino";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { PlatformState } from "../../platform-state.ts";
import type { Platform } from "../platform.ts";
import { createMeter, createRequestBudget, type RequestBudget } from "./budget.ts";
import type { RailwaySettings } from "./deploy-context.ts";
import { deployRevision } from "./deploy-revision.ts";
import { findOwnServices } from "./find-services.ts";
import { healthOf, type ServiceHealth } from "./health.ts";
import { judgeRefusal, probeWhilePaused } from "./pause.ts";
import { checkRailway, mayPass, type PreflightSettings } from "./preflight.ts";
import { createRailwayApi, type RailwayApi } from "./railway-api.ts";
import type { RailwayCli } from "./railway-cli.ts";
import type { Redact } from "./redact.ts";
import { createStatusPoller } from "./status-poller.ts";
import { removeService, stopService } from "./stop-service.ts";

export interface RailwayPlatformSettings extends RailwaySettings, PreflightSettings {
  cli: RailwayCli;
  /** The same program with the token in the place of a project token, to tell whether it is one. */
  projectTokenCli: RailwayCli;
  redact: Redact;
  state: PlatformState;
  requestsPerHour: number;
  pollSeconds: number;
  pollCapSeconds: number;
  probeSeconds: number;
  log: Logger;
}

export interface RailwayPlatform extends Platform {
  /** Checks CLI, token, project and environment; waits while Railway cannot be reached. @throws {PreflightError} */
  prepare(signal: AbortSignal): Promise<void>;
  /** Ends a pause when it can end. Ends with the signal. */
  watch(signal: AbortSignal): Promise<void>;
  /** How all our services are: one request for each 500 services, and one for each 50 to tell which are ours. */
  health(signal: AbortSignal): Promise<ServiceHealth[]>;
}

/** One Railway service for each OSP service, through the Railway CLI. */
export function createRailwayPlatform(settings: RailwayPlatformSettings): RailwayPlatform {
  const { instance, state, log, drainSeconds } = settings;
  const budget = createRequestBudget(state, settings.requestsPerHour, log);
  const apiWith = (counted: RequestBudget): RailwayApi => apiFor(settings, counted);
  const api = apiWith(budget);
  const poller = createStatusPoller({
    ask: (ids) => api.deployments(ids),
    firstSeconds: settings.pollSeconds,
    capSeconds: settings.pollCapSeconds,
  });
  const pausing = { state, api, probeSeconds: settings.probeSeconds, log };
  const judged = async <Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> => {
    try {
      return await work;
    } catch (error) {
      throw signal.aborted ? error : await judgeRefusal(error, pausing);
    }
  };

  return {
    name: "railway",
    deploy: async (request, report, signal) => {
      const meter = createMeter(budget);
      const context = { api: apiWith(meter), poller, settings, report };
      const deployed = await judged(deployRevision(request, context, signal), signal);
      const { serviceSchema, revision } = request;
      log.info({
        event: "railway.deployed",
        service_schema: serviceSchema,
        revision,
        ...deployed,
        requests: meter.count,
      });
      return deployed;
    },
    stop: (service, signal) => judged(stopService(service, { api, poller, instance, drainSeconds }, signal), signal),
    remove: (service, signal) =>
      judged(removeService(service, { api, poller, instance, drainSeconds }, signal), signal),
    list: async (signal) => {
      const services = await judged(findOwnServices({ api, instance }, signal), signal);
      return services.map((service) => {
        const { health } = healthOf(service.serviceSchema, service);
        const isRunning = health !== "failed" && health !== "stopped";
        return { serviceSchema: service.serviceSchema, id: service.serviceId, isRunning };
      });
    },
    health: async (signal) => {
      const services = await judged(findOwnServices({ api, instance }, signal), signal);
      return services.map((service) => healthOf(service.serviceSchema, service));
    },
    prepare: (signal) => prepare(settings, api, signal),
    watch: (signal) => probeWhilePaused(pausing, signal),
  };
}

function apiFor(settings: RailwayPlatformSettings, budget: RequestBudget): RailwayApi {
  const { project, environment, cli, redact, projectTokenCli } = settings;
  return createRailwayApi({ project, environment }, { cli, budget, redact, projectTokenCli });
}

const LONGEST_WAIT_MS = 60_000;

async function prepare(settings: RailwayPlatformSettings, api: RailwayApi, signal: AbortSignal): Promise<void> {
  const { cli, state, log } = settings;
  for (let tries = 1;; tries++) {
    try {
      const { cliVersion } = await checkRailway(cli, api, settings, signal);
      if (await state.resume()) log.info({ event: "platform.resumed" });
      log.info({
        event: "railway.ready",
        cli: cliVersion,
        project: settings.project,
        environment: settings.environment,
      });
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!mayPass(error)) throw error;
      if (tries === 1) log.warn({ event: "railway.failing", error: formatError(error) });
      await wait(Math.min(LONGEST_WAIT_MS, 1000 * 2 ** tries), undefined, { signal }).catch(() => {});
    }
  }
}
