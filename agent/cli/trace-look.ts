// What `eniboot trace` reads: the parts of the attachment, the node's objects that its packets meet, and the instance metadata
// of the ENI. Reads only, and never waits long: IMDS gets one attempt.

import { type Attachment, attachmentOf } from '../attachment/attachment.ts';
import { hasOwnInterface, lookAtAttachment, type PartState } from '../attachment/differences.ts';
import { createImds, type Imds } from '../aws/imds.ts';
import { type MetadataEni, readEni, readPublicAddress } from '../aws/metadata.ts';
import { obstaclesOf } from '../boot/checks/neighbours.ts';
import { hasRule, nodeRules } from '../boot/node-rules/ip-rules.ts';
import { wantedSysctls } from '../boot/phases/egress/egress.ts';
import { readStatus, type Status } from '../boot/verdict/status.ts';
import { contains } from '../host/ipv4.ts';
import { type Link, listLinks } from '../host/links.ts';
import { NFT_TABLE, POLICY_TABLE, SERVICE_MARK } from '../host/names.ts';
import { compareObjects, lookUp } from '../host/nft.ts';
import { type NodePodEni, readNodeFile } from '../host/node-file.ts';
import { listRoutes, listRules, type Rule } from '../host/routes.ts';
import { readSysctl } from '../host/sysctl.ts';
import { ruleText } from '../kernel/render.ts';
import { failureCodes } from '../messages/codes.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { deniedIn } from '../policy/standing.ts';
import { leasePath, listOwned } from '../pool/entry.ts';
import type { Lease } from '../pool/lease.ts';
import { namespaceOf, noteOf } from '../pool/lease-note.ts';
import { systemClock } from '../port/clock.ts';
import { isThere } from '../port/fs.ts';
import { podNameOf } from './find-pod.ts';
import { type NodeStepName, nodeSteps, type Seen, type Step, type WayName } from './trace-paths.ts';

const REPAIR = '`eniboot repair` puts it back';
const GONE = 'delete the pod: its remains cannot carry packets';

/**
 * @param to address of the other end.
 * @throws NODE_NOT_READY, ATTACHMENT_DIFFERS when the pod's ENI no longer belongs to this node.
 */
export async function lookAtPod(lease: Lease, to?: string): Promise<Seen> {
  const node = readNodeFile();
  const eni = node.podEnis.find((one) => one.eniId === lease.eniId);
  if (eni === undefined) {
    const known = node.podEnis.map((one) => one.eniId);
    throw new Failure(
      'ATTACHMENT_DIFFERS',
      `${lease.address} belongs to ${lease.eniId}, which is no longer a pod ENI of this node`,
      { known },
    );
  }
  const { netns = '', limits = {} } = noteOf(lease) ?? {};
  const links = await listLinks();
  const device = links.find(
    (link) => link.mac === eni.mac && !link.stacked && link.name !== lease.owner.ifName,
  );
  const attachment = { ...attachmentOf(node, lease.address, eni, lease.owner.ifName), limits };
  const ipv6 = attachment.ipv6 !== undefined;
  const parts = lookAt(attachment, netns, device?.name ?? '?');
  const [ofBoot, table, cloud, others] = await Promise.all([
    bootEniSteps(links, ipv6),
    tableSteps(lease),
    cloudSteps(lease, eni, ipv6),
    obstacleSteps(lease, to),
  ]);
  const steps = new Map<NodeStepName, Step>([
    ...leaseSteps(lease, netns),
    ['eni', present('node', 'ENI', `${eni.eniId} in ${eni.subnetCidr}, router ${attachment.router}`)],
    ['eniDevice', deviceStep(eni, device)],
    ...ofBoot,
    ...table,
    ...cloud,
  ]);
  const policy = node.policy === undefined ? [] : [policyStep(lease, netns)];
  return { attachment, parts, node: steps, others: [...others, ...policy] };
}

/** Obstacles of other programs, with the paths on which they stand. */
async function obstacleSteps({ address, eniId }: Lease, to: string | undefined): Promise<Seen['others']> {
  const obstacles = await obstaclesOf(address, eniId, to);
  return obstacles.map(({ ways, what, does, remedy, certain }) => {
    const step = { where: 'node', what: 'obstacle', text: what, found: does, remedy } as const;
    return { ways, step: { ...step, state: certain ? 'wrong' : 'unknown' } };
  });
}

