import fc from "fast-check";
import { GOOD_OPTIONS, THREE_WORKERS, type Variant } from "./model.ts";

/** The programs of a stack that a storm kills; each is started again by whoever looks after it. */
export const PROGRAMS = ["deployer-1", "deployer-2", "deployer-3", "functions", "doorbell", "api", "temporal"] as const;
export type ProgramName = (typeof PROGRAMS)[number];

export const DEPLOYERS = ["deployer-1", "deployer-2", "deployer-3"] as const;

/** What somebody says to the database in SQL; `service` is a number of `serviceOf`. */
export type Statement =
  | { kind: "insert" | "change"; service: number; variant: Variant }
  | {
    kind:
      | "change_nothing"
      | "rename"
      | "disable"
      | "enable"
      | "delete"
      | "redeploy"
      | "insert_change_delete"
      | "transaction_rolled_back"
      | "change_untriggered"
      | "delete_untriggered";
    service: number;
  }
  | { kind: "rollback"; service: number; back: number }
  | { kind: "bulk_insert"; services: number[]; variant: Variant }
  | { kind: "truncate" }
  | { kind: "edit_at_once"; services: [number, number] }
  | { kind: "edit_crosswise"; services: [number, number] };

/** What befalls the machine. */
export type Fault =
  | { kind: "kill"; program: ProgramName }
  | { kind: "kill_worker"; service: number }
  | { kind: "pause_deployer"; program: (typeof DEPLOYERS)[number]; forMs: number }
  | { kind: "restart_postgres"; how: "fast" | "immediate"; awayMs: number }
  | { kind: "doorbell_dropped" | "doorbell_twice" | "doorbell_late"; forMs: number }
  | { kind: "doorbell_forged" }
  | { kind: "empty_registry" | "forget_everything" | "lose_temporal" }
  | { kind: "erase_worker"; service: number };

const FAULTS: readonly string[] = [
  "kill",
  "kill_worker",
  "pause_deployer",
  "restart_postgres",
  "doorbell_dropped",
  "doorbell_twice",
  "doorbell_late",
  "doorbell_forged",
  "empty_registry",
  "forget_everything",
  "lose_temporal",
  "erase_worker",
] satisfies Fault["kind"][];

export type Action = Statement | Fault | { kind: "start_workflow"; service: number };

export function isFault(action: Action): action is Fault {
  return FAULTS.includes(action.kind);
}

export interface Command {
  /** Rest before it, in milliseconds. */
  afterMs: number;
  action: Action;
}

export type Kind = Action["kind"];

const service = fc.nat({ max: 5 });
const forMs = fc.integer({ min: 500, max: 3000 });
/** Good ones, and now and then one that must fail. */
const variant: fc.Arbitrary<Variant> = fc.record({
  steps: fc.nat({ max: 3 }),
  options: fc.oneof({ weight: 9, arbitrary: fc.nat({ max: GOOD_OPTIONS - 1 }) }, {
    weight: 2,
    arbitrary: fc.integer({ min: GOOD_OPTIONS, max: GOOD_OPTIONS + 1 }),
  }),
});
const pair = fc.uniqueArray(service, { minLength: 2, maxLength: 2 }).map(([a = 0, b = 1]): [number, number] => [a, b]);

const of = <K extends Kind>(kind: K) => fc.constant(kind);
const onService = <K extends Kind>(kind: K) => fc.record({ kind: of(kind), service });

/** In about a hundred commands so often. */
const actions: { weight: number; arbitrary: fc.Arbitrary<Action> }[] = [
  { weight: 12, arbitrary: fc.record({ kind: of("insert"), service, variant }) },
  { weight: 10, arbitrary: fc.record({ kind: of("change"), service, variant }) },
  { weight: 2, arbitrary: onService("change_nothing") },
  { weight: 3, arbitrary: onService("rename") },
  { weight: 3, arbitrary: onService("disable") },
  { weight: 5, arbitrary: onService("enable") },
  { weight: 4, arbitrary: onService("delete") },
  { weight: 3, arbitrary: onService("redeploy") },
  { weight: 3, arbitrary: fc.record({ kind: of("rollback"), service, back: fc.nat({ max: 3 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: of("bulk_insert"),
      services: fc.uniqueArray(service, { minLength: 2, maxLength: 4 }),
      variant,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: of("truncate") }) },
  { weight: 2, arbitrary: onService("insert_change_delete") },
  { weight: 2, arbitrary: onService("transaction_rolled_back") },
  { weight: 1, arbitrary: onService("change_untriggered") },
  { weight: 1, arbitrary: onService("delete_untriggered") },
  { weight: 2, arbitrary: fc.record({ kind: of("edit_at_once"), services: pair }) },
  { weight: 2, arbitrary: fc.record({ kind: of("edit_crosswise"), services: pair }) },
  { weight: 10, arbitrary: onService("start_workflow") },
  { weight: 14, arbitrary: fc.record({ kind: of("kill"), program: fc.constantFrom(...PROGRAMS) }) },
  { weight: 6, arbitrary: onService("kill_worker") },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: of("pause_deployer"),
      program: fc.constantFrom(...DEPLOYERS),
      forMs: fc.integer({ min: 2500, max: 6000 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: of("restart_postgres"),
      how: fc.constantFrom("fast" as const, "immediate" as const),
      awayMs: fc.nat({ max: 1500 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: of("doorbell_dropped"), forMs }) },
  { weight: 1, arbitrary: fc.record({ kind: of("doorbell_twice"), forMs }) },
  { weight: 1, arbitrary: fc.record({ kind: of("doorbell_late"), forMs }) },
  { weight: 1, arbitrary: fc.record({ kind: of("doorbell_forged") }) },
  { weight: 1, arbitrary: onService("erase_worker") },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        "empty_registry" as const,
        "empty_registry" as const,
        "forget_everything" as const,
        "lose_temporal" as const,
      ),
    }),
  },
];

/** Bursts and rests: what comes at once meets what is under way, what comes later meets what has just ended. */
const afterMs = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, {
  weight: 3,
  arbitrary: fc.integer({ min: 100, max: 1000 }),
});

/** Before anything goes wrong there is something that can. */
const BEGINNING: Command[] = [
  {
    afterMs: 0,
    action: { kind: "bulk_insert", services: [0, 1, 2, 3], variant: { steps: 0, options: 0 } },
  },
  { afterMs: 0, action: { kind: "insert", service: 4, variant: { steps: 0, options: THREE_WORKERS } } },
];

/** The commands of a seed, without end: the same seed gives the same ones, however far a storm comes. */
export function* commandsOf(seed: number): Generator<Command> {
  const command = fc.noBias(fc.record({ afterMs, action: fc.oneof(...actions) }));
  const [commands] = fc.sample(fc.infiniteStream(command), { seed, numRuns: 1 });
  if (commands === undefined) throw new Error("a sample of one has one");
  yield* BEGINNING;
  yield* commands;
}
