import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import type { FetchedKeys, KeySource } from "#controlplane/mesh/token-keys.ts";
import { fetchDocument, type FetchRules } from "./fetch-document.ts";
import { KeyFetcher } from "./key-fetcher.ts";

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwks = JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "a" }] });

const source = (url: string, isDiscovery = false): KeySource => ({ url, isDiscovery, timeoutMs: 1_000 });

function start(documents: Map<string, string>) {
  const clock = new FakeClock();
  const asked: string[] = [];
  const changes: ReadonlyMap<string, FetchedKeys>[] = [];
  const fetcher = new KeyFetcher({
    clock,
    log: silentLogger,
    onChange: (keys) => changes.push(keys),
    fetch: (url) => {
      asked.push(url);
      const found = documents.get(url);
      return found === undefined ? Promise.reject(new Error("away")) : Promise.resolve(found);
    },
  });
  return { clock, asked, changes, fetcher };
}

describe("keys at hand", () => {
  test("are fetched once, told, and looked at again after 20 minutes", async () => {
    const documents = new Map([["https://i/keys", jwks]]);
    const { clock, asked, changes, fetcher } = start(documents);
    fetcher.want([source("https://i/keys")]);
    fetcher.want([source("https://i/keys")]);
    await clock.advance(19 * 60_000);
    expect(asked).toHaveLength(1);
    expect(changes).toHaveLength(1);
    await clock.advance(60_000);
    expect(asked).toHaveLength(2);
    expect(changes).toHaveLength(1);
  });

  test("are found by discovery", async () => {
    const { clock, fetcher } = start(
      new Map([
        ["https://i/.well-known/openid-configuration", '{"jwks_uri":"https://i/k"}'],
        ["https://i/k", jwks],
      ]),
    );
    fetcher.want([source("https://i/.well-known/openid-configuration", true)]);
    await clock.advance(0);
    expect([...fetcher.keys.values()]).toEqual([{ jwks, error: undefined }]);
  });

  test("are asked for again, more and more seldom, while they cannot be had", async () => {
    const documents = new Map<string, string>();
    const { clock, asked, fetcher } = start(documents);
    fetcher.want([source("https://i/keys")]);
    await clock.advance(7_500);
    expect(asked).toHaveLength(4);
    expect(fetcher.keys.get("https://i/keys")).toEqual({ jwks: undefined, error: "away" });
    documents.set("https://i/keys", jwks);
    await clock.advance(8_000);
    expect(fetcher.keys.get("https://i/keys")).toEqual({ jwks, error: undefined });
    documents.delete("https://i/keys");
    await clock.advance(20 * 60_000);
    expect(fetcher.keys.get("https://i/keys")).toEqual({ jwks, error: "away" });
  });

  test.each<[string, string]>([
    ["what is no key set", "<html>"],
    ["a set without usable keys", '{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}'],
  ])("are not %s", async (_what, document) => {
    const { clock, fetcher } = start(new Map([["https://i/keys", document]]));
    fetcher.want([source("https://i/keys")]);
    await clock.advance(0);
    expect(fetcher.keys.get("https://i/keys")?.jwks).toBeUndefined();
    expect(fetcher.keys.get("https://i/keys")?.error).toContain("no JSON Web Key Set");
  });

  test("never hold private parts", async () => {
    const whole = JSON.stringify({ keys: [privateKey.export({ format: "jwk" })] });
    const { clock, fetcher } = start(new Map([["https://i/keys", whole]]));
    fetcher.want([source("https://i/keys")]);
    await clock.advance(0);
    expect(Object.keys(JSON.parse(fetcher.keys.get("https://i/keys")?.jwks ?? "").keys[0])).not.toContain("d");
  });

  test("are forgotten when nobody wants them", async () => {
    const { clock, asked, fetcher } = start(new Map([["https://i/keys", jwks]]));
    fetcher.want([source("https://i/keys")]);
    await clock.advance(0);
    fetcher.want([]);
    await clock.advance(3_600_000);
    expect(asked).toHaveLength(1);
    expect(fetcher.keys.size).toBe(0);
    expect(clock.pending).toBe(0);
  });
});

describe("documents", () => {
  /** What is answered at all is answered by then, however busy the machine is. */
  const longMs = 60_000;
  const anywhere: FetchRules = { forbidsHost: () => undefined, forbidsAddress: () => undefined };

  async function withServer<T>(run: (port: number) => Promise<T>): Promise<T> {
    const server = createServer((request, response) => {
      if (request.url === "/keys") response.end(jwks);
      else if (request.url === "/moved") response.writeHead(302, { location: "/keys" }).end();
      else if (request.url === "/huge") response.end("x".repeat(2 * 1024 * 1024));
      else if (request.url !== "/silent") response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      return await run((server.address() as AddressInfo).port);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }

  test("come from web servers", async () => {
    await withServer(async (port) => {
      expect(await fetchDocument(`http://127.0.0.1:${port}/keys`, longMs, anywhere)).toBe(jwks);
      expect(await fetchDocument(`http://localhost:${port}/keys`, longMs, anywhere)).toBe(jwks);
    });
  });

  test.each([
    ["/moved", "it redirects (302), which is not followed"],
    ["/huge", "its answer exceeds 1048576 bytes"],
    ["/other", "it answered with status 404"],
    ["/silent", "no answer within 50 ms"],
  ])("%s is refused: %s", async (path, message) => {
    await withServer(async (port) => {
      await expect(
        fetchDocument(`http://127.0.0.1:${port}${path}`, path === "/silent" ? 50 : longMs, anywhere),
      ).rejects.toThrow(message);
    });
  });

  test.each(["http://127.0.0.1/keys", "http://169.254.169.254/", "http://localhost/", "http://[::1]/", "ftp://a/"])(
    "%s is never asked",
    async (url) => {
      await expect(fetchDocument(url, longMs)).rejects.toThrow(/is not fetched|is not a web address/);
    },
  );

  test("a name that leads to this machine is not followed", async () => {
    await withServer(async (port) => {
      const rules: FetchRules = { forbidsHost: () => undefined, forbidsAddress: () => "is forbidden" };
      await expect(fetchDocument(`http://localhost:${port}/keys`, longMs, rules)).rejects.toThrow("is forbidden");
    });
  });
});
