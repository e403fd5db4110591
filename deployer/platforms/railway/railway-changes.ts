import { z } from "zod";
import { createdSchema, uploadedSchema, uploadErrorSchema } from "./answers.ts";
import * as documents from "./documents.ts";
import { RailwayError } from "./errors.ts";
import type { ApiDeps, Place, RailwayChanges } from "./railway-api.ts";
import { callApi, jsonOf, orMissing, refused } from "./railway-call.ts";

/** `up` asks for the project first. */
const UPLOAD_REQUESTS = 2;
/** Railway answers a change with true, or refuses it. */
const done = z.record(z.string(), z.literal(true));

export function createChanges(place: Place, deps: ApiDeps): RailwayChanges {
  const { project: projectId, environment: environmentId } = place;
  const { fence } = deps;
  const change = async (
    doing: string,
    document: string,
    variables: Record<string, unknown>,
    signal: AbortSignal | undefined,
  ): Promise<void> => void await callApi({ doing, document, variables, answer: done, fence, signal }, deps);
  const end = async (verb: string, document: string, id: string, signal: AbortSignal | undefined): Promise<void> => {
    await orMissing(
      "railway_deployment_missing",
      () => change(`${verb} Railway deployment ${id}`, document, { id }, signal),
    );
  };

  return {
    async createService(name, variables, signal) {
      const { serviceCreate } = await callApi({
        doing: `create Railway service ${name}`,
        document: documents.CREATE_SERVICE,
        variables: { input: { projectId, environmentId, name, variables } },
        answer: createdSchema,
        fence,
        signal,
      }, deps);
      return serviceCreate.id;
    },
    async setVariables(serviceId, variables, signal) {
      const input = { projectId, environmentId, serviceId, variables, replace: true, skipDeploys: true };
      await change(`set the variables of Railway service ${serviceId}`, documents.SET_VARIABLES, { input }, signal);
    },
    async setSettings(service, input, signal) {
      const variables = { environment: environmentId, service, input };
      await change(`set up Railway service ${service}`, documents.SET_SETTINGS, variables, signal);
    },
    upload: (serviceId, directory, message, signal) => upload({ serviceId, directory, message, signal }, place, deps),
    removeDeployment: (id, signal) => end("remove", documents.REMOVE_DEPLOYMENT, id, signal),
    cancelDeployment: (id, signal) => end("cancel", documents.CANCEL_DEPLOYMENT, id, signal),
    async deleteService(service, signal) {
      const variables = { environment: environmentId, service };
      await orMissing(
        "railway_service_missing",
        () => change(`delete Railway service ${service}`, documents.DELETE_SERVICE, variables, signal),
      );
    },
  };
}

interface Upload {
  serviceId: string;
  directory: string;
  message: string;
  signal: AbortSignal | undefined;
}

async function upload(request: Upload, { project, environment }: Place, deps: ApiDeps): Promise<string> {
  const { serviceId, directory, message, signal } = request;
  const doing = `upload to Railway service ${serviceId}`;
  await deps.budget.take(UPLOAD_REQUESTS);
  await deps.fence();
  const result = await deps.cli.run({
    args: [
      ...["up", directory, "--path-as-root", "--no-gitignore", "--detach", "--json", "--message", message],
      ...["--project", project, "--environment", environment, "--service", serviceId],
    ],
    signal,
  });
  const answer = jsonOf(result.stdout);
  if (result.exitCode !== 0) {
    const failed = uploadErrorSchema.safeParse(answer);
    throw await refused(doing, failed.success ? { ...result, stdout: "", stderr: failed.data.error } : result, deps);
  }
  const uploaded = uploadedSchema.safeParse(answer);
  if (uploaded.success) return uploaded.data.deploymentId;
  throw new RailwayError(doing, "the CLI names no deployment", {
    class: "transient",
    code: "railway_answer_unreadable",
    isAmbiguous: true,
  });
}
