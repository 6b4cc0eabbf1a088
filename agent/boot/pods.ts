// The living pods of this node, looked at in their namespaces: guards, kernel settings, and the mode of their ENI's
// ipvlans. Asks the kernel alone, and waits for nothing.
import { attachmentOf } from '../host/attachment.ts';
import { Routing } from '../host/netlink/requests.ts';
import { Listing } from '../host/netlink/verify.ts';
import { type NodeFile, readNodeFile } from '../host/node-file.ts';
import { type Drift, driftOf } from '../host/pod-drift.ts';
import { isFailure } from '../messages/failure.ts';
import { type Lease, leasePath, listLeases } from '../pool/lease.ts';
import { noteOf } from '../pool/lease-note.ts';
import { hasCode, secondsSinceWritten } from '../port/fs.ts';
import { hasLibc } from '../port/libc.ts';
import { inOwnNamespace } from '../port/netlink.ts';
import { type Check, fail, pass, warn } from './phase.ts';

export interface PodDrift {
  /** NAMESPACE/NAME, or the container's ID where the runtime has told no name. */
  pod: string;
  eniId: string;
  drifts: Drift[];
}

/** A younger lease may be one whose ADD is at work. Seconds. */
const SETTLED = 10;

/** Pods that differ from what ADD makes, and how many were looked at. With `mend`, what is found is put back. */
export function podDrifts(mend: boolean): { looked: number; found: PodDrift[]; problems: string[] } {
  const found: PodDrift[] = [];
  const problems: string[] = [];
  if (!hasLibc()) return { looked: 0, found, problems: ['this runtime speaks no netlink'] };
  const node = readNodeFile();
  const leases = listLeases().filter(
    ({ address, eniId, owner }) => secondsSinceWritten(leasePath(address, eniId, owner)) >= SETTLED,
  );
  inOwnNamespace((socket) => {
    const listing = new Listing(new Routing(socket));
    for (const lease of leases) {
      const pod = nameOf(lease);
      try {
        const drifts = driftsOf(lease, node, listing, mend);
        if (drifts.length > 0) found.push({ pod, eniId: lease.eniId, drifts });
      } catch (error) {
        // It has ended meanwhile.
        if (hasCode(error, 'ENOENT', 'ENOTDIR')) continue;
        problems.push(`${pod}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  });
  return { looked: leases.length, found, problems };
}

function driftsOf(lease: Lease, node: NodeFile, listing: Listing, mend: boolean): Drift[] {
  const note = noteOf(lease);
  const eni = node.podEnis.find((one) => one.eniId === lease.eniId);
  if (note === undefined || eni === undefined) return [];
  const attachment = { ...attachmentOf(node, lease.address, eni, lease.owner.ifName), limits: note.limits };
  return driftOf(attachment, note.netns, listing, mend);
}

function nameOf(lease: Lease): string {
  const pod = noteOf(lease)?.pod;
  return pod === undefined ? lease.owner.containerId : `${pod.namespace}/${pod.name}`;
}

/** A sentence for each difference. The mode is the ENI's: any of its pods with NET_ADMIN may have changed it. */
export function driftText(found: PodDrift[]): string[] {
  const ports = new Map(
    found.flatMap(({ eniId, drifts }) =>
      drifts.flatMap((drift) => (drift.kind === 'port' ? [[eniId, drift.found] as const] : [])),
    ),
  );
  const of = (eniId: string) =>
    listLeases()
      .filter((lease) => lease.eniId === eniId)
      .map(nameOf);
  return [
    ...[...ports].map(
      ([eniId, what]) =>
        `ipvlan of ${eniId}: ${what}; one of its pods with NET_ADMIN has changed it: ${of(eniId).join(', ')}`,
    ),
    ...found.flatMap(({ pod, drifts }) =>
      drifts.flatMap((drift) => (drift.kind === 'port' ? [] : [`pod ${pod}: ${drift.found}`])),
    ),
  ];
}

/** A changed mode cuts off other pods; everything else is the harm of the pod that has it. */
export function checkPods(): Check {
  let looked: number;
  let found: PodDrift[];
  let problems: string[];
  try {
    ({ looked, found, problems } = podDrifts(false));
  } catch (error) {
    // Its own check says what is wrong with the node file.
    if (!isFailure(error)) throw error;
    return warn('pods', `not looked at: ${error.message}`, { code: error.code });
  }
  const texts = driftText(found);
  if (found.some(({ drifts }) => drifts.some((drift) => drift.kind === 'port')))
    return fail('pods', 'ATTACHMENT_DIFFERS', texts.join('; '), { found });
  if (texts.length > 0) return warn('pods', `${texts.join('; ')}; repair puts it back`, { found });
  return problems.length > 0
    ? warn('pods', `not looked at: ${problems.join('; ')}`, { problems })
    : pass(
        'pods',
        `${looked} pods have their guards and what their node tells them, and their ENIs the mode they were given`,
      );
}
