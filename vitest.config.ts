import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: ["tests/support/global-setup.ts"],
    include: ["tests/**/*.test.ts"],
    // With the real Railway CLI: `npm run test:railway`; with years of history: `npm run test:scale`.
    exclude: ["tests/railway/**", "tests/scale/**"],
    // Processes, not threads: tests start databases and workers, and change their environment and signal handlers.
    pool: "forks",
    // The smallest CI machine has two cores; more files at once make time-outs, not speed.
    maxWorkers: 2,
    // Machines are shared: a deadline is there to end what hangs, not to judge speed.
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
