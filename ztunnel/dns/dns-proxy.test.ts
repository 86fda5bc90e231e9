/** Real sockets on loopback, a resolver that does as a test says, time that stands still. */
import { randomInt } from "node:crypto";
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { decode, encode, type Packet } from "dns-packet";
import fc from "#shared/testing/properties.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import type { Ip } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { connectLoopback, endingOf, listenLoopback, readAll, until } from "#shared/testing/loopback.ts";
import { serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { bindDatagrams, connectInNamespace, listenInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { DnsReporter } from "#ztunnel/telemetry/dns-report.ts";
import { DnsProxy, maxConnections, maxPendingPerPod, PendingLimit, streamIdleMs } from "./dns-proxy.ts";
import { framed, MessageReader, nextTryMs, upstreamDeadlineMs } from "./upstream-resolvers.ts";

const loopback = "127.0.0.1" as Ip;
const first = "127.0.0.11" as Ip;
const second = "127.0.0.12" as Ip;

const ask = (name: string, more: Partial<Packet> = {}): Buffer =>
  encode({ type: "query", id: 7, flags: 0x100, questions: [{ name, type: "A" }], ...more });
type Decoded = Packet & { readonly rcode: string; readonly flag_tc: boolean; readonly flag_aa: boolean };
const read = (bytes: Buffer): Decoded => decode(bytes) as unknown as Decoded;
const addressesIn = (bytes: Buffer) =>
  (read(bytes).answers ?? []).map((answer) => ("data" in answer ? answer.data : ""));

/** What a resolver says to a question of that id. */
const says = (query: Buffer, rcode: number, data = "192.0.2.1"): Buffer => {
  const { id = 0, questions = [] } = decode(query);
  const answers = rcode === 0 ? questions.map(({ name }) => ({ name, type: "A" as const, data, ttl: 60 })) : [];
  return encode({ type: "response", id, flags: 0x0480 | rcode, questions, answers });
};

type Behaviour = (query: Buffer) => readonly Buffer[];

/** A resolver on one address, over UDP and TCP. */
class FakeResolver {
  readonly heard: Buffer[] = [];
  behaviour: Behaviour = (query) => [says(query, 0)];
  readonly #udp: DatagramSocket;
  readonly #askers: { readonly port: number; readonly query: Buffer }[] = [];

  constructor(ip: Ip, port: number) {
    this.#udp = bindDatagrams(undefined, { ip, port });
    this.#udp.on("message", (query, { port: asker }) => {
      this.heard.push(query);
      this.#askers.push({ port: asker, query });
      for (const answer of this.behaviour(query)) this.#udp.send(answer, asker, loopback);
    });
  }

  /** Late: to the question that it heard as the nth. */
  answer(nth: number, behaviour: Behaviour): void {
    const asker = this.#askers[nth];
    if (asker === undefined) throw new Error(`heard ${this.#askers.length} questions`);
    for (const answer of behaviour(asker.query)) this.#udp.send(answer, asker.port, loopback);
  }

  close(): void {
    this.#udp.close();
  }
}

const many = Array.from({ length: 256 }, (_, index) => `10.1.0.${index}` as Ip);
const known: Readonly<Record<string, readonly Ip[]>> = { "web.shop": ["10.0.0.1" as Ip], "many.shop": many };
const service = serviceOf("web");
const workload = workloadOf("asker");

class World {
  readonly clock = new FakeClock();
  readonly told: string[] = [];
  readonly pending = new PendingLimit(maxPendingPerPod + 10);
  readonly reporter: DnsReporter = {
    asked: ({ protocol, type }) => this.told.push(`asked ${protocol} ${type}`),
    answered: (_facts, { result }) => this.told.push(result),
    forwarded: (_facts, { ok }) => this.told.push(`upstream ${ok ? "ok" : "failed"}`),
  };
  readonly udp: DatagramSocket = bindDatagrams(undefined, { ip: loopback, port: 0 });
  readonly #listener = listenInNamespace(undefined, { address: loopback, port: 0 });
  readonly clients = new Set<DatagramSocket | Socket>();
  servers: readonly Ip[] = [first, second];
  proxy!: DnsProxy;
  /** Below the range that the kernel chooses from, so that nobody else gets it. */
  readonly upstreamPort = randomInt(20_000, 32_000);
  readonly resolvers = new Map<Ip, FakeResolver>();

  async open(): Promise<void> {
    this.proxy = await this.#serve(this.udp, this.#listener);
  }

