import { KubeConfig, type RequestContext } from "@kubernetes/client-node";

type DispatcherOptions = ReturnType<KubeConfig["createDispatcherOptions"]>;
type Dispatcher = Parameters<RequestContext["setDispatcher"]>[0];

/**
 * Talks to the API server over connections that are used again. The library makes a pool for every single request, so
 * that each costs a handshake and leaves an idle connection behind, thousands while a large namespace joins.
 */
export class KeptKubeConfig extends KubeConfig {
  #kept: { readonly credentials: string; readonly dispatcher: Dispatcher } | undefined;
  #credentials = "";

  override createDispatcherOptions(...asked: Parameters<KubeConfig["createDispatcherOptions"]>): DispatcherOptions {
    const [cluster, { ca, cert, key, servername, rejectUnauthorized }] = asked;
    const parts = [cluster?.server, cluster?.proxyUrl, ca, cert, key, servername, rejectUnauthorized];
    this.#credentials = parts.map(String).join("\n");
    return super.createDispatcherOptions(...asked);
  }

  override async applySecurityAuthentication(context: RequestContext): Promise<void> {
    // Called in one go with the options above, so the credentials are this request's.
    const set = context.setDispatcher.bind(context);
    context.setDispatcher = (fresh) => set(this.#keep(fresh));
    await super.applySecurityAuthentication(context);
  }

  /** One pool for as long as the credentials stay the same; files of them may be renewed. */
  #keep(fresh: Dispatcher): Dispatcher {
    if (this.#kept?.credentials === this.#credentials) return this.#kept.dispatcher;
    void this.#kept?.dispatcher.close(); // when what is under way on it has ended
    this.#kept = { credentials: this.#credentials, dispatcher: fresh };
    return fresh;
  }
}
