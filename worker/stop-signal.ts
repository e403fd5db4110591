/** Signals that end the process: SIGTERM and SIGINT. */
export interface StopSignal {
  /** From here on the first signal asks to drain, by aborting the returned signal. */
  beginDraining(onDrain: (name: NodeJS.Signals) => void): AbortSignal;
}

/**
 * Before work is in flight a signal ends the process at once; then the first one drains. A second Ctrl-C ends it: a person
 * has seen that it drains. A second SIGTERM changes nothing: supervisors repeat it, and they have SIGKILL for the rest.
 * The SDK's own handlers would drain too, but swallow the first signal of a Worker that failed.
 */
export function stopSignal(endNow: () => void, endUndrained: () => void): StopSignal {
  const drain = new AbortController();
  let onSignal: (name: NodeJS.Signals) => void = endNow;
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => onSignal(name));
  return {
    beginDraining(onDrain) {
      onSignal = (name) => {
        onSignal = (next) => next === "SIGINT" && endUndrained();
        onDrain(name);
        drain.abort();
      };
      return drain.signal;
    },
  };
}