  /** Another pod's, with the same limits; on the port of one that is there, its successor. */
  async openAnother(onPort = 0, ip = loopback): Promise<{ readonly port: number; readonly proxy: DnsProxy }> {
    const udp = bindDatagrams(undefined, { ip, port: onPort, reusePort: true });
    const { port } = udp.address();
    return { port, proxy: await this.#serve(udp, listenInNamespace(undefined, { address: loopback, port: 0 })) };
  }

  #serve(udp: DatagramSocket, listener: { readonly fd: number }): Promise<DnsProxy> {
    const { upstreamPort: port, clock } = this;
    const servers = () => this.servers;
    return DnsProxy.open(
      { datagrams: [udp], listening: [listener] },
      {
        upstream: {
          get servers() {
            return servers();
          },
          port,
          sockets: {
            datagrams: () => bindDatagrams(undefined, { ip: "0.0.0.0" as Ip, port: 0 }),
            stream: (ip) => connectInNamespace(undefined, { ip, port, keepAlive: "off" }),
          },
          clock,
        },
        resolve: ({ name }) => {
          const ips = known[name];
          return ips === undefined ? { kind: "forward" } : { kind: "answer", service, ips, why: "success" };
        },
        asker: () => ({ pod: { name: "asker", namespace: "ns", serviceAccount: "default" }, workload }),
        pending: this.pending,
        reporter: this.reporter,
        clock,
        log: silentLogger,
        random: () => 0.5,
      },
    );
  }

  resolver(ip: Ip): FakeResolver {
    const resolver = new FakeResolver(ip, this.upstreamPort);
    this.resolvers.set(ip, resolver);
    return resolver;
  }

  /** Sends at once; resolves with what comes back. */
  send(message: Buffer, port = this.udp.address().port): Promise<Buffer> {
    const socket = createSocket("udp4");
    this.clients.add(socket);
    socket.send(message, port, loopback);
    return once(socket, "message").then(([answer]) => answer as Buffer);
  }

  get tcpPort(): number {
    return this.#listener.port;
  }

  async connect(): Promise<Socket> {
    const socket = await connectLoopback(this.tcpPort);
    this.clients.add(socket);
    return socket;
  }

  async close(): Promise<void> {
    await this.proxy.stop({ deadlineMs: 0 });
    for (const client of this.clients) {
      if ("destroy" in client) client.destroy();
      else client.close();
    }
    for (const resolver of this.resolvers.values()) resolver.close();
  }
}

/** The next message of a connection. */
async function nextMessage(socket: Socket): Promise<Buffer> {
  const reader = new MessageReader();
  for (;;) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    const [message] = reader.read(chunk);
    if (message !== undefined) return message;
  }
}

let world: World;
beforeEach(async () => {
  world = new World();
  await world.open();
});
afterEach(() => world.close());

