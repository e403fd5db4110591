import { isIP } from "node:net";
import { z } from "zod";

// Settings of how workers call activity endpoints. The operator gives them to the deployer, which hands them to its workers.

/** Signs what is posted. Blanks around it do not count: whoever verifies has it from another file. */
export const activitySecret = z.string().trim().min(16, "must have at least 16 characters");

/** `10.0.0.0/8, fd12::/16, 127.0.0.1`: networks that are no public ones, and may be called all the same. */
export const activityNetworks = z.string().transform((text, context): Network[] =>
  text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const network = parseNetwork(part);
    if (network !== undefined) return network;
    context.addIssue(
      `"${part}" is no network: write it as 10.0.0.0/8, fd12::/16 or 127.0.0.1, several with commas between`,
    );
    return z.NEVER;
  })
);

/** A setting that is on or off. */
export const yesOrNo = z.enum(["true", "false"], "must be true or false");

export interface Network {
  address: string;
  /** Bits of it that count. */
  prefix: number;
  family: "ipv4" | "ipv6";
}

export function parseNetwork(text: string): Network | undefined {
  const [address = "", bits, ...rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0 || address.includes("%")) return undefined;
  const most = version === 4 ? 32 : 128;
  const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : NaN;
  if (!(prefix <= most)) return undefined;
  return { address, prefix, family: version === 4 ? "ipv4" : "ipv6" };
}

/** Names of those that sign. */
export const ACTIVITY_SECRETS: readonly string[] = ["OSP_ACTIVITY_SECRET", "OSP_ACTIVITY_SECRET_PREVIOUS"];

/** Names of these settings, as deployer and worker have them. */
export const ACTIVITY_SETTINGS: readonly string[] = [
  ...ACTIVITY_SECRETS,
  "OSP_ACTIVITY_NETWORKS",
  "OSP_ACTIVITY_PLAIN_HTTP",
];
