/** The Kubernetes version whose behaviour this server follows. */
export const serverVersion = {
  major: "1",
  minor: "32",
  gitVersion: "v1.32.4",
  goVersion: "none",
  platform: "linux/amd64",
};
