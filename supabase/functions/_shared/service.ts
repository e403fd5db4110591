import { z } from "zod";
import { codeName, serviceSchemaName } from "./names.ts";
import { notAnObject } from "./problems.ts";
import { refuseUnusedActivities, serviceOptionsSchema } from "./service-options.ts";
import { holdsControl, holdsHidden, isBlank } from "./visible-text.ts";

/** A service as OSP writes it: what a revision is made from. The SQL of `osp.services` checks structure and limits alike. */
export const serviceSchema = z.strictObject({
  service_schema: serviceSchemaName,
  service_name: z
    .string("must be a string")
    // Characters as Postgres counts them, not UTF-16 units.
    .refine((name) => name.length >= 1 && [...name].length <= 200, "must have 1 to 200 characters")
    .refine((name) => name.isWellFormed(), "must not hold half a character (a lone surrogate)")
    .refine((name) => !holdsControl(name), "must not hold control characters")
    .refine((name) => !holdsHidden(name), "must not hold characters that turn text around or hide")
    .refine((name) => !isBlank(name), "must not be blank"),
  workflows: z
    .array(
      z.strictObject(
        {
          name: codeName,
          activities: z
            .array(codeName, "must be an array of 1 to 100 activity names")
            .min(1, "must have 1 to 100 entries")
            .max(100, "must have 1 to 100 entries")
            .superRefine(refuseDuplicates((name) => name)),
        },
        notAnObject("must be an object with name and activities"),
      ),
      "must be an array of 1 to 100 workflows",
    )
    .min(1, "must have 1 to 100 entries")
    .max(100, "must have 1 to 100 entries")
    .superRefine(refuseDuplicates(({ name }) => name, "name")),
  options: serviceOptionsSchema.default({}),
}).superRefine(refuseUnusedActivities);
export type Service = z.infer<typeof serviceSchema>;

function refuseDuplicates<Entry>(nameOf: (entry: Entry) => string, member?: string) {
  return (entries: Entry[], context: z.RefinementCtx<Entry[]>) => {
    const seen = new Set<string>();
    entries.forEach((entry, index) => {
      const name = nameOf(entry);
      if (seen.has(name)) {
        const path = member === undefined ? [index] : [index, member];
        context.addIssue({ code: "custom", path, message: "stands twice" });
      }
      seen.add(name);
    });
  };
}
