import { createUploadRunner } from "../../../local/railway/container/run-upload.ts";
import { type FakeRailway, startFakeRailway } from "../../../local/railway/fake-railway.ts";
import { writeStubCli } from "../../../local/railway/stub-cli.ts";
import type { Deployment } from "../../../local/railway/world.ts";
import { createRunCli } from "./cli.ts";
import { scratchDirectory } from "./scratch.ts";

/** A stand-in of Railway that runs what is uploaded to it, by the stub of the CLI. */
export interface RunningRailway {
  fake: FakeRailway;
  /** Where images and their layers lie. */
  directory: string;
  upload(service: string, directory: string): Promise<Deployment>;
  /** Ends all that runs. */
  stop(): Promise<void>;
}

/** Containers get the variables of their service. */
export async function startRunningRailway(): Promise<RunningRailway> {
  const directory = scratchDirectory();
  const signal = new AbortController().signal;
  const fake = await startFakeRailway({
    runDeployment: createUploadRunner({ directory, environment: process.env, signal }),
  });
  const run = createRunCli(writeStubCli(scratchDirectory(), process.env), fake);
  const target = ["-p", fake.project.id, "-e", fake.production.id];
  return {
    fake,
    directory,
    stop: fake.stop,
    async upload(service, root) {
      const up = ["up", root, "--path-as-root", "--detach", "--json", ...target, "-s", service];
      const { stdout, stderr } = await run(up);
      const deployment = fake.world.deployments.get(Object(JSON.parse(stdout || "{}")).deploymentId);
      if (deployment === undefined) throw new Error(`The upload failed: ${stdout}${stderr}`);
      return deployment;
    },
  };
}

/** All that a deployment has written, a line each; of a JSON line, its message and then its attributes as they are kept. */
export function written(deployment: Deployment, log: "buildLog" | "deploymentLog"): string {
  return deployment[log].map(({ message, attributes }) => `${message} ${JSON.stringify(attributes)}`).join("\n");
}
