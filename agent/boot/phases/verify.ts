// verify: the last look before kubelet may start. Everything that earlier phases set up is looked at again, together; EC2, IMDS
// and the kernel must agree on each pod ENI.
import { knowsEni, type MetadataEni, readEni } from '../../aws/metadata.ts';
import { routerAnswers } from '../../host/arp.ts';
import { rangeOf, toAddress } from '../../host/ipv4.ts';
import { driverOf, type Link, listLinks } from '../../host/links.ts';
import type { Route } from '../../host/routes.ts';
import { inNode } from '../../kernel/execute.ts';
import { speaking } from '../../kernel/failure.ts';
import type { Failure } from '../../messages/failure.ts';
import { failureOf } from '../../messages/kinds.ts';
import { lookOnce } from '../../port/exec.ts';
import { tcpReaches } from '../../port/net.ts';
import { type Change, nameOf } from '../change.ts';
import { checkNeighbours } from '../checks/neighbours.ts';
import type { Context } from '../context.ts';
import { isDualStack, type NodeFacts, type PodEni, type Vpc } from '../facts/facts.ts';
import { linkOf, mainRoutes } from '../facts/pod-devices.ts';
import { type Check, fail, type Looked, type Phase, pass, row, warn } from '../phase.ts';
import { type BandwidthSeen, checkBandwidth, missingBandwidth, observeBandwidth } from './bandwidth.ts';

interface Observed {
  /** With the CIDRs of their subnets, as far as IMDS knows them by now. */
  pods: PodEni[];
  enis: EniSeen[];
  bandwidth: BandwidthSeen | undefined;
  neighbours: Check[];
  /** Why this process cannot speak to the kernel; undefined when the kernel has answered. */
  netlink: Failure | undefined;
  /** undefined when no endpoint is configured. */
  apiServer: ApiServerSeen | undefined;
  /** The earlier phases, looked at together with verify. */
  again: Looked[];
}

/** A pod ENI as IMDS, the kernel and its subnet's router show it. */
interface EniSeen {
  pod: PodEni;
  metadata: MetadataEni | undefined;
  link: Link | undefined;
  driver: string | undefined;
  routes: Route[];
  /** `silent`: the router did not answer. undefined: the router was not asked. */
  router: { address: string; answer: 'answers' | 'silent' | undefined } | undefined;
}

interface ApiServerSeen {
  endpoint: string;
  host: string;
  reached: Awaited<ReturnType<typeof tcpReaches>>;
}

/**
 * @param again looks at the earlier phases once more, in a boot. Other programs work on this machine too (a firewall reload, a
 * DHCP client); what they undid is put back.
 */
export function verify(
  context: Context,
  node: NodeFacts,
  vpc: Vpc,
  found: readonly PodEni[],
  again?: (pods: readonly PodEni[]) => Promise<Looked[]>,
): Phase<Observed> {
  return {
    name: 'verify',

    async observe() {
      const metadata = await context.waiting(settledMetadata(context, node, found));
      const pods = found.map((pod) => ({
        ...pod,
        subnetCidr: pod.subnetCidr || (metadata.get(pod.mac)?.subnetCidr ?? ''),
      }));
      const [enis, bandwidth, neighbours, apiServer, looked] = await lookOnce(() =>
        Promise.all([
          observeEnis(node, pods, metadata),
          observeBandwidth(node),
          checkNeighbours(node, vpc.cidrs, pods),
          observeApiServer(context, node),
          again?.(pods) ?? [],
        ]),
      );
      const netlink = askByNetlink();
      return { pods, enis, bandwidth, neighbours, netlink, apiServer, again: looked };
    },

    ...(again === undefined ? {} : { plan: planAgain }),

    judge: ({ enis, bandwidth, neighbours, netlink, apiServer, again: looked }) => [
      ...looked.flatMap(({ checks }) => checks),
      ...enis.flatMap((eni) => checkPodEni(node, eni)),
      ...checkBandwidth(node, bandwidth),
      ...neighbours,
      checkNetlink(netlink),
      ...checkApiServer(node, apiServer),
    ],

    degradations: ({ bandwidth }) => missingBandwidth(node, bandwidth),
  };
}

/**
 * When two phases want the same change, it is made once. What EC2 would not give in attach is not asked for again: the ENIs
 * are compared as attach left them.
 */
