/** The whole way in a sandbox: client, its ztunnel, waypoint, the server's ztunnel, server; beside the same pods without any of them. */
import { join } from "node:path";
import { ambient, namespaceManifest, outcomeOf, podIp, projectRoot, startMesh } from "#e2e/support/mesh.ts";
import type { Cluster, Manifest } from "#e2e/support/cluster.ts";
import { documents, waypointGateway, waypointReady } from "#e2e/support/web-mesh.ts";
import type { ClosedLoop } from "./closed-loop.ts";

export interface FullPath {
  readonly connections: number;
  readonly direct: ClosedLoop;
  readonly mesh: ClosedLoop;
}

const namespace = "bench";
const client = { namespace, name: "client" };
const server = { namespace, name: "server" };
const program = join(projectRoot, "e2e/bench/l7/closed-loop.ts");
/** A closed connection blocks its ports for a minute: each path has its own. */
const ports = { direct: 9_000, mesh: 9_001 } as const;
const connectionCounts = [1, 32, 64] as const;

export async function measureFullPath(seconds: number, say: (text: string) => void): Promise<FullPath[]> {
  await using mesh = await startMesh("bench-l7", { progress: say });
  const { cluster } = mesh;
  await cluster.apply([namespaceManifest(namespace), ...pods()].join("\n---\n"));
  await cluster.podsReady(namespace, 2);
  const ask = async (host: string, port: number, connections: number, howLong = seconds): Promise<ClosedLoop> => {
    const words = ["ask", "--host", host, "--port", port, "--connections", connections, "--seconds", howLong].map(
      String,
    );
    return outcomeOf<ClosedLoop>(await cluster.start(client, ["node", program, ...words]));
  };

  say("the pods without the mesh");
  const address = await podIp(cluster, server);
  const direct: ClosedLoop[] = [];
  for (const connections of connectionCounts) direct.push(await ask(address, ports.direct, connections));

  say("the same pods, captured, behind a waypoint with a policy");
  await cluster.apply([waypointGateway("waypoint", namespace), policy()].join("\n---\n"));
  await cluster.labelNamespace(namespace, { ...ambient, "istio.io/use-waypoint": "waypoint" });
  await cluster.captured(namespace, true, 30_000);
  await waypointReady(cluster, namespace);
  const service = await serviceIp(cluster);
  await cluster.until("requests to be led through the waypoint", async () => {
    const { errors, servedBy } = await ask(service, 80, 1, 0.2).catch(() => ({ errors: 1, servedBy: "" }));
    return errors === 0 && servedBy === "istio-envoy";
  });
  await ask(service, 80, 64, 3);
  const through: ClosedLoop[] = [];
  for (const connections of connectionCounts) {
    say(`  ${connections} connections`);
    through.push(await ask(service, 80, connections));
  }
  return connectionCounts.map((connections, index) => ({
    connections,
    direct: direct[index] as ClosedLoop,
    mesh: through[index] as ClosedLoop,
  }));
}

async function serviceIp(cluster: Cluster): Promise<string> {
  const service = await cluster.get<Manifest & { readonly spec: { readonly clusterIP: string } }>(
    "v1",
    "Service",
    "server",
    namespace,
  );
  return service.spec.clusterIP;
}

function pods(): string[] {
  const pod = (name: string, node: string, command: readonly string[]) =>
    documents(
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } },
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name, namespace, labels: { app: name } },
        spec: {
          nodeName: node,
          serviceAccountName: name,
          terminationGracePeriodSeconds: 1,
          containers: [{ name: "load", image: "ambit/tools", command }],
        },
      },
    );
  return [
    pod("client", "node-1", ["sleep", "86400"]),
    pod("server", "node-2", ["node", program, "answer", "--port", String(ports.direct)]),
    documents({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "server", namespace },
      spec: { selector: { app: "server" }, ports: [{ name: "http", port: 80, targetPort: ports.mesh }] },
    }),
  ];
}

/** For the waypoint, by identity, method and path: what only it can decide. */
const policy = (): string =>
  documents({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "clients", namespace },
    spec: {
      targetRefs: [{ kind: "Service", group: "", name: "server" }],
      action: "ALLOW",
      rules: [
        {
          from: [{ source: { principals: [`cluster.local/ns/${namespace}/sa/client`] } }],
          to: [{ operation: { methods: ["GET"], paths: ["/*"] } }],
        },
      ],
    },
  });
