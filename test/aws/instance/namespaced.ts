// An instance made of namespaces, its boot ENI configured as NetworkManager leaves it after DHCP.
import { setTimeout as delay } from 'node:timers/promises';
import { parseCidr } from '../ec2/addresses.ts';
import type { Eni, Subnet } from '../ec2/state.ts';
import type { DeviceFault } from '../faults.ts';
import { dnsAddress, type Network, routerAddress, routerAddress6 } from '../network/network.ts';
import type { Body } from './body.ts';
import { createMachine, type Machine } from './machine.ts';

export interface NamespacedSpec {
  id: string;
  region: string;
  bootEni: Eni;
  subnet: Subnet;
  /** Written into the instance before its first boot. */
  files: Record<string, string>;
  /** The attached ENIs, boot ENI first. */
  present: () => Eni[];
  faultForLaunched: () => DeviceFault;
}

export function createNamespaced(spec: NamespacedSpec, network: Network): Body & { machine: Machine } {
  const { bootEni, subnet } = spec;
  const machine = createMachine({
    id: spec.id,
    hostname: `ip-${bootEni.primaryIp.replaceAll('.', '-')}`,
    resolvConf: `search ${spec.region}.compute.internal\nnameserver ${dnsAddress(subnet)}\n`,
  });
  const devices = new Map<string, string>();
  let files = spec.files;

  async function plug(eni: Eni, fault: DeviceFault): Promise<void> {
    if (fault.never === true) return;
    const device = fault.name ?? nitroName(eni, new Set(devices.values()));
    devices.set(eni.id, device);
    const batch = configuredBySomebody(device, fault);
    await network.plug(eni, {
      kind: 'netns',
      pid: machine.pid,
      device,
      ...(batch === '' ? {} : { mac: PLACEHOLDER_MAC }),
      mtu: fault.mtu ?? 9001,
      carrier: fault.noCarrier !== true,
    });
    // The MAC is set last: a search for the ENI's MAC finds a device that is complete, also on a busy machine.
    if (batch !== '') await machine.configure(`${batch}link set ${device} address ${eni.mac}\n`);
    if (fault.renameTo === undefined) return;
    await delay(fault.renameAfterMs ?? 50);
    await machine.configure(`link set ${device} name ${fault.renameTo}\n`);
    devices.set(eni.id, fault.renameTo);
  }

  return {
    machine,
    powerOn: async () => {
      await machine.powerOn();
      for (const [path, text] of Object.entries(files)) machine.write(path, text);
      files = {};
      for (const eni of spec.present()) await plug(eni, eni === bootEni ? {} : spec.faultForLaunched());
      const device = devices.get(bootEni.id);
      // undefined: it was terminated meanwhile.
      if (device !== undefined) await machine.configure(bootConfiguration(device, bootEni, subnet));
    },
    powerOff: async () => {
      await machine.powerOff();
      for (const id of devices.keys()) await network.unplug(id);
      devices.clear();
    },
    plug: async (eni, fault) => {
      if (machine.pid !== 0 && !devices.has(eni.id)) await plug(eni, fault);
    },
    unplug: async (eni) => {
      if (devices.delete(eni.id)) await network.unplug(eni.id);
    },
    deviceOf: (eniId) => devices.get(eniId),
    destroy: machine.destroy,
  };
}

const PLACEHOLDER_MAC = '02:00:00:00:00:01';

/** Nitro instances name devices by PCI slot: ens5 for device index 0, then ens6 and so on. */
function nitroName(eni: Eni, taken: Set<string>): string {
  let slot = 5 + (eni.attachment?.deviceIndex ?? 0);
  while (taken.has(`ens${slot}`)) slot++;
  return `ens${slot}`;
}

function configuredBySomebody(device: string, fault: DeviceFault): string {
  const { address, defaultRouteVia } = fault;
  if (address === undefined) return '';
  const route =
    defaultRouteVia === undefined
      ? ''
      : `route add default via ${defaultRouteVia} dev ${device} proto dhcp metric 101\n`;
  return `link set ${device} up\naddr add ${address} dev ${device}\n${route}`;
}

function bootConfiguration(device: string, eni: Eni, subnet: Subnet): string {
  const { primaryIp: address, ipv6Addresses } = eni;
  const { length } = parseCidr(subnet.cidr);
  return [
    'link set lo up',
    `link set ${device} up`,
    `addr add ${address}/${length} brd + dev ${device} valid_lft 86400 preferred_lft 86400 noprefixroute`,
    `route add ${subnet.cidr} dev ${device} proto kernel scope link src ${address} metric 100`,
    `route add default via ${routerAddress(subnet)} dev ${device} proto dhcp src ${address} metric 100`,
    // DHCPv6 gives single addresses (/128). NetworkManager takes router advertisements itself, so the kernel takes none.
    ...ipv6Addresses.map((one) => `addr add ${one}/128 dev ${device} nodad`),
    ...(ipv6Addresses.length === 0
      ? []
      : [`route add ::/0 via ${routerAddress6} dev ${device} proto ra metric 100`]),
    '',
  ].join('\n');
}
