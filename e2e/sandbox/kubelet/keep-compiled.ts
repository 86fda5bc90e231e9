/**
 * Loaded before our own images' programs: writes what Node has compiled to the cache while the program runs. Node does
 * so by itself only at an orderly exit, and a sandbox ends its processes all at once.
 */
import { flushCompileCache } from "node:module";

const settledMs = 3_000;

setTimeout(flushCompileCache, settledMs).unref();
