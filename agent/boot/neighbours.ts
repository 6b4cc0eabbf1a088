// The check of what others have put into the way of pods' packets. It warns and never fails: a firewall is its owner's to
// change, and a node whose VPC paths work is of use.
import { deviceOf, hasHostLink } from '../host/devices.ts';
import { rangeOf, toAddress } from '../host/ipv4.ts';
import { podIpv6 } from '../host/ipv6.ts';
import { earlierNodeFile, type NodeFile } from '../host/node-file.ts';
import { lookForObstacles, type Obstacle, obstacleText, type Place } from '../host/obstacles/obstacles.ts';
import { hostLinkOf } from '../host/pod-link-name.ts';
import { isFailure } from '../messages/failure.ts';
import { listLeases } from '../pool/lease.ts';
import { listOwned } from '../pool/pool.ts';
import { type Boot, type Check, isDualStack, nodeOf, pass, warn } from './phase.ts';
import { readStatus } from './status.ts';

/** What is known of the node: by a boot that runs, or by what the last one has written. */
interface Known {
  bootDevice: string;
  nodeAddresses: readonly string[];
  nodeAddress6: string | undefined;
  vpcCidrs: readonly string[];
  podEnis: readonly Eni[];
}

type Eni = Pick<NodeFile['podEnis'][number], 'eniId' | 'mac' | 'subnetCidr' | 'ipv6Prefix'>;

/** Rows `neighbours-KIND` for what is in the way, one each; `neighbours` when nothing is. */
export async function checkNeighbours(boot: Boot): Promise<Check[]> {
  const { bootDevice, bootEni } = nodeOf(boot);
  return rowsOf({
    bootDevice: bootDevice.name,
    nodeAddresses: bootEni.addresses,
    nodeAddress6: bootEni.ipv6Addresses[0],
    vpcCidrs: bootEni.vpcCidrs,
    podEnis: boot.pods.map(({ eniId, mac, subnetCidr, primaryAddress, ipv6Prefix }) => ({
      ...{ eniId, mac, subnetCidr: subnetCidr || `${primaryAddress}/24` },
      ...(isDualStack(boot) && ipv6Prefix !== undefined ? { ipv6Prefix } : {}),
    })),
  });
}

/** The same where IMDS does not answer, as behind a VPN that takes all: by what the last boot has written. */
export async function checkNeighboursOfBooted(): Promise<Check[]> {
  const known = knownOfBooted();
  return known === undefined ? [] : rowsOf(known);
}

/** What is in the way of one pod, to one other end if that is asked for; nothing on a node that has not booted. */
export async function obstaclesOf(
  address: string,
  eniId: string,
  to: string | undefined,
): Promise<Obstacle[]> {
  const known = knownOfBooted();
  const eni = known?.podEnis.find((one) => one.eniId === eniId);
  if (known === undefined || eni === undefined) return [];
  const place = {
    terrains: [{ ...terrainOf(known, eni, address), lives: true, to }],
    vpcCidrs: known.vpcCidrs,
  };
  try {
    return (await lookForObstacles(place)).obstacles;
  } catch (error) {
    const ways = ['vpc', 'node', 'service', 'internet', 'outside'] as const;
    const remedy = '`eniboot check --probe` sends packets instead';
    return [
      {
        kind: 'firewall',
        what: 'of others',
        does: notLookedAt(error),
        remedy,
        ways: [...ways],
        certain: false,
      },
    ];
  }
}

async function rowsOf(known: Known): Promise<Check[]> {
  try {
    const { obstacles, unjudged } = await lookForObstacles(placeOf(known));
    if (obstacles.length > 0) return obstacles.map((one) => rowOf(one, unjudged));
    const rest =
      unjudged.length === 0
        ? ''
        : `; not judged (\`eniboot check --probe\` tries it): ${unjudged.join('; ')}`;
    return [
      pass('neighbours', `no rule or route of others is in the way of pods' packets${rest}`, { unjudged }),
    ];
  } catch (error) {
    const facts = isFailure(error) ? { code: error.code, ...error.facts } : {};
    return [warn('neighbours', notLookedAt(error), facts)];
  }
}

/** Whatever it is: a form that a newer nft gives its answers must not keep a node from booting. */
function notLookedAt(error: unknown): string {
  const why = error instanceof Error ? error.message : String(error);
  return `rules and routes of others were not looked at: ${why}`;
}

function rowOf(obstacle: Obstacle, unjudged: string[]): Check {
  const { kind, ways, certain, remedy } = obstacle;
  return { ...warn(`neighbours-${kind}`, obstacleText(obstacle), { ways, certain, unjudged }), remedy };
}

function knownOfBooted(): Known | undefined {
  const [node, bootEni] = [earlierNodeFile(), readStatus()?.bootEni];
  if (node === undefined || bootEni === undefined) return undefined;
  const { nodeAddresses, podRoutes, podEnis, ipv6 } = node;
  return {
    bootDevice: bootEni.device,
    nodeAddresses,
    nodeAddress6: ipv6?.nodeAddresses[0],
    vpcCidrs: podRoutes,
    podEnis: podEnis.map(({ ipv6Prefix, ...eni }) => ({
      ...eni,
      ...(ipv6 === undefined || ipv6Prefix === undefined ? {} : { ipv6Prefix }),
    })),
  };
}

/** One pod for each ENI. Where none lives, the first address of the ENI stands for those to come. */
function placeOf(known: Known): Place {
  const [leases, owned] = [listLeases(), listOwned()];
  const terrains = known.podEnis.flatMap((eni) => {
    const lease = leases.find((one) => one.eniId === eni.eniId && hasHostLink(one.address));
    const cidr = owned.find((one) => one.eniId === eni.eniId)?.cidr;
    const address = lease?.address ?? (cidr === undefined ? undefined : toAddress(rangeOf(cidr).first));
    return address === undefined ? [] : { ...terrainOf(known, eni, address), lives: lease !== undefined };
  });
  return { terrains, vpcCidrs: known.vpcCidrs };
}

function terrainOf(known: Known, { mac, subnetCidr, ipv6Prefix }: Eni, address: string) {
  const { bootDevice, nodeAddresses, nodeAddress6 } = known;
  return {
    ...{ bootDevice, nodeAddresses, nodeAddress6 },
    pod: {
      address,
      link: hostLinkOf(address),
      eniDevice: deviceOf(mac),
      address6: ipv6Prefix === undefined ? undefined : podIpv6(ipv6Prefix, address),
    },
    // The subnet's router, at its first address (VPC User Guide, "Subnet CIDR blocks").
    elsewhere: toAddress(rangeOf(subnetCidr).first + 1),
  };
}
