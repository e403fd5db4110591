/** Asks the Edge Function to look for work, as the database's own doorbell does. */
export interface Doorbell {
  /** Resolves once the function has answered. @throws when it does not, or not with success */
  ring(signal: AbortSignal): Promise<void>;
}

/** The function itself works up to 20 s in one go. */
const RING_TIMEOUT_MS = 30_000;

/** @param functionsUrl such as `https://<ref>.supabase.co/functions/v1` */
export function createDoorbell(functionsUrl: string, webhookSecret: string): Doorbell {
  const url = `${functionsUrl.replace(/\/+$/, "")}/queue-worker-build`;
  return {
    async ring(signal) {
      const response = await fetch(url, {
        method: "POST",
        headers: { "x-osp-webhook-secret": webhookSecret },
        signal: AbortSignal.any([signal, AbortSignal.timeout(RING_TIMEOUT_MS)]),
      });
      const answer = (await response.text()).slice(0, 500);
      if (!response.ok) throw new Error(`Cannot ring ${url}: it answers ${response.status} ${answer}`);
    },
  };
}