/** Every way but those to the pod's own node and to its metadata, which policies are not about. */
const JUDGED_WAYS: readonly WayName[] = [
  'vpc',
  'service',
  'internet',
  'outside',
  'out6',
  'service6',
  'outside6',
];

/** The pod's policy table as the kernel has it. `eniboot policy` compares it with what the API server says. */
function policyStep(lease: Lease, netns: string): Seen['others'][number] {
  const text = `network policies, in table inet ${POLICY_TABLE}`;
  const name = podNameOf(lease);
  const compare = `\`eniboot policy${name === undefined ? '' : ` ${name}`}\` says by which, and whether it is as decided`;
  const said = (direction: string, packets: number | undefined) =>
    packets === undefined ? `${direction} open` : `${direction} isolated, ${packets} packets denied`;
  try {
    const denied = deniedIn(netns);
    if (denied === undefined) return { ways: JUDGED_WAYS, step: absent('pod', 'policy', text, GONE) };
    const found = `${said('ingress', denied.ingress)}; ${said('egress', denied.egress)}; ${compare}`;
    return { ways: JUDGED_WAYS, step: present('pod', 'policy', text, found) };
  } catch (error) {
    const step = { where: 'pod', what: 'policy', text, state: 'unknown', found: String(error) } as const;
    return { ways: JUDGED_WAYS, step };
  }
}

/**
 * When another plugin made the pod's interface, with `eniboot-ptp` after it in a chain, only the parts of eniboot-ptp are
 * looked at.
 */
function lookAt(attachment: Attachment, netns: string, eniDevice: string): PartState[] {
  const own = hasOwnInterface(attachment, netns) ? eniDevice : undefined;
  return lookAtAttachment(attachment, { eniDevice: own, ipv6: isThere('/proc/sys/net/ipv6') }, netns);
}

type Named = [NodeStepName, Step];

function present(where: Step['where'], what: string, text: string, found?: string): Step {
  return { where, what, text, state: 'present', ...(found === undefined ? {} : { found }) };
}

/** `found`: what is there instead; undefined: nothing. */
function absent(where: Step['where'], what: string, text: string, remedy: string, found?: string): Step {
  return {
    where,
    what,
    text,
    state: found === undefined ? 'missing' : 'wrong',
    remedy,
    ...(found === undefined ? {} : { found }),
  };
}

function leaseSteps(lease: Lease, netns: string): Named[] {
  const { address, eniId, owner } = lease;
  const there = namespaceOf(lease);
  const namespace =
    there === 'there'
      ? present('pod', 'namespace', netns)
      : absent('pod', 'namespace', netns === '' ? 'not noted' : netns, GONE);
  const owned = listOwned().find((one) => one.eniId === eniId && contains(one.cidr, `${address}/32`));
  const prefix =
    owned === undefined
      ? absent('pool', 'prefix', `of ${address}`, 'delete the pod: EC2 takes or has taken its address away')
      : present('pool', 'prefix', `${owned.cidr} of ${eniId}`);
  return [
    ['lease', present('pool', 'lease', leasePath({ address, eniId, owner }))],
    ['namespace', namespace],
    ['prefix', prefix],
  ];
}

function deviceStep(eni: NodePodEni, device: Link | undefined): Step {
  const remedy = '`eniboot enis --ec2` shows where kernel and EC2 disagree';
  if (device === undefined) return absent('node', 'device', `of ${eni.eniId} (${eni.mac})`, remedy);
  const text = `${device.name} (${eni.mac}), MTU ${device.mtu}`;
  if (!device.up) return absent('node', 'device', text, `ip link set ${device.name} up`, 'it is down');
  return device.carrier
    ? present('node', 'device', text)
    : absent('node', 'device', text, remedy, 'it has no carrier');
}

