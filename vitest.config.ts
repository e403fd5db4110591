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
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
