import { z } from "zod";

/** The parts of Railway's answers that we read. */

/** A status that we do not know yet is text like the others: it counts as pending. */
export const deploymentSchema = z.object({
  id: z.string(),
  status: z.string(),
  createdAt: z.string(),
  deploymentStopped: z.boolean(),
  instances: z.array(z.object({ status: z.string() })),
  meta: z.unknown().optional(),
});
export type Deployment = z.infer<typeof deploymentSchema>;

const edgesOf = <Node extends z.ZodType>(node: Node) => z.array(z.object({ node }));

export const surroundingsSchema = z.object({
  project: z.object({
    id: z.string(),
    name: z.string(),
    environments: z.object({
      edges: edgesOf(z.object({
        id: z.string(),
        name: z.string(),
        /** A fork, made for a pull request: what is done elsewhere leaves it alone. */
        isEphemeral: z.boolean(),
        deletedAt: z.string().nullable(),
      })),
    }),
  }),
});
export type Surroundings = z.infer<typeof surroundingsSchema>;

const serviceInstanceSchema = z.object({
  serviceId: z.string(),
  serviceName: z.string(),
  numReplicas: z.int().nullable(),
  latestDeployment: deploymentSchema.nullable(),
  activeDeployments: z.array(deploymentSchema),
});
export type ServiceInstance = z.infer<typeof serviceInstanceSchema>;

export const servicesSchema = z.object({
  environment: z.object({
    serviceInstances: z.object({
      edges: edgesOf(serviceInstanceSchema),
      pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
    }),
  }),
});

/** Sealed ones have no value for us. */
const variablesSchema = z.record(z.string(), z.string().nullable());

export const serviceSchema = z.object({
  serviceInstance: z.object({
    serviceName: z.string(),
    restartPolicyType: z.string(),
    restartPolicyMaxRetries: z.int(),
    numReplicas: z.int().nullable(),
    drainingSeconds: z.int().nullable(),
    overlapSeconds: z.int().nullable(),
    healthcheckPath: z.string().nullable(),
    healthcheckTimeout: z.int().nullable(),
    startCommand: z.string().nullable(),
    sleepApplication: z.boolean().nullable(),
    latestDeployment: deploymentSchema.nullable(),
    activeDeployments: z.array(deploymentSchema),
  }),
  variables: variablesSchema,
});
export type Service = z.infer<typeof serviceSchema>;

export const manyVariablesSchema = z.record(z.string(), variablesSchema);
export const manyDeploymentsSchema = z.record(z.string(), deploymentSchema);
export const serviceDeploymentsSchema = z.object({ deployments: z.object({ edges: edgesOf(deploymentSchema) }) });

const logLine = z.object({
  timestamp: z.string(),
  message: z.string(),
  attributes: z.array(z.object({ key: z.string(), value: z.string() })),
});
export type LogLine = z.infer<typeof logLine>;
export const logsSchema = z.object({ build: z.array(logLine), run: z.array(logLine) });

export const createdSchema = z.object({ serviceCreate: z.object({ id: z.string(), name: z.string() }) });
export const projectTokenSchema = z.object({ projectToken: z.object({ projectId: z.string() }) });

/** What `api` prints when Railway refuses: GraphQL's own shape. */
export const refusalSchema = z.object({
  errors: z.array(z.object({ message: z.string(), path: z.array(z.union([z.string(), z.number()])).optional() })).min(
    1,
  ),
});

export const uploadedSchema = z.object({ deploymentId: z.string().min(1) });
export const uploadErrorSchema = z.object({ error: z.string(), code: z.string().nullish() });
