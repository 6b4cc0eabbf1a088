// What NetworkManager is told on this node: it manages the boot ENI, and no other ENI. Until then the image lets it manage the
// card that comes first in PCI order (systemd/usr/lib/udev/rules.d), which may not be the boot ENI.
import { readIfPresent } from '../../port/fs.ts';
import type { Change, WantedFile } from '../change.ts';

/** Below /run: a decision about this machine must not end up in an image made from it. */
const PATH = '/run/NetworkManager/conf.d/90-eniboot.conf';

export function readBootEniFile(bootMac: string): WantedFile {
  return { path: PATH, text: fileText(bootMac), found: readIfPresent(PATH) };
}

/** @param reload whether NetworkManager runs */
export function planBootEniFile(
  { path, text, found }: WantedFile,
  device: string,
  reload: boolean,
): Change[] {
  if (found === text) return [];
  return [{ do: 'network-manager', path, text, reload, summary: `write ${path}: only ${device} is managed` }];
}

/** With this file, NetworkManager makes no profile by itself. `except:` also covers ENIs that are attached hours later. */
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
