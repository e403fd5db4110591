import { AsyncLocalStorage } from "node:async_hooks";
import { z } from "zod";

/** An error as Postgres reports it. */
const databaseErrorSchema = z.object({
  code: z.string().regex(/^[0-9A-Z]{5}$/),
  message: z.string(),
  detail: z.string().nullish(),
  hint: z.string().nullish(),
});
type DatabaseError = z.infer<typeof databaseErrorSchema>;

/** Statuses of PostgREST, by the first characters of the SQLSTATE; all others are 400. */
const statuses: Record<string, number> = {
  "08": 503,
  "09": 500,
  "0L": 403,
  "0P": 403,
  "23503": 409,
  "23505": 409,
  "25006": 405,
  "25": 500,
  "28": 403,
  "2D": 500,
  "38": 500,
  "39": 500,
  "3B": 500,
  "40": 500,
  "53400": 500,
  "53": 503,
  "54": 500,
  "55": 500,
  "57": 500,
  "58": 500,
  "P0001": 400,
  "P0": 500,
  "XX": 500,
};

/**
 * Remembers what Postgres said while a request is answered. @supabase/lite knows some SQLSTATEs and turns the rest, a
 * violated check among them, into a 500 without code and hint; callers of PostgREST get both.
 */
export function createErrorMemory() {
  const storage = new AsyncLocalStorage<{ error?: DatabaseError }>();
  return {
    /** Runs a query of lite's. */
    async watch<Result>(query: () => Promise<Result>): Promise<Result> {
      try {
        return await query();
      } catch (error) {
        const parsed = databaseErrorSchema.safeParse(error);
        const memory = storage.getStore();
        if (memory !== undefined && parsed.success) memory.error = parsed.data;
        throw error;
      }
    },
    /** Answers a request; the answer "SUP", lite's word for an unknown error, is replaced by what Postgres said. */
    answer(respond: () => Promise<Response>): Promise<Response> {
      const memory: { error?: DatabaseError } = {};
      return storage.run(memory, async () => {
        const response = await respond();
        if (response.status !== 500 || memory.error === undefined) return response;
        const { code, message, detail, hint } = memory.error;
        const { code: given } = Object(await response.clone().json().catch(() => undefined));
        if (given !== "SUP") return response;
        await response.body?.cancel();
        const status = statuses[code] ?? statuses[code.slice(0, 2)] ?? 400;
        return Response.json({ code, message, details: detail ?? null, hint: hint ?? null }, { status });
      });
    },
  };
}
