import { homedir } from "node:os";
import { join } from "node:path";

/**
 * Where things are kept that every clone on this machine shares and that can be made again: tools, bundles.
 * `OSP_CACHE_DIR`, else `$XDG_CACHE_HOME/osp`, else `~/.cache/osp` (`~/Library/Caches/osp` on macOS).
 */
export function cacheDirectory(environment: NodeJS.ProcessEnv): string {
  if (environment["OSP_CACHE_DIR"]) return environment["OSP_CACHE_DIR"];
  if (environment["XDG_CACHE_HOME"]) return join(environment["XDG_CACHE_HOME"], "osp");
  const home = environment["HOME"] || homedir();
  return process.platform === "darwin" ? join(home, "Library", "Caches", "osp") : join(home, ".cache", "osp");
}
