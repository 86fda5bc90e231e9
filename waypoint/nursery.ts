/**
 * Size of V8's nursery for this daemon. A few hundred requests are under way at any time: in a quarter of this they are
 * found alive twice, and pile up among the old objects, at a third more CPU and 80 MiB more memory under HTTP/2. Unit: MiB.
 */
export const semiSpaceMib = 16;
