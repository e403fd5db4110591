import { execa } from "execa";
import { expect, test } from "vitest";

test("a fleet whose workers, and whose registry, are gone comes back from osp.services alone", async () => {
  const { stdout, stderr, exitCode } = await execa(
    process.execPath,
    ["tests/drills/amnesia.ts", "--services", "2", "--json"],
    { cwd: new URL("../..", import.meta.url), reject: false, timeout: 400_000 },
  );
  expect(exitCode, stderr).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    ok: true,
    services: 2,
    killed_to_back_s: expect.any(Number),
    emptied_to_back_s: expect.any(Number),
    erased_to_back_s: expect.any(Number),
  });
}, 420_000);
