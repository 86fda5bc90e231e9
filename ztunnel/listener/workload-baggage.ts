import { encodeBaggage } from "#shared/hbone/baggage.ts";
import type { Workload } from "#shared/workload/workload.ts";

/** An update makes a new workload object, so what is kept here is never stale. */
const texts = new WeakMap<Workload, string>();

/** What a workload says of itself in tunnels. */
export function workloadBaggage(workload: Workload): string {
  let text = texts.get(workload);
  if (text === undefined) texts.set(workload, (text = encode(workload)));
  return text;
}

function encode(workload: Workload): string {
  return encodeBaggage(
    {
      clusterId: workload.clusterId,
      namespace: workload.namespace,
      workloadName: workload.workloadName,
      serviceName: workload.canonicalName,
      revision: workload.canonicalRevision,
      region: workload.locality.region,
      zone: workload.locality.zone,
    },
    workload.workloadType,
  );
}
