/** The GraphQL documents that we send, each one request. They name no value: values are variables, and go on stdin. */

/** Whether the token is let in, and what lies around the environment. */
export const LOOK_AROUND = `query LookAround($project: String!) {
  apiToken { workspaces { id name } }
  project(id: $project) {
    id
    name
    environments(first: 500) { edges { node { id name isEphemeral deletedAt } } }
  }
}`;

/** Lets a project token in, and no other. */
export const PROJECT_TOKEN = `query ProjectToken { projectToken { projectId } }`;

const DEPLOYMENT = `id status createdAt deploymentStopped instances { status }`;

/** One page of the services of an environment, each with what runs of it. */
export const SERVICES = `query Services($project: String!, $environment: String!, $first: Int!, $after: String) {
  environment(id: $environment, projectId: $project) {
    serviceInstances(first: $first, after: $after) {
      edges { node { serviceId serviceName numReplicas latestDeployment { ${DEPLOYMENT} } activeDeployments { ${DEPLOYMENT} } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}`;

/** All about one service. `unrendered`: references stay as they were written, so that they can be compared. */
export const SERVICE = `query Service($project: String!, $environment: String!, $service: String!) {
  serviceInstance(environmentId: $environment, serviceId: $service) {
    serviceName
    restartPolicyType
    restartPolicyMaxRetries
    numReplicas
    drainingSeconds
    overlapSeconds
    healthcheckPath
    healthcheckTimeout
    startCommand
    sleepApplication
    latestDeployment { ${DEPLOYMENT} meta }
    activeDeployments { ${DEPLOYMENT} }
  }
  variables(projectId: $project, environmentId: $environment, serviceId: $service, unrendered: true)
}`;

/** The variables of several services: `v0`, `v1` … in the order of their ids. */
export function variablesDocument(count: number): string {
  const indexes = Array.from({ length: count }, (_, index) => index);
  return `query Variables($project: String!, $environment: String!, ${
    indexes.map((i) => `$s${i}: String!`).join(", ")
  }) {
  ${
    indexes.map((i) =>
      `v${i}: variables(projectId: $project, environmentId: $environment, serviceId: $s${i}, unrendered: true)`
    ).join("\n  ")
  }
}`;
}

/** Several deployments in one request: `d0`, `d1` … in the order of their ids. */
export function deploymentsDocument(count: number): string {
  const indexes = Array.from({ length: count }, (_, index) => index);
  return `query Deployments(${indexes.map((i) => `$d${i}: String!`).join(", ")}) {
  ${indexes.map((i) => `d${i}: deployment(id: $d${i}) { ${DEPLOYMENT} }`).join("\n  ")}
}`;
}

/** The newest deployments of one service. */
export const SERVICE_DEPLOYMENTS = `query ServiceDeployments($input: DeploymentListInput!, $first: Int!) {
  deployments(input: $input, first: $first) { edges { node { ${DEPLOYMENT} meta } } }
}`;

export const LOGS = `query Logs($deployment: String!, $limit: Int!) {
  build: buildLogs(deploymentId: $deployment, limit: $limit) { timestamp message attributes { key value } }
  run: deploymentLogs(deploymentId: $deployment, limit: $limit) { timestamp message attributes { key value } }
}`;

export const CREATE_SERVICE =
  `mutation CreateService($input: ServiceCreateInput!) { serviceCreate(input: $input) { id name } }`;

export const SET_VARIABLES = `mutation SetVariables($input: VariableCollectionUpsertInput!) {
  variableCollectionUpsert(input: $input)
}`;

export const SET_SETTINGS =
  `mutation SetSettings($environment: String!, $service: String!, $input: ServiceInstanceUpdateInput!) {
  serviceInstanceUpdate(environmentId: $environment, serviceId: $service, input: $input)
}`;

export const REMOVE_DEPLOYMENT = `mutation RemoveDeployment($id: String!) { deploymentRemove(id: $id) }`;

export const CANCEL_DEPLOYMENT = `mutation CancelDeployment($id: String!) { deploymentCancel(id: $id) }`;

export const DELETE_SERVICE = `mutation DeleteService($environment: String!, $service: String!) {
  serviceDelete(environmentId: $environment, id: $service)
}`;

/** All that we have Railway change. */
export const CHANGES = [
  CREATE_SERVICE,
  SET_VARIABLES,
  SET_SETTINGS,
  REMOVE_DEPLOYMENT,
  CANCEL_DEPLOYMENT,
  DELETE_SERVICE,
];

/** What the API says of its changes and of these inputs: `i0`, `i1` … in their order. */
export function changesDocument(inputs: string[]): string {
  return `query Changes {
  mutation: __type(name: "Mutation") { fields { name args { name } } }
  ${inputs.map((name, i) => `i${i}: __type(name: "${name}") { inputFields { name } }`).join("\n  ")}
}`;
}

/** As the CLI lists services when it looks for one: without a page. */
export const PROJECT_SERVICES = `query ProjectServices($project: String!) {
  project(id: $project) { services { edges { node { id } } } }
}`;