async function bootEniSteps(links: Link[], ipv6: boolean): Promise<Named[]> {
  const bootEni = readStatus()?.bootEni;
  if (bootEni === undefined) return [];
  const [routes, rules, rules6] = await Promise.all([
    listRoutes(),
    listRules(),
    ipv6 ? listRules(6) : undefined,
  ]);
  const device = links.find((link) => link.name === bootEni.device);
  const text = `${bootEni.device} of ${bootEni.id}, ${bootEni.address}`;
  const hasAddress = device?.addresses.some((one) => one.address === bootEni.address) === true;
  const problem =
    device?.up === false
      ? 'it is down'
      : device?.carrier === false
        ? 'it has no carrier'
        : hasAddress
          ? undefined
          : `it does not have ${bootEni.address}`;
  const remedy = failureCodes.BOOT_ENI_NO_ADDRESS.remedy;
  const bootDevice =
    device === undefined
      ? absent('node', 'boot ENI', text, failureCodes.BOOT_ENI_NO_DEVICE.remedy)
      : problem === undefined
        ? present('node', 'boot ENI', text)
        : absent('node', 'boot ENI', text, remedy, problem);
  return [
    ['bootDevice', bootDevice],
    ['defaultRoute', defaultRouteStep(routes, bootEni)],
    ...ruleSteps(4, rules),
    ...settingSteps(bootEni.device, ipv6),
    ...(rules6 === undefined ? [] : ruleSteps(6, rules6)),
  ];
}

function ruleSteps(family: 4 | 6, found: Rule[]): Named[] {
  const mark = family === 6 ? 'markRule6' : 'markRule';
  return nodeRules[family].map(({ rule }) => {
    const text = `${family === 6 ? 'IPv6 ' : ''}${ruleText(rule)}`;
    const instead = found.some(({ priority }) => priority === rule.priority);
    return [
      rule.mark === SERVICE_MARK ? 'serviceRule6' : mark,
      hasRule(found, rule)
        ? present('node', 'rule', text)
        : absent('node', 'rule', text, REPAIR, instead ? 'another has its priority' : undefined),
    ];
  });
}

function defaultRouteStep(
  routes: Awaited<ReturnType<typeof listRoutes>>,
  { device }: NonNullable<Status['bootEni']>,
): Step {
  const defaults = routes.filter((route) => route.destination === 'default');
  const text = `default dev ${device}`;
  const [found] = defaults;
  const { remedy } = failureCodes.NO_DEFAULT_ROUTE;
  if (found === undefined) return absent('node', 'route', text, remedy);
  return defaults.some((route) => route.device === device)
    ? present('node', 'route', text)
    : absent('node', 'route', text, remedy, `it leaves by ${found.device}`);
}

function settingSteps(bootDevice: string, ipv6: boolean): Named[] {
  // The other settings for IPv6 only keep the boot ENI's own address: repair looks after them.
  const carrying = Object.entries(wantedSysctls(bootDevice, ipv6)).filter(
    ([path]) => path.startsWith('net/ipv4/') || path.endsWith('all/forwarding'),
  );
  return carrying.map(([path, wanted]) => {
    const value = readSysctl(path);
    const text = `${path} = ${wanted}`;
    const step =
      value === wanted
        ? present('node', 'setting', text)
        : absent('node', 'setting', text, REPAIR, value === undefined ? undefined : `it is ${value}`);
    if (path.startsWith('net/ipv6/')) return ['forwarding6', step];
    return [path.endsWith('ip_forward') ? 'forwarding' : 'looseFilter', step];
  });
}

/** The chains, sets and maps of the node's tables, compared with what was loaded, and the pod's address in its set. */
async function tableSteps({ address, eniId }: Lease): Promise<Named[]> {
  const objects = await compareObjects();
  const ofEni: Partial<Record<NodeStepName, string>> = {
    eniSources: `set pods_${eniId}`,
    eniOut: `chain out_${eniId}`,
    eniIn: `chain in_${eniId}`,
  };
  const named = nodeSteps.flatMap((name): Named[] => {
    const [kind, object] = (ofEni[name] ?? name).split(' ');
    if (kind === undefined || object === undefined) return [];
    const family = name in ofEni || object.startsWith('out') ? 'netdev' : 'inet';
    const text = `${object} of table ${family} ${NFT_TABLE}`;
    if (objects.size === 0) {
      const found = `what was loaded is not known; ${REPAIR}`;
      return [[name, { where: 'node', what: kind, text, state: 'unknown', found }]];
    }
    const state = objects.get(object);
    if (state === undefined) return [];
    if (state === 'present') return [[name, present('node', kind, text)]];
    const found = state === 'wrong' ? 'it is not as it was loaded' : undefined;
    return [[name, absent('node', kind, text, REPAIR, found)]];
  });
  const text = `pool4 of table inet ${NFT_TABLE} holds ${address}`;
  const member = (await lookUp('pool4', address)) !== undefined;
  return [
    ...named,
    ['poolMember', member ? present('node', 'set', text) : absent('node', 'set', text, REPAIR)],
  ];
}

