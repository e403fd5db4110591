import type { Client } from "pg";
import { z } from "zod";
import type { Answer, Delivery } from "./send.ts";

const requestSchema = z.object({
  id: z.string(),
  method: z.string(),
  url: z.string(),
  headers: z.record(z.string(), z.unknown()).nullable(),
  body: z.instanceof(Uint8Array).nullable(),
  timeout_milliseconds: z.int(),
});

const settingsSchema = z.object({ batch_size: z.int(), ttl: z.string(), faults: z.string().nullable() });
const faultsSchema = z.object({
  deliver_twice: z.boolean(),
  is_refusing: z.boolean().nullable(),
  delay_ms: z.int(),
  hold_ms: z.int(),
});
export type Faults = z.infer<typeof faultsSchema>;

/** SQLSTATE of `nowait` on a lock that somebody else holds. */
const LOCK_NOT_AVAILABLE = "55P03";

/**
 * Takes a batch from the queue, sends it and stores the answers, all in one transaction as pg_net does. So requests
 * stay visible and answers invisible until the slowest has ended, and a batch that is cut off is sent again.
 *
 * @returns how many requests were taken; 0 as well when somebody holds the tables: pg_net lets such a wake-up go
 */
export async function runPass(
  client: Client,
  deliver: (request: Delivery, faults: Faults | undefined) => Promise<Answer>,
): Promise<number> {
  await client.query("begin");
  try {
    await client.query("lock table net.http_request_queue, net._http_response in row exclusive mode nowait");
    const { batch_size, ttl, faults } = await readSettings(client);
    await client.query(
      `delete from net._http_response where ctid in (
        select ctid from net._http_response where created < now() - $1::interval order by created limit $2)`,
      [ttl, batch_size],
    );
    const { rows } = await client.query(
      `delete from net.http_request_queue as q using (
        select id from net.http_request_queue order by id limit $1) as batch
      where q.id = batch.id returning q.*`,
      [batch_size],
    );
    const requests = z.array(requestSchema).parse(rows);
    const answers = await Promise.all(requests.map((request) => deliver(request, faults)));
    if (answers.length > 0) await storeAnswers(client, answers);
    await client.query("commit");
    return requests.length;
  } catch (error) {
    await client.query("rollback").catch(() => {}); // a lost connection has rolled back by itself
    if (Object(error).code === LOCK_NOT_AVAILABLE) return 0;
    throw error;
  }
}

/** pg_net's own settings, by `alter system`, `alter database` or `alter role`; a batch of 0 pauses it. */
async function readSettings(client: Client) {
  const { rows } = await client.query(`select
    coalesce(nullif(current_setting('pg_net.batch_size', true), ''), '200')::integer as batch_size,
    coalesce(nullif(current_setting('pg_net.ttl', true), ''), '6 hours') as ttl,
    to_regclass('osp_local.net_faults')::text as faults`);
  const settings = settingsSchema.parse(rows[0]);
  return { ...settings, faults: settings.faults === null ? undefined : await readFaults(client) };
}

async function readFaults(client: Client): Promise<Faults> {
  const { rows } = await client.query(`select
    deliver_twice, refuse_until > clock_timestamp() as is_refusing, delay_ms, hold_ms from osp_local.net_faults`);
  return faultsSchema.parse(rows[0]);
}

async function storeAnswers(client: Client, answers: Answer[]): Promise<void> {
  await client.query(
    `insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
    select id, status_code, content_type, headers, content, timed_out, error_msg
    from jsonb_to_recordset($1) as answer(
      id bigint, status_code integer, content_type text, headers jsonb, content text, timed_out boolean, error_msg text
    )`,
    [JSON.stringify(answers)],
  );
}
