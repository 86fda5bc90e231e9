/**
 * Generates `shared/proto/gen/` from the `.proto` files: ours for Istio's messages, and those of the npm package
 * `@grpc/grpc-js-xds` for Envoy's. Runs from `npm ci` (script `prepare`); nothing it writes is committed.
 *
 * JavaScript with declarations, not TypeScript: the generator writes enums, which are not erasable syntax.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { assertNodeVersion } from "../lifecycle/node-version.ts";

assertNodeVersion(process.version);

const here = import.meta.dirname;
const root = resolve(here, "../..");
const require = createRequire(import.meta.url);
const envoyDeps = join(dirname(require.resolve("@grpc/grpc-js-xds/package.json")), "deps");

/** Envoy's files that the mesh speaks; what they import is generated with them. */
const envoyFiles = [
  "envoy/service/discovery/v3/ads.proto",
  "envoy/service/auth/v3/external_auth.proto",
  "envoy/service/ratelimit/v3/rls.proto",
  "envoy/service/status/v3/csds.proto",
  "envoy/config/bootstrap/v3/bootstrap.proto",
  "envoy/config/cluster/v3/cluster.proto",
  "envoy/config/endpoint/v3/endpoint.proto",
  "envoy/config/listener/v3/listener.proto",
  "envoy/config/route/v3/route.proto",
  "envoy/config/trace/v3/opentelemetry.proto",
  "envoy/config/trace/v3/zipkin.proto",
  "envoy/extensions/access_loggers/file/v3/file.proto",
  "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
  "envoy/extensions/access_loggers/grpc/v3/als.proto",
  "envoy/extensions/access_loggers/stream/v3/stream.proto",
  "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto",
  "envoy/extensions/filters/http/cors/v3/cors.proto",
  "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
  "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
  "envoy/extensions/filters/http/fault/v3/fault.proto",
  "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
  "envoy/extensions/filters/http/grpc_web/v3/grpc_web.proto",
  "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
  "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
  "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
  "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
  "envoy/extensions/filters/http/rbac/v3/rbac.proto",
  "envoy/extensions/filters/http/router/v3/router.proto",
  "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
  "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
  "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
  "envoy/extensions/filters/network/ext_authz/v3/ext_authz.proto",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
  "envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy.proto",
  "envoy/extensions/filters/network/rbac/v3/rbac.proto",
  "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
  "envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy.proto",
  "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
  "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.proto",
  "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
  "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
  "envoy/extensions/load_balancing_policies/pick_first/v3/pick_first.proto",
  "envoy/extensions/load_balancing_policies/random/v3/random.proto",
  "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
  "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
  "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.proto",
  "envoy/extensions/matching/common_inputs/network/v3/network_inputs.proto",
  "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
  "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
  "envoy/extensions/request_id/uuid/v3/uuid.proto",
  "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
  "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
  "envoy/extensions/tracers/opentelemetry/resource_detectors/v3/environment_resource_detector.proto",
  "envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream.proto",
  "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
  "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
  "envoy/extensions/transport_sockets/tls/v3/tls.proto",
  "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
];
const ambitFiles = ["policy/v1alpha1/rate_limit_filter.proto"];
const telemetryFiles = ["collector/trace/v1/trace_service.proto"];
const xdsFiles = ["udpa/type/v1/typed_struct.proto", "xds/type/matcher/v3/ip.proto", "xds/type/v3/typed_struct.proto"];
const istioFiles = ["workload/workload.proto", "security/authorization.proto", "zds/zds.proto", "ca/ca.proto"];

const cache = join(root, ".cache");
mkdirSync(cache, { recursive: true });
const workspace = mkdtempSync(join(cache, "proto-"));
try {
  cpSync(join(here, "istio"), join(workspace, "istio"), { recursive: true });
  cpSync(join(here, "ambit"), join(workspace, "ambit-api/ambit"), { recursive: true });
  cpSync(join(here, "opentelemetry"), join(workspace, "otlp/opentelemetry"), { recursive: true });
  for (const folder of ["envoy-api", "xds", "googleapis"]) {
    cpSync(join(envoyDeps, folder), join(workspace, folder), {
      recursive: true,
    });
  }
  writeValidateWithIgnoreEmpty(workspace);
  addRouteMatchFilterState(workspace);
  symlinkSync(join(root, "node_modules"), join(workspace, "node_modules"));
  const modules = ["istio", "ambit-api", "otlp", "envoy-api", "xds", "googleapis", "validate-patched"];
  writeFileSync(
    join(workspace, "buf.yaml"),
    JSON.stringify({
      version: "v2",
      modules: modules.map((path) => ({ path })),
    }),
  );
  writeFileSync(
    join(workspace, "buf.gen.yaml"),
    JSON.stringify({
      version: "v2",
      plugins: [
        {
          local: [process.execPath, join(root, "node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es")],
          out: "gen",
          include_imports: true,
          opt: ["target=js+dts", "import_extension=js"],
        },
      ],
    }),
  );
  const paths = [
    ...istioFiles.map((file) => join("istio", file)),
    ...envoyFiles.map((file) => join("envoy-api", file)),
    ...ambitFiles.map((file) => join("ambit-api/ambit", file)),
    ...telemetryFiles.map((file) => join("otlp/opentelemetry/proto", file)),
    ...xdsFiles.map((file) => join("xds", file)),
  ].flatMap((file) => ["--path", file]);
  execFileSync(process.execPath, [join(root, "node_modules/@bufbuild/buf/bin/buf"), "generate", ...paths], {
    cwd: workspace,
    stdio: "inherit",
  });
  rmSync(join(here, "gen"), { recursive: true, force: true });
  cpSync(join(workspace, "gen"), join(here, "gen"), { recursive: true });
} finally {
  rmSync(workspace, { recursive: true, force: true });
}

/**
 * Envoy's files use the validation option `ignore_empty`, which the copy of `validate.proto` in the same npm package
 * is too old to know, so strict compilers refuse them. The mesh reads no validation option; the name only has to exist.
 */
function writeValidateWithIgnoreEmpty(workspaceDir: string): void {
  const text = readFileSync(join(envoyDeps, "protoc-gen-validate/validate/validate.proto"), "utf8");
  const patched = text.replace(/^message (\w+Rules) \{$/gm, (line, name: string) =>
    name === "FieldRules" ? line : `${line}\n    optional bool ignore_empty = 1000;`,
  );
  mkdirSync(join(workspaceDir, "validate-patched/validate"), {
    recursive: true,
  });
  writeFileSync(join(workspaceDir, "validate-patched/validate/validate.proto"), patched);
}

/** Envoy has matched routes by filter state for some releases; the definitions in the npm package are older. */
function addRouteMatchFilterState(workspaceDir: string): void {
  const file = join(workspaceDir, "envoy-api/envoy/config/route/v3/route_components.proto");
  const last = "repeated type.matcher.v3.MetadataMatcher dynamic_metadata = 13;";
  const added = "repeated type.matcher.v3.FilterStateMatcher filter_state = 16;";
  const patched = readFileSync(file, "utf8")
    .replace('import "envoy/type/matcher/v3/metadata.proto";', 'import "envoy/type/matcher/v3/filter_state.proto"; $&')
    .replace(last, `${last} ${added}`);
  if (!patched.includes(added)) throw new Error(`Cannot extend RouteMatch: ${file} has no line "${last}"`);
  writeFileSync(file, patched);
}
