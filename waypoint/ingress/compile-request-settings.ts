/** What a connection manager says of request heads. */
import {
  HttpConnectionManager_ForwardClientCertDetails as ClientCertMode,
  HttpConnectionManager_PathWithEscapedSlashesAction as EscapedSlashes,
  type HttpConnectionManager,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import {
  UuidRequestIdConfigSchema,
  type UuidRequestIdConfig,
} from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import type { ListenerContext } from "./compile-context.ts";
import type { RequestSettings } from "./request-rules.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

export function compileRequestSettings(
  config: HttpConnectionManager,
  internalOnly: readonly string[],
  { problem }: ListenerContext,
): RequestSettings {
  checkRequestId(config, problem);
  const details = config.setCurrentClientCertDetails;
  refuseUnsupported(fieldTables.clientCertificateDetails, details, "set_current_client_cert_details", problem);
  const scheme = config.schemeHeaderTransformation?.transformation;
  if (config.schemeHeaderTransformation?.matchUpstream === true) {
    problem("scheme_header_transformation.match_upstream", "is set, but this proxy does not support it");
  }
  return {
    usesRemoteAddress: config.useRemoteAddress ?? false,
    skipsForwardedFor: config.skipXffAppend,
    generatesRequestId: config.generateRequestId ?? true,
    preservesRequestId: config.preserveExternalRequestId,
    clientCertificate: clientCertificateOf(config),
    clientCertificateDetails: { subject: details?.subject ?? false, uri: details?.uri ?? false },
    appendsForwardedPort: config.appendXForwardedPort,
    stripsPort: stripsPortOf(config),
    stripsTrailingDot: config.stripTrailingHostDot,
    via: config.via,
    scheme: scheme?.case === "schemeToOverwrite" ? scheme.value : undefined,
    internalOnly: new Set(internalOnly.map((name) => name.toLowerCase())),
    path: {
      normalises: config.normalizePath ?? false,
      mergesSlashes: config.mergeSlashes,
      escapedSlashes: escapedSlashesOf(config),
    },
  };
}

function stripsPortOf({ stripMatchingHostPort, stripPortMode }: HttpConnectionManager): RequestSettings["stripsPort"] {
  if (stripPortMode.case === "stripAnyHostPort" && stripPortMode.value) return "any";
  return stripMatchingHostPort ? "matching" : "no";
}

function clientCertificateOf({
  forwardClientCertDetails,
}: HttpConnectionManager): RequestSettings["clientCertificate"] {
  switch (forwardClientCertDetails) {
    case ClientCertMode.SANITIZE:
      return "sanitize";
    case ClientCertMode.FORWARD_ONLY:
      return "forward";
    case ClientCertMode.APPEND_FORWARD:
      return "append";
    case ClientCertMode.SANITIZE_SET:
      return "sanitize-and-set";
    case ClientCertMode.ALWAYS_FORWARD_ONLY:
      return "always-forward";
  }
}

function escapedSlashesOf({
  pathWithEscapedSlashesAction,
}: HttpConnectionManager): RequestSettings["path"]["escapedSlashes"] {
  switch (pathWithEscapedSlashesAction) {
    case EscapedSlashes.IMPLEMENTATION_SPECIFIC_DEFAULT:
    case EscapedSlashes.KEEP_UNCHANGED:
      return "keep";
    case EscapedSlashes.REJECT_REQUEST:
      return "reject";
    case EscapedSlashes.UNESCAPE_AND_REDIRECT:
      return "redirect";
    case EscapedSlashes.UNESCAPE_AND_FORWARD:
      return "forward";
  }
}

/** The one kind there is; that a trace's sampling is packed into ids makes no difference to those who read them. */
/** How ids of requests have to do with traces: undefined where nothing is said, as if both were asked for. */
export function requestIdConfig({ requestIdExtension }: HttpConnectionManager): UuidRequestIdConfig | undefined {
  const config = requestIdExtension?.typedConfig;
  return config && anyUnpack(config, UuidRequestIdConfigSchema);
}

function checkRequestId(manager: HttpConnectionManager, problem: Problem): void {
  const config = manager.requestIdExtension?.typedConfig;
  if (config === undefined) return;
  const uuid = requestIdConfig(manager);
  if (uuid === undefined) problem("request_id_extension", `"${config.typeUrl}" is not known here`);
  else reportUnknownFields(uuid, problem, undefined, "request_id_extension");
}
