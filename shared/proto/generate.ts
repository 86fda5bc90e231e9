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
const envoyFiles = ["envoy/service/discovery/v3/ads.proto"];
const istioFiles = ["workload/workload.proto", "security/authorization.proto", "zds/zds.proto", "ca/ca.proto"];

const cache = join(root, ".cache");
mkdirSync(cache, { recursive: true });
const workspace = mkdtempSync(join(cache, "proto-"));
try {
  cpSync(join(here, "istio"), join(workspace, "istio"), { recursive: true });
  for (const folder of ["envoy-api", "xds", "googleapis"]) {
    cpSync(join(envoyDeps, folder), join(workspace, folder), {
      recursive: true,
    });
  }
  writeValidateWithIgnoreEmpty(workspace);
  symlinkSync(join(root, "node_modules"), join(workspace, "node_modules"));
  const modules = ["istio", "envoy-api", "xds", "googleapis", "validate-patched"];
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
