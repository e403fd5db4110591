import pg from "pg";

/** The connections that the statements of a deployer share. */
export function openPool(connectionString: string, leaseSeconds: number): pg.Pool {
  return open(connectionString, leaseSeconds, 5);
}

/** Those that renew its leases, which must not wait until one of the others is free: all at once, and one that waits for a lock. */
export function openRenewalPool(connectionString: string, leaseSeconds: number): pg.Pool {
  return open(connectionString, leaseSeconds, 2);
}

function open(connectionString: string, leaseSeconds: number, max: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    max,
    connectionTimeoutMillis: 5000,
    // A connection that died unnoticed, or a locked row, must not outlast the lease.
    query_timeout: leaseSeconds * 1000,
    maxLifetimeSeconds: 3600,
  });
  pool.on("error", () => {}); // an idle connection was cut; the next query tells what follows from it
  return pool;
}
