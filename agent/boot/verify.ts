// verify: the last look before kubelet may start. Everything earlier phases promised is looked at again,
// together, and EC2, IMDS and kernel must tell one story about each pod ENI.
import { knowsEni, type MetadataEni, readEni } from '../aws/metadata.ts';
import { routerAnswers } from '../host/arp.ts';
import { rangeOf, toAddress } from '../host/ipv4.ts';
import { driverOf, type Link, listLinks, type Route } from '../host/links.ts';
import { tcpReaches } from '../port/net.ts';
import { attach, mainRoutes, reassert } from './attach.ts';
import { checkBandwidth } from './bandwidth.ts';
import { egress } from './egress.ts';
import { identify } from './identify.ts';
import { install } from './install.ts';
import { kubelet } from './kubelet.ts';
import { checkNeighbours } from './neighbours.ts';
import {
  type Boot,
  type Change,
  type Check,
  fail,
  isDualStack,
  nodeOf,
  type Phase,
  type PodEni,
  pass,
  warn,
} from './phase.ts';
import { reserve } from './reserve.ts';

export const verify: Phase<undefined, Change> = {
  name: 'verify',
  budgetSeconds: 60,
  observe: async () => undefined,
  plan: () => [],
  apply: async () => {},

  async verify(boot) {
    const metadata = await boot.waiting(settledMetadata(boot));
    // EC2 describes an ENI without its subnet's CIDR; the node file needs it.
    for (const pod of boot.pods) pod.subnetCidr ||= metadata.get(pod.mac)?.subnetCidr ?? '';
    const [links, routes] = await Promise.all([listLinks(), mainRoutes(boot)]);
    const checks = await Promise.all([
      ...[identify, reserve, egress, attach, install, kubelet].map((phase) => phase.verify(boot)),
      ...boot.pods.map((pod) => checkPodEni(boot, pod, links, routes, metadata.get(pod.mac))),
      checkBandwidth(boot),
      checkNeighbours(boot),
      checkApiServer(boot).then((check) => (check === undefined ? [] : [check])),
    ]);
    return checks.flat();
  },

  /** Something else works on this machine too (a firewall reload, a DHCP client): what it undid is put back. */
  async mend(boot) {
    await redo(reserve, boot);
    await redo(egress, boot);
    await redo(install, boot);
    await redo(kubelet, boot);
    await reassert(boot);
  },
};

async function redo<Observed, Planned extends Change>(
  phase: Phase<Observed, Planned>,
  boot: Boot,
): Promise<void> {
  const observed = await phase.observe(boot);
  const changes = phase.plan(observed, boot);
  if (changes.length > 0) await phase.apply(changes, observed, boot);
}

/**
 * What IMDS says about the pod ENIs, by MAC, once it says what EC2 does: it lags behind by seconds. What identify
 * read is enough where it agrees already. While an ENI is missing only one key of it is asked for, since IMDS is
 * rationed; not the list of MACs, which may lack it for longer. The wait ends in time for the checks to be reported.
 */
async function settledMetadata(boot: Boot): Promise<Map<string, MetadataEni>> {
  const seen = new Map(nodeOf(boot).otherEnis.map((eni) => [eni.mac, eni]));
  const open = () => boot.pods.filter((pod) => !agrees(pod, seen.get(pod.mac)));
  for (let pause = 100; open().length > 0; pause = Math.min(2_000, pause * 2)) {
    for (const pod of open()) {
      if (!(await knowsEni(boot.imds, pod.mac))) break;
      const eni = await readEni(boot.imds, pod.mac, isDualStack(boot));
      if (eni !== undefined) seen.set(eni.mac, eni);
    }
    if (open().length === 0 || boot.clock.bootMs() + pause + REPORT_MS >= boot.until()) break;
    await boot.clock.sleep(pause);
  }
  return seen;
}

/** Milliseconds the checks may take after the wait. */
const REPORT_MS = 5_000;

async function checkPodEni(
  boot: Boot,
  pod: PodEni,
  links: Link[],
  routes: Route[],
  metadata: MetadataEni | undefined,
): Promise<Check[]> {
  const agreement = checkAgreement(pod, metadata);
  const link = links.find((one) => one.mac === pod.mac && !one.stacked);
  if (link === undefined) {
    return [
      agreement,
      fail(`device ${pod.eniId}`, 'DEVICE_MISSING', `no device has the MAC ${pod.mac}`, { mac: pod.mac }),
    ];
  }
  return [
    agreement,
    checkDevice(boot, pod, link),
    checkBare(pod, link, routes),
    await checkRouter(pod, link, metadata),
  ];
}

function checkAgreement(pod: PodEni, metadata: MetadataEni | undefined): Check {
  const id = `imds ${pod.eniId}`;
  if (metadata === undefined)
    return fail(id, 'IMDS_DISAGREES', `IMDS does not show ${pod.eniId} yet`, { mac: pod.mac });
  const evidence = {
    ec2: [...pod.cidrs].sort(),
    imds: cidrsOf(pod, metadata),
    deviceNumber: metadata.deviceNumber,
    deviceIndex: pod.deviceIndex,
    ...(pod.ipv6Prefix === undefined ? {} : { ec2Ipv6: pod.ipv6Prefix, imdsIpv6: metadata.ipv6Prefixes }),
  };
  if (!sameAddresses(pod, metadata)) {
    return fail(id, 'IMDS_DISAGREES', `IMDS and EC2 differ about the addresses of ${pod.eniId}`, evidence);
  }
  if (metadata.deviceNumber !== pod.deviceIndex) {
    return fail(
      id,
      'IMDS_DISAGREES',
      `IMDS gives ${pod.eniId} device number ${metadata.deviceNumber}, EC2 ${pod.deviceIndex}`,
      evidence,
    );
  }
  return pass(id, `EC2 and IMDS agree on ${pod.eniId}`, evidence);
}

