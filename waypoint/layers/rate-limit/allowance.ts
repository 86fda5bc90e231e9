/** How much one caller may still ask for. Times are of any clock that does not go back, always the same one; milliseconds. */
export interface Allowance {
  /** What there is when nobody has asked for long. */
  readonly capacity: number;
  /** What is left now. Below zero after {@link charge}. */
  tokens(nowMs: number): number;
  /** Takes `cost` (1 if left out) where there is as much. */
  take(nowMs: number, cost?: number): boolean;
  /** Takes `cost` whether it is there or not: what a request cost is known when it is over. */
  charge(nowMs: number, cost: number): void;
  /** Until more comes back; 0 where nothing is missing. */
  untilFillMs(nowMs: number): number;
  /** Until there is `cost`; Infinity where there never is so much. */
  untilMs(nowMs: number, cost: number): number;
}
