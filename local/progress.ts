import type { Progress } from "./building.ts";

/** Progress as lines for a person: what is done, and how long it took. */
export function createProgress(write: (line: string) => void): Progress {
  return {
    async step(title, work) {
      const startedAt = performance.now();
      const result = await work((text) => write(`  … ${title}: ${text}`));
      write(`  ✓ ${title} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
      return result;
    },
    say: (line) => write(line),
  };
}

/** A promise that resolves at the first SIGINT or SIGTERM. A second one changes nothing: what runs is being ended. */
export function untilToldToStop(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => resolve(name));
  });
}
