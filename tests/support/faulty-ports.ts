/** Where a run of a program over its ports is to fail. */
export interface Fault {
  /** Number of the call, from 1, over all ports. */
  at: number;
  /** How many calls fail in a row. Default: one. Two: what is done about the first fails as well. */
  lasts?: number;
  /** Whether the call takes effect before it fails: an answer that gets lost. */
  hasEffect: boolean;
  /** `error`: the call fails and the program goes on. `crash`: the program is gone, and so is every call after it. */
  kind: "error" | "crash";
}

export interface FaultyPorts {
  /** The port, each of whose methods counts as a call. */
  wrap<Port extends object>(port: Port): Port;
  /** How many calls were made. */
  calls(): number;
  /** Resolves when the program is gone and what it had begun has ended. Never without a crash. */
  crashed: Promise<void>;
}

/** Ports that do what they are told until one call fails. A run that makes fewer calls meets no fault. */
export function createFaultyPorts(fault: Fault): FaultyPorts {
  const { promise: crashed, resolve: crash } = Promise.withResolvers<void>();
  const underWay = new Set<Promise<unknown>>();
  let calls = 0;
  const isGone = () => fault.kind === "crash" && calls >= fault.at;

  async function call(effect: () => Promise<unknown>): Promise<unknown> {
    if (isGone()) return await new Promise(() => {});
    calls++;
    const isFaulty = calls >= fault.at && calls < fault.at + (fault.lasts ?? 1);
    if (!isFaulty || fault.hasEffect) {
      const begun = effect();
      underWay.add(begun);
      const answer = await begun.finally(() => underWay.delete(begun));
      if (!isFaulty) return isGone() ? await new Promise(() => {}) : answer;
    }
    if (fault.kind === "error") throw new Error(`Call ${fault.at} fails on purpose`);
    await Promise.allSettled(underWay);
    crash();
    return await new Promise(() => {});
  }

  return {
    wrap: (port) =>
      new Proxy(port, {
        get(target, name) {
          const method: unknown = Reflect.get(target, name);
          if (typeof method !== "function") return method;
          return (...args: unknown[]) => call(async () => await Reflect.apply(method, target, args));
        },
      }),
    calls: () => calls,
    crashed,
  };
}
