/** Whether a content type is that of gRPC: `application/grpc`, alone or with a suffix such as `+proto`. */
export function isGrpcContentType(type: string | undefined): boolean {
  if (type === undefined || !type.startsWith("application/grpc")) return false;
  return type.length === 16 || type.charCodeAt(16) === 43; // "+"
}
