// identify: finds which of this machine's devices is the boot ENI. By MAC, never by name and never by a guess: exactly one
// physical device has the instance's own MAC, or the boot ends here and shows both lists.

import type { Imds } from '../../aws/imds.ts';
import type { InstanceLimits } from '../../aws/limits/limits.ts';
import {
  type BootEniMetadata,
  type InstanceIdentity,
  listMacs,
  type MetadataEni,
  readBootEni,
  readEni,
  readIdentity,
  readLifecycleTarget,
  readNetworkCard,
} from '../../aws/metadata.ts';
import type { Config } from '../../config/schema.ts';
import { type Link, listLinks } from '../../host/links.ts';
import { managedDevices } from '../../host/network-manager.ts';
import { listRoutes, type Route } from '../../host/routes.ts';
import { readSysctl } from '../../host/sysctl.ts';
import { Failure } from '../../messages/failure.ts';
import type { Change, WantedFile } from '../change.ts';
import type { Context } from '../context.ts';
import { capacity } from '../facts/capacity.ts';
import { readBootedConfig, readNodeConfig } from '../facts/config.ts';
import { isDualStack, type NodeFacts } from '../facts/facts.ts';
import { type Check, type Looked, type Phase, pass, row, warn } from '../phase.ts';
import { planBootEniFile, readBootEniFile } from './boot-eni-file.ts';
import { observeJoin } from './join.ts';
import { findLimits } from './limits.ts';

interface Observed {
  node: NodeFacts;
  links: Link[];
  routes: Route[];
  /** Set when the boot ENI's device has no address and NetworkManager runs, which may have to be told to manage the device. */
  unmanaged: WantedFile | undefined;
}

export function identify(context: Context): Phase<Observed> {
  return {
    name: 'identify',

    async observe() {
      const { imds, waiting } = context;
      const [identity, macs, lifecycleTarget, links, routes] = await Promise.all([
        waiting(readIdentity(imds)).then((known) => {
          context.known.identity = known;
          return known;
        }),
        waiting(listMacs(imds)),
        waiting(readLifecycleTarget(imds)),
        listLinks(),
        listRoutes(),
      ]);
      const config = await readConfig(context, identity);
      const ipv6 = isDualStack({ config });
      const { limits, from } = await findLimits(context, identity);
      const [metadata, others] = await Promise.all([
        waiting(readBootEni(imds, identity.mac, ipv6)),
        waiting(
          readOthers(
            imds,
            macs.filter((mac) => mac !== identity.mac),
            limits,
            ipv6,
          ),
        ),
      ]);
      // A problem with what the node joins with is found before anything is changed. A READY node is repaired without this
      // check.
      if (!context.mode.asBooted) await observeJoin(context, config, identity, lifecycleTarget);
      const bootDevice = findBootDevice(links, metadata);
      const bootEni = { ...metadata, ipv6Addresses: carriedFirst(metadata.ipv6Addresses, bootDevice) };
      // A type that can hold no pods is found here, before anything is changed.
      capacity(limits, config.pods.addressing, config.pods.max);
      if (ipv6) requireIpv6(limits);
      const node: NodeFacts = {
        config,
        identity,
        bootEni,
        bootDevice,
        ownAddresses: ownAddresses(bootEni, [bootDevice, ...links.filter((link) => link.name === 'lo')]),
        otherEnis: others,
        limits,
        limitsFromEc2: from === 'EC2',
        lifecycleTarget,
      };
      const mayBeUnmanaged = !carriesPrimary(node, bootDevice) && (await managedDevices()) !== undefined;
      const unmanaged = mayBeUnmanaged ? readBootEniFile(bootEni.mac) : undefined;
      return { node, links, routes, unmanaged };
    },

    // reserve writes NetworkManager's file too, but only after the boot ENI has its address.
    plan: ({ node, unmanaged }) => planTakeOver(node, unmanaged),

    judge: ({ node, links, routes }) => judgeBootEni(node, links, routes),
  };
}

async function readConfig(context: Context, { region }: InstanceIdentity): Promise<Config> {
  const { imds, known, log, mode, waiting } = context;
  const read = mode.asBooted
    ? { config: readBootedConfig(), provenance: undefined }
    : await waiting(readNodeConfig(imds, region, log));
  return Object.assign(known, read).config;
}

/**
 * The ENIs on the default network card, as far as IMDS describes them. Those on other cards are not eniboot's to touch and take
 * no room from pods.
 */
async function readOthers(
  imds: Imds,
  macs: string[],
  { cards }: InstanceLimits,
  ipv6: boolean,
): Promise<MetadataEni[]> {
  const found = await Promise.all(
    macs.map(async (mac) => {
      const card = cards === 1 ? 0 : await readNetworkCard(imds, mac);
      return card === 0 ? readEni(imds, mac, ipv6) : undefined;
    }),
  );
  return found.filter((eni) => eni !== undefined);
}

function planTakeOver({ bootDevice }: NodeFacts, file: WantedFile | undefined): Change[] {
  if (file === undefined || file.found === file.text) return [];
  const device = bootDevice.name;
  // NetworkManager does not read again what udev told it when the device appeared, and does not configure a device that it
  // takes over (seen with 1.52).
  return [
    ...planBootEniFile(file, device, true),
    {
      do: 'kernel',
      operations: [{ on: 'node', do: 'set', device, up: true }],
      summary: `set ${device} up`,
    },
    { do: 'manage', device, managed: true, summary: `give ${device} to NetworkManager` },
  ];
}

