import pg from "pg";
import { z } from "zod";

/** A node of a plan, as EXPLAIN (FORMAT JSON) writes it. */
const nodeSchema = z.object({
  "Node Type": z.string(),
  "Relation Name": z.string().optional(),
  "Index Name": z.string().optional(),
  "Actual Rows": z.number().default(0),
  "Actual Loops": z.number().default(0),
  "Rows Removed by Filter": z.number().default(0),
  "Shared Hit Blocks": z.number().default(0),
  "Shared Read Blocks": z.number().default(0),
  "Temp Written Blocks": z.number().default(0),
  get Plans(): z.ZodOptional<z.ZodArray<typeof nodeSchema>> {
    return z.array(nodeSchema).optional();
  },
});
type Node = z.infer<typeof nodeSchema>;

const logSchema = z.object({ "Query Text": z.string(), Plan: nodeSchema });

/** A statement that was run, its plan with what it really read. */
export interface Plan {
  sql: string;
  nodes: Node[];
  /** 8 KiB blocks, from the cache or the disk; of what a function has run inside as well. */
  blocks: number;
  /** Blocks written to temporary files: what did not fit into work_mem. */
  tempBlocks: number;
}

/** Tables that grow with the years or with the fleet. */
const LARGE = ["services", "service_intents", "worker_registry", "deployment_attempts"];

/** What a few statements have read together, to be compared with what they may read. */
export interface Reading {
  /** Large tables that were read from end to end, each with its statement. */
  scanned: string[];
  /** Rows of tables and entries of indexes that were looked at, those that a filter threw away included. */
  rows: number;
  blocks: number;
  tempBlocks: number;
}

export function readingOf(plans: Plan[]): Reading {
  const nodes = plans.flatMap((plan) => plan.nodes.map((node) => ({ ...node, sql: plan.sql })));
  const scans = nodes.filter((node) =>
    node["Node Type"].includes("Scan") && node["Relation Name"] !== undefined &&
    node["Actual Loops"] > 0 // a part of a plan that was never come to
  );
  return {
    scanned: scans.filter((node) =>
      node["Node Type"].endsWith("Seq Scan") && LARGE.includes(node["Relation Name"] ?? "")
    )
      .map((node) => `${node["Relation Name"]} by ${node.sql.trim().replaceAll(/\s+/g, " ").slice(0, 120)}`),
    rows: scans.reduce(
      (sum, node) => sum + (node["Actual Rows"] + node["Rows Removed by Filter"]) * node["Actual Loops"],
      0,
    ),
    // Of a call, its own plan counts those inside.
    blocks: Math.max(...plans.map(({ blocks }) => blocks)),
    tempBlocks: Math.max(...plans.map(({ tempBlocks }) => tempBlocks)),
  };
}

/**
 * A session that shows the plan of each statement it runs, those inside functions included.
 *
 * @param role whose rights it has: row level security is part of a plan
 * @param settings such as `{ plan_cache_mode: "force_generic_plan" }`
 */
export async function openExplained(url: string, role: string, settings: Record<string, string> = {}) {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  const plans: Plan[] = [];
  client.on("notice", ({ message = "" }) => {
    const begin = message.indexOf("plan:\n");
    if (message.startsWith("duration:") && begin >= 0) plans.push(readPlan(message.slice(begin + "plan:\n".length)));
  });
  await client.connect();
  await client.query(`load 'auto_explain'`);
  const all = {
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_triggers": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_min_duration": "0",
    client_min_messages: "log",
    ...settings,
  };
  for (const [name, value] of Object.entries(all)) {
    await client.query(`select set_config($1, $2, false)`, [name, value]);
  }
  await client.query(`set role ${role}`);
  return {
    client,
    /** Runs `work` on this session; the plans of what it ran. */
    async plansOf(work: () => Promise<unknown>): Promise<Plan[]> {
      plans.length = 0;
      await work();
      // What a SELECT of a name has read is told when its portal ends: with the next statement. This one has no plan.
      await client.query("show server_version");
      return [...plans];
    },
    close: () => client.end(),
  };
}

function readPlan(json: string): Plan {
  const { "Query Text": sql, Plan: root } = logSchema.parse(JSON.parse(json));
  return {
    sql,
    nodes: [...walk(root)],
    blocks: root["Shared Hit Blocks"] + root["Shared Read Blocks"],
    tempBlocks: root["Temp Written Blocks"],
  };
}

function* walk(node: Node): Generator<Node> {
  yield node;
  for (const child of node.Plans ?? []) yield* walk(child);
}
