// eniboot-ipam: the address alone. Either the `ipam` of a plugin that makes the pod's interface itself (ipvlan,
// macvlan), or the first plugin of a chain whose next one takes the device from prevResult.
import { attachmentOf } from '../agent/host/attachment.ts';
import { isUp, mtuOf } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { orUndo } from '../agent/pool/lease.ts';
import { requireNamespace, takeAddress, type UsableEni, usableEnis } from './address.ts';
import { type Configuration, quoted, refuse, type Variables } from './call.ts';
import { checkLease, throwIfAny } from './check.ts';
import { interfaceRoutes, renderResult } from './result.ts';
import { status, UNAVAILABLE } from './status.ts';
import { timed } from './stopwatch.ts';

const IPAM = 'eniboot-ipam';

/** Reference plugins that take the device of the default route when they are given no `master`: the boot ENI. */
const NEED_MASTER = ['ipvlan', 'macvlan'];

/** Leases an address of the ENI that `master` names, or else of the first with a free one. */
export function ipamAdd(variables: Variables, configuration: Configuration): Record<string, unknown> {
  requireNamespace(variables.netns);
  const node = readNodeFile();
  const enis = chosenEnis(usableEnis(node), configuration);
  const { lease, eni } = timed('lease', () => takeAddress(variables, configuration.name, node, enis));
  return orUndo(lease, () => {
    const attachment = attachmentOf(node, lease.address, eni, variables.ifName);
    return renderResult(configuration.cniVersion, {
      // The device that the next plugin takes for its master, on the node.
      ...(isDelegate(configuration)
        ? {}
        : { interfaces: [{ name: eni.device, mac: eni.mac, mtu: mtuOf(eni.device) ?? node.mtu }] }),
      ip: { address: `${lease.address}/${attachment.prefixLength}`, gateway: attachment.router },
      ipv6: attachment.ipv6,
      routes: interfaceRoutes(attachment),
      dns: configuration.raw['dns'],
    });
  });
}

/** The lease, its ENI and, where `master` is given, its device. @throws ATTACHMENT_DIFFERS */
export function ipamCheck(variables: Variables, configuration: Configuration): void {
  const { problems, eni } = checkLease(variables, configuration);
  const { master } = configuration.raw;
  const chosen = isGiven(master) ? chosenEnis(usableEnis(readNodeFile()), configuration) : [eni];
  if (chosen.every((one) => one.eniId !== eni.eniId)) {
    problems.push(`the address belongs to ${eni.eniId}, which is not ${quoted(master)}`);
  }
  throwIfAny(problems);
}

/** As of the whole plugin, and that the ENI of `master` is up. */
export function ipamStatus(configuration: Configuration): void {
  status();
  const chosen = chosenEnis(usableEnis(readNodeFile()), configuration);
  if (chosen.some((eni) => isUp(eni.device))) return;
  throw new Failure('POD_ENI_DOWN', `${chosen.map((eni) => eni.device).join(', ')} is down`, {
    cniCode: UNAVAILABLE,
  });
}

/** Refuses what would be granted by other address plugins. @throws CNI_FIELD, CNI_CONFIG */
export function refuseOfIpam(configuration: Configuration): void {
  const { raw } = configuration;
  if (!isDelegate(configuration)) {
    refuse({ ipam: raw['ipam'] });
    if (raw['prevResult'] === undefined) return;
    throw new Failure(
      'CNI_CONFIG',
      'prevResult: eniboot-ipam chooses the device, so it comes first in the chain',
      { path: 'prevResult' },
    );
  }
  const ipam = raw['ipam'] as Record<string, unknown>;
  refuse(
    Object.fromEntries(
      ['subnet', 'ranges', 'addresses', 'rangeStart', 'rangeEnd', 'gateway', 'routes'].map((key) => [
        `ipam.${key}`,
        ipam[key],
      ]),
    ),
  );
}

/** @throws CNI_CONFIG when `master` is no pod ENI's device, or absent where that leads to the boot ENI. */
function chosenEnis(usable: UsableEni[], configuration: Configuration): UsableEni[] {
  const { master, type } = configuration.raw;
  const devices = usable.map((eni) => eni.device).join(', ');
  if (isGiven(master)) {
    const chosen = usable.filter((eni) => eni.device === master);
    if (chosen.length > 0) return chosen;
    throw new Failure(
      'CNI_CONFIG',
      `master: ${quoted(master)} is not the device of a pod ENI; these are: ${devices}`,
      { path: 'master', devices },
    );
  }
  if (isDelegate(configuration) && NEED_MASTER.some((one) => one === type)) {
    throw new Failure(
      'CNI_CONFIG',
      `master: is missing: ${String(type)} would take the boot ENI, whose pods EC2 does not let speak; name the device of a pod ENI: ${devices}`,
      { path: 'master', devices },
    );
  }
  return usable;
}

/** Whether another plugin, whose configuration this is, asks for an address. */
function isDelegate({ raw }: Configuration): boolean {
  const ipam = raw['ipam'] as { type?: unknown } | null | undefined;
  return ipam?.type === IPAM && raw['type'] !== IPAM;
}

function isGiven(master: unknown): boolean {
  return master !== undefined && master !== null && master !== '';
}
