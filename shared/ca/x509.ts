/**
 * `@peculiar/x509`, which only loads after a polyfill that it does not bring along. Import it from here, so that the
 * order is right everywhere; the node proxy does not import it at all, to stay small.
 */
// oxlint-disable-next-line import/no-unassigned-import -- it only registers itself
import "reflect-metadata";

export * from "@peculiar/x509";
