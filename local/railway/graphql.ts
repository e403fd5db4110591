import { readFileSync } from "node:fs";
import {
  buildClientSchema,
  buildSchema,
  type DocumentNode,
  execute,
  type GraphQLFieldResolver,
  type GraphQLSchema,
  type IntrospectionQuery,
  Kind,
  type OperationDefinitionNode,
  parse,
  type SelectionSetNode,
  validate,
} from "graphql";
import { getVariableValues } from "graphql/execution";
import type { Context } from "./context.ts";
import { mutations } from "./mutations.ts";
import { queries } from "./queries.ts";

/** What a client sends; anything else in the body is refused. */
export interface GraphqlRequest {
  query: string;
  variables: Record<string, unknown>;
  operationName: string | undefined;
}

export interface ParsedRequest {
  document: DocumentNode;
  operation: OperationDefinitionNode;
  /** As the journal has them. */
  name: string;
  fields: string[];
}

/** The document is not one that Railway answers. */
export class InvalidRequestError extends Error {
  override readonly name = "InvalidRequestError";
}

/** @throws {InvalidRequestError} */
export function parseRequest({ query, operationName }: GraphqlRequest): ParsedRequest {
  let document: DocumentNode;
  try {
    document = parse(query);
  } catch (error) {
    throw new InvalidRequestError(String(error), { cause: error });
  }
  const operations = document.definitions.filter((each) => each.kind === Kind.OPERATION_DEFINITION);
  const operation = operations.find(({ name }) => operationName === undefined || name?.value === operationName);
  if (operation === undefined || (operationName === undefined && operations.length > 1)) {
    throw new InvalidRequestError(`Unknown operation named "${operationName}".`);
  }
  const fields = rootFields(operation.selectionSet);
  return { document, operation, fields, name: operationName ?? operation.name?.value ?? fields.join("+") };
}

function rootFields({ selections }: SelectionSetNode): string[] {
  return selections.flatMap((each) => each.kind === Kind.FIELD ? [each.name.value] : []);
}

export type Executor = (
  request: GraphqlRequest,
  parsed: ParsedRequest,
  context: Context,
) => Promise<Record<string, unknown>>;

/**
 * Answers documents from the world. Each is first held against Railway's own schema, where the CLI's sources are on this
 * machine, and always against api.graphql, the part of it that the stand-in answers.
 *
 * @param cliSchema path of the introspection result in the CLI's sources
 */
export function createExecutor(cliSchema: string | undefined): Executor {
  const own = buildSchema(readFileSync(new URL("api.graphql", import.meta.url), "utf8"));
  const schemas = cliSchema === undefined ? [own] : [readCliSchema(cliSchema), own];
  return async (request, { document, operation }, context) => {
    for (const schema of schemas) {
      const problems = problemsIn(schema, document, operation, request.variables);
      if (problems.length > 0) throw new InvalidRequestError(problems.join("; "));
    }
    const result = await execute({
      schema: own,
      document,
      rootValue: { ...queries, ...mutations },
      contextValue: context,
      variableValues: request.variables,
      operationName: request.operationName ?? null,
      fieldResolver: resolveField,
    });
    return { ...result };
  };
}

export function readCliSchema(path: string): GraphQLSchema {
  // Railway's own file: whatever else it might be, `buildClientSchema` refuses.
  const read: { data: IntrospectionQuery } = JSON.parse(readFileSync(path, "utf8"));
  return buildClientSchema(read.data, { assumeValid: true });
}

function problemsIn(
  schema: GraphQLSchema,
  document: DocumentNode,
  { variableDefinitions = [] }: OperationDefinitionNode,
  variables: Record<string, unknown>,
): string[] {
  const problems = validate(schema, document).map(({ message }) => message);
  if (problems.length > 0) return problems;
  const declared = variableDefinitions.map(({ variable }) => variable.name.value);
  const unknown = Object.keys(variables).filter((name) => !declared.includes(name));
  const { errors = [] } = getVariableValues(schema, variableDefinitions, variables);
  return [
    ...errors.map(({ message }) => message),
    ...unknown.map((name) => `Variable "$${name}" is sent and not declared.`),
  ];
}

/** As GraphQL's own, except that a field without an answer is a mistake of the stand-in, not null. */
const resolveField: GraphQLFieldResolver<unknown, Context> = (source, args, context, info) => {
  const owner: Record<string, unknown> = Object(source);
  if (!(info.fieldName in owner)) {
    context.violation(`${info.parentType.name}.${info.fieldName}, which the stand-in does not answer`);
    throw new Error("Problem processing request");
  }
  const value = owner[info.fieldName];
  return typeof value === "function" ? value(args, context) : value;
};
