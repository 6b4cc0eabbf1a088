// identify: which of this machine's devices is the boot ENI. By MAC, never by name, and never by guess:
// exactly one physical device carries the instance's own MAC, or the boot ends here with both lists shown.

import type { InstanceLimits } from '../aws/limits/limits.ts';
import {
  type BootEniMetadata,
  listMacs,
  type MetadataEni,
  readBootEni,
  readEni,
  readIdentity,
  readLifecycleTarget,
} from '../aws/metadata.ts';
import { ipBatch, type Link, listLinks, listRoutes, type Route } from '../host/links.ts';
import { managedDevices, setManaged } from '../host/network-manager.ts';
import { readSysctl } from '../host/sysctl.ts';
import { Failure } from '../messages/failure.ts';
import { type BootEniFile, readBootEniFile, writeBootEniFile } from './boot-eni-file.ts';
import { capacity } from './capacity.ts';
import { readBootedConfig, readNodeConfig } from './node-config.ts';
import { findLimits, noteLimits } from './node-limits.ts';
import {
  type Boot,
  type Change,
  type Check,
  fail,
  isDualStack,
  type NodeFacts,
  nodeOf,
  type Phase,
  pass,
  warn,
} from './phase.ts';

interface Observed {
  facts: NodeFacts;
  /** Set while the boot ENI's device lacks its address and NetworkManager runs, which may have to be told to manage it. */
  unmanaged: BootEniFile | undefined;
}

export const identify: Phase<Observed, Change> = {
  name: 'identify',
  budgetSeconds: 60,

  async observe(boot) {
    const { imds } = boot;
    const [identity, macs, lifecycleTarget, links] = await Promise.all([
      boot.waiting(readIdentity(imds)).then((known) => {
        boot.identity = known;
        return known;
      }),
      boot.waiting(listMacs(imds)),
      boot.waiting(readLifecycleTarget(imds)),
      listLinks(),
    ]);
    if (boot.asBooted) boot.config = readBootedConfig();
    else {
      const read = await boot.waiting(readNodeConfig(imds, identity.region, boot.log));
      boot.config = read.config;
      boot.provenance = read.provenance;
    }
    const ipv6 = isDualStack(boot);
    const [bootEni, others] = await Promise.all([
      boot.waiting(readBootEni(imds, identity.mac, ipv6)),
      boot.waiting(
        Promise.all(macs.filter((mac) => mac !== identity.mac).map((mac) => readEni(imds, mac, ipv6))),
      ),
    ]);
    const bootDevice = findBootDevice(links, bootEni);
    bootEni.ipv6Addresses = carriedFirst(bootEni.ipv6Addresses, bootDevice);
    const facts: NodeFacts = {
      identity,
      bootEni,
      bootDevice,
      ownAddresses: ownAddresses(bootEni, [bootDevice, ...links.filter((link) => link.name === 'lo')]),
      otherEnis: others.filter((eni): eni is MetadataEni => eni !== undefined),
      limits: await findLimits(boot, identity),
      lifecycleTarget,
    };
    // A type that can hold no pods is found here, before anything is changed.
    capacity(facts.limits, boot.config.pods.addressing, boot.config.pods.max);
    if (ipv6) requireIpv6(facts.limits);
    // Set here, not in apply: `plan` and `check` need the facts too.
    boot.node = facts;
    const mayBeUnmanaged = !carriesPrimary(bootEni, bootDevice) && (await managedDevices()) !== undefined;
    return { facts, unmanaged: mayBeUnmanaged ? readBootEniFile(bootEni.mac) : undefined };
  },

  // reserve writes this file too, but comes only after the boot ENI has its address.
  plan: ({ facts, unmanaged }) =>
    unmanaged === undefined || unmanaged.isWritten ? [] : [{ summary: unmanaged.summary(facts.bootDevice) }],

  async apply(changes, { unmanaged }, boot) {
    await noteLimits(boot);
    if (changes.length === 0 || unmanaged === undefined) return;
    await writeBootEniFile(unmanaged, true);
    // What udev has told NetworkManager as the device came is not asked again, and it does not set up what it takes over
    // (seen with 1.52).
    const { name } = nodeOf(boot).bootDevice;
    await ipBatch([`link set dev ${name} up`]);
    await setManaged(name, true);
  },

  async verify(boot) {
    const { bootEni, bootDevice } = nodeOf(boot);
    const routes = await listRoutes();
    return [
      pass('boot-eni', `boot ENI ${bootEni.eniId} is ${bootDevice.name}`, {
        eniId: bootEni.eniId,
        mac: bootEni.mac,
        device: bootDevice.name,
        bus: bootDevice.bus ?? 'virtual',
      }),
      checkPrimaryAddress(bootEni, bootDevice),
      ...(isDualStack(boot) ? [await checkIpv6Address(bootEni)] : []),
      checkDefaultRoute(bootDevice, routes),
    ];
  },
};

