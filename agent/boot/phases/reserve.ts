// reserve: the boot ENI belongs to the control plane. It keeps its lease and its network manager. Every other ENA device is
// taken from network managers, also the devices of ENIs that come later.
import { deviceName } from '../../host/devices.ts';
import { type Link, listLinks } from '../../host/links.ts';
import { managedDevices } from '../../host/network-manager.ts';
import type { Change, WantedFile } from '../change.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { type Check, type Phase, pass, row, warn } from '../phase.ts';
import { planBootEniFile, readBootEniFile } from './boot-eni-file.ts';

interface Observed {
  file: WantedFile;
  /** Device of the boot ENI. */
  device: string;
  /** undefined where NetworkManager does not run. */
  managers: Map<string, { managed: boolean }> | undefined;
  links: Link[];
}

export function reserve(node: NodeFacts): Phase<Observed> {
  const { bootDevice, bootEni } = node;
  return {
    name: 'reserve',

    async observe() {
      const [managers, links] = await Promise.all([managedDevices(), listLinks()]);
      return { file: readBootEniFile(bootEni.mac), device: deviceName(bootDevice), managers, links };
    },

    plan({ file, device, managers, links }) {
      const unmanage = managedPodDevices(managers, links, bootEni.mac).map(
        (name): Change => ({
          do: 'manage',
          device: name,
          managed: false,
          summary: `take ${name} from NetworkManager`,
        }),
      );
      return [...planBootEniFile(file, device, managers !== undefined), ...unmanage];
    },

    judge: ({ device, managers, links }) => [
      checkManagers(managers, managedPodDevices(managers, links, bootEni.mac), device),
      checkSecondaries(node),
      checkUntouched(
        bootDevice,
        links.find((link) => link.mac === bootEni.mac && !link.stacked),
      ),
    ],
  };
}

/** Devices other than the boot ENI's that are ENIs or look like ENIs, and that NetworkManager manages. */
function managedPodDevices(managers: Observed['managers'], links: Link[], bootMac: string): string[] {
  return links
    .filter((link) => link.bus !== undefined && link.mac !== bootMac)
    .map((link) => link.name)
    .filter((name) => managers?.get(name)?.managed === true);
}

function checkManagers(managers: Observed['managers'], taken: string[], device: string): Check {
  if (managers === undefined) return pass('unmanaged', 'NetworkManager does not run here');
  const check = row('unmanaged', { devices: Object.fromEntries(managers) });
  return taken.length > 0
    ? check.fail('ENI_MANAGED_BY_OS', `NetworkManager manages ${taken.join(', ')}`)
    : check.pass(`NetworkManager manages no ENI but ${device}`);
}

/** Pods never get secondary addresses of the boot ENI, so these are only reported. */
function checkSecondaries({ bootEni }: NodeFacts): Check {
  const secondaries = [...bootEni.addresses.slice(1), ...bootEni.prefixes];
  return secondaries.length === 0
    ? pass('boot-eni-reserved', 'the boot ENI has its primary address only')
    : warn(
        'boot-eni-reserved',
        `the boot ENI has ${secondaries.length} secondary addresses that no pod will use`,
        { secondaries },
      );
}

/**
 * Another program may have added an address, which does no harm here. egress checks which traffic leaves with which address.
 */
function checkUntouched(before: Link, now: Link | undefined): Check {
  const [had, has] = [addressesOf(before), now === undefined ? undefined : addressesOf(now)];
  const check = row('boot-eni-untouched', { before: had, now: has });
  return now?.up === true && had.every((address) => has?.includes(address))
    ? check.pass(`${now.name} kept its addresses`)
    : check.fail('BOOT_ENI_NO_ADDRESS', 'the boot ENI lost an address or went down');
}

function addressesOf(link: Link): string[] {
  return link.addresses.filter((one) => one.family === 4).map((one) => `${one.address}/${one.prefixLength}`);
}
