/**
 * `npm run conformance`: Gateway API's own conformance suite for meshes, on a sandbox. It is written in Go and comes as a
 * Go module, which is why this stands apart from `npm test`. Words after `--` go to the suite.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parse } from "yaml";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

assertNodeVersion(process.version);

const { startSandbox } = await import("#e2e/sandbox/sandbox.ts");

const here = import.meta.dirname;
const programs = join(here, "../../.cache/conformance");
const report = join(programs, "report.yaml");

const profiles = ["MESH-HTTP", "MESH-GRPC"];
/** What the profiles ask for, every feature that a mesh may have beyond, and those of routes that mesh tests need. */
const features = [
  "Mesh",
  "HTTPRoute",
  "GRPCRoute",
  "MeshClusterIPMatching",
  "MeshConsumerRoute",
  "MeshHTTPRouteBackendRequestHeaderModification",
  "MeshHTTPRouteNamedRouteRule",
  "MeshHTTPRouteQueryParamMatching",
  "MeshHTTPRouteRedirectPath",
  "MeshHTTPRouteRedirectPort",
  "MeshHTTPRouteRewritePath",
  "MeshHTTPRouteSchemeRedirect",
  "HTTPRouteParentRefPort",
  "HTTPRouteResponseHeaderModification",
  "HTTPRoute303RedirectStatusCode",
  "HTTPRoute307RedirectStatusCode",
  "HTTPRoute308RedirectStatusCode",
];
const namespaceLabels = ["istio.io/dataplane-mode=ambient", "istio.io/use-waypoint=waypoint"];

function go(...words: readonly string[]): void {
  const { error, status } = spawnSync("go", words, { cwd: here, stdio: "inherit" });
  if (error !== undefined) throw new Error(`Cannot run go: ${error.message}. Install Go as go.mod names it`);
  if (status !== 0) throw new Error(`go ${words[0] ?? ""} ended with status ${String(status)}`);
}

/** @returns the suite's exit status */
function runSuite(kubeconfig: string, words: readonly string[]): Promise<number> {
  const suite = spawn(
    join(programs, "suite"),
    [
      `--conformance-profiles=${profiles.join()}`,
      `--supported-features=${features.join()}`,
      `--namespace-labels=${namespaceLabels.join()}`,
      `--report-output=${report}`,
      "--organization=ambit",
      "--project=ambit",
      "--url=https://ambit.dev",
      "--version=unreleased",
      "--contact=none",
      ...words,
    ],
    { cwd: here, env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: "inherit" },
  );
  return new Promise((resolve, reject) => {
    suite.once("error", reject);
    suite.once("exit", (status) => resolve(status ?? 1));
  });
}

interface Outcome {
  readonly statistics: { readonly Passed: number; readonly Failed: number; readonly Skipped: number };
}
interface Report {
  readonly gatewayAPIVersion: string;
  readonly profiles: readonly { readonly name: string; readonly core: Outcome; readonly extended?: Outcome }[];
  readonly succeededProvisionalTests?: readonly string[];
}

/** One line for each profile, of tests. */
function summary({ gatewayAPIVersion, profiles, succeededProvisionalTests = [] }: Report): string {
  const count = ({ statistics: { Passed, Failed, Skipped } }: Outcome): string =>
    `${Passed} passed, ${Failed} failed, ${Skipped} skipped`;
  return [
    `Gateway API ${gatewayAPIVersion}`,
    ...profiles.flatMap(({ name, core, extended }) => [
      `${name}, core: ${count(core)}`,
      ...(extended === undefined ? [] : [`${name}, extended: ${count(extended)}`]),
    ]),
    `provisional: ${succeededProvisionalTests.length} passed`,
  ].join("\n");
}

mkdirSync(programs, { recursive: true });
go("build", "-trimpath", "-o", programs, "./client", "./server");
go("test", "-c", "-o", join(programs, "suite"), ".");
await using sandbox = await startSandbox({
  name: "conformance",
  manifests: [join(here, "namespaces.yaml")],
  images: { "gateway-api/echo-advanced": join(programs, "server") },
  progress: (text) => console.log(text),
});
rmSync(report, { force: true });
console.log("The suite runs, for about a minute; with -test.v it tells what it does");
process.exitCode = await runSuite(sandbox.kubeconfig, process.argv.slice(2));
if (existsSync(report)) {
  console.log(`${summary(parse(readFileSync(report, "utf8")) as Report)}\nThe whole report: ${report}`);
}
