import process from "node:process";
import { text } from "node:stream/consumers";
import { Command, Option } from "commander";
import { stringify } from "yaml";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";
import type { OfflineFlags, Surroundings } from "./offline.ts";

assertNodeVersion(process.version);

const surroundings: Surroundings = {
  env: process.env,
  readStdin: () => text(process.stdin),
  tell: (line) => process.stderr.write(`${line}\n`),
};

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

const program = new Command("ambit")
  .description("Ambit from the command line: what the mesh makes of your configuration, without a cluster.")
  .showHelpAfterError("(--help shows how)")
  .showSuggestionAfterError();

/** Commands that read files instead of a cluster take these. */
function offline(command: Command): Command {
  return command
    .requiredOption(
      "-f, --filename <path>",
      "YAML or JSON file, folder of them, or - for the standard input; repeatable",
      collect,
      [],
    )
    .option("--trust-domain <domain>", "trust domain of the mesh (default: that of the MeshConfig, or cluster.local)")
    .option("--root-namespace <name>", "namespace whose policies hold for the mesh (default: istio-system)")
    .option("--cluster-id <id>", "first part of workload names (default: Kubernetes)")
    .option(
      "--revision <name>",
      'revision of this control plane; "" takes objects of every revision (default: default)',
    )
    .option("--domain <name>", "DNS domain of the cluster", "cluster.local")
    .option("--env <name=value>", "environment variable of the control plane; repeatable", collect, [])
    .option("--env-file <file>", "such variables, one on each line; istiod.env beside an input file is read anyway")
    .option("--strict", "take warnings for errors");
}

interface TranslateFlags {
  readonly output: "json" | "yaml";
  readonly waypoint?: string;
  readonly node: string;
}

const output = (): Option =>
  new Option("-o, --output <form>", "how to print").choices(["json", "yaml"]).default("json");

function print(value: unknown, form: "json" | "yaml"): void {
  process.stdout.write(form === "yaml" ? stringify(value) : `${JSON.stringify(value, undefined, 2)}\n`);
}

offline(program.command("translate"))
  .description("print what the control plane would serve for these objects, and the statuses that it would write")
  .addOption(output())
  .option("--waypoint <namespace/name>", "print what this waypoint is served instead: listeners, clusters, endpoints")
  .option("--node <name>", "where that waypoint runs, for what depends on it", "")
  .addHelpText(
    "after",
    `
Prints one object: "addresses" (istio.workload.Address), "authorizations" (istio.security.Authorization), each sorted by
name and with its body in protobuf's JSON form, and "status". What an API server would add to the objects (defaults,
cluster addresses, times of creation) is added here; a comment "# pause" in a document makes its objects a second younger
than those before it. A document "kind: MeshConfig" holds fields of the mesh configuration under "mesh".

Examples:
  $ ambit translate -f mesh/ | jq '.status'
  $ kubectl get ns,pods,svc,endpointslices,authorizationpolicies -A -o yaml | ambit translate -f - -o yaml
  $ ambit translate -f world.yaml --env PILOT_AUTO_ALLOW_WAYPOINT_POLICY=true
  $ ambit translate -f mesh/ --waypoint shop/waypoint | jq '.clusters[].name'

Variables, as of Istio's control plane: CLUSTER_ID, REVISION, POD_NAMESPACE, PILOT_AUTO_ALLOW_WAYPOINT_POLICY,
AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY, PILOT_ENABLE_IP_AUTOALLOCATE, PILOT_IP_AUTOALLOCATE_IPV4_PREFIX,
PILOT_IP_AUTOALLOCATE_IPV6_PREFIX, PILOT_ENABLE_SERVICEENTRY_SELECT_PODS, PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES,
AMBIENT_ENABLE_MULTI_NETWORK, AMBIENT_ENABLE_STATUS.

Exit status: 0, or 1 where an object cannot be read; then nothing is printed but the mistakes, all of them.`,
  )
  .action(async (flags: OfflineFlags & TranslateFlags) => {
    const { readOffline } = await import("./offline.ts");
    if (flags.waypoint !== undefined) {
      const { describeWaypoint } = await import("./describe-waypoint.ts");
      const described = describeWaypoint(
        await readOffline(flags, surroundings),
        flags.waypoint,
        flags.node,
        surroundings,
      );
      if (described === undefined) process.exitCode = 1;
      else print(described, flags.output);
      return;
    }
    const { servedForm } = await import("#controlplane/translate/served-form.ts");
    const read = await readOffline(flags, surroundings);
    if (read === undefined) process.exitCode = 1;
    else print(servedForm(read.translation), flags.output);
  });

