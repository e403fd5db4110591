import { z } from "zod";
import { isEndpointTemplate } from "./activity-endpoint.ts";
import { notAnObject } from "./problems.ts";

/** `osp.services.options`: how a service runs, beyond which workflows it has. What is left out takes the default. */
export const serviceOptionsSchema = z.strictObject(
  {
    /** Where the built-in activities post to; see `activityUrl`. Left out: the project's default endpoint. */
    activity_endpoint: z
      .string("must be a string")
      .max(2048, "must have at most 2048 characters")
      .refine(
        isEndpointTemplate,
        "must be an http or https URL without user or password, blank, backslash or invisible character; " +
          "{service_schema} and {activity} are filled in",
      )
      .optional(),
    /** Seconds that one attempt of an activity may take, from its start to its result. */
    activity_timeout_seconds: z
      .int("must be a whole number of seconds")
      .min(1, "must be from 1 to 86400")
      .max(86_400, "must be from 1 to 86400")
      .optional(),
    /** Attempts of an activity in all; left out: it is tried until it succeeds or the workflow ends. */
    activity_max_attempts: z
      .int("must be a whole number")
      .min(1, "must be from 1 to 1000")
      .max(1000, "must be from 1 to 1000")
      .optional(),
  },
  notAnObject("must be an object"),
);

/** Options as a manifest holds them: resolved, defaults filled in. */
export const resolvedOptionsSchema = z.strictObject({
  activity_endpoint: z.string().min(1).refine(isEndpointTemplate, "must be an http or https URL").optional(),
  activity_timeout_seconds: z.int().min(1).max(86_400).default(60),
  activity_max_attempts: z.int().min(1).max(1000).optional(),
});
