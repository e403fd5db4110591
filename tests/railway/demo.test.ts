import { inject, test } from "vitest";
import { expectDemo } from "../support/demo.ts";

test("the demo runs every example on the stand-in of Railway, through the real CLI", async () => {
  await expectDemo(["--platform", "railway"], { RAILWAY_CLI_PATH: inject("railwayCli") });
}, 400_000);
