import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import pg from "pg";

/** A pooler in transaction mode: each transaction gets the session that is free, so nothing of a session lasts. */
export interface TransactionPooler {
  /** The given URL, through the pooler. */
  url: string;
  /** How many transactions each session has served. */
  served(): number[];
  close(): Promise<void>;
}

interface Session {
  socket: Socket;
  transactions: number;
  /** Takes each message of the server while a transaction is under way. */
  onMessage: (message: Buffer) => void;
  onEnd: () => void;
}

const SSL_REQUEST = 80_877_103;

/**
 * Speaks version 3.0 of Postgres' protocol (manual, "Frontend/Backend Protocol") to whoever connects, without asking for a
 * password, and shares `size` sessions among them as PgBouncer's pool_mode=transaction does: a client has a session from
 * its first message until the server says that it is idle and outside of a transaction. Notifications reach nobody.
 */
export async function startTransactionPooler(databaseUrl: string, size = 3): Promise<TransactionPooler> {
  const sessions: Session[] = [];
  const free: Session[] = [];
  const waiting: ((session: Session) => void)[] = [];
  const clients = new Set<Socket>();

  async function acquire(): Promise<Session> {
    if (sessions.length < size) return await open();
    return free.shift() ?? await new Promise<Session>((resolve) => waiting.push(resolve));
  }

  /** To whoever waits longest, else to the end: the next transaction gets another session. */
  function release(session: Session): void {
    session.onMessage = () => {};
    session.onEnd = () => {};
    const next = waiting.shift();
    if (next === undefined) free.push(session);
    else next(session);
  }

  async function open(): Promise<Session> {
    const client = new pg.Client({ connectionString: databaseUrl });
    client.on("error", () => {});
    const session: Session = { socket: Object(client).connection.stream, transactions: 0, onMessage() {}, onEnd() {} };
    sessions.push(session);
    await client.connect();
    // It has logged in; from here on its bytes are ours.
    session.socket.removeAllListeners("data");
    onMessages(session.socket, (message) => session.onMessage(message));
    session.socket.on("close", () => {
      for (const list of [sessions, free]) if (list.includes(session)) list.splice(list.indexOf(session), 1);
      session.onEnd();
    });
    return session;
  }

  function serve(client: Socket): void {
    clients.add(client);
    client.on("error", () => {}).on("close", () => clients.delete(client));
    let session: Session | undefined;
    let unanswered = 0;
    let last: Promise<unknown> = Promise.resolve();
    client.on("close", () => session?.socket.destroy()); // in the middle of a transaction: nobody else may have it

    async function pass(message: Buffer): Promise<unknown> {
      const type = message.toString("latin1", 0, 1);
      if (type === "X") return client.end();
      if (session === undefined) {
        session = await acquire();
        session.transactions++;
        session.onEnd = () => client.destroy();
        session.onMessage = answer;
      }
      if (type === "S" || type === "Q") unanswered++; // each is answered by one ReadyForQuery
      return session.socket.write(message);
    }

    function answer(message: Buffer): void {
      const type = message.toString("latin1", 0, 1);
      if (type === "A") return;
      client.write(message);
      if (type !== "Z" || --unanswered > 0 || message.toString("latin1", 5, 6) !== "I" || session === undefined) return;
      release(session);
      session = undefined;
    }

    greet(client, () => {
      onMessages(client, (message) => void (last = last.then(() => pass(message)).catch(() => client.destroy())));
    });
  }

  const server = createServer(serve);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(databaseUrl);
  url.port = String(Object(server.address()).port);
  return {
    url: url.href,
    served: () => sessions.map(({ transactions }) => transactions),
    async close() {
      for (const socket of [...clients, ...sessions.map((session) => session.socket)]) socket.destroy();
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}

/** Answers a client's startup: no TLS, no password, ready. */
function greet(client: Socket, onReady: () => void): void {
  client.on("data", function onStartup(message: Buffer) {
    if (message.readInt32BE(4) === SSL_REQUEST) return void client.write("N");
    client.off("data", onStartup);
    client.write(Buffer.concat([
      frame("R", Buffer.alloc(4)), // AuthenticationOk
      frame("S", Buffer.from("server_version\x0017.0\0")),
      frame("S", Buffer.from("client_encoding\0UTF8\0")),
      frame("K", Buffer.alloc(8)),
      frame("Z", Buffer.from("I")),
    ]));
    onReady();
  });
}

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

/** Cuts a stream into messages: a byte of type, the length without it, the body. */
function onMessages(socket: Socket, onMessage: (message: Buffer) => void): void {
  let rest = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
      const end = rest.readInt32BE(1) + 1;
      onMessage(rest.subarray(0, end));
      rest = rest.subarray(end);
    }
  });
}
