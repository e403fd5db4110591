import { Client, Connection } from "@temporalio/client";
import { randomBytes } from "node:crypto";
import { cacheDirectory } from "../../../host/cache-directory.ts";
import { startTemporalServer } from "../../support/temporal-server.ts";
import { type CodeRoot, createCodeRoot, startWorker, type WorkerProcess } from "./worker-process.ts";

/** A Temporal server, a client, and workers that end with the test file. */
export interface ServiceFixture {
  address: string;
  client: Client;
  codeRoot(files: Record<string, unknown>): CodeRoot;
  worker(codeRoot: CodeRoot, environment?: Record<string, string>, args?: string[]): WorkerProcess;
  stop(): Promise<void>;
}

export async function startServiceFixture(): Promise<ServiceFixture> {
  const server = await startTemporalServer();
  const connection = await Connection.connect({ address: server.address });
  const workers: WorkerProcess[] = [];
  const codeRoots: CodeRoot[] = [];
  return {
    address: server.address,
    client: new Client({ connection }),
    codeRoot(files) {
      const codeRoot = createCodeRoot(files);
      codeRoots.push(codeRoot);
      return codeRoot;
    },
    worker(codeRoot, environment = {}, args = []) {
      const worker = startWorker(codeRoot.path, {
        MANIFEST_PATH: "manifest.json",
        TEMPORAL_ADDRESS: server.address,
        OSP_CACHE_DIR: cacheDirectory(process.env),
        // Endpoints of tests are on this machine.
        OSP_ACTIVITY_NETWORKS: "127.0.0.0/8,::1",
        ...environment,
      }, args);
      workers.push(worker);
      return worker;
    },
    async stop() {
      await Promise.all(workers.map((worker) => worker.kill()));
      for (const codeRoot of codeRoots) codeRoot.remove();
      await connection.close();
      await server.stop();
    },
  };
}

/** A name that no other test has. */
export function uniqueSchema(): string {
  return `test_${randomBytes(6).toString("hex")}`;
}