/** The ENI in instance metadata: EC2 drops packets that leave an ENI from an address that is not one of its own. */
async function cloudSteps(lease: Lease, eni: NodePodEni, ipv6: boolean): Promise<Named[]> {
  const attached = `${eni.eniId} attached`;
  const source = `its source check lets ${lease.address} pass`;
  const source6 = `its source check lets ${eni.ipv6Prefix} pass`;
  try {
    const imds = createImds(systemClock, () => 0);
    const [seen, groups, publicAddress] = await Promise.all([
      readEni(imds, eni.mac, ipv6),
      imds.read(`meta-data/network/interfaces/macs/${eni.mac}/security-group-ids`),
      publicAddressStep(imds),
    ]);
    const remedy = '`eniboot enis --ec2` compares with EC2; the metadata service lags by seconds';
    if (seen?.eniId !== eni.eniId) {
      const missing: Named[] = [
        ['attachedEni', absent('EC2', 'attachment', attached, remedy)],
        ['sourceCheck', absent('EC2', 'address', source, remedy)],
        ...(ipv6 ? ([['sourceCheck6', absent('EC2', 'address', source6, remedy)]] as Named[]) : []),
      ];
      return [...missing, ...publicAddress];
    }
    const range = rangeWith(seen, lease.address);
    return [
      ['attachedEni', present('EC2', 'attachment', `${attached} at index ${seen.deviceNumber}`)],
      [
        'sourceCheck',
        range === undefined
          ? absent('EC2', 'address', source, `${remedy}; delete the pod if EC2 has not this address either`)
          : present('EC2', 'address', source, `assigned in ${range}`),
      ],
      ...(ipv6 ? [sourceStep6(seen, eni.ipv6Prefix ?? '', source6, remedy)] : []),
      ...(groups === undefined
        ? []
        : ([['securityGroups', present('EC2', 'groups', groups.trim().split('\n').join(', '))]] as Named[])),
      ...publicAddress,
    ];
  } catch (error) {
    if (!isFailure(error)) throw error;
    const unknown = (what: string, text: string): Step => ({
      where: 'EC2',
      what,
      text,
      state: 'unknown',
      found: error.message,
    });
    return [
      ['attachedEni', unknown('attachment', attached)],
      ['sourceCheck', unknown('address', source)],
      ...(ipv6 ? ([['sourceCheck6', unknown('address', source6)]] as Named[]) : []),
      ['publicAddress', unknown('public', 'address of the boot ENI')],
    ];
  }
}

function sourceStep6(seen: MetadataEni, prefix: string, text: string, remedy: string): Named {
  const has = seen.ipv6Prefixes.includes(prefix);
  return ['sourceCheck6', has ? present('EC2', 'address', text) : absent('EC2', 'address', text, remedy)];
}

function rangeWith(eni: MetadataEni, address: string): string | undefined {
  return [...eni.prefixes, ...eni.addresses.map((one) => `${one}/32`)].find((range) =>
    contains(range, `${address}/32`),
  );
}

/** A boot ENI without a public address is no fault: a NAT gateway may lead to the Internet. */
async function publicAddressStep(imds: Imds): Promise<Named[]> {
  const mac = (await imds.read('meta-data/mac'))?.trim();
  const address = await readPublicAddress(imds, mac ?? '');
  const text =
    address === undefined
      ? 'the boot ENI has no public address: the Internet sees that of a NAT gateway, if there is one'
      : `the Internet sees ${address}`;
  return [['publicAddress', present('EC2', 'public', text)]];
}