function planAgain({ again }: Observed): Change[] {
  const changes = again.flatMap((looked) => looked.changes).filter((change) => change.do !== 'ec2');
  return [...new Map(changes.map((change) => [nameOf(change), change])).values()];
}

async function observeEnis(
  node: NodeFacts,
  pods: PodEni[],
  metadata: ReadonlyMap<string, MetadataEni>,
): Promise<EniSeen[]> {
  const [links, routes] = await Promise.all([listLinks(), mainRoutes(node)]);
  return Promise.all(
    pods.map(async (pod) => {
      const link = linkOf(pod, links);
      const own = routes.filter((route) => route.device === link?.name);
      const driver = link === undefined ? undefined : driverOf(link.name);
      const router = link === undefined ? undefined : await askRouter(pod, link);
      return { pod, metadata: metadata.get(pod.mac), link, driver, routes: own, router };
    }),
  );
}

/**
 * What IMDS says about the pod ENIs, by MAC, once it agrees with EC2: it lags behind by seconds. When it agreed already as
 * identify read it, it is not asked again. While an ENI is missing, only one key of that ENI is asked for, since IMDS limits
 * requests; the list of MACs may lag longer, so it is not used. The wait ends early enough for the checks to be reported.
 */
async function settledMetadata(
  { clock, imds, until }: Context,
  node: NodeFacts,
  pods: readonly PodEni[],
): Promise<Map<string, MetadataEni>> {
  const seen = new Map(node.otherEnis.map((eni) => [eni.mac, eni]));
  const open = () => pods.filter((pod) => !agrees(pod, seen.get(pod.mac)));
  for (let pause = 100; open().length > 0; pause = Math.min(2_000, pause * 2)) {
    for (const pod of open()) {
      if (!(await knowsEni(imds, pod.mac))) break;
      const eni = await readEni(imds, pod.mac, isDualStack(node));
      if (eni !== undefined) seen.set(eni.mac, eni);
    }
    if (open().length === 0 || clock.bootMs() + pause + REPORT_MS >= until()) break;
    await clock.sleep(pause);
  }
  return seen;
}

/** Milliseconds that the checks may take after the wait. */
const REPORT_MS = 5_000;

function checkPodEni(node: NodeFacts, eni: EniSeen): Check[] {
  const { pod, metadata, link } = eni;
  const { eniId, mac } = pod;
  const agreement = checkAgreement(pod, metadata);
  if (link === undefined)
    return [agreement, fail(`device ${eniId}`, 'DEVICE_MISSING', `no device has the MAC ${mac}`, { mac })];
  return [agreement, checkDevice(node, eni, link), checkBare(eni, link), checkRouter(eni, link)];
}

function checkAgreement(pod: PodEni, metadata: MetadataEni | undefined): Check {
  const { eniId, deviceIndex, ipv6Prefix } = pod;
  const id = `imds ${eniId}`;
  if (metadata === undefined)
    return fail(id, 'IMDS_DISAGREES', `IMDS does not show ${eniId} yet`, { mac: pod.mac });
  const { deviceNumber } = metadata;
  const check = row(id, {
    ...{ ec2: [...pod.cidrs].sort(), imds: cidrsOf(pod, metadata), deviceNumber, deviceIndex },
    ...(ipv6Prefix === undefined ? {} : { ec2Ipv6: ipv6Prefix, imdsIpv6: metadata.ipv6Prefixes }),
  });
  if (!sameAddresses(pod, metadata))
    return check.fail('IMDS_DISAGREES', `IMDS and EC2 differ about the addresses of ${eniId}`);
  return deviceNumber === deviceIndex
    ? check.pass(`EC2 and IMDS agree on ${eniId}`)
    : check.fail('IMDS_DISAGREES', `IMDS gives ${eniId} device number ${deviceNumber}, EC2 ${deviceIndex}`);
}

function agrees(pod: PodEni, metadata: MetadataEni | undefined): boolean {
  return metadata !== undefined && sameAddresses(pod, metadata) && metadata.deviceNumber === pod.deviceIndex;
}

function sameAddresses(pod: PodEni, metadata: MetadataEni): boolean {
  const ipv6 = pod.ipv6Prefix === undefined || metadata.ipv6Prefixes.includes(pod.ipv6Prefix);
  return ipv6 && JSON.stringify([...pod.cidrs].sort()) === JSON.stringify(cidrsOf(pod, metadata));
}

