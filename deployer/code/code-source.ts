import { PlatformError } from "../platforms/platform.ts";

/** Where services' own code comes from: the archive that `options.code` of a manifest names, to the byte. */
export interface CodeSource {
  /**
   * @throws {PlatformError} permanent: Storage does not have it, or not to the byte; unavailable: it cannot be asked
   * @throws the signal's reason
   */
  fetch(serviceSchema: string, code: string, signal: AbortSignal): Promise<Buffer>;
}

/**
 * Of a deployer without the settings. It is not the service's fault, so the deployment waits: another deployer may have them, or
 * this one gets them.
 */
export const noCodeSource: CodeSource = {
  fetch: (serviceSchema) =>
    Promise.reject(
      new PlatformError(
        "unavailable",
        "code_storage_unset",
        `Service "${serviceSchema}" has code of its own, and this deployer does not know where that is: set SUPABASE_URL and ` +
          "SUPABASE_SECRET_KEY for it",
      ),
    ),
};