/** The one device with the boot ENI's MAC. Devices stacked on it (VLAN, ipvlan, bridge) share its MAC. */
function findBootDevice(links: Link[], bootEni: BootEniMetadata): Link {
  if (bootEni.deviceNumber !== 0) {
    throw new Failure(
      'BOOT_ENI_NOT_PRIMARY',
      `IMDS gives the boot ENI device number ${bootEni.deviceNumber}, not 0`,
      {
        mac: bootEni.mac,
        deviceNumber: bootEni.deviceNumber,
      },
    );
  }
  const candidates = links.filter((link) => link.mac === bootEni.mac && !link.stacked);
  const hardware = candidates.filter((link) => link.bus !== undefined);
  const chosen = hardware.length > 0 ? hardware : candidates;
  const [only, ...rest] = chosen;
  if (only === undefined) {
    throw new Failure('BOOT_ENI_NO_DEVICE', `no device has the boot ENI's MAC ${bootEni.mac}`, {
      mac: bootEni.mac,
      devices: links.map((link) => `${link.name} ${link.mac}`),
    });
  }
  if (rest.length > 0) {
    throw new Failure(
      'BOOT_ENI_AMBIGUOUS',
      `${chosen.length} devices have the boot ENI's MAC ${bootEni.mac}`,
      {
        mac: bootEni.mac,
        devices: chosen.map((link) => link.name),
      },
    );
  }
  return only;
}

/** Of several, DHCPv6 gives one, whichever it likes: that one is the node's. */
function carriedFirst(addresses: string[], device: Link): string[] {
  const isCarried = (address: string) => device.addresses.some((one) => one.address === address);
  return [...addresses.filter(isCarried), ...addresses.filter((address) => !isCarried(address))];
}

/** In an order that does not change by itself: repair compares texts. */
function ownAddresses(bootEni: BootEniMetadata, devices: Link[]): NodeFacts['ownAddresses'] {
  // Link-local ones are nobody's to route, the one of IMDS among them.
  const given = devices
    .flatMap((link) => link.addresses)
    .filter(({ scope, address }) => scope === 'global' && !address.startsWith('169.254.'));
  const all = (family: 4 | 6, known: string[]) => {
    const more = given.filter((one) => one.family === family).map(({ address }) => address);
    return [...known, ...[...new Set(more)].filter((address) => !known.includes(address)).sort()];
  };
  return { ipv4: all(4, bootEni.addresses), ipv6: all(6, bootEni.ipv6Addresses) };
}

/** A device may be renamed at any time: what comes after a failure looks for the boot ENI's by the name it has then. */
export async function followBootDevice(boot: Boot): Promise<void> {
  const { node } = boot;
  if (node === undefined) return;
  const { index } = node.bootDevice;
  const now = (await listLinks()).find((link) => link.index === index && link.mac === node.bootEni.mac);
  if (now !== undefined) node.bootDevice = { ...node.bootDevice, name: now.name };
}

function carriesPrimary(bootEni: BootEniMetadata, device: Link): boolean {
  return device.addresses.some((one) => one.address === bootEni.addresses[0]);
}

function checkPrimaryAddress(bootEni: BootEniMetadata, device: Link) {
  const primary = bootEni.addresses[0];
  const evidence = { primary, device: device.name, addresses: device.addresses.map((one) => one.address) };
  return carriesPrimary(bootEni, device)
    ? pass('boot-eni-address', `${device.name} carries the primary address ${primary}`, evidence)
    : fail(
        'boot-eni-address',
        'BOOT_ENI_NO_ADDRESS',
        `${device.name} does not carry its primary address ${primary}`,
        evidence,
      );
}

/** @throws PREFIXES_UNSUPPORTED, IPV6_UNAVAILABLE */
function requireIpv6(limits: InstanceLimits): void {
  if (!limits.nitro)
    throw new Failure('PREFIXES_UNSUPPORTED', 'EC2 assigns IPv6 prefixes on Nitro instance types only', {
      limits,
    });
  if (readSysctl('net/ipv6/conf/all/forwarding') === undefined)
    throw new Failure('IPV6_UNAVAILABLE', 'the kernel runs without IPv6, and pods are to have it');
}

/** kubelet refuses a node IP that no device has. Looked up anew: DHCPv6 may take longer than DHCP. */
async function checkIpv6Address(bootEni: BootEniMetadata): Promise<Check> {
  const [primary] = bootEni.ipv6Addresses;
  if (primary === undefined)
    return warn(
      'boot-eni-ipv6',
      'the boot ENI has no IPv6 address: pods have IPv6, the node and its NodePorts have not',
    );
  const device = (await listLinks()).find((link) => link.mac === bootEni.mac && !link.stacked);
  const addresses = (device?.addresses ?? []).map((one) => one.address);
  const evidence = { primary, device: device?.name, addresses };
  return addresses.includes(primary)
    ? pass('boot-eni-ipv6', `${device?.name} carries the IPv6 address ${primary}`, evidence)
    : fail(
        'boot-eni-ipv6',
        'BOOT_ENI_NO_ADDRESS',
        `${device?.name} does not carry its IPv6 address ${primary}`,
        evidence,
      );
}

function checkDefaultRoute(device: Link, routes: Route[]) {
  const defaults = routes.filter((route) => route.destination === 'default');
  const evidence = { routes: defaults };
  return defaults.some((route) => route.device === device.name)
    ? pass('boot-eni-default-route', `the default route leaves by ${device.name}`, evidence)
    : fail(
        'boot-eni-default-route',
        'NO_DEFAULT_ROUTE',
        `no default route leaves by ${device.name}`,
        evidence,
      );
}
