/** Work on the same key runs one after another, in the order in which it was asked for; on different keys at once. */
export interface Turns {
  take<Result>(key: string, work: () => Promise<Result>): Promise<Result>;
  /** Whether something is being done on a key, or waits for its turn. */
  isTaken(key: string): boolean;
  /** Those that are taken. */
  keys(): string[];
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    isTaken: (key) => last.has(key),
    keys: () => [...last.keys()],
    take(key, work) {
      const turn = (last.get(key) ?? Promise.resolve()).then(work, work);
      const settled = turn.catch(() => {}).then(() => {
        if (last.get(key) === settled) last.delete(key);
      });
      last.set(key, settled);
      return turn;
    },
  };
}
