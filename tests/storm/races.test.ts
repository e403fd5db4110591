import { expect, test } from "vitest";
import { type Model, rowOf } from "./model.ts";
import { crosswiseProblems, inAnyOrder, inTurn } from "./races.ts";
import type { Fate, Outcome } from "./sessions.ts";

const named = (name: string): Model => new Map([["storm_1", rowOf(name, { steps: 0, options: 0 })]]);
const candidates = { model: named("Before"), byFirst: named("First"), bySecond: named("Second") };
type Candidate = keyof typeof candidates;
const namesOf = (models: Model[]) =>
  Object.entries(candidates).filter(([, one]) => models.includes(one)).map(([name]) => name);

// What an acknowledged commit rules out is no candidate: else its loss would pass for the other one's turn.
test.each<[Fate, Fate, Candidate[], Candidate[]]>([
  ["committed", "committed", ["bySecond"], ["byFirst", "bySecond"]],
  ["committed", "lost", ["byFirst"], ["byFirst"]],
  ["committed", "refused", ["byFirst"], ["byFirst"]],
  ["committed", "unknown", ["byFirst", "bySecond"], ["byFirst", "bySecond"]],
  ["lost", "committed", ["bySecond"], ["bySecond"]],
  ["refused", "committed", ["bySecond"], ["bySecond"]],
  ["unknown", "committed", ["bySecond"], ["byFirst", "bySecond"]],
  ["lost", "lost", ["model"], ["model"]],
  ["lost", "refused", ["model"], ["model"]],
  ["lost", "unknown", ["model", "bySecond"], ["model", "bySecond"]],
  ["unknown", "lost", ["model", "byFirst"], ["model", "byFirst"]],
  ["unknown", "unknown", ["model", "byFirst", "bySecond"], ["model", "byFirst", "bySecond"]],
])("%s and %s leave, in turn %j, in any order %j", (first, second, turn, any) => {
  expect(namesOf(inTurn(candidates, { fate: first }, { fate: second }))).toEqual(turn);
  expect(namesOf(inAnyOrder(candidates, { fate: first }, { fate: second }))).toEqual(any);
});

test("one of those who wait for each other is ended as a deadlock, and nothing else is refused", () => {
  const committed: Outcome = { fate: "committed" };
  const ended: Outcome = { fate: "refused", code: "40P01", message: "deadlock detected" };
  expect(crosswiseProblems(committed, committed)).toEqual([]);
  expect(crosswiseProblems(committed, ended)).toEqual([]);
  expect(crosswiseProblems(ended, committed)).toEqual([]);
  expect(crosswiseProblems(ended, ended)).toHaveLength(2);
  expect(crosswiseProblems(committed, { ...ended, code: "23514", message: "bad row" })).toEqual([
    expect.stringContaining("23514 bad row"),
  ]);
});
