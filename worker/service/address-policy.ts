import { BlockList, isIP } from "node:net";
import type { Network } from "../../host/activity-settings.ts";

/** Which addresses activity endpoints may have: public ones, and those that a setting allows. */
export interface AddressPolicy {
  /** Why no connection may be made to it, and which setting allows it; undefined: it may. */
  refusalOf(address: string, protocol: Protocol): string | undefined;
}

export type Protocol = "http:" | "https:";

export interface AddressSettings {
  /** Allowed though they are no public ones. */
  networks: Network[];
  /** http without TLS to other than loopback addresses. */
  allowsPlainHttp: boolean;
}

/** IANA's special-purpose registries: nothing of it is a host of somebody else's on the internet. */
const IPV4_RANGES = [
  ["a loopback address", "127.0.0.0/8"],
  ["a private address", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
  ["a link-local address, such as a cloud's metadata service has", "169.254.0.0/16"],
  // In no registry, and public by its looks: inside of Azure it answers for the machine's own host.
  ["the address of Azure's host", "168.63.129.16/32"],
  ["a shared address (carrier-grade NAT)", "100.64.0.0/10"],
  ["a reserved address", "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"],
  ["a reserved address", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"],
] as const;
const IPV6_RANGES = [
  ["a loopback address", "::1/128"],
  ["a private address (unique local)", "fc00::/7"],
  ["a link-local address", "fe80::/10"],
  ["a reserved address", "2001::/32", "2001:2::/48", "2001:db8::/32", "fec0::/10", "ff00::/8", "::/128"],
  ["a reserved address", "3fff::/20", "5f00::/16"],
] as const;
const ranges = [...IPV4_RANGES, ...IPV6_RANGES].map(([what, ...networks]) => ({
  what,
  list: listOf(networks.map(rangeOf)),
}));
/** All that is assigned to hosts; the rest is not, or is for uses of its own. */
const globalUnicast = listOf([{ address: "2000::", prefix: 3, family: "ipv6" }]);
const loopback = listOf([
  { address: "127.0.0.0", prefix: 8, family: "ipv4" },
  { address: "::1", prefix: 128, family: "ipv6" },
]);

export function createAddressPolicy({ networks, allowsPlainHttp }: AddressSettings): AddressPolicy {
  const allowed = listOf(networks);
  return {
    refusalOf(written, protocol) {
      const address = plainAddress(written);
      const what = specialUse(address);
      if (what !== undefined && !holds(allowed, address)) {
        return `${address} is ${what}, which workers do not call: if they shall, add it or its network to OSP_ACTIVITY_NETWORKS`;
      }
      if (protocol === "http:" && !allowsPlainHttp && !holds(loopback, address)) {
        return `http would send everything to ${address} in the clear: use https, or set OSP_ACTIVITY_PLAIN_HTTP=true`;
      }
      return undefined;
    },
  };
}

/** What an address is for, where it is no public one. */
function specialUse(address: string): string | undefined {
  const range = ranges.find(({ list }) => holds(list, address));
  if (range !== undefined) return range.what;
  return isIP(address) === 4 || holds(globalUnicast, address) ? undefined : "a reserved address";
}

/** Without the zone of an interface; as IPv4 where an IPv6 address leads to one: mapped, compatible, NAT64, 6to4. */
function plainAddress(written: string): string {
  const address = written.replace(/%.*$/s, "");
  if (isIP(address) !== 6) return address;
  const words = wordsOf(address);
  const leads = (prefix: string) => prefix.split(":").every((word, index) => words[index] === parseInt(word, 16));
  const [at, is4] = leads("2002")
    ? [1, true]
    : [6, ["0:0:0:0:0:ffff", "64:ff9b:0:0:0:0"].some(leads) || (leads("0:0:0:0:0:0") && (words[6] ?? 0) > 0)];
  if (!is4) return address;
  return words.slice(at, at + 2).flatMap((word) => [word >> 8, word & 0xff]).join(".");
}

/** The eight words of an IPv6 address. */
function wordsOf(address: string): number[] {
  const hex = address.replace(/[\d.]+$/, (tail) => {
    if (!tail.includes(".")) return tail;
    const [a = 0, b = 0, c = 0, d = 0] = tail.split(".").map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = [], tail = []] = hex.split("::").map((part) => part.split(":").filter(Boolean));
  const gap = Array.from({ length: 8 - head.length - tail.length }, () => "0");
  return [...head, ...gap, ...tail].map((word) => parseInt(word, 16));
}

/** Of ours: to look whether an IPv6 address is one takes Node 4 ms to set up, which few starts need. */
function rangeOf(text: string): Network {
  const [address = "", bits] = text.split("/");
  return { address, prefix: Number(bits), family: address.includes(":") ? "ipv6" : "ipv4" };
}

function listOf(networks: Network[]): BlockList {
  const list = new BlockList();
  for (const { address, prefix, family } of networks) list.addSubnet(address, prefix, family);
  return list;
}

function holds(list: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && list.check(address, version === 4 ? "ipv4" : "ipv6");
}
