import type { Manifest } from "../../../supabase/functions/_shared/manifest.ts";

export interface ManifestSketch {
  schema: string;
  revision?: number;
  /** Activities by workflow. */
  workflows: Record<string, string[]>;
  activitiesPath?: string;
  workflowsPath?: string;
  options?: Partial<Manifest["options"]>;
}

/** A manifest as the Edge Function writes it, from the parts that a test is about. */
export function manifestOf(sketch: ManifestSketch) {
  const { schema, revision = 1, workflows, options = {} } = sketch;
  return {
    manifest_version: 1,
    service_schema: schema,
    service_name: `Service ${schema}`,
    revision,
    activities_path: sketch.activitiesPath ?? "./service/activities.ts",
    workflows: Object.entries(workflows).map(([name, activities]) => ({
      name,
      task_queue: `${schema}-tasks`,
      workflows_path: sketch.workflowsPath ?? "./service/workflows.ts",
      activities,
    })),
    options: { activity_timeout_seconds: 20, ...options },
  };
}
