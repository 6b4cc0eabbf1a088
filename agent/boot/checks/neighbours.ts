// Checks whether rules or settings of other programs break a way of pods' packets. The check warns and never fails: a firewall
// belongs to its owner, and a node whose VPC paths work is still useful.
import { deviceName, deviceOf, hasHostLink } from '../../host/devices.ts';
import { rangeOf, toAddress } from '../../host/ipv4.ts';
import { podIpv6 } from '../../host/ipv6.ts';
import { earlierNodeFile, type NodeFile } from '../../host/node-file.ts';
import { lookForObstacles, type Obstacle, obstacleText, type Place } from '../../host/obstacles/obstacles.ts';
import { hostLinkOf } from '../../host/pod-link-name.ts';
import { isFailure, messageOf } from '../../messages/failure.ts';
import { listOwned } from '../../pool/entry.ts';
import { listLeases } from '../../pool/lease.ts';
import { isDualStack, type NodeFacts, type PodEni } from '../facts/facts.ts';
import { type Check, pass, warn } from '../phase.ts';
import { readStatus } from '../verdict/status.ts';

/** What is known of the node, from the running boot or from the files of the last boot. */
interface Known {
  bootDevice: string;
  nodeAddresses: readonly string[];
  nodeAddress6: string | undefined;
  vpcCidrs: readonly string[];
  podEnis: readonly Eni[];
}

type Eni = Pick<NodeFile['podEnis'][number], 'eniId' | 'mac' | 'subnetCidr' | 'ipv6Prefix'>;

/** One row `neighbours-KIND` for each obstacle; one row `neighbours` when there is none. */
export async function checkNeighbours(
  node: NodeFacts,
  vpcCidrs: readonly string[],
  pods: readonly PodEni[],
): Promise<Check[]> {
  const { bootDevice, bootEni } = node;
  return rowsOf({
    bootDevice: deviceName(bootDevice),
    nodeAddresses: bootEni.addresses,
    nodeAddress6: bootEni.ipv6Addresses[0],
    vpcCidrs,
    podEnis: pods.map(({ eniId, mac, subnetCidr, primaryAddress, ipv6Prefix }) => ({
      ...{ eniId, mac, subnetCidr: subnetCidr || `${primaryAddress}/24` },
      ipv6Prefix: isDualStack(node) ? ipv6Prefix : undefined,
    })),
  });
}

/**
 * The same check from the files of the last boot. For when IMDS does not answer, for example behind a VPN that takes all
 * traffic.
 */
export async function checkNeighboursOfBooted(): Promise<Check[]> {
  const known = knownOfBooted();
  return known === undefined ? [] : rowsOf(known);
}

/** The obstacles for one pod, or for its traffic with one other address. Empty on a node that has not booted. */
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
    const remedy = '`eniboot check --probe` sends packets instead';
    return [
      {
        ...{ kind: 'firewall', what: 'of others', does: notLookedAt(error), remedy, certain: false },
        ways: ['vpc', 'node', 'service', 'internet', 'outside'],
      },
    ];
  }
}

async function rowsOf(known: Known): Promise<Check[]> {
  try {
    const { obstacles, unjudged } = await lookForObstacles(placeOf(known));
    if (obstacles.length > 0) return obstacles.map((one) => rowOf(one, unjudged));
    const none = "no rule or route of others is in the way of pods' packets";
    if (unjudged.length === 0) return [pass('neighbours', none, { unjudged })];
    const rest = `not judged (\`eniboot check --probe\` tries it): ${unjudged.join('; ')}`;
    return [pass('neighbours', `${none}; ${rest}`, { unjudged })];
  } catch (error) {
    const facts = isFailure(error) ? { code: error.code, ...error.facts } : {};
    return [warn('neighbours', notLookedAt(error), facts)];
  }
}

/** Catches every error: a new form of nft's output must not stop the boot. */
function notLookedAt(error: unknown): string {
  return `rules and routes of others were not looked at: ${messageOf(error)}`;
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
    podEnis: podEnis.map((eni) => (ipv6 === undefined ? { ...eni, ipv6Prefix: undefined } : eni)),
  };
}

/** One pod for each ENI. On an ENI without pods, its first address stands for pods to come. */
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
    // The subnet's router has the first address (VPC User Guide, "Subnet CIDR blocks").
    elsewhere: toAddress(rangeOf(subnetCidr).first + 1),
  };
}
