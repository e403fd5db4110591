/** What a row of osp.services says, besides its key. */
export interface ServiceRow {
  service_name: string;
  workflows: { name: string; activities: string[] }[];
  options: Record<string, unknown>;
  enabled: boolean;
}

/** What osp.services must hold: the rows by service. Only commands that were committed change it. */
export type Model = ReadonlyMap<string, ServiceRow>;

/** A small fleet: what goes wrong goes wrong between one service and itself, or one other. */
export const SERVICES = Array.from({ length: 6 }, (_, index) => `storm_${index + 1}`);

export function serviceOf(number: number): string {
  return SERVICES[number % SERVICES.length] ?? "storm_1";
}

/** Every variant has the same workflow, so that whichever revision serves a started one knows it. */
export const WORKFLOW = "doWork";
/** The endpoint of the storm refuses it: a workflow that comes to it fails. */
export const REFUSED_ACTIVITY = "beRefused";
/** Steps that a workflow may take, by the variant of its service's row. */
export const STEPS = [
  ["first", "second"],
  ["first", "second", "third"],
  ["only"],
  ["first", REFUSED_ACTIVITY],
] as const;

/**
 * A change from one to another may be one of how many workers there are. The last two pass SQL's checks and are refused by the Edge Function: their
 * deployments fail, with the reason.
 */
const OPTIONS: readonly Record<string, unknown>[] = [
  {},
  { activity_timeout_seconds: 30 },
  { replicas: 2 },
  { activity_timeout_seconds: 30, replicas: 3 },
  { replicas: 1 },
  { colour: "red" },
  { activity_timeout_seconds: 30, colour: "blue" },
];

/** The index into OPTIONS of the row that wants most workers. */
export const THREE_WORKERS = 3;
/** How many of OPTIONS are good: the first ones. */
export const GOOD_OPTIONS = OPTIONS.length - 2;

/** A variant of a row. */
export interface Variant {
  /** Index into STEPS. */
  steps: number;
  /** Index into OPTIONS. */
  options: number;
}

export function rowOf(name: string, variant: Variant): ServiceRow {
  return {
    service_name: name,
    workflows: [{ name: WORKFLOW, activities: [...STEPS[variant.steps] ?? STEPS[0]] }],
    options: { ...OPTIONS[variant.options] },
    enabled: true,
  };
}

/** Whether the Edge Function must refuse it. */
export function mustFail({ options }: ServiceRow): boolean {
  return options["colour"] !== undefined;
}

export function withRow(model: Model, service: string, row: ServiceRow | undefined): Model {
  const changed = new Map(model);
  if (row === undefined) changed.delete(service);
  else changed.set(service, row);
  return changed;
}
