import { fileURLToPath } from "node:url";
import { mergeConfig } from "vitest/config";
import shared from "../../vitest.config.ts";

/** The suite of `npm run test:railway`: with the real CLI, which takes minutes to build where it was never built. */
export default mergeConfig({
  ...shared,
  test: { ...shared.test, include: ["tests/railway/**/*.test.ts"], exclude: [] },
}, {
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: { globalSetup: ["tests/railway/global-setup.ts"] },
});
