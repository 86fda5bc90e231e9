/** What the exchange runner (`ingress/`) and the router (`router.ts`) are to each other. */
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { CompiledRoute, ForwardAction } from "./compiled-route.ts";

/** Takes the answer. Ends with exactly one of `end`, `reset` (only after a head) and `reply` (only before one). */
export interface ForwardReader extends ResponseReader {
  /** There is no answer from upstream: say this instead. Flags, details and upstream facts are set on the exchange. */
  reply(reply: LocalReply): void;
}

export interface Router {
  /**
   * Sends the request on, with every attempt that the route allows. `route.editRequest` has run already, the response is
   * edited by the runner. The request's body is written to what is returned; where it `endsWithHead`, nothing is.
   * Nothing reaches the reader before this returns. `reset` on what is returned means that the client is gone or was
   * answered otherwise: nothing reaches the reader afterwards.
   */
  forward(
    exchange: Exchange,
    route: CompiledRoute & { readonly action: ForwardAction },
    endsWithHead: boolean,
    reader: ForwardReader,
  ): UpstreamStream;
}
