import { execa } from "execa";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Action, commandsOf, PROGRAMS } from "./commands.ts";

/** Within its first commands everything befalls the stack that a storm knows, but for what makes the judges forget. */
const SEED = 14215;
const FIRST = 96;

const nameOf = (action: Action) => {
  if (action.kind === "kill") return `kill ${action.program}`;
  return action.kind === "restart_postgres" ? `restart_postgres ${action.how}` : action.kind;
};

test("a seed is the same commands each time, and ours holds all of them", () => {
  const commands = commandsOf(SEED).take(FIRST).toArray();
  expect(commandsOf(SEED).take(FIRST).toArray()).toEqual(commands);
  expect(commandsOf(SEED + 1).take(FIRST).toArray()).not.toEqual(commands);
  expect(commands.map(({ action }) => nameOf(action))).toEqual(expect.arrayContaining([
    ...["insert", "change", "change_nothing", "rename", "disable", "enable", "delete", "redeploy", "rollback"],
    ...["bulk_insert", "truncate", "insert_change_delete", "transaction_rolled_back"],
    ...["change_untriggered", "delete_untriggered", "edit_at_once", "edit_crosswise", "start_workflow"],
    ...PROGRAMS.map((program) => `kill ${program}`),
    ...["kill_worker", "erase_worker", "pause_deployer", "restart_postgres fast", "restart_postgres immediate"],
    ...["doorbell_dropped", "doorbell_twice", "doorbell_late", "doorbell_forged"],
  ]));
});

const reportSchema = z.object({
  ok: z.literal(true),
  storms: z.tuple([z.looseObject({
    seed: z.literal(SEED),
    commands: z.record(z.string(), z.int()),
    deployments: z.int(),
    replicated: z.int(),
    looks: z.int(),
  })]),
});

test("after a minute of statements, SIGKILLs, restarts, pauses and bad rings the fleet equals the table", async () => {
  const { stdout, stderr, exitCode } = await execa(
    process.execPath,
    ["tests/storm/soak.ts", "--minutes", "0", "--seed", String(SEED), "--json"],
    { cwd: new URL("../..", import.meta.url), reject: false, timeout: 560_000, forceKillAfterDelay: 60_000 },
  );
  // What is broken, and where its commands, logs and tables lie.
  expect(exitCode, stderr).toBe(0);
  const { storms: [storm] } = reportSchema.parse(JSON.parse(stdout));
  expect(storm).toMatchObject({
    commands: { kill: expect.any(Number), restart_postgres: expect.any(Number), pause_deployer: expect.any(Number) },
  });
  expect(storm.deployments).toBeGreaterThan(0);
  expect(storm.replicated).toBeGreaterThan(0);
  expect(storm.looks).toBeGreaterThan(0);
}, 600_000);
