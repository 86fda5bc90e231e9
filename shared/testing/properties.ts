/**
 * Properties are tried on the same samples each time, so that a change is never refused for a mistake that was there
 * before it. Other samples are found with another seed: `FAST_CHECK_SEED=7 npm run test:unit`.
 */
import process from "node:process";
import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env["FAST_CHECK_SEED"] ?? 1) });

export { default } from "fast-check";
