// The programs that emulate an arm64 machine: Debian packages of this machine's own release, unpacked into a folder and not
// installed, because few runs need their 150 MB.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../../agent/build/cache.ts';
import { must } from '../must.ts';

export interface Arm64Tools {
  /** Path of the program that emulates a machine. */
  system: string;
  /** Path of the program that runs one arm64 program; it is static, so that it works in any root. */
  user: string;
  /** Path of the UEFI firmware. Without it the guest has no DMI tables, by which cloud-init knows EC2. */
  firmware: string;
}

const PACKAGES = ['qemu-system-arm', 'qemu-user-static', 'qemu-efi-aarch64'];

/** Fetches them once (75 MB, needs the network). apt checks them against Debian's signed lists. */
export function arm64Tools(progress: (line: string) => void): Arm64Tools {
  const cache = cacheFolder('vm');
  const release = execFileSync('sh', ['-c', '. /etc/os-release; echo "$VERSION_CODENAME"'], {
    encoding: 'utf8',
  }).trim();
  const folder = join(cache, `arm64-tools-${release}`);
  if (!existsSync(folder)) {
    progress('fetching the arm64 emulator (once, 75 MB)');
    mkdirSync(cache, { recursive: true });
    const work = mkdtempSync(join(cache, '.tools-'));
    try {
      execFileSync('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', ...PACKAGES], {
        cwd: work,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      const packages = readdirSync(work);
      for (const name of packages) must(['dpkg', '-x', join(work, name), join(work, 'root')]);
      renameSync(join(work, 'root'), folder);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return {
    system: join(folder, 'usr/bin/qemu-system-aarch64'),
    user: join(folder, 'usr/bin/qemu-aarch64-static'),
    firmware: join(folder, 'usr/share/qemu-efi-aarch64/QEMU_EFI.fd'),
  };
}
