import { z } from "zod";

/** Private bucket of Storage that services' own code is kept in. */
export const CODE_BUCKET = "code";

/** `options.code`: SHA-256 of the pushed archive. SQL checks the same (osp.is_valid_code). */
export const codeHash = z
  .string("must be a string")
  .regex(/^[0-9a-f]{64}$/, "must be 64 hex digits in lower case, as `osp code push` prints them");

/** Where an archive lies in the bucket. */
export function codeObject(serviceSchema: string, code: string): string {
  return `${serviceSchema}/${code}.tar.gz`;
}

/** What an archive may have. The bucket refuses more bytes too. */
export const CODE_LIMITS = { archiveBytes: 20 * 1024 * 1024, unpackedBytes: 64 * 1024 * 1024, files: 100 };

/** Where an archive is unpacked to, in the code root. */
export const CODE_DIRECTORY = "code";

/**
 * Paths of a service's own modules in its manifest. A frozen contract: stored manifests name them. Where an archive brings
 * one of the two only, the built-in module serves for the other.
 */
export const CODE_ACTIVITIES_PATH = `./${CODE_DIRECTORY}/activities.mjs`;
export const CODE_WORKFLOWS_PATH = `./${CODE_DIRECTORY}/workflows.mjs`;

/** Files of an archive. A frozen contract as well: what was pushed once is deployed by later versions. */
export const CODE_FILES = {
  description: "code.json",
  activities: "activities.mjs",
  /** One module that imports `@temporalio/*` alone: a worker with another SDK bundles it anew. */
  workflows: "workflows.mjs",
  /** The same as Temporal's bundler makes it, for the SDK that the description names. */
  workflowBundle: "workflow-bundle.js",
};

/** `code.json`: what an archive holds. */
export const codeDescriptionSchema = z.object({
  format: z.literal(1, "is of a newer format: deploy it with a newer worker"),
  /** Version of `@temporalio/worker` that made the bundle: no other may run it. */
  sdk_version: z.string().min(1),
  /** What of ours is in the bundle; left out: as it was before it had a number. */
  bundle_version: z.int().default(1),
  /** Names that the module exports; left out: it brings no such module. */
  workflows: z.array(z.string()).optional(),
  activities: z.array(z.string()).optional(),
});
export type CodeDescription = z.infer<typeof codeDescriptionSchema>;

/** Of what is put into each bundle of workflows beside them. A worker makes a bundle of another version anew. */
export const BUNDLE_VERSION = 3;

/** Every bundle of workflows exports it, that of pushed code too: by it the deployer proves that a worker works. */
export const PROBE_WORKFLOW = "__osp_ping";

/** Whether an export is of ours and not of the service's: manifests cannot name it. */
export function isReservedExport(name: string): boolean {
  return name.startsWith("__osp_");
}
