/** What every source promises, whatever it reads from. */
import { describe, expect, test } from "@jest/globals";
import type { ConfigSource } from "../source.ts";
import { RecordedSource } from "./recorded-source.ts";

/** An object as a user writes it. */
export interface Written {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

/** Somewhere that configuration is written to, and the source that reads it. */
export interface SourceUnderTest extends AsyncDisposable {
  readonly source: ConfigSource;
  write(object: Written): Promise<void>;
  remove(object: Written): Promise<void>;
}

const deny = (name: string, spec: object): Written => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name, namespace: "shop" },
  spec,
});
const fromEvil = deny("no-evil", { action: "DENY", rules: [{ from: [{ source: { namespaces: ["evil"] } }] }] });
const fromWorse = deny("no-evil", { action: "DENY", rules: [{ from: [{ source: { namespaces: ["worse"] } }] }] });
/** Its form fits any schema; its meaning is none. */
const broken = deny("no-evil", { action: "DENY", rules: [] });
const key = "security.istio.io/AuthorizationPolicy/shop/no-evil";
const service: Written = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "cart", namespace: "shop" },
  spec: { clusterIP: "10.96.0.9", selector: { app: "cart" }, ports: [{ port: 80 }] },
};

export function describeSource(name: string, open: () => Promise<SourceUnderTest>): void {
  describe(`source ${name}`, () => {
    test("tells what exists, then that it is synced, once", async () => {
      await using under = await open();
      await under.write(fromEvil);
      await under.write(service);
      await using source = new RecordedSource(under.source);
      await source.synced();
      expect([...source.inForce.keys()].sort()).toEqual(["/Service/shop/cart", key]);
      expect(source.events.at(-1)).toEqual({ type: "synced" });
      expect(source.events.filter(({ type }) => type === "synced")).toHaveLength(1);
    });

    test("is synced where there is nothing", async () => {
      await using under = await open();
      await using source = new RecordedSource(under.source);
      await source.synced();
      expect(source.inForce.size).toBe(0);
    });

    test("objects have identity, age and generation", async () => {
      await using under = await open();
      await under.write(fromEvil);
      await using source = new RecordedSource(under.source);
      await source.synced();
      const first = source.inForce.get(key);
      expect(first?.metadata.uid).not.toBe("");
      expect(Date.parse(first?.metadata.creationTimestamp ?? "")).not.toBeNaN();
      expect(first?.metadata.generation).toBe(1);
      await under.write(fromWorse);
      await source.until(() => source.inForce.get(key)?.metadata.generation === 2);
      const second = source.inForce.get(key);
      expect(second?.metadata.uid).toBe(first?.metadata.uid);
      expect(second?.metadata.creationTimestamp).toBe(first?.metadata.creationTimestamp);
    });

    test("follows changes and removals", async () => {
      await using under = await open();
      await using source = new RecordedSource(under.source);
      await source.synced();
      await under.write(fromEvil);
      await source.until(() => source.inForce.has(key));
      await under.write(fromWorse);
      await source.until(() => JSON.stringify(source.inForce.get(key)).includes("worse"));
      await under.remove(fromWorse);
      await source.until(() => !source.inForce.has(key));
      expect(source.events.at(-1)).toMatchObject({ type: "remove", object: { metadata: { name: "no-evil" } } });
    });

    test("keeps the last valid version of an object that turns invalid, and says why", async () => {
      await using under = await open();
      await under.write(fromEvil);
      await using source = new RecordedSource(under.source);
      await source.synced();
      await under.write(broken);
      await source.until(() => source.refused.has(key));
      const refusal = source.refused.get(key);
      expect(JSON.stringify(refusal?.kept)).toContain("evil");
      expect(refusal?.object).toMatchObject({ spec: broken["spec"] });
      expect(refusal?.lines.join()).toContain('action DENY without rules never matches: add the rule "- {}"');
      expect(JSON.stringify(source.inForce.get(key))).toContain("evil");
      await under.write(fromWorse);
      await source.until(() => JSON.stringify(source.inForce.get(key)).includes("worse"));
      expect(source.refused.size).toBe(0);
    });

    test("an object that was never valid has no effect, and its removal is told", async () => {
      await using under = await open();
      await under.write(broken);
      await using source = new RecordedSource(under.source);
      await source.synced();
      expect(source.refused.get(key)?.kept).toBeUndefined();
      expect(source.inForce.size).toBe(0);
      await under.remove(broken);
      await source.until(() => source.refused.size === 0);
      expect(source.events.at(-1)).toMatchObject({ type: "remove", ref: { name: "no-evil" } });
    });

    test("ends when its signal aborts", async () => {
      await using under = await open();
      const source = new RecordedSource(under.source);
      await source.synced();
      await source[Symbol.asyncDispose]();
      const told = source.events.length;
      await under.write(fromEvil);
      expect(source.events).toHaveLength(told);
    });
  });
}
