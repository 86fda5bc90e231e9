import { describe, expect, test } from "@jest/globals";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { refOf, type SourceEvent, type SourceObject } from "../source.ts";
import { NamedConfigMaps } from "./named-config-maps.ts";

function policy(name: string, ...configMaps: readonly string[]): KubeObject {
  const caCertificateRefs = configMaps.map((each) => ({ group: "", kind: "ConfigMap", name: each }));
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "BackendTLSPolicy",
    metadata: { name, namespace: "shop" },
    spec: {
      targetRefs: [{ group: "", kind: "Service", name: "cart" }],
      validation: { hostname: "cart.example", caCertificateRefs },
    },
  };
}

/** Watches that are there until their signal ends them. */
function open() {
  const watched: string[] = [];
  const forgotten: string[] = [];
  const ending = new AbortController();
  const named = new NamedConfigMaps(
    {
      watch: (namespace, name, signal) => {
        const place = `${namespace}/${name}`;
        watched.push(place);
        const { promise, resolve } = Promise.withResolvers<void>();
        signal.addEventListener("abort", () => {
          watched.splice(watched.indexOf(place), 1);
          resolve();
        });
        return promise;
      },
      forget: (namespace, name) => void forgotten.push(`${namespace}/${name}`),
    },
    ending.signal,
  );
  const write = (object: KubeObject): void =>
    named.take({ type: "upsert", ref: refOf(object as SourceObject), object } as SourceEvent);
  const remove = (object: KubeObject): void =>
    named.take({ type: "remove", ref: refOf(object as SourceObject) } as SourceEvent);
  return { named, watched, forgotten, ending, write, remove };
}

describe("ConfigMaps that objects name", () => {
  test("are watched once each, for as long as somebody names them", () => {
    const { watched, forgotten, write, remove } = open();
    write(policy("a", "roots"));
    write(policy("b", "roots", "more"));
    expect(watched).toEqual(["shop/roots", "shop/more"]);
    write(policy("b", "roots"));
    expect([watched, forgotten]).toEqual([["shop/roots"], ["shop/more"]]);
    remove(policy("a"));
    expect(watched).toEqual(["shop/roots"]);
    remove(policy("b"));
    expect([watched, forgotten]).toEqual([[], ["shop/more", "shop/roots"]]);
    write(policy("b", "roots"));
    expect(watched).toEqual(["shop/roots"]);
  });

  test("all watches end together", async () => {
    const { named, watched, forgotten, ending, write } = open();
    write(policy("a", "roots", "more"));
    ending.abort();
    await named.closed();
    expect([watched, forgotten]).toEqual([[], []]);
  });
});
