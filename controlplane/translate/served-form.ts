/** A translation as plain JSON: what is served and which statuses are wanted, sorted by name. */
import { toJson, type JsonValue } from "@bufbuild/protobuf";
import { AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import type { StatusUpdate } from "./status.ts";
import type { Translation } from "./translate.ts";

export interface ServedResource {
  readonly name: string;
  readonly resource: JsonValue;
}

export interface ServedForm {
  readonly addresses: readonly ServedResource[];
  readonly authorizations: readonly ServedResource[];
  readonly status: readonly {
    readonly kind: string;
    readonly namespace: string;
    readonly name: string;
    readonly status: StatusUpdate["status"];
  }[];
}

const byText =
  <T>(keyOf: (item: T) => string) =>
  (a: T, b: T): number => {
    const [left, right] = [keyOf(a), keyOf(b)];
    return left < right ? -1 : left > right ? 1 : 0;
  };

export function servedForm({ addresses, authorizations, statuses }: Translation): ServedForm {
  const byName = byText<ServedResource>(({ name }) => name);
  return {
    addresses: [...addresses].map(([name, each]) => ({ name, resource: toJson(AddressSchema, each) })).sort(byName),
    authorizations: [...authorizations]
      .map(([name, each]) => ({ name, resource: toJson(AuthorizationSchema, each) }))
      .sort(byName),
    status: statuses
      .map(({ kind, namespace, name, status }) => ({ kind, namespace, name, status: withoutEmpty(status) }))
      .filter(({ status }) => Object.keys(status).length > 0)
      .sort(byText(({ kind, namespace, name }) => `${kind}/${namespace}/${name}`)),
  };
}

/** Nothing at all only means that what is old is to be removed. */
function withoutEmpty({ conditions = [], parents = [], ...rest }: StatusUpdate["status"]): StatusUpdate["status"] {
  return {
    ...(conditions.length === 0 ? {} : { conditions }),
    ...rest,
    ...(parents.length === 0 ? {} : { parents }),
  };
}
