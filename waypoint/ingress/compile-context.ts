/** What compiling a listener needs, and where its mistakes go. */
import type { LayerContext, LayerKind } from "#waypoint/layers/layer.ts";
import type { NetworkLayerKind } from "#waypoint/layers/network-layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { TelemetryKinds } from "#waypoint/telemetry/telemetry-kinds.ts";

export interface ListenerContext extends LayerContext {
  readonly layerKinds: readonly LayerKind[];
  readonly networkLayerKinds: readonly NetworkLayerKind[];
  readonly telemetry: TelemetryKinds;
  /** [0, 1). */
  readonly random: () => number;
  /** Told of filters that the configuration lets us leave out, and of loggers and tracers, that we do leave out. */
  readonly skipped: (filter: string) => void;
}

/** The same, with problems named from `path` on. */
export function below<Context extends LayerContext>(context: Context, path: string): Context {
  const problem: Problem = (name, message) => {
    const separator = name === "" || name.startsWith("[") ? "" : ".";
    context.problem(`${path}${separator}${name}`, message);
  };
  return { ...context, problem };
}
