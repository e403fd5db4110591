import { registerHooks } from "node:module";

let isShared = false;

/**
 * From here on every import of `@temporalio/*` finds the worker's copy. A service's code may lie where no such package
 * is, or bring a copy of its own, in which `Context.current()` would find no activity.
 */
export function shareTemporalPackages(): void {
  if (isShared) return;
  isShared = true;
  registerHooks({
    resolve(specifier, context, nextResolve) {
      if (!specifier.startsWith("@temporalio/")) return nextResolve(specifier, context);
      return nextResolve(specifier, { ...context, parentURL: import.meta.url });
    },
  });
}