describe("over UDP", () => {
  test("names of the mesh are answered without asking anybody", async () => {
    const answer = await world.send(ask("web.shop"));
    expect(addressesIn(answer)).toEqual(["10.0.0.1"]);
    expect(read(answer)).toMatchObject({ id: 7, flag_aa: true });
    expect(world.told).toEqual(["asked udp 1", "success"]);
  });

  test("other names are passed on as they came, under another id, and so are answers", async () => {
    const resolver = world.resolver(first);
    const answer = await world.send(ask("Example.ORG", { flags: 0x110 }));
    expect(addressesIn(answer)).toEqual(["192.0.2.1"]);
    expect(read(answer)).toMatchObject({ id: 7, flag_aa: false, rcode: "NOERROR" });
    expect(resolver.heard[0]?.subarray(2)).toEqual(ask("Example.ORG", { flags: 0x110 }).subarray(2));
    expect(world.told).toEqual(["asked udp 1", "upstream ok", "forwarded"]);
    expect(world.clock.pending).toBe(0);
  });

  test("an IPv6 socket answers askers over IPv4, too", async () => {
    const any = await world.openAnother(0, "::" as Ip);
    expect(addressesIn(await world.send(ask("web.shop"), any.port))).toEqual(["10.0.0.1"]);
    await any.proxy.stop({ deadlineMs: 0 });
  });

  test("that a name is unknown is passed on too", async () => {
    world.resolver(first).behaviour = (query) => [says(query, 3)];
    expect(read(await world.send(ask("absent.example.org")))).toMatchObject({ rcode: "NXDOMAIN" });
  });

  test("other types and classes are not ours to answer", async () => {
    const resolver = world.resolver(first);
    await world.send(ask("web.shop", { questions: [{ name: "web.shop", type: "TXT" }] }));
    await world.send(ask("web.shop", { questions: [{ name: "web.shop", type: "A", class: "CH" }] }));
    expect(resolver.heard).toHaveLength(2);
  });

  test("what was not asked for is not taken for the answer", async () => {
    world.resolver(first).behaviour = (query) => {
      const otherId = Buffer.from(query);
      otherId.writeUInt16BE(query.readUInt16BE(0) ^ 1, 0);
      const otherName = ask("evil.example.org", { id: query.readUInt16BE(0) });
      return [
        says(otherId, 0, "6.6.6.6"),
        says(otherName, 0, "6.6.6.6"),
        Buffer.from("garbage"),
        query,
        says(query, 0),
      ];
    };
    expect(addressesIn(await world.send(ask("example.org")))).toEqual(["192.0.2.1"]);
  });

  test("each question leaves from a port of its own", async () => {
    const ports = new Set<number>();
    const resolver = bindDatagrams(undefined, { ip: first, port: world.upstreamPort });
    world.clients.add(resolver);
    resolver.on("message", (query, { port }) => {
      ports.add(port);
      resolver.send(says(query, 0), port, loopback);
    });
    await Promise.all(Array.from({ length: 20 }, () => world.send(ask("example.org"))));
    expect(ports.size).toBeGreaterThan(15);
  });

  test("more than fits is cut off, and comes whole over TCP", async () => {
    const cut = await world.send(ask("many.shop"));
    expect(cut.length).toBeLessThanOrEqual(512);
    expect(read(cut).flag_tc).toBe(true);
    const socket = await world.connect();
    socket.write(framed(ask("many.shop")));
    const whole = await nextMessage(socket);
    expect(read(whole).flag_tc).toBe(false);
    expect(new Set(addressesIn(whole))).toEqual(new Set(many));
  });
});

describe("resolvers that do not answer", () => {
  test("one that is silent is not waited for, and still heard", async () => {
    const silent = world.resolver(first);
    silent.behaviour = () => [];
    const other = world.resolver(second);
    other.behaviour = () => [];
    const answer = world.send(ask("example.org"));
    await until(() => silent.heard.length === 1, "the first to be asked");
    expect(other.heard).toEqual([]);
    await world.clock.advance(nextTryMs);
    await until(() => other.heard.length === 1, "the second to be asked");
    silent.answer(0, (query) => [says(query, 0, "192.0.2.7")]);
    expect(addressesIn(await answer)).toEqual(["192.0.2.7"]);
    expect(world.clock.pending).toBe(0);
  });

  test("the only one is asked again", async () => {
    world.servers = [first];
    const silent = world.resolver(first);
    silent.behaviour = () => [];
    const answer = world.send(ask("example.org"));
    await until(() => silent.heard.length === 1, "it to be asked");
    silent.behaviour = (query) => [says(query, 0)];
    await world.clock.advance(nextTryMs);
    expect(addressesIn(await answer)).toEqual(["192.0.2.1"]);
  });

  test("one that is not there is passed over at once", async () => {
    const other = world.resolver(second);
    expect(addressesIn(await world.send(ask("example.org")))).toEqual(["192.0.2.1"]);
    expect(other.heard).toHaveLength(1);
  });

  test("nobody there: that is said at once", async () => {
    expect(read(await world.send(ask("example.org")))).toMatchObject({ id: 7, rcode: "SERVFAIL", answers: [] });
    expect(world.told.at(-1)).toMatch(/^127\.0\.0\.12: .*ECONNREFUSED/);
    expect(world.clock.pending).toBe(0);
  });

  test("all silent: that is said before the asker gives up, and late answers reach nobody", async () => {
    const resolver = world.resolver(first);
    resolver.behaviour = () => [];
    world.resolver(second).behaviour = () => [];
    const answer = world.send(ask("example.org"));
    await until(() => resolver.heard.length === 1, "the first to be asked");
    await world.clock.advance(upstreamDeadlineMs);
    expect(read(await answer)).toMatchObject({ rcode: "SERVFAIL" });
    resolver.answer(0, (query) => [says(query, 0)]);
    expect(world.clock.pending).toBe(0);
    expect(addressesIn(await world.send(ask("web.shop")))).toEqual(["10.0.0.1"]);
  });

  // prettier-ignore
  test.each([ // first  second  answer      why
    [2,                 0,      "NOERROR",  "another may know more"],
    [5,                 3,      "NXDOMAIN", "or that there is nothing to know"],
    [2,                 5,      "SERVFAIL", "none does: the first answer"],
    [5,                 2,      "REFUSED",  "none does: the first answer"],
    [3,                 0,      "NXDOMAIN", "a no is an answer"],
  ])("response codes %d and %d: %s, %s", async (one, other, rcode, _why) => {
    world.resolver(first).behaviour = (query) => [says(query, one)];
    world.resolver(second).behaviour = (query) => [says(query, other)];
    expect(read(await world.send(ask("example.org"))).rcode).toBe(rcode);
  });

  test("no resolver at all", async () => {
    world.servers = [];
    expect(read(await world.send(ask("example.org")))).toMatchObject({ rcode: "SERVFAIL" });
    expect(addressesIn(await world.send(ask("web.shop")))).toEqual(["10.0.0.1"]);
  });
});

