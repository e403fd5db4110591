/**
 * The workflow by which the deployer proves that a worker works (worker/service/probe.ts): every bundle exports it. Names that
 * begin with `__osp_` are refused in manifests.
 */
export const PROBE_WORKFLOW = "__osp_ping";
