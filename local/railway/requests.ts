import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { type GraphqlRequest, InvalidRequestError } from "./graphql.ts";

export interface UploadTarget {
  projectId: string;
  environmentId: string;
  serviceId: string;
  message: string | null;
}

/** Where an upload is for; undefined for any other address. */
export function uploadTarget(url: URL): UploadTarget | undefined {
  const [, projectId, environmentId] = /^\/project\/([^/]+)\/environment\/([^/]+)\/up$/.exec(url.pathname) ?? [];
  if (projectId === undefined || environmentId === undefined) return undefined;
  const { searchParams } = url;
  return {
    projectId,
    environmentId,
    serviceId: searchParams.get("serviceId") ?? "",
    message: searchParams.get("message"),
  };
}

const bodySchema = z.strictObject({
  query: z.string(),
  variables: z.record(z.string(), z.unknown()).nullish(),
  operationName: z.string().nullish(),
});

/** @throws {InvalidRequestError} for what is no GraphQL request */
export function graphqlRequest(body: Buffer): GraphqlRequest {
  let read: unknown;
  try {
    read = JSON.parse(body.toString());
  } catch (error) {
    throw new InvalidRequestError("The body is no JSON", { cause: error });
  }
  const parsed = bodySchema.safeParse(read);
  if (!parsed.success) throw new InvalidRequestError(`The body is no GraphQL request: ${parsed.error.message}`);
  const { query, variables, operationName } = parsed.data;
  return { query, variables: variables ?? {}, operationName: operationName ?? undefined };
}

/** Undefined when the client went away before its end. */
export async function readBody(incoming: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of incoming) chunks.push(chunk);
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks);
}

/** Ids of known services among a request's variables, at any depth. */
export function serviceIdsIn(value: unknown, isService: (id: string) => boolean): string[] {
  if (typeof value === "string") return isService(value) ? [value] : [];
  if (typeof value !== "object" || value === null) return [];
  const found = Object.entries(value).flatMap(([key, each]) => [
    ...(isService(key) ? [key] : []),
    ...serviceIdsIn(each, isService),
  ]);
  return [...new Set(found)];
}