/** Looks at the boot ENI again, as the kernel has it now. */
export async function lookAtBootEni(node: NodeFacts): Promise<Looked> {
  const [links, routes] = await Promise.all([listLinks(), listRoutes()]);
  return { changes: [], checks: judgeBootEni(node, links, routes) };
}

function judgeBootEni(node: NodeFacts, links: Link[], routes: Route[]): Check[] {
  const { bootEni } = node;
  const { eniId, mac } = bootEni;
  const { index } = node.bootDevice;
  const now = links.find((link) => link.index === index && link.mac === mac) ?? node.bootDevice;
  const evidence = { eniId, mac, device: now.name, bus: now.bus ?? 'virtual' };
  return [
    pass('boot-eni', `boot ENI ${eniId} is ${now.name}`, evidence),
    checkPrimaryAddress(node, now),
    ...(isDualStack(node) ? [checkIpv6Address(bootEni, now)] : []),
    checkDefaultRoute(now, routes),
  ];
}

/** The one device with the boot ENI's MAC. Devices stacked on it (VLAN, ipvlan, bridge) share its MAC. */
function findBootDevice(links: Link[], bootEni: BootEniMetadata): Link {
  const { mac, deviceNumber } = bootEni;
  if (deviceNumber !== 0) {
    const message = `IMDS gives the boot ENI device number ${deviceNumber}, not 0`;
    throw new Failure('BOOT_ENI_NOT_PRIMARY', message, { mac, deviceNumber });
  }
  const candidates = links.filter((link) => link.mac === mac && !link.stacked);
  const hardware = candidates.filter((link) => link.bus !== undefined);
  const chosen = hardware.length > 0 ? hardware : candidates;
  const [only, ...rest] = chosen;
  if (only === undefined) {
    const devices = links.map((link) => `${link.name} ${link.mac}`);
    throw new Failure('BOOT_ENI_NO_DEVICE', `no device has the boot ENI's MAC ${mac}`, { mac, devices });
  }
  if (rest.length > 0) {
    const devices = chosen.map((link) => link.name);
    const message = `${chosen.length} devices have the boot ENI's MAC ${mac}`;
    throw new Failure('BOOT_ENI_AMBIGUOUS', message, { mac, devices });
  }
  return only;
}

/** Of several IPv6 addresses, DHCPv6 gives the device any one: that one is the node's. */
function carriedFirst(addresses: string[], device: Link): string[] {
  const isCarried = (address: string) => device.addresses.some((one) => one.address === address);
  return [...addresses.filter(isCarried), ...addresses.filter((address) => !isCarried(address))];
}

/** In a stable order, since repair compares texts. */
function ownAddresses(bootEni: BootEniMetadata, devices: Link[]): NodeFacts['ownAddresses'] {
  // Link-local addresses are not routed, the one of IMDS among them.
  const given = devices
    .flatMap((link) => link.addresses)
    .filter(({ scope, address }) => scope === 'global' && !address.startsWith('169.254.'));
  const all = (family: 4 | 6, known: string[]) => {
    const more = given.filter((one) => one.family === family).map(({ address }) => address);
    return [...known, ...[...new Set(more)].filter((address) => !known.includes(address)).sort()];
  };
  return { ipv4: all(4, bootEni.addresses), ipv6: all(6, bootEni.ipv6Addresses) };
}

function carriesPrimary({ bootEni }: Pick<NodeFacts, 'bootEni'>, device: Link): boolean {
  return device.addresses.some((one) => one.address === bootEni.addresses[0]);
}

function checkPrimaryAddress(node: NodeFacts, device: Link): Check {
  const primary = node.bootEni.addresses[0];
  const addresses = device.addresses.map((one) => one.address);
  const check = row('boot-eni-address', { primary, device: device.name, addresses });
  return carriesPrimary(node, device)
    ? check.pass(`${device.name} carries the primary address ${primary}`)
    : check.fail('BOOT_ENI_NO_ADDRESS', `${device.name} does not carry its primary address ${primary}`);
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

/** kubelet refuses a node IP that no device has, and DHCPv6 may take longer than DHCP. */
function checkIpv6Address(bootEni: Readonly<BootEniMetadata>, device: Link): Check {
  const [primary] = bootEni.ipv6Addresses;
  if (primary === undefined)
    return warn(
      'boot-eni-ipv6',
      'the boot ENI has no IPv6 address: pods have IPv6, the node and its NodePorts have not',
    );
  const addresses = device.addresses.map((one) => one.address);
  const check = row('boot-eni-ipv6', { primary, device: device.name, addresses });
  return addresses.includes(primary)
    ? check.pass(`${device.name} carries the IPv6 address ${primary}`)
    : check.fail('BOOT_ENI_NO_ADDRESS', `${device.name} does not carry its IPv6 address ${primary}`);
}

function checkDefaultRoute(device: Link, routes: Route[]): Check {
  const defaults = routes.filter((route) => route.destination === 'default');
  const check = row('boot-eni-default-route', { routes: defaults });
  return defaults.some((route) => route.device === device.name)
    ? check.pass(`the default route leaves by ${device.name}`)
    : check.fail('NO_DEFAULT_ROUTE', `no default route leaves by ${device.name}`);
}
