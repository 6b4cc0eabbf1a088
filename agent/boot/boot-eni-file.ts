// What NetworkManager is told on this node: the boot ENI is its, every other ENI is not. The image manages the card
// that comes first in PCI order until then (systemd/usr/lib/udev/rules.d), and the boot ENI may be another one.
import type { Link } from '../host/links.ts';
import { reloadNetworkManager } from '../host/network-manager.ts';
import { readIfPresent, writeIfChanged } from '../port/fs.ts';

/** Below /run: a decision about this machine must not end up in an image made from it. */
const PATH = '/run/NetworkManager/conf.d/90-eniboot.conf';

export interface BootEniFile {
  text: string;
  isWritten: boolean;
  summary(bootDevice: Link): string;
}

export function readBootEniFile(bootMac: string): BootEniFile {
  const text = fileText(bootMac);
  return {
    text,
    isWritten: readIfPresent(PATH) === text,
    summary: (bootDevice) => `write ${PATH}: only ${bootDevice.name} is managed`,
  };
}

/** @throws NETWORK_MANAGER */
export async function writeBootEniFile(file: BootEniFile, isRunning: boolean): Promise<void> {
  writeIfChanged(PATH, file.text);
  if (isRunning) await reloadNetworkManager();
}

/** No device gets a profile by itself. `except:` also covers ENIs attached hours later. */
function fileText(bootMac: string): string {
  return `# Written by eniboot at boot: the boot ENI stays managed, every other ENI belongs to pods.
[main]
no-auto-default=*

# udev has marked every card but the first in PCI order as unmanaged; the boot ENI may be another one.
[device-eniboot-boot-eni]
match-device=mac:${bootMac}
managed=1

[keyfile]
unmanaged-devices=interface-name:enb*,except:mac:${bootMac};driver:ena,except:mac:${bootMac};driver:virtio_net,except:mac:${bootMac};driver:ixgbevf,except:mac:${bootMac};driver:vif,except:mac:${bootMac}
`;
}
