/** When a failed attempt is made again. */
export interface RetryPolicy {
  readonly retries: number;
}
