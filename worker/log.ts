import { type Logger, pino } from "pino";

export type Log = Logger;

/** JSON lines on stdout, written at once: a line that waits in a buffer is lost when the process exits. */
export function createLog(): Log {
  return pino({
    base: null,
    messageKey: "message",
    errorKey: "error",
    formatters: { level: (level) => ({ level }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  }, pino.destination({ dest: 1, sync: true }));
}
