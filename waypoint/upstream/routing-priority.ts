/** Circuit breakers count each apart; a route says which it is. */
export type RoutingPriority = "default" | "high";
