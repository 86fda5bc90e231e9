/** What outlier detection remembers of one host. */
export class OutlierRecord {
  consecutive5xx = 0;
  consecutiveGatewayFailures = 0;
  consecutiveLocalOriginFailures = 0;
  /** Answers since the interval began, and those below 500. */
  external = { total: 0, succeeded: 0 };
  /** Connections and the like, where their failures count apart. */
  local = { total: 0, succeeded: 0 };
  isEjected = false;
  ejectedAtMs = 0;
  jitterMs = 0;
  /** By what the base time is multiplied; falls while the host stays healthy. */
  multiplier = 0;
  ejections = 0;

  resetCounters(): void {
    this.consecutive5xx = 0;
    this.consecutiveGatewayFailures = 0;
    this.consecutiveLocalOriginFailures = 0;
  }
}
