import pg from "pg";

/** The connections that the statements of a deployer share. */
export function openPool(connectionString: string, leaseSeconds: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    max: 5,
    connectionTimeoutMillis: 5000,
    // A connection that died unnoticed, or a locked row, must not outlast the lease.
    query_timeout: leaseSeconds * 1000,
    maxLifetimeSeconds: 3600,
  });
  pool.on("error", () => {}); // an idle connection was cut; the next query tells what follows from it
  return pool;
}
