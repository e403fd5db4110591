import { createHash } from "node:crypto";
import type { QueryConfig, QueryResult } from "pg";

/** A pool, or a connection. */
export interface Queryable {
  query(statement: QueryConfig): Promise<QueryResult>;
  /** Whether it is being closed, and takes nothing more. */
  ending?: boolean;
}

/** Runs a statement; `timeoutMs` is how long its answer is waited for, if not as long as the pool's others. */
export type RunStatement = (text: string, values: unknown[], timeoutMs?: number) => Promise<QueryResult>;

/**
 * Runs statements under names, so that a connection plans each of them once: most of ours take longer to plan than to run.
 *
 * A pooler that gives each transaction another session may not know a name there. Then nothing has run yet: the
 * statement is run without a name, and so are all from then on.
 */
export function createStatements(pool: Queryable): RunStatement {
  const names = new Map<string, string>();
  let areNamed = true;
  return async (text, values, timeoutMs) => {
    const statement = { text, values, ...(timeoutMs === undefined ? {} : { query_timeout: timeoutMs }) };
    if (!areNamed) return await pool.query(statement);
    const name = names.get(text) ?? nameOf(text);
    names.set(text, name);
    try {
      return await pool.query({ ...statement, name });
    } catch (error) {
      if (!isUnknownName(error)) throw error;
      areNamed = false;
      return await pool.query(statement);
    }
  };
}

/** Of its text: a session that other versions of this program used may hold a statement of theirs under the same name. */
function nameOf(text: string): string {
  return `osp_${createHash("sha256").update(text).digest("hex").slice(0, 24)}`;
}

/** invalid_sql_statement_name, or duplicate_prepared_statement: another client of the pooler prepared it on this session. */
function isUnknownName(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "26000" || error.code === "42P05");
}
