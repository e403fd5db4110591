import { setTimeout as pause } from "node:timers/promises";

/**
 * What `work` gives, or its error; rejects with `makeError()` when neither came in time. The work itself goes on: this
 * is for calls of the SDK that no deadline ends (it connects without one, and retries past the one of a call).
 */
export async function withTimeLimit<Result>(
  work: Promise<Result>,
  ms: number,
  makeError: () => Error,
): Promise<Result> {
  const timer = new AbortController();
  const limit = pause(ms, undefined, { signal: timer.signal }).then(() => {
    throw makeError();
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    timer.abort();
    limit.catch(() => {}); // aborted, or already thrown by the race
    work.catch(() => {}); // too late to matter
  }
}
