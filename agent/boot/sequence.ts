// The phases in their order, each with the facts of the phases before it. Only this module knows the order. Boot, plan, check
// and repair each give it a runner.

import type { Context } from './context.ts';
import type { Facts, PodEni } from './facts/facts.ts';
import { look, type Phase } from './phase.ts';
import { attach } from './phases/attach/attach.ts';
import { egress } from './phases/egress/egress.ts';
import { identify, lookAtBootEni } from './phases/identify.ts';
import { install } from './phases/install.ts';
import { kubelet } from './phases/kubelet/kubelet.ts';
import { ready } from './phases/ready.ts';
import { reserve } from './phases/reserve.ts';
import { verify } from './phases/verify.ts';

/** Returns the last observation; undefined when the phase failed or was skipped and the command goes on. */
export type Runner = <Observed>(phase: Phase<Observed>) => Promise<Observed | undefined>;

/** @param learned is told each fact as soon as it is known */
export async function sequence(
  context: Context,
  run: Runner,
  learned: (facts: Facts) => void = () => {},
): Promise<Facts> {
  const node = (await run(identify(context)))?.node;
  if (node === undefined) return {};
  learned({ node });
  await run(reserve(node));
  const vpc = (await run(egress(context, node)))?.vpc;
  if (vpc !== undefined) learned({ vpc });
  const attached = vpc && (await run(attach(context, node, vpc)));
  if (attached !== undefined) learned({ attached });
  const staged = (await run(install(context, node)))?.bundle?.staged;
  if (staged !== undefined) return { node, staged };
  if (vpc === undefined || attached === undefined) return { node };
  const { pods, capacity } = attached;
  await run(kubelet(context, node, capacity));
  const again = (now: readonly PodEni[]) =>
    Promise.all([
      lookAtBootEni(node),
      look(reserve(node)),
      look(egress(context, node, now)),
      look(attach(context, node, vpc)),
      look(install(context, node)),
      look(kubelet(context, node, capacity)),
    ]);
  const isBoot = context.mode.kind === 'boot';
  const verified = await run(verify(context, node, vpc, pods, isBoot ? again : undefined));
  await run(ready(context, node, vpc, verified?.pods ?? pods));
  return { node, vpc, attached };
}
