import { readdirSync, readFileSync } from "node:fs";
import { z } from "zod";
import { serviceSchema } from "../supabase/functions/_shared/service.ts";

/** A file of `manifests/`: a row for `osp.services`, and what each of its workflows is started with. */
const exampleSchema = z.strictObject({ service: serviceSchema, inputs: z.record(z.string(), z.unknown()) });
export type Example = z.infer<typeof exampleSchema>;

const DIRECTORY = new URL("../manifests/", import.meta.url);

/** The example that `npm start` shows. */
export function firstExample(): Example {
  return readExample("telecom.json");
}

export function allExamples(): Example[] {
  return readdirSync(DIRECTORY).filter((name) => name.endsWith(".json")).sort().map(readExample);
}

function readExample(name: string): Example {
  return exampleSchema.parse(JSON.parse(readFileSync(new URL(name, DIRECTORY), "utf8")));
}
