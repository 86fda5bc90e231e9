/** Header operations in Envoy's words. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  type HeaderValueOptionSchema,
} from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { HeaderChanges, HeaderOperations } from "#controlplane/mesh/virtual-service.ts";
import { substitutionProblem } from "#controlplane/schema/substitutions.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";

/** The fields that routes and their weighted clusters share. */
export interface EmittedHeaders {
  readonly requestHeadersToAdd: MessageInitShape<typeof HeaderValueOptionSchema>[];
  readonly requestHeadersToRemove: string[];
  readonly responseHeadersToAdd: MessageInitShape<typeof HeaderValueOptionSchema>[];
  readonly responseHeadersToRemove: string[];
}

/** One set after the other. */
export function emitHeaders(operations: readonly HeaderOperations[]): EmittedHeaders {
  return {
    requestHeadersToAdd: operations.flatMap(({ request }) => additions(request, isAuthority)),
    requestHeadersToRemove: operations.flatMap(({ request }) => request.remove),
    responseHeadersToAdd: operations.flatMap(({ response }) => additions(response, () => false)),
    responseHeadersToRemove: operations.flatMap(({ response }) => response.remove),
  };
}

/** The host is no header like others: the last operation that names it says what it becomes. */
export function authorityOf(operations: readonly HeaderOperations[]): string | undefined {
  return operations
    .map(({ request }) => authorityIn(request.set) ?? authorityIn(request.add))
    .findLast((authority) => authority !== undefined);
}

const isAuthority = (name: string): boolean => [":authority", "host"].includes(name.toLowerCase());

/** One that is none would take the whole listener with it. */
const authorityIn = (headers: Labels): string | undefined =>
  [...headers].find(([name, value]) => isAuthority(name) && !/[\s\0]/.test(value))?.[1];

function additions(
  { set, add }: HeaderChanges,
  isElsewhere: (name: string) => boolean,
): MessageInitShape<typeof HeaderValueOptionSchema>[] {
  const emit = (headers: Labels, appendAction: AppendAction) =>
    [...headers]
      .filter(([name]) => !isElsewhere(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ({ header: { key, value: substitutable(value) }, appendAction }));
  return [...emit(set, AppendAction.OVERWRITE_IF_EXISTS_OR_ADD), ...emit(add, AppendAction.APPEND_IF_EXISTS_OR_ADD)];
}

/** Where percent signs do not stand for something, they are meant as they are. */
const substitutable = (value: string): string =>
  substitutionProblem(value) === undefined ? value : value.replaceAll("%", "%%");