describe("too many questions", () => {
  test("fail at once, and the mesh's own names are answered meanwhile", async () => {
    const resolver = world.resolver(first);
    resolver.behaviour = () => [];
    for (let index = 0; index < maxPendingPerPod; index++)
      void world.send(ask(`n${index}.example.org`)).catch(() => {});
    await until(() => resolver.heard.length === maxPendingPerPod, "all to be asked");
    expect(read(await world.send(ask("one.more.example.org"))).rcode).toBe("SERVFAIL");
    expect(addressesIn(await world.send(ask("web.shop")))).toEqual(["10.0.0.1"]);
    // Another pod has a share of its own, of what all may have together.
    const another = await world.openAnother();
    for (let index = 0; index < 10; index++)
      void world.send(ask(`m${index}.example.org`), another.port).catch(() => {});
    await until(() => resolver.heard.length === maxPendingPerPod + 10, "the other pod's to be asked");
    expect(read(await world.send(ask("one.more.example.org"), another.port)).rcode).toBe("SERVFAIL");
    await another.proxy.stop({ deadlineMs: 0 });
    await world.clock.advance(upstreamDeadlineMs);
    resolver.behaviour = (query) => [says(query, 0)];
    expect(addressesIn(await world.send(ask("example.org")))).toEqual(["192.0.2.1"]);
  });
});

describe("over TCP", () => {
  test("several questions at once, in pieces, and the end of the asker's half", async () => {
    const socket = await world.connect();
    const both = Buffer.concat([framed(ask("web.shop", { id: 1 })), framed(ask("web.shop", { id: 2 }))]);
    const answers = readAll(socket);
    for (const octet of both) socket.write(Buffer.of(octet));
    socket.end();
    expect(new MessageReader().read(await answers).map((message) => message.readUInt16BE(0))).toEqual([1, 2]);
  });

  test("other names are passed on over TCP", async () => {
    await using server = await listenLoopback((served) => {
      const reader = new MessageReader();
      served.on("data", (chunk: Buffer) => {
        for (const query of reader.read(chunk)) served.write(framed(says(query, 0)));
      });
    }, world.upstreamPort);
    const socket = await world.connect();
    socket.write(framed(ask("example.org")));
    expect(addressesIn(await nextMessage(socket))).toEqual(["192.0.2.1"]);
    expect(world.told).toEqual(["asked tcp 1", "upstream ok", "forwarded"]);
    await until(() => [...server.sockets].every((served) => served.closed || served.readableEnded), "the end");
  });

  test.each([
    ["is closed", (served: Socket) => served.end()],
    ["says what was not asked", (served: Socket) => served.end(framed(says(ask("evil.org"), 0)))],
  ])("a resolver's connection that %s is an answer too", async (_what, behave) => {
    await using _server = await listenLoopback(behave, world.upstreamPort);
    const socket = await world.connect();
    socket.write(framed(ask("example.org")));
    expect(read(await nextMessage(socket)).rcode).toBe("SERVFAIL");
  });

  test("a connection on which nothing happens is closed", async () => {
    const socket = await world.connect();
    socket.write(Buffer.from([0, 40, 1])); // announces more than it sends
    const ending = endingOf(socket);
    await until(() => world.clock.pending > 0, "the connection to be accepted");
    await world.clock.advance(streamIdleMs);
    expect(["end", "reset"]).toContain(await ending);
    expect(world.clock.pending).toBe(0);
  });

  test("what is no message closes the connection", async () => {
    const socket = await world.connect();
    socket.write(framed(Buffer.from("short")));
    expect(["end", "reset"]).toContain(await endingOf(socket));
  });

  test("more connections than a pod may have are refused, the others work", async () => {
    const [kept] = await Promise.all(Array.from({ length: maxConnections }, () => world.connect()));
    const refused = connect(world.tcpPort, loopback);
    world.clients.add(refused);
    expect(["end", "reset"]).toContain(await endingOf(refused));
    kept?.write(framed(ask("web.shop")));
    expect(kept && addressesIn(await nextMessage(kept))).toEqual(["10.0.0.1"]);
  });
});

