import { registerHooks } from "node:module";

/**
 * Mends postgres.js 3.4.9, the driver of `@supabase/lite`, as it is loaded: to be called before anything imports it.
 *
 * A connection that ends while a statement waits to be written is written to all the same, which ends the process; or its
 * mark that something waits stays, and nothing is ever written to it again. One that ends while it is reserved counts as open
 * when it is given back. (porsager/postgres issues 1154 and 1208, pull request 1209, not merged.) A stack's API would die, or
 * hang now and then, after each restart of its Postgres.
 *
 * @throws {Error} while the driver is imported, where it is no longer what is mended here
 */
export function mendPostgresDriver(): void {
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      const [, file] = /\/node_modules\/postgres\/src\/(\w+\.js)$/.exec(url) ?? [];
      const mends = MENDS.filter((one) => one.file === file);
      if (mends.length === 0 || loaded.source === undefined || loaded.source === null) return loaded;
      const source = typeof loaded.source === "string" ? loaded.source : new TextDecoder().decode(loaded.source);
      return { ...loaded, source: mends.reduce(mend, source) };
    },
  });
}

interface Mend {
  file: string;
  from: string;
  to: string;
}

const CLOSED = "Errors.connection('CONNECTION_CLOSED', options)";

const MENDS: Mend[] = [
  // What was to be written to the old connection is not for the next one.
  {
    file: "connection.js",
    from: "incomings = null\n    clearImmediate(nextWriteTimer)\n",
    to: "incomings = null\n    clearImmediate(nextWriteTimer)\n    chunk = nextWriteTimer = null\n",
  },
  // A write that comes too late fails what it is of.
  {
    file: "connection.js",
    from: "function nextWrite(fn) {\n",
    to: `function nextWrite(fn) {
    if (socket === null) {
      chunk = nextWriteTimer = null
      error(${CLOSED})
      return false
    }
`,
  },
  // Who reserved a connection that has ended has nothing any more, neither to ask nor to give back.
  {
    file: "index.js",
    from: "c.reserved.release = true\n",
    to: "c.reserved.release = true\n    const mine = c.reserved\n",
  },
  {
    file: "index.js",
    from: "sql.release = () => {\n",
    to: "sql.release = () => {\n      if (c.reserved !== mine) return\n",
  },
  {
    file: "index.js",
    from: "function handler(q) {\n      c.queue === full\n        ? queue.push(q)",
    to:
      `function handler(q) {\n      if (c.reserved !== mine) return q.reject(${CLOSED})\n      c.queue === full\n        ? queue.push(q)`,
  },
];

function mend(source: string, { file, from, to }: Mend): string {
  if (!source.includes(from)) {
    throw new Error(`Cannot mend postgres/src/${file}: it has no ${JSON.stringify(from)}. Does it need it still?`);
  }
  return source.replace(from, () => to);
}
