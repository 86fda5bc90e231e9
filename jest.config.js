/** Unit tests stand beside the code; whole-mesh scenarios, which need network namespaces, stand in e2e/. */
const transform = {
  "\\.ts$": [
    "@swc/jest",
    {
      jsc: {
        target: "es2024",
        parser: { syntax: "typescript", explicitResourceManagement: true },
      },
    },
  ],
};
const common = {
  extensionsToTreatAsEsm: [".ts"],
  transform,
  testEnvironment: "node",
};

export default {
  projects: [
    {
      ...common,
      displayName: "unit",
      testMatch: [
        "<rootDir>/{shared,ztunnel,waypoint,controlplane,manifests}/**/*.test.ts",
        "<rootDir>/e2e/**/*.unit.test.ts",
      ],
      setupFilesAfterEnv: ["<rootDir>/shared/testing/patience.ts"],
    },
    {
      ...common,
      displayName: "e2e",
      testMatch: ["<rootDir>/e2e/scenarios/**/*.test.ts"],
      setupFilesAfterEnv: ["<rootDir>/e2e/support/patience.ts"],
    },
  ],
};
