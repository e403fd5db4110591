import { connect } from "node:net";
import { freePort, tryPort } from "../host/free-port.ts";
import { type PORT_SETTINGS, type StackConfig, StackError } from "./config.ts";

/** The stack's ports by the variable that moves each. */
export type Ports = Record<(typeof PORT_SETTINGS)[number], number>;

/**
 * @param names settings of the ports that are wanted; the others stay 0
 * @param before ports of the last start, taken again where any free one will do
 * @throws {StackError} naming every port that is taken, each with the setting that moves it
 */
export async function choosePorts(
  config: StackConfig,
  names: readonly (keyof Ports)[],
  before: Record<string, number>,
): Promise<Ports> {
  const chosen: Ports = {
    OSP_DB_PORT: 0,
    OSP_API_PORT: 0,
    OSP_TEMPORAL_PORT: 0,
    OSP_TEMPORAL_UI_PORT: 0,
    OSP_ACTIVITY_PORT: 0,
  };
  const taken: string[] = [];
  for (const name of names) {
    const wanted = config[name];
    const again = wanted === 0 ? before[name] : undefined;
    const port = (again === undefined ? undefined : await tryPort(again)) ??
      await (wanted === 0 ? freePort() : tryPort(wanted));
    if (port === undefined) {
      taken.push(`port ${config[name]} is taken: set ${name} to another one, or to 0 for any free one`);
    } else chosen[name] = port;
  }
  if (taken.length > 0) throw new StackError(`Cannot start: ${taken.join("; ")}`);
  return chosen;
}

/** Whether somebody accepts connections on a port of 127.0.0.1. */
export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port }, () => resolve(true));
    socket.on("error", () => resolve(false)).on("connect", () => socket.destroy());
  });
}
