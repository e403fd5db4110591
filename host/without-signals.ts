/**
 * Takes from this process what signals others, before foreign code is loaded: Node's permission model does not, and a parent that
 * is signalled may open a debugger, or end.
 */
export function withoutSignals(): void {
  for (const name of ["kill", "_kill"]) Reflect.deleteProperty(process, name);
}
