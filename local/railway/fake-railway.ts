import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBackend } from "./backend.ts";
import { createCertificates } from "./certificates.ts";
import { startConnectProxy } from "./connect-proxy.ts";
import type { Rules } from "./context.ts";
import { createFaults, type Faults } from "./faults.ts";
import { HOST } from "./host.ts";
import type { Journal } from "./journal.ts";
import type { DeploymentRunner, Launch } from "./lifecycle.ts";
import { listenOnLoopback } from "./listener.ts";
import { createOperator, type Operator } from "./operator.ts";
import { createPlans, type Plans } from "./plans.ts";
import {
  addEnvironment,
  addProject,
  addToken,
  addWorkspace,
  createWorld,
  type Environment,
  type Project,
  type Workspace,
  type World,
} from "./world.ts";

export interface FakeRailwayOptions {
  /** `looks` (default): each answer about a deployment's status moves it one step on; `manual`: only `advance` does. */
  pace?: "looks" | "manual";
  /** Runs what was uploaded; deployments then follow it and no plan. */
  runDeployment?: DeploymentRunner;
  rules?: Partial<Rules>;
  /** 100 MB by default. */
  maxUploadBytes?: number;
  /** Path of the schema in the CLI's sources (`findCliSchema`); without it only api.graphql is held against documents. */
  cliSchema?: string | undefined;
}

/** Railway on this machine, for a CLI that is started with `environment`. */
export interface FakeRailway {
  environment: { HTTPS_PROXY: string; SSL_CERT_FILE: string };
  world: World;
  workspace: Workspace;
  project: Project;
  /** The project's one environment that is no fork. */
  production: Environment;
  tokens: { workspace: string; account: string; project: string };
  faults: Faults;
  /** What the next deployments of a service go through. */
  plans: Plans;
  /** Every request, and what no well-behaved client does: a test ends with `violations` being empty. */
  journal: Journal;
  operator: Operator;
  stop(): Promise<void>;
}

/** Starts with one workspace, one project, its environment `production`, and a token of each kind. */
export async function startFakeRailway(options: FakeRailwayOptions = {}): Promise<FakeRailway> {
  const world = createWorld();
  const journal: Journal = { requests: [], violations: [] };
  const faults = createFaults();
  const plans = createPlans();
  const running = trackRuns(options.runDeployment);
  const launch: Launch = { planFor: (instance) => plans.take(world, instance), run: running?.run };
  const { authority, certificate, key } = await createCertificates(HOST);
  const seed = populate(world);
  const backend = createBackend({
    world,
    journal,
    faults,
    launch,
    rules: { uniqueServiceNames: false, servicesPageSize: Infinity, ...options.rules },
    maxUploadBytes: options.maxUploadBytes ?? 100_000_000,
    pace: options.pace ?? "looks",
    cliSchema: options.cliSchema,
  });
  const server = await listenOnLoopback(createServer({ key, cert: certificate, ALPNProtocols: ["http/1.1"] }, backend));
  const refused = (wanted: string) => void journal.violations.push(`a connection to elsewhere: ${wanted}`);
  const proxy = await startConnectProxy(`${HOST}:443`, server.port, refused);
  const directory = mkdtempSync(join(tmpdir(), "osp-railway-ca-"));
  const authorityFile = join(directory, "authority.pem");
  writeFileSync(authorityFile, authority);
  return {
    environment: { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}`, SSL_CERT_FILE: authorityFile },
    world,
    faults,
    plans,
    journal,
    ...seed,
    operator: createOperator(world, seed.production, launch),
    async stop() {
      for (const { ending } of world.deployments.values()) ending.abort();
      await running?.ended();
      await proxy.stop();
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Whoever stops the stand-in waits for all that it runs. */
function trackRuns(run: DeploymentRunner | undefined) {
  if (run === undefined) return undefined;
  const runs = new Set<Promise<void>>();
  return {
    run: (...[deployment, tell]: Parameters<DeploymentRunner>) => {
      const ended = run(deployment, tell).finally(() => runs.delete(ended));
      runs.add(ended);
      return ended;
    },
    ended: async () => void await Promise.allSettled(runs),
  };
}

function populate(world: World) {
  const workspace = addWorkspace(world, "OSP");
  const project = addProject(world, workspace.id, "osp-workers");
  const production = addEnvironment(world, project.id, "production", null);
  const ofWorkspace = { workspaceId: workspace.id, projectId: null, environmentId: null };
  const ofProject = { workspaceId: workspace.id, projectId: project.id, environmentId: production.id };
  const tokens = {
    workspace: addToken(world, { kind: "workspace", ...ofWorkspace }),
    account: addToken(world, { kind: "account", ...ofWorkspace }),
    project: addToken(world, { kind: "project", ...ofProject }),
  };
  return { workspace, project, production, tokens };
}
