import { fileURLToPath } from "node:url";
import { mergeConfig } from "vitest/config";
import shared from "../../vitest.config.ts";

/** The suite of `npm run test:scale`: years of history, loaded once, in a server of its own. Takes some minutes. */
export default mergeConfig({
  ...shared,
  test: { ...shared.test, include: ["tests/scale/**/*.test.ts"], exclude: [], globalSetup: [] },
}, {
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    globalSetup: ["tests/scale/global-setup.ts"],
    // One after the other: two files that read gigabytes at once would only wait for each other.
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 300_000,
  },
});
