// eniboot-ipam: the address alone. It is either the `ipam` of a plugin that makes the pod's interface itself (ipvlan,
// macvlan), or the first plugin of a chain whose next plugin takes the device from prevResult.
import { attachmentOf } from '../agent/attachment/attachment.ts';
import { isUp, mtuOf } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { orUndo } from '../agent/pool/lease.ts';
import { requireNamespace, takeAddress, type UsableEni, usableEnis } from './address.ts';
import { type Configuration, quoted, refuse, refusePrevResult, type Variables, wrongConfig } from './call.ts';
import { checkLease, throwIfAny } from './check.ts';
import { interfaceRoutes, renderResult } from './result.ts';
import { status, UNAVAILABLE } from './status.ts';
import { timed } from './stopwatch.ts';

const IPAM = 'eniboot-ipam';

/** Reference plugins that use the device of the default route, which is the boot ENI's, when they get no `master`. */
const NEED_MASTER = ['ipvlan', 'macvlan'];

/** Leases an address of the ENI that `master` names, otherwise of the first ENI with a free address. */
export function ipamAdd(variables: Variables, configuration: Configuration): Record<string, unknown> {
  requireNamespace(variables.netns);
  const node = readNodeFile();
  const enis = chosenEnis(usableEnis(node), configuration);
  const { lease, eni } = timed('lease', () => takeAddress(variables, configuration.name, node, enis));
  return orUndo(lease, () => {
    const attachment = attachmentOf(node, lease.address, eni, variables.ifName);
    return renderResult(configuration.cniVersion, {
      // The device on the node that the next plugin uses as its master.
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

/** Checks the lease, its ENI and, when `master` is given, the ENI's device. @throws ATTACHMENT_DIFFERS */
export function ipamCheck(variables: Variables, configuration: Configuration): void {
  const { problems, eni } = checkLease(variables, configuration);
  const { master } = configuration.raw;
  const chosen = isGiven(master) ? chosenEnis(usableEnis(readNodeFile()), configuration) : [eni];
  if (chosen.every((one) => one.eniId !== eni.eniId)) {
    problems.push(`the address belongs to ${eni.eniId}, which is not ${quoted(master)}`);
  }
  throwIfAny(problems);
}

/** The status of the whole plugin, and whether the ENI of `master` is up. */
export function ipamStatus(configuration: Configuration): void {
  status();
  const chosen = chosenEnis(usableEnis(readNodeFile()), configuration);
  if (chosen.some((eni) => isUp(eni.device))) return;
  throw new Failure('POD_ENI_DOWN', `${chosen.map((eni) => eni.device).join(', ')} is down`, {
    cniCode: UNAVAILABLE,
  });
}

/** Refuses requests that other address plugins fulfil. @throws CNI_FIELD, CNI_CONFIG */
export function refuseOfIpam(configuration: Configuration): void {
  if (!isDelegate(configuration)) {
    refuse({ ipam: configuration.raw['ipam'] });
    refusePrevResult(configuration, 'eniboot-ipam chooses the device');
    return;
  }
  const ipam = configuration.raw['ipam'] as Record<string, unknown>;
  for (const key of ['subnet', 'ranges', 'addresses', 'rangeStart', 'rangeEnd', 'gateway', 'routes'])
    refuse({ [`ipam.${key}`]: ipam[key] });
}

/**
 * @throws CNI_CONFIG when `master` is not the device of a pod ENI, or is absent for a plugin that would then use the
 *   boot ENI.
 */
function chosenEnis(usable: UsableEni[], configuration: Configuration): UsableEni[] {
  const { master, type } = configuration.raw;
  const devices = usable.map((eni) => eni.device).join(', ');
  if (isGiven(master)) {
    const chosen = usable.filter((eni) => eni.device === master);
    if (chosen.length > 0) return chosen;
    const what = `${quoted(master)} is not the device of a pod ENI; these are: ${devices}`;
    throw wrongConfig('master', what, { devices });
  }
  if (!isDelegate(configuration) || !NEED_MASTER.some((one) => one === type)) return usable;
  const taken = `${String(type)} would take the boot ENI, by which EC2 drops what pods send`;
  const what = `is missing: ${taken}; name the device of a pod ENI: ${devices}`;
  throw wrongConfig('master', what, { devices });
}

/** Whether the configuration is that of another plugin, which asks for an address. */
function isDelegate({ raw }: Configuration): boolean {
  const ipam = raw['ipam'] as { type?: unknown } | null | undefined;
  return ipam?.type === IPAM && raw['type'] !== IPAM;
}

function isGiven(master: unknown): boolean {
  return master !== undefined && master !== null && master !== '';
}
