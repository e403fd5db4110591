import { afterAll, beforeAll } from "vitest";
import { createOspClient, type OspClient } from "../../client/index.ts";
import { KEYS, startNode, temporaryDirectory, type TestProgram } from "../local/stand.ts";
import type { TestDatabase } from "../support/database.ts";

export interface TestApi {
  url: string;
  client: OspClient;
  /** What it has logged. */
  log(): string;
}

/**
 * The real API over the test's database, in a process of its own, with a client of it.
 *
 * @param environment further settings, asked for when it starts
 */
export function useApi(database: TestDatabase, environment: () => Record<string, string> = () => ({})): TestApi {
  const directory = temporaryDirectory();
  const api: Partial<TestApi> = {};
  let program: TestProgram | undefined;
  beforeAll(async () => {
    program = await startNode("local/api-server.ts", {
      ...KEYS,
      DB_URL: database.url,
      OSP_API_PORT: "0",
      OSP_STATE_DIR: directory.path,
      FUNCTIONS_INTERNAL_URL: "http://127.0.0.1:9",
      ...environment(),
    });
    api.url = program.url;
    api.client = createOspClient({ url: program.url, secretKey: KEYS.SECRET_KEY });
  });
  afterAll(async () => {
    await program?.stop();
    directory.remove();
  });
  return {
    get url() {
      return started(api.url);
    },
    get client() {
      return started(api.client);
    },
    log: () => started(program).stderr(),
  };
}

function started<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error("The API is started before the first test, not before");
  return value;
}
