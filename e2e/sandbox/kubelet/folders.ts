import type { NodePlan } from "../network/plan.ts";

/**
 * Everything the sandbox keeps on a file system lies below this folder, in a tmpfs that only the sandbox's mount
 * namespace has: it vanishes with the last process.
 */
export const stateFolder = "/run/ambit-sandbox";

/** What containers get as their root: the machine's own folders under a root of the sandbox's. */
export const rootTemplate = `${stateFolder}/root`;

/** Where a container sees the sandbox's own root while it is being set up. */
export const outerRoot = "/.sandbox";

export const nodeFolder = (node: Pick<NodePlan, "name">): string => `${stateFolder}/nodes/${node.name}`;
/** The node's /run (and so /var/run). */
export const nodeRunFolder = (node: Pick<NodePlan, "name">): string => `${nodeFolder(node)}/run`;
export const podFolder = (uid: string): string => `${stateFolder}/pods/${uid}`;
