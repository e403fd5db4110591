/** What the product promises does not hold. */
export class BrokenPromise extends Error {
  override readonly name = "BrokenPromise";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}
