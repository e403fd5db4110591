/** Signals that end the process: SIGTERM and SIGINT. */
export interface StopSignal {
  /** From here on the first signal asks to drain, by aborting the returned signal. */
  beginDraining(onDrain: (name: NodeJS.Signals) => void): AbortSignal;
}

/** Supervisors and process groups send a signal twice at once: that is one. */
const SAME_SIGNAL_MS = 1_000;
/** What is in flight gets this long after a second SIGTERM: most calls that are near their end still end. */
export const HURRIED_DRAIN_SECONDS = 5;

/**
 * Before work is in flight a signal ends the process at once; then the first one drains. A second SIGTERM hurries the
 * drain, a second Ctrl-C ends it at once: a person has seen that it drains.
 * The SDK's own handlers would drain too, but swallow the first signal of a Worker that failed.
 *
 * @param endUndrained gets the name of the second signal
 */
export function stopSignal(
  endNow: (name: NodeJS.Signals) => void,
  endUndrained: (name: NodeJS.Signals) => void,
): StopSignal {
  const drain = new AbortController();
  let onSignal: (name: NodeJS.Signals) => void = endNow;
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => onSignal(name));
  return {
    beginDraining(onDrain) {
      onSignal = (name) => {
        const first = performance.now();
        onSignal = (next) => {
          if (next === "SIGINT") endUndrained(next);
          else if (performance.now() - first > SAME_SIGNAL_MS) {
            setTimeout(endUndrained, HURRIED_DRAIN_SECONDS * 1000, next).unref();
          }
        };
        onDrain(name);
        drain.abort();
      };
      return drain.signal;
    },
  };
}
