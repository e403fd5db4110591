import { functionsServerCommand } from "../../local/functions-server-command.ts";
import { KEYS, startProgram, type TestProgram } from "../local/stand.ts";

export const FUNCTION_SECRET = "a-secret-of-sixteen";

export interface TestFunction extends TestProgram {
  /** Rings; the answer's body. */
  ring(): Promise<unknown>;
}

/** The Edge Function as it is deployed, in a Deno process of its own, on the API at this address. */
export async function startFunction(apiUrl: string): Promise<TestFunction> {
  const { command, arguments: args } = functionsServerCommand();
  const program = await startProgram(command, args, {
    SUPABASE_URL: apiUrl,
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: KEYS.SECRET_KEY }),
    OSP_WEBHOOK_SECRET: FUNCTION_SECRET,
    OSP_DEFAULT_ACTIVITY_ENDPOINT: "http://127.0.0.1:9/{service_schema}/{activity}",
  });
  return {
    ...program,
    async ring() {
      const response = await fetch(`${program.url}/queue-worker-build`, {
        method: "POST",
        headers: { "x-osp-webhook-secret": FUNCTION_SECRET },
      });
      return await response.json();
    },
  };
}
