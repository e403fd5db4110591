/** Status codes of gRPC (grpc.github.io/grpc/core/md_doc_statuscodes.html) that decide something here. */
export const GRPC = { notFound: 5, permissionDenied: 7, unauthenticated: 16 } as const;

/** The status code of a failed call; undefined for an error of another kind. */
export function grpcStatus(error: unknown): number | undefined {
  const { code } = Object(error);
  return typeof code === "number" ? code : undefined;
}