function agrees(pod: PodEni, metadata: MetadataEni | undefined): boolean {
  return metadata !== undefined && sameAddresses(pod, metadata) && metadata.deviceNumber === pod.deviceIndex;
}

function sameAddresses(pod: PodEni, metadata: MetadataEni): boolean {
  const ipv6 = pod.ipv6Prefix === undefined || metadata.ipv6Prefixes.includes(pod.ipv6Prefix);
  return ipv6 && JSON.stringify([...pod.cidrs].sort()) === JSON.stringify(cidrsOf(pod, metadata));
}

/** What of an ENI the pool is made of, in order; which of the addresses is the primary one, EC2 says. */
function cidrsOf({ primaryAddress }: PodEni, { addresses, prefixes }: MetadataEni): string[] {
  const secondary = addresses.filter((address) => address !== primaryAddress);
  return [...prefixes, ...secondary.map((address) => `${address}/32`)].sort();
}

function checkDevice(boot: Boot, pod: PodEni, link: Link): Check {
  const { mtu } = nodeOf(boot).bootDevice;
  const evidence = {
    device: link.name,
    kind: link.kind ?? 'hardware',
    bus: link.bus,
    driver: driverOf(link.name),
    up: link.up,
    carrier: link.carrier,
    mtu: link.mtu,
  };
  if (!link.up || !link.carrier)
    return fail(
      `device ${pod.eniId}`,
      'POD_ENI_DOWN',
      `${link.name} is ${link.up ? 'without carrier' : 'down'}`,
      evidence,
    );
  if (link.mtu !== mtu)
    return fail(
      `device ${pod.eniId}`,
      'POD_ENI_MTU',
      `${link.name} has MTU ${link.mtu}, the boot ENI ${mtu}`,
      evidence,
    );
  return pass(`device ${pod.eniId}`, `${link.name} is up, MTU ${link.mtu}`, evidence);
}

/** A pod ENI's device is bare: addresses and routes on it belong to pods, in their own namespaces. */
function checkBare(pod: PodEni, link: Link, routes: Route[]): Check {
  const addresses = link.addresses.map((one) => one.address);
  const own = routes.filter((route) => route.device === link.name);
  const evidence = { device: link.name, addresses, routes: own };
  return addresses.length === 0 && own.length === 0
    ? pass(`bare ${pod.eniId}`, `${link.name} has no address and no route`, evidence)
    : fail(
        `bare ${pod.eniId}`,
        'POD_ENI_CONFIGURED',
        `${link.name} carries ${[...addresses, ...own.map((route) => `a route to ${route.destination}`)].join(', ')}`,
        evidence,
      );
}

/**
 * Asked with sender 0.0.0.0, since the device has no address. Whether EC2's router answers that is not
 * documented, so silence is a warning.
 */
async function checkRouter(pod: PodEni, link: Link, metadata: MetadataEni | undefined): Promise<Check> {
  const cidr = pod.subnetCidr === '' ? metadata?.subnetCidr : pod.subnetCidr;
  if (cidr === undefined) return warn(`router ${pod.eniId}`, 'the subnet of the pod ENI is not known');
  const router = toAddress(rangeOf(cidr).first + 1);
  const answered = await routerAnswers(link.name, router);
  const evidence = { device: link.name, router };
  if (answered === undefined)
    return warn(`router ${pod.eniId}`, 'arping is not installed: the router was not asked', evidence);
  return answered
    ? pass(`router ${pod.eniId}`, `subnet router ${router} answers on ${link.name}`, evidence)
    : warn(`router ${pod.eniId}`, `subnet router ${router} does not answer on ${link.name}`, evidence);
}

async function checkApiServer(boot: Boot): Promise<Check | undefined> {
  const { apiServer } = boot.config;
  if (apiServer === undefined) return undefined;
  const url = new URL(apiServer.endpoint);
  const port = url.port === '' ? 443 : Number(url.port);
  const literal6 = /^\[(.*)\]$/.exec(url.hostname)?.[1];
  // From the boot ENI's own address, which for IPv6 is the kernel's to choose: no pod ENI has one.
  const from = literal6 === undefined ? nodeOf(boot).bootEni.addresses[0] : undefined;
  const reached = await boot.waiting(tcpReaches(literal6 ?? url.hostname, port, from, 3_000));
  const evidence = { endpoint: apiServer.endpoint, ...reached };
  if (reached.ok) return pass('api-server', `the API server answers at ${url.host}`, evidence);
  const summary = `the API server does not answer at ${url.host}: ${reached.reason}`;
  return apiServer.required
    ? fail('api-server', 'API_SERVER_UNREACHABLE', summary, evidence)
    : warn('api-server', summary, evidence);
}
