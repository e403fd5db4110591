import pg from "pg";

/** The connections that the statements of a deployer share. */
export function openPool(connectionString: string, leaseSeconds: number): pg.Pool {
  return open(connectionString, leaseSeconds, 5);
}

/** Those that renew its leases, which must not wait until one of the others is free: all at once, and one that waits for a lock. */
export function openRenewalPool(connectionString: string, leaseSeconds: number): pg.Pool {
  return open(connectionString, leaseSeconds, 2);
}

/**
 * How long a lock on a table may be waited for, which a statement cannot say by itself: it has waited by the time that it runs.
 * What gives up here gives up in the server as well, where the session of a client that went away would wait on.
 */
const LOCK_TIMEOUT_MS = 1000;

function open(connectionString: string, leaseSeconds: number, max: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    max,
    connectionTimeoutMillis: 5000,
    // A connection that died unnoticed, or a locked row, must not outlast the lease.
    query_timeout: leaseSeconds * 1000,
    maxLifetimeSeconds: 3600,
    // Before a new connection is first used.
    verify(client, done) {
      client.on("error", ignore); // the pool does not listen meanwhile; a cut connection fails the query as well
      void limitLockWaits(client).then(() => done(), done).finally(() => client.off("error", ignore));
    },
  });
  pool.on("error", ignore); // an idle connection was cut; the next query tells what follows from it
  return pool;
}

/** Not where a pooler stands between: its sessions are others' as well. It tells another process than the one that answers. */
async function limitLockWaits(client: pg.ClientBase): Promise<void> {
  await client.query(`select set_config('lock_timeout', $1, false) where pg_backend_pid() = $2`, [
    `${LOCK_TIMEOUT_MS}ms`,
    Object(client).processID,
  ]);
}

function ignore(): void {}