/** The CIDRs of an ENI that go into the pool, in order. EC2 says which of the addresses is the primary one. */
function cidrsOf({ primaryAddress }: PodEni, { addresses, prefixes }: MetadataEni): string[] {
  const secondary = addresses.filter((address) => address !== primaryAddress);
  return [...prefixes, ...secondary.map((address) => `${address}/32`)].sort();
}

function checkDevice({ bootDevice }: NodeFacts, { pod, driver }: EniSeen, link: Link): Check {
  const { name, kind = 'hardware', bus, up, carrier, mtu } = link;
  const check = row(`device ${pod.eniId}`, { device: name, kind, bus, driver, up, carrier, mtu });
  if (!up || !carrier) return check.fail('POD_ENI_DOWN', `${name} is ${up ? 'without carrier' : 'down'}`);
  return mtu === bootDevice.mtu
    ? check.pass(`${name} is up, MTU ${mtu}`)
    : check.fail('POD_ENI_MTU', `${name} has MTU ${mtu}, the boot ENI ${bootDevice.mtu}`);
}

/** A pod ENI's device is bare: its addresses and routes belong to pods, in their own namespaces. */
function checkBare({ pod, routes }: EniSeen, { name, addresses: given }: Link): Check {
  const addresses = given.map((one) => one.address);
  const carried = [...addresses, ...routes.map((route) => `a route to ${route.destination}`)];
  const check = row(`bare ${pod.eniId}`, { device: name, addresses, routes });
  return carried.length === 0
    ? check.pass(`${name} has no address and no route`)
    : check.fail('POD_ENI_CONFIGURED', `${name} carries ${carried.join(', ')}`);
}

/**
 * Asks with sender 0.0.0.0, since the device has no address. It is not documented whether EC2's router answers that, so silence
 * is a warning.
 */
async function askRouter({ subnetCidr }: PodEni, { name }: Link): Promise<EniSeen['router']> {
  if (subnetCidr === '') return undefined;
  const address = toAddress(rangeOf(subnetCidr).first + 1);
  const answered = await routerAnswers(name, address);
  return { address, answer: answered === undefined ? undefined : answered ? 'answers' : 'silent' };
}

function checkRouter({ pod, router }: EniSeen, { name }: Link): Check {
  const id = `router ${pod.eniId}`;
  if (router === undefined) return warn(id, 'the subnet of the pod ENI is not known');
  const { address, answer } = router;
  const check = row(id, { device: name, router: address });
  if (answer === undefined) return check.warn('arping is not installed: the router was not asked');
  return answer === 'answers'
    ? check.pass(`subnet router ${address} answers on ${name}`)
    : check.warn(`subnet router ${address} does not answer on ${name}`);
}

/** A boot that had nothing to change has not used netlink yet, and every pod's ADD will. */
function askByNetlink(): Failure | undefined {
  try {
    speaking('KERNEL_QUERY', 'listing devices', () => inNode((kernel) => kernel.listing('node').links()));
    return undefined;
  } catch (error) {
    return failureOf(error);
  }
}

function checkNetlink(problem: Failure | undefined): Check {
  return problem === undefined
    ? pass('netlink', 'the kernel answers by netlink')
    : fail('netlink', problem.code, problem.message, problem.facts);
}

async function observeApiServer(
  context: Context,
  { config, bootEni }: NodeFacts,
): Promise<ApiServerSeen | undefined> {
  if (config.apiServer === undefined) return undefined;
  const { endpoint } = config.apiServer;
  const url = new URL(endpoint);
  const port = url.port === '' ? 443 : Number(url.port);
  const literal6 = /^\[(.*)\]$/.exec(url.hostname)?.[1];
  // From the boot ENI's own address, since no pod ENI has one; for IPv6 the kernel chooses the address.
  const from = literal6 === undefined ? bootEni.addresses[0] : undefined;
  const reached = await context.waiting(tcpReaches(literal6 ?? url.hostname, port, from, 3_000));
  return { endpoint, host: url.host, reached };
}

function checkApiServer({ config }: NodeFacts, seen: ApiServerSeen | undefined): Check[] {
  if (seen === undefined) return [];
  const { endpoint, host, reached } = seen;
  const check = row('api-server', { endpoint, ...reached });
  if (reached.ok) return [check.pass(`the API server answers at ${host}`)];
  const summary = `the API server does not answer at ${host}: ${reached.reason}`;
  const isRequired = config.apiServer?.required === true;
  return [isRequired ? check.fail('API_SERVER_UNREACHABLE', summary) : check.warn(summary)];
}
