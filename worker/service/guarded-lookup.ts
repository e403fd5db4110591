import { lookup, type LookupAddress, type LookupAllOptions } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import type { AddressPolicy, Protocol } from "./address-policy.ts";

/** No connection is made to it: the operator's settings do not allow the address. */
export class EndpointForbiddenError extends Error {
  override readonly name = "EndpointForbiddenError";
}

/** As `dns.lookup` gives all addresses of a name. */
export type Resolve = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Looks a name up for one connection, and gives it those addresses alone that may be called. What was checked is what is
 * connected to: a name that leads elsewhere a moment later (DNS rebinding) is looked up and checked again.
 */
export function guardedLookup(
  policy: AddressPolicy,
  protocol: Protocol,
  resolve: Resolve = lookup,
): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, []);
      const allowed = found.filter(({ address }) => policy.refusalOf(address, protocol) === undefined);
      const [first] = allowed;
      if (first === undefined) {
        callback(new EndpointForbiddenError(`${hostname}: ${refusals(found, policy, protocol)}`), []);
      } else if (options.all) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

/** @throws {EndpointForbiddenError} for an address that stands in the URL itself: nothing looks it up */
export function checkLiteral(url: URL, policy: AddressPolicy): void {
  const refusal = literalRefusal(url, policy);
  if (refusal !== undefined) throw new EndpointForbiddenError(refusal);
}

/** Why the address in a URL may not be called; undefined: it may, or it is a name. The parser of URLs knows every spelling. */
function literalRefusal({ hostname, protocol }: URL, policy: AddressPolicy): string | undefined {
  const address = hostname.replace(/^\[|\]$/g, "");
  return isIP(address) === 0 ? undefined : policy.refusalOf(address, protocol === "https:" ? "https:" : "http:");
}

function refusals(found: { address: string }[], policy: AddressPolicy, protocol: Protocol): string {
  return found.map(({ address }) => policy.refusalOf(address, protocol)).join("; ");
}