offline(program.command("validate"))
  .description("say what is wrong with these objects, as kubectl would be told when it applies them")
  .option("--complete", "the files are all that there is: also tell references that lead nowhere in them")
  .addOption(new Option("-o, --output <form>", "how to print").choices(["text", "json", "yaml"]).default("text"))
  .addHelpText(
    "after",
    `
The answer comes from the code that the control plane's webhook decides with. An error is what it refuses.

Examples:
  $ ambit validate -f mesh/
  $ kubectl get -A -o yaml virtualservices,destinationrules,services | ambit validate --complete -f -

Exit status: 0, or 1 where there is an error; with --strict also where there is a warning.`,
  )
  .action(async (flags: OfflineFlags & { readonly complete?: boolean; readonly output: "text" | "json" | "yaml" }) => {
    const { validateFiles } = await import("./validate-files.ts");
    const findings = await validateFiles(flags, surroundings);
    const isFatal = findings.some(({ severity }) => severity === "error" || flags.strict === true);
    if (isFatal) process.exitCode = 1;
    if (flags.output === "text") for (const { severity, line } of findings) surroundings.tell(`${severity}: ${line}`);
    else print(findings, flags.output);
  });

offline(program.command("why"))
  .description("say whether a connection is allowed, and by which policy")
  .requiredOption("--from <workload>", "namespace/pod that connects, or an IP address outside the mesh")
  .requiredOption("--to <destination>", "namespace/pod:port, namespace/service:port, or ip:port")
  .addOption(new Option("-o, --output <form>", "how to print").choices(["text", "json"]).default("text"))
  .addHelpText(
    "after",
    `
The answer comes from the code that node proxies decide with, for each endpoint that the connection may reach.

Example:
  $ ambit why -f mesh/ --from shop/cart-1 --to shop/orders:80
  denied: shop/cart-1 → shop/orders-1 (10.0.0.7:8080): explicitly denied by: shop/orders-only-from-web (rule 0)

Exit status: 0 allowed at every endpoint, 2 denied at one at least, 1 where the question cannot be answered.`,
  )
  .action(
    async (flags: OfflineFlags & { readonly from: string; readonly to: string; readonly output: "text" | "json" }) => {
      const { readOffline } = await import("./offline.ts");
      const { explainConnection } = await import("./explain-connection.ts");
      const read = await readOffline(flags, surroundings);
      const answers = read === undefined ? undefined : explainConnection(read.translation, flags);
      if (answers === undefined || "error" in answers) {
        if (answers !== undefined) surroundings.tell(`error: ${answers.error}`);
        process.exitCode = 1;
        return;
      }
      if (answers.some(({ allowed }) => !allowed)) process.exitCode = 2;
      if (flags.output === "json") {
        print(answers, "json");
        return;
      }
      for (const { destination, allowed, why, steps } of answers) {
        process.stdout.write(`${allowed ? "allowed" : "denied"}: ${flags.from} → ${destination}: ${why}\n`);
        for (const step of steps) process.stdout.write(`  ${step}\n`);
      }
    },
  );

try {
  await program.parseAsync();
} catch (error) {
  const remedy = error instanceof MeshError ? `\n${error.remedy}` : "";
  process.stderr.write(`error: ${explain(error)}${remedy}\n`);
  process.exitCode = 1;
}
