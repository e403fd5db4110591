import { canonicalJson, sha256Hex } from "../supabase/functions/_shared/canonical-json.ts";
import { type Manifest, manifestPath, parseManifest } from "../supabase/functions/_shared/manifest.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { visible } from "../supabase/functions/_shared/visible-text.ts";
import { PlatformError } from "./platforms/platform.ts";
import type { Claim } from "./claim.ts";

/**
 * The manifest of a claim: to the byte what was enqueued, of the service and revision that its row says, to be written where
 * a manifest of that service belongs.
 *
 * @throws {PlatformError} permanent: another try would read the same
 */
export async function verifyManifest(claim: Claim): Promise<Manifest> {
  const again = `Make a new one: select osp.redeploy('${claim.service_schema}')`;
  const sha256 = await hashOf(claim, again);
  if (sha256 !== claim.manifest_sha256) {
    throw permanent(
      "manifest_mismatch",
      `The manifest in the registry has SHA-256 ${sha256}, its row says ${claim.manifest_sha256}: it was changed by hand. ${again}`,
    );
  }
  const manifest = parse(claim);
  // A hash can be changed with what it is of.
  if (manifest.service_schema !== claim.service_schema || manifest.revision !== claim.revision) {
    throw permanent(
      "manifest_mismatch",
      `The manifest in the registry is of service "${manifest.service_schema}" revision ${manifest.revision}, its row ` +
        `of service "${claim.service_schema}" revision ${claim.revision}: it was changed by hand. ${again}`,
    );
  }
  const path = manifestPath(manifest.service_schema);
  if (claim.manifest_path !== path) {
    throw permanent(
      "manifest_mismatch",
      `manifest_path in the registry is "${
        visible(claim.manifest_path)
      }", of this service it is "${path}": it was changed by hand. ${again}`,
    );
  }
  return manifest;
}

async function hashOf(claim: Claim, again: string): Promise<string> {
  try {
    return await sha256Hex(canonicalJson(claim.manifest));
  } catch (error) {
    throw permanent(
      "manifest_invalid",
      `The manifest of deployment ${claim.id}: ${formatError(error)}. ${again}`,
      error,
    );
  }
}

function parse(claim: Claim): Manifest {
  try {
    return parseManifest(`of deployment ${claim.id}`, claim.manifest);
  } catch (error) {
    throw permanent("manifest_invalid", formatError(error), error);
  }
}

function permanent(code: string, message: string, cause?: unknown): PlatformError {
  return new PlatformError("permanent", code, message, {}, { cause });
}