describe("the end", () => {
  test("a successor takes over without a question being lost", async () => {
    const first = await world.openAnother();
    const successor = await world.openAnother(first.port);
    let answered = 0;
    const askOften = async () => {
      for (let round = 0; round < 50; round++) {
        expect(addressesIn(await world.send(ask("web.shop"), first.port))).toEqual(["10.0.0.1"]);
        answered++;
      }
    };
    const askers = Array.from({ length: 10 }, askOften);
    await until(() => answered > 100, "questions to be asked");
    await first.proxy.stop({ deadlineMs: 10_000 });
    expect(answered).toBeLessThan(400);
    await Promise.all(askers);
    await successor.proxy.stop({ deadlineMs: 0 });
  });

  test("draining waits for questions under way, and answers them", async () => {
    const resolver = world.resolver(first);
    resolver.behaviour = () => [];
    const answer = world.send(ask("example.org"));
    await until(() => resolver.heard.length === 1, "it to be asked");
    const stopped = world.proxy.stop({ deadlineMs: 10_000 });
    resolver.answer(0, (query) => [says(query, 0)]);
    expect(addressesIn(await answer)).toEqual(["192.0.2.1"]);
    await stopped;
    expect(world.clock.pending).toBe(0);
  });

  test("and not for ever: then it failed", async () => {
    const resolver = world.resolver(first);
    resolver.behaviour = () => [];
    const answer = world.send(ask("example.org"));
    await until(() => resolver.heard.length === 1, "it to be asked");
    const stopped = world.proxy.stop({ deadlineMs: 1_000 });
    await until(() => world.clock.pending === 3, "the deadline");
    await world.clock.advance(1_000);
    await stopped;
    expect(read(await answer).rcode).toBe("SERVFAIL");
    expect(world.clock.pending).toBe(0);
  });

  test("stopping at once answers what has arrived, and tells the rest that it failed", async () => {
    const resolver = world.resolver(first);
    resolver.behaviour = () => [];
    const slow = world.send(ask("example.org"));
    await until(() => resolver.heard.length === 1, "it to be asked");
    const asker = bindDatagrams(undefined, { ip: loopback, port: 0 });
    world.clients.add(asker);
    const answers: Buffer[] = [];
    asker.on("message", (answer) => answers.push(answer));
    for (let id = 0; id < 50; id++) asker.send(ask("web.shop", { id }), world.udp.address().port, loopback);
    await world.proxy.stop({ deadlineMs: 0 });
    expect(read(await slow).rcode).toBe("SERVFAIL");
    await until(() => answers.length === 50, "every answer");
    expect(world.clock.pending).toBe(0);
  });

  test("nothing stays open: sockets, connections, timers", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const before = open();
    const inner = new World();
    await inner.open();
    inner.resolver(first).behaviour = () => [];
    for (let index = 0; index < 20; index++) void inner.send(ask("example.org")).catch(() => {});
    const socket = await inner.connect();
    socket.write(framed(ask("example.org")));
    await until(() => inner.told.filter((line) => line.startsWith("asked")).length === 21, "all questions");
    await inner.close();
    await until(() => open() <= before, "descriptors to be closed");
    await until(() => inner.clock.pending === 0, "timers to be cancelled");
    expect(inner.clock.pending).toBe(0);
  });
});

test("whatever pods send, the next question is answered", async () => {
  world.resolver(first).behaviour = (query) => [query, Buffer.from(query.toReversed())];
  const socket = createSocket("udp4");
  world.clients.add(socket);
  const valid = ask("web.shop");
  const damaged = fc.tuple(fc.nat(valid.length - 1), fc.nat(255)).map(([at, octet]) => {
    const bytes = Buffer.from(valid);
    bytes[at] = octet;
    return bytes;
  });
  const messages = fc.sample(fc.oneof(damaged, fc.uint8Array({ maxLength: 600 })), 400);
  for (const message of messages) socket.send(message, world.udp.address().port, loopback);
  for (const message of messages.slice(0, 50)) {
    const stream = await world.connect();
    stream.write(framed(Buffer.from(message)));
    stream.write(message);
    stream.end();
  }
  expect(addressesIn(await world.send(valid))).toEqual(["10.0.0.1"]);
});
