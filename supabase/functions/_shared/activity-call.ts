import { z } from "zod";
import { codeName, serviceSchemaName } from "./names.ts";

/**
 * What a worker posts to the endpoint of an activity. docs/activity-endpoint.yaml describes it to the endpoint's author;
 * members may be added.
 */
export const activityCallSchema = z.looseObject({
  service_schema: serviceSchemaName,
  /** Of the worker that calls: a workflow may have begun under an earlier one. */
  revision: z.int().min(1),
  workflow_id: z.string(),
  run_id: z.string(),
  workflow_type: z.string(),
  activity: codeName,
  /** Counted from 1. */
  attempt: z.int().min(1),
  /** The same for all attempts of one activity; also in the header `idempotency-key`, but only here it is signed. */
  idempotency_key: z.string().min(1),
  /** The workflow's input for its first activity, for each further one the result of the one before. */
  input: z.unknown().refine((input) => input !== undefined, "is missing; an activity without input has null"),
});
export type ActivityCall = z.infer<typeof activityCallSchema>;

/** An answer above this could not be recorded: Temporal's limit is 2 MiB, framing included. */
export const MAX_RESULT_BYTES = 2 * 1024 * 1024 - 1024;
