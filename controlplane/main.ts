import process from "node:process";
import { Command, Option } from "commander";
import { systemClock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";
import { awaitShutdown } from "#shared/lifecycle/shutdown.ts";
import { surviveMistakes } from "#shared/lifecycle/survive.ts";
import { Logging, openStdoutSink } from "#shared/observe/logging.ts";
import { defaultStateDirectory, readDiscoveryConfig, type DiscoveryFlags } from "./config.ts";

assertNodeVersion(process.version);

const collect = (value: string, previous: readonly string[]): readonly string[] => [...previous, value];

const program = new Command("controlplane")
  .description("Ambit's control plane: configuration in, discovery (xDS) and certificates out.")
  .showHelpAfterError();

program
  .command("discovery", { isDefault: true })
  .description("serve discovery and certificates to node proxies and waypoints")
  .addOption(
    new Option(
      "--source <source>",
      'where configuration comes from: "kubernetes", or "folder:DIR" with YAML files',
    ).default("kubernetes"),
  )
  .option("--kubeconfig <file>", "API server to read, instead of the pod's own (also: KUBECONFIG)")
  .option(
    "--state-dir <dir>",
    "with folder: where the CA's root and the keys of tokens are kept",
    defaultStateDirectory,
  )
  .option("--grpcAddr <address>", "discovery in plain text, without authentication; empty switches it off", ":15010")
  .option("--secureGRPCAddr <address>", "discovery and certificates over TLS", ":15012")
  .option("--httpAddr <address>", "/ready, and /debug for this machine", ":8080")
  .option("--monitoringAddr <address>", "/metrics", ":15014")
  .option("--httpsAddr <address>", "validating webhook, with kubernetes; empty switches it off", ":15017")
  .option("--domain <name>", "DNS domain of the cluster", "cluster.local")
  .option("--cacerts <dir>", "an operator's own CA, used instead of a self-signed root if it holds one", "/etc/cacerts")
  .option("--host <name>", "further name or address in the TLS certificate; may be repeated", collect, [])
  .option("--keepaliveMaxServerConnectionAge <duration>", "clients are sent to reconnect near this age", "30m")
  .option("--log_output_level <levels>", 'such as "info", or "xds=debug,info"')
  .option("--log_as_json", "log lines as JSON")
  .addHelpText(
    "after",
    `
Without Kubernetes, on one machine:
  $ controlplane discovery --source folder:./mesh
  $ controlplane token --namespace istio-system --service-account ztunnel > token
  A client then trusts ${defaultStateDirectory}/root-cert.pem and connects to localhost:15012.

What is served and why: curl localhost:8080/debug/

Environment variables are Istio's: CLUSTER_ID, REVISION, POD_NAMESPACE, TOKEN_AUDIENCES, CA_TRUSTED_NODE_ACCOUNTS,
DEFAULT_WORKLOAD_CERT_TTL, MAX_WORKLOAD_CERT_TTL, ISTIO_MULTIROOT_MESH, PILOT_CA_CERT_CONFIGMAP, PILOT_DEBOUNCE_AFTER,
PILOT_DEBOUNCE_MAX, VALIDATION_WEBHOOK_CONFIG_NAME, PILOT_ENABLE_IP_AUTOALLOCATE, AMBIENT_ENABLE_STATUS, AMBIENT_ENABLE_MULTI_NETWORK and others.`,
  )
  .action((flags: DiscoveryFlags) => runDiscovery(flags));

program
  .command("token")
  .description("make a service account token that a control plane with --source folder:… accepts, for local use")
  .requiredOption("--namespace <name>", "namespace of the service account")
  .requiredOption("--service-account <name>", "the service account")
  .option("--pod <name>", "bind it to a pod, as node proxies need it to ask for certificates of others")
  .option("--pod-uid <uid>", "uid of that pod, as /debug/addresses or its YAML has it")
  .option("--state-dir <dir>", "the control plane's", defaultStateDirectory)
  .option("--audience <name>", "whom it is for", "istio-ca")
  .option("--ttl <seconds>", "how long it is valid", "43200")
  .action(async (options: TokenOptions) => {
    const { mintToken } = await import("#controlplane/ca/local-tokens.ts");
    const ttlSeconds = Number(options.ttl);
    if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds <= 0) {
      throw new MeshError("CONFIG_INVALID", `Cannot use --ttl="${options.ttl}": write a number of seconds`);
    }
    if ((options.pod === undefined) !== (options.podUid === undefined)) {
      throw new MeshError("CONFIG_INVALID", "Cannot bind the token: --pod and --pod-uid go together");
    }
    const pod = options.pod === undefined ? undefined : { name: options.pod, uid: options.podUid ?? "" };
    const { namespace, serviceAccount, audience } = options;
    const request = { namespace, serviceAccount, audience, ttlSeconds, ...(pod === undefined ? {} : { pod }) };
    process.stdout.write(`${await mintToken(options.stateDir, request, systemClock.now())}\n`);
  });

interface TokenOptions {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod?: string;
  readonly podUid?: string;
  readonly stateDir: string;
  readonly audience: string;
  readonly ttl: string;
}

async function runDiscovery(flags: DiscoveryFlags): Promise<void> {
  const config = readDiscoveryConfig(flags, process.env);
  const sink = openStdoutSink();
  const logging = new Logging(config.logAsJson ? "json" : "plain", config.logFilter, sink);
  const log = logging.scope("controlplane");
  surviveMistakes(process, log, () => systemClock.now());
  using shutdown = awaitShutdown(process);
  const abort = new AbortController();
  void shutdown.asked.then((why) => abort.abort(new Error(why)));
  const { startDiscovery } = await import("./discovery.ts");
  try {
    await using discovery = await startDiscovery(config, logging, abort.signal);
    const why = await Promise.race([shutdown.asked, discovery.failed]);
    log.info({ why }, "control plane stops");
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  } finally {
    sink.flushSync();
  }
}

try {
  await program.parseAsync();
} catch (error) {
  const remedy = error instanceof MeshError ? `\n${error.remedy}` : "";
  process.stderr.write(`${explain(error)}${remedy}\n`);
  process.exitCode = 1;
}
// What is still open here, such as an idle connection, is of no use to anybody.
process.exit();
