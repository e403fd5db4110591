import { DatabaseError } from "pg";

export interface BatcherOptions<Item, Result> {
  /** Two of the same key never go together. */
  keyOf(item: Item): string;
  /** Results by key; waits for no lock. What has no result is sent alone, and so are all where the database refuses one. */
  sendTogether(items: Item[]): Promise<Map<string, Result & {}>>;
  /** Waits for locks, of which many may be asked for at once. */
  sendAlone(item: Item): Promise<Result>;
}

interface Waiting<Item, Result> {
  item: Item;
  resolve(result: Result | Promise<Result>): void;
  reject(error: unknown): void;
}

/** Rows a statement: more would make those that wait for its end wait longer than they gain. */
const MOST_TOGETHER = 100;

/**
 * Sends one item at once, and together what is asked for while something is under way. So a single call is never delayed,
 * and a hundred at the same moment cost a few statements and commits instead of a hundred.
 */
export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): (item: Item) => Promise<Result> {
  let waiting: Waiting<Item, Result>[] = [];
  let isSending = false;

  const takeBatch = () => {
    const batch = new Map<string, Waiting<Item, Result>>();
    const later: Waiting<Item, Result>[] = [];
    for (const one of waiting) {
      const key = options.keyOf(one.item);
      if (batch.size < MOST_TOGETHER && !batch.has(key)) batch.set(key, one);
      else later.push(one);
    }
    waiting = later;
    return batch;
  };
  const sendAll = async () => {
    isSending = true;
    while (waiting.length > 0) await sendBatch(takeBatch(), options);
    isSending = false;
  };
  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject });
      if (!isSending) void sendAll();
    });
}

/** Never throws, and does not wait for what is sent alone: that may wait for a lock, and the next batch must not. */
async function sendBatch<Item, Result>(
  batch: Map<string, Waiting<Item, Result>>,
  { sendTogether, sendAlone }: BatcherOptions<Item, Result>,
): Promise<void> {
  let results = new Map<string, Result & {}>();
  try {
    results = await sendTogether([...batch.values()].map(({ item }) => item));
  } catch (error) {
    if (!isRefusal(error)) {
      for (const { reject } of batch.values()) reject(error);
      return;
    }
  }
  for (const [key, { item, resolve }] of batch) resolve(results.get(key) ?? sendAlone(item));
}

/** The database has refused what one of them holds (22, 23), or their locks (40, 55): the others may do without it. */
function isRefusal(error: unknown): boolean {
  return error instanceof DatabaseError && /^(22|23|40|55)/.test(error.code ?? "");
}
