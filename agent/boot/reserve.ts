// reserve: the boot ENI belongs to the control plane. It keeps its lease and its manager; every other ENA
// device is taken from whoever would configure it, now and for ENIs that come later.
import { type Link, listLinks } from '../host/links.ts';
import { managedDevices, setManaged } from '../host/network-manager.ts';
import { type BootEniFile, readBootEniFile, writeBootEniFile } from './boot-eni-file.ts';
import { type Boot, type Change, type Check, fail, nodeOf, type Phase, pass, warn } from './phase.ts';

interface Observed {
  file: BootEniFile;
  managers: Map<string, { managed: boolean }> | undefined;
  links: Link[];
}

type Planned = Change & ({ kind: 'write' } | { kind: 'unmanage'; device: string });

export const reserve: Phase<Observed, Planned> = {
  name: 'reserve',
  budgetSeconds: 30,

  observe: async (boot) => {
    const [managers, links] = await Promise.all([managedDevices(), listLinks()]);
    return { file: readBootEniFile(nodeOf(boot).bootEni.mac), managers, links };
  },

  plan(observed, boot) {
    const { bootDevice, bootEni } = nodeOf(boot);
    const changes: Planned[] = [];
    if (!observed.file.isWritten) changes.push({ kind: 'write', summary: observed.file.summary(bootDevice) });
    for (const link of podDevices(observed.links, bootEni.mac)) {
      if (observed.managers?.get(link.name)?.managed === true) {
        changes.push({
          kind: 'unmanage',
          device: link.name,
          summary: `take ${link.name} from NetworkManager`,
        });
      }
    }
    return changes;
  },

  async apply(changes, observed) {
    for (const change of changes) {
      if (change.kind === 'write') {
        await writeBootEniFile(observed.file, observed.managers !== undefined);
      } else {
        await setManaged(change.device, false);
      }
    }
  },

  async verify(boot) {
    const { bootEni, bootDevice } = nodeOf(boot);
    const [managers, links] = await Promise.all([managedDevices(), listLinks()]);
    return [
      checkManagers(managers, links, boot),
      checkSecondaries(boot),
      checkUntouched(
        bootDevice,
        links.find((link) => link.mac === bootEni.mac && !link.stacked),
      ),
    ];
  },
};

/** Devices other than the boot ENI's that are, or look like, ENIs. */
function podDevices(links: Link[], bootMac: string): Link[] {
  return links.filter((link) => link.bus !== undefined && link.mac !== bootMac);
}

function checkManagers(managers: Observed['managers'], links: Link[], boot: Boot): Check {
  const { bootEni, bootDevice } = nodeOf(boot);
  if (managers === undefined) return pass('unmanaged', 'NetworkManager does not run here');
  const evidence = { devices: Object.fromEntries(managers) };
  const taken = podDevices(links, bootEni.mac).filter((link) => managers.get(link.name)?.managed === true);
  if (taken.length > 0) {
    const names = taken.map((link) => link.name).join(', ');
    return fail('unmanaged', 'ENI_MANAGED_BY_OS', `NetworkManager manages ${names}`, evidence);
  }
  return pass('unmanaged', `NetworkManager manages no ENI but ${bootDevice.name}`, evidence);
}

/** Secondary addresses on the boot ENI are nobody's here: pods never get them, so they are only shown. */
function checkSecondaries(boot: Boot): Check {
  const { bootEni } = nodeOf(boot);
  const secondaries = [...bootEni.addresses.slice(1), ...bootEni.prefixes];
  return secondaries.length === 0
    ? pass('boot-eni-reserved', 'the boot ENI has its primary address only')
    : warn(
        'boot-eni-reserved',
        `the boot ENI has ${secondaries.length} secondary addresses that no pod will use`,
        { secondaries },
      );
}

/** One more is somebody else's doing and no harm: egress has its own check of what leaves with which address. */
function checkUntouched(before: Link, now: Link | undefined): Check {
  const evidence = { before: addressesOf(before), now: now === undefined ? undefined : addressesOf(now) };
  return now?.up === true && evidence.before.every((address) => evidence.now?.includes(address))
    ? pass('boot-eni-untouched', `${now.name} kept its addresses`, evidence)
    : fail(
        'boot-eni-untouched',
        'BOOT_ENI_NO_ADDRESS',
        'the boot ENI lost an address or went down',
        evidence,
      );
}

function addressesOf(link: Link): string[] {
  return link.addresses.filter((one) => one.family === 4).map((one) => `${one.address}/${one.prefixLength}`);
}
