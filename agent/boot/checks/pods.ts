// Looks into the namespaces of this node's living pods: guards, kernel settings, and the mode of their ENI's ipvlans. Asks only
// the kernel, and waits for nothing.
import { attachmentOf } from '../../attachment/attachment.ts';
import { type Drift, driftOf } from '../../attachment/drift.ts';
import { type NodeFile, readNodeFile } from '../../host/node-file.ts';
import { inNode } from '../../kernel/execute.ts';
import type { Listing } from '../../kernel/is-there.ts';
import { isFailure, messageOf } from '../../messages/failure.ts';
import { leasePath } from '../../pool/entry.ts';
import { type Lease, listLeases } from '../../pool/lease.ts';
import { noteOf, podOf } from '../../pool/lease-note.ts';
import { hasCode, secondsSinceWritten } from '../../port/fs.ts';
import { hasLibc } from '../../port/libc.ts';
import { type Check, fail, pass, warn } from '../phase.ts';

export interface PodDrift {
  pod: string;
  eniId: string;
  drifts: Drift[];
}

/** Seconds. The ADD of a younger lease may still be running. */
const SETTLED = 10;

/** The pods that differ from what ADD makes, and how many pods were looked at. With `mend`, the differences are put back. */
export function podDrifts(mend: boolean): { looked: number; found: PodDrift[]; problems: string[] } {
  const found: PodDrift[] = [];
  const problems: string[] = [];
  if (!hasLibc()) return { looked: 0, found, problems: ['this runtime speaks no netlink'] };
  const node = readNodeFile();
  const leases = listLeases().filter((lease) => secondsSinceWritten(leasePath(lease)) >= SETTLED);
  inNode((kernel) => {
    const listing = kernel.listing('node');
    for (const lease of leases) {
      const pod = podOf(lease);
      try {
        const drifts = driftsOf(lease, node, listing, mend);
        if (drifts.length > 0) found.push({ pod, eniId: lease.eniId, drifts });
      } catch (error) {
        // The pod has ended meanwhile.
        if (hasCode(error, 'ENOENT', 'ENOTDIR')) continue;
        problems.push(`${pod}: ${messageOf(error)}`);
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

/** A sentence for each difference. All pods of an ENI share its mode: any of them with NET_ADMIN may have changed it. */
export function driftText(found: PodDrift[]): string[] {
  const ports = new Map(
    found.flatMap(({ eniId, drifts }) =>
      drifts.flatMap((drift) => (drift.kind === 'port' ? [[eniId, drift.found] as const] : [])),
    ),
  );
  const of = (eniId: string) =>
    listLeases()
      .filter((lease) => lease.eniId === eniId)
      .map(podOf);
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

/** A changed mode cuts off other pods. Every other difference harms only the pod that has it. */
export function checkPods(): Check {
  try {
    return judged(podDrifts(false));
  } catch (error) {
    // The node file has its own check, which says what is wrong.
    if (!isFailure(error)) throw error;
    return warn('pods', `not looked at: ${error.message}`, { code: error.code });
  }
}

function judged({ looked, found, problems }: ReturnType<typeof podDrifts>): Check {
  const texts = driftText(found);
  if (found.some(({ drifts }) => drifts.some((drift) => drift.kind === 'port')))
    return fail('pods', 'ATTACHMENT_DIFFERS', texts.join('; '), { found });
  if (texts.length > 0) return warn('pods', `${texts.join('; ')}; repair puts it back`, { found });
  if (problems.length > 0) return warn('pods', `not looked at: ${problems.join('; ')}`, { problems });
  const what = 'have their guards and what their node tells them, and their ENIs the mode they were given';
  return pass('pods', `${looked} pods ${what}`);
}
