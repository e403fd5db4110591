/**
 * In the bundle of every queue: the deployer runs it on a new worker before it calls the deployment `deployed`, which
 * proves queue, bundle, sandbox and result path. The prefix `__osp_` is refused in manifests, so no service can own this name.
 */
// oxlint-disable-next-line no-underscore-dangle -- a name that no service can have
export async function __osp_ping(): Promise<void> {}
