// Kernel modules, units, SELinux, swap, ports, kernel settings, disk and NetworkManager.
import { type Check, fail, pass, skip } from '../boot/phase.ts';
import { linkOf, type Machine, namesIn, textOf } from './machine.ts';

/** Kernel modules that egress, pods and the runtime need. */
const MODULES = [
  'ipvlan',
  'veth',
  'br_netfilter',
  'nf_conntrack',
  'nft_masq',
  'nft_nat',
  'nft_fib_inet',
  'nft_reject_inet',
  'nft_ct',
  'overlay',
];
const PRESET = '/usr/lib/systemd/system-preset/10-eniboot.preset';
const MASKED = [
  'nm-cloud-setup.service',
  'nm-cloud-setup.timer',
  'cloud-init-hotplugd.socket',
  'cloud-init-hotplugd.service',
  // Fedora enables it, and lets it kill within system.slice (systemd-oomd-defaults): kubelet and the runtime are there.
  'systemd-oomd.service',
  'systemd-oomd.socket',
];
/** Programs that may listen on addresses other than loopback. */
const LISTENERS = /^(sshd|systemd|chronyd|NetworkManager|amazon-ssm|ssm-|crio|kubelet|kube-proxy)/;
/** The SELinux type with which cri-o may run a plugin; packer/scripts/50-host.sh sets it. */
const PLUGIN_TYPE = 'bin_t';
const PLUGIN = '/opt/cni/bin/eniboot';
const BOOT_ENTRIES = '/boot/loader/entries';
const SYSCTLS = '/usr/lib/sysctl.d/90-eniboot.conf';
/** Number of looks, one second apart: NetworkManager may connect a device some time after udev has finished with it. */
const LOOKS_AT_DEVICES = 5;
/** MiB for images and logs of the first pods, until garbage collection begins. */
const FREE_MEBIBYTES = 4096;
const FREE_INODES_PERCENT = 10;

/** By the kernel's own lists of modules. On a running machine each module is also loaded, which lasts until the next boot. */
export async function checkModules(machine: Machine): Promise<Check> {
  const running = machine.running
    ? (await machine.run('uname', ['--kernel-release'])).stdout.trim()
    : undefined;
  const kernels = running === undefined ? namesIn(machine, '/usr/lib/modules') : [running];
  const missing: string[] = [];
  for (const kernel of kernels) {
    const lists = ['modules.dep', 'modules.builtin']
      .map((name) => textOf(machine, `/usr/lib/modules/${kernel}/${name}`) ?? '')
      .join('\n');
    const known = new Set(
      [...lists.matchAll(/\/([\w-]+)\.ko(?:\.[a-z]+)?(?::|$)/gm)].map(([, name]) => name),
    );
    for (const module of MODULES) {
      if (!known.has(module)) missing.push(`${module} is not in ${kernel}`);
      else if (running !== undefined && (await machine.run('modprobe', [module])).exitCode !== 0)
        missing.push(`${module} cannot be loaded`);
    }
  }
  const evidence = { kernels, missing };
  if (kernels.length > 0 && missing.length === 0)
    return pass('modules', `${MODULES.join(', ')} ${running === undefined ? 'are there' : 'load'}`, evidence);
  return fail(
    'modules',
    'IMAGE_UNFIT',
    kernels.length === 0
      ? '/usr/lib/modules has no kernel: install kernel-core'
      : `${missing.join('; ')}: install kernel-modules, or take another base image`,
    evidence,
  );
}

/** systemd-analyze exits with 0 even when it deletes a job to break a cycle: its output counts. */
export async function checkUnitGraph(machine: Machine): Promise<Check> {
  const { stdout, stderr, missing, timedOut } = await machine.run('systemd-analyze', [
    ...rootOption(machine),
    'verify',
    '--man=no',
    'default.target',
    'eniboot.service',
    'crio.service',
    'kubelet.service',
  ]);
  if (missing || timedOut)
    return fail(
      'unit-graph',
      'IMAGE_UNFIT',
      `systemd-analyze ${missing ? 'is not installed' : 'gave no answer'}`,
    );
  const said = `${stdout}${stderr}`.split('\n');
  // Keys that systemd does not know in units of other packages are old faults of those packages: they do not count.
  const broken = said.filter(
    (line) =>
      /ordering cycle|deleted to break|not found|failed to load/i.test(line) ||
      (line.includes('eniboot') && /unknown (section|key|lvalue)/i.test(line)),
  );
  return broken.length === 0
    ? pass('unit-graph', 'no ordering cycle, no deleted job, no unit missing')
    : fail(
        'unit-graph',
        'IMAGE_UNFIT',
        `${broken[0]?.trim()}: remove the ordering or the unit that makes it`,
        { said: broken.slice(0, 20) },
      );
}

/** Units as the preset wants them. Units that would take pod ENIs, or kill the runtime, must be masked. */
export async function checkEnabled(machine: Machine): Promise<Check> {
  const preset = [...(textOf(machine, PRESET) ?? '').matchAll(/^(enable|disable) (\S+)$/gm)];
  const wrong: string[] = [];
  for (const [, wanted, unit = ''] of preset) {
    const { stdout } = await machine.run('systemctl', [...rootOption(machine), 'is-enabled', unit]);
    const actual = stdout.trim();
    if (actual !== `${wanted}d`) wrong.push(`${unit} is ${actual === '' ? 'not there' : actual}`);
  }
  for (const unit of MASKED)
    if (linkOf(machine, `/etc/systemd/system/${unit}`) !== '/dev/null') wrong.push(`${unit} is not masked`);
  if (preset.length > 0 && wrong.length === 0)
    return pass('units', `${preset.length} units as the preset wants them, ${MASKED.length} masked`);
  return fail(
    'units',
    'IMAGE_UNFIT',
    preset.length === 0
      ? `${PRESET} is not there: copy the tree of systemd/ with its links`
      : `${wrong.join('; ')}: copy the tree of systemd/ with its links, then systemctl preset`,
    { wrong },
  );
}

export async function checkSelinux(machine: Machine): Promise<Check[]> {
  const configured = /^SELINUX=(\S+)/m.exec(textOf(machine, '/etc/selinux/config') ?? '')?.[1];
  const said = machine.running
    ? (await machine.run('getenforce', [])).stdout.trim().toLowerCase()
    : configured;
  const mode = said === '' ? undefined : said;
  const modes = { configured, mode };
  const checks = [
    configured === 'enforcing' && mode === 'enforcing'
      ? pass('selinux', 'enforcing, also at the next boot', modes)
      : fail(
          'selinux',
          'IMAGE_UNFIT',
          `SELinux is ${mode ?? 'absent'}, and ${configured ?? 'nothing'} by /etc/selinux/config: set SELINUX=enforcing, boot with it`,
          modes,
        ),
  ];
  const { stdout } = await machine.run('stat', [
    '--dereference',
    '--format',
    '%C',
    `${machine.root}${PLUGIN}`,
  ]);
  const label = stdout.trim();
  if (label.split(':')[2] === PLUGIN_TYPE)
    checks.push(pass('plugin-label', `${PLUGIN} is ${PLUGIN_TYPE}`, { label }));
  else if (label === '?' && !machine.running)
    checks.push(skip('plugin-label', 'this machine has no SELinux to read labels with'));
  else
    checks.push(
      fail(
        'plugin-label',
        'IMAGE_UNFIT',
        `${PLUGIN} is ${label === '' ? 'not there' : `labelled ${label}`}, not ${PLUGIN_TYPE}: semanage fcontext for /opt/cni/bin and /usr/libexec/eniboot, then restorecon`,
        { label },
      ),
    );
  return checks;
}

/** Swap in use, in fstab, or made by zram-generator at the next boot. */
export function checkSwap(machine: Machine): Check {
  const found: string[] = [];
  if (machine.running) {
    const used = (textOf(machine, '/proc/swaps') ?? '').trim().split('\n').slice(1);
    found.push(...used.map((line) => `${line.split(/\s+/)[0]} is in use`));
  }
  for (const line of (textOf(machine, '/etc/fstab') ?? '').split('\n'))
    if (/^[^#\s]\S*\s+\S+\s+swap\s/.test(line)) found.push(`/etc/fstab has ${line.split(/\s+/)[0]}`);
  for (const name of namesIn(machine, '/etc/systemd/system')) {
    const path = `/etc/systemd/system/${name}`;
    if (name.endsWith('.swap') && linkOf(machine, path) !== '/dev/null') found.push(path);
  }
  const zramOff = linkOf(machine, '/etc/systemd/system/systemd-zram-setup@.service') === '/dev/null';
  for (const folder of zramOff ? [] : ['/etc/systemd', '/usr/lib/systemd'])
    if (namesIn(machine, folder).includes('zram-generator.conf'))
      found.push(`${folder}/zram-generator.conf makes some`);
  return found.length === 0
    ? pass('swap', 'none, and none at the next boot')
    : fail('swap', 'IMAGE_UNFIT', `${found.join('; ')}: kubelet does not start with swap: remove it`, {
        found,
      });
}

/**
 * EC2 shows ttyS0 on both CPUs. The verdict goes to /dev/console, which is the last console= of the kernel's arguments.
 * Sources: Linux, Documentation/admin-guide/serial-console.rst; Boot Loader Specification, `options`.
 */
export function checkConsole(machine: Machine, booted: boolean): Check {
  const entries = namesIn(machine, BOOT_ENTRIES).filter((name) => name.endsWith('.conf'));
  const places = entries.map((name): [path: string, options: string] => {
    // `options` may occur more than once: all its values together count.
    const options = (textOf(machine, `${BOOT_ENTRIES}/${name}`) ?? '').match(/^options[ \t].*$/gm) ?? [];
    return [`${BOOT_ENTRIES}/${name}`, options.join(' ')];
  });
  // While the image is built, /proc/cmdline has the arguments of the base image.
  if (booted && machine.running) places.push(['/proc/cmdline', textOf(machine, '/proc/cmdline') ?? '']);
  const wrong = places.flatMap(([path, options]) => {
    const last = options.match(/(?<=^|\s)console=\S+/g)?.at(-1);
    return last !== undefined && /^console=ttyS0(,|$)/.test(last)
      ? []
      : [`${path} ends with ${last ?? 'no console='}`];
  });
  return entries.length > 0 && wrong.length === 0
    ? pass('console', 'the console that EC2 shows is the one that the boot writes to', { entries })
    : fail(
        'console',
        'IMAGE_UNFIT',
        `${entries.length === 0 ? `${BOOT_ENTRIES} has no entry` : wrong.join('; ')}: console=ttyS0 has to be the last one, as packer/scripts/50-host.sh sets it`,
        { entries, wrong },
      );
}

/** Judged by process: a port number says little. */
export async function checkListening(machine: Machine): Promise<Check> {
  if (!machine.running) return notRunning('listening');
  const { stdout, exitCode } = await machine.run('ss', [
    '--listening',
    '--numeric',
    '--tcp',
    '--udp',
    '--processes',
    '--no-header',
  ]);
  if (exitCode !== 0) return fail('listening', 'IMAGE_UNFIT', 'ss does not say who listens: install iproute');
  const unknown = stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => ({
      address: line.split(/\s+/)[4] ?? '',
      process: /users:\(\("([^"]+)"/.exec(line)?.[1] ?? 'the kernel',
    }))
    .filter(({ address }) => !/^(127\.|\[::1\]|\S+%lo:)/.test(address))
    .filter(({ process }) => !LISTENERS.test(process));
  return unknown.length === 0
    ? pass('listening', 'nothing unknown')
    : fail(
        'listening',
        'IMAGE_UNFIT',
        `${unknown.map(({ address, process }) => `${process} listens on ${address}`).join('; ')}: remove or disable it`,
        { unknown },
      );
}

/** The values after systemd-sysctl: a later name overrides an earlier one, a file in /etc replaces one of the same name. */
export function checkSysctls(machine: Machine): Check {
  const wanted = settingsOf(textOf(machine, SYSCTLS) ?? '');
  const folders = ['/usr/lib/sysctl.d', '/usr/local/lib/sysctl.d', '/etc/sysctl.d'];
  const files = new Map(
    folders.flatMap((folder) =>
      namesIn(machine, folder)
        .filter((name) => name.endsWith('.conf'))
        .map((name) => [name, `${folder}/${name}`] as const),
    ),
  );
  const last = new Map<string, { value: string; path: string }>();
  for (const [, path] of [...files].sort(([a], [b]) => (a < b ? -1 : 1)))
    for (const [key, value] of settingsOf(textOf(machine, path) ?? '')) last.set(key, { value, path });
  const wrong = wanted
    .filter(([key, value]) => last.get(key)?.value !== value)
    .map(([key, value]) => `${key} is ${last.get(key)?.value} by ${last.get(key)?.path}, not ${value}`);
  if (wanted.length > 0 && wrong.length === 0)
    return pass('sysctls', `${wanted.length} settings of ${SYSCTLS} hold`);
  return fail(
    'sysctls',
    'IMAGE_UNFIT',
    wanted.length === 0
      ? `${SYSCTLS} is not there: copy the tree of systemd/`
      : `${wrong.join('; ')}: remove the other setting`,
    { wrong },
  );
}

/** kubelet and the runtime are configured for systemd's unified hierarchy. */
export function checkCgroup(machine: Machine): Check {
  if (!machine.running) return notRunning('cgroup');
  return textOf(machine, '/sys/fs/cgroup/cgroup.controllers') !== undefined
    ? pass('cgroup', 'version 2')
    : fail(
        'cgroup',
        'IMAGE_UNFIT',
        '/sys/fs/cgroup is not cgroup version 2: remove systemd.unified_cgroup_hierarchy from the command line of the kernel',
      );
}

export function checkDisk(machine: Machine): Check {
  const free = machine.free();
  return free.mebibytes >= FREE_MEBIBYTES && free.inodesPercent >= FREE_INODES_PERCENT
    ? pass('disk', `${free.mebibytes} MiB are free`, free)
    : fail(
        'disk',
        'IMAGE_UNFIT',
        `${free.mebibytes} MiB and ${free.inodesPercent} % of inodes are free, not ${FREE_MEBIBYTES} MiB and ${FREE_INODES_PERCENT} %: raise the volume's size`,
        free,
      );
}

/**
 * Makes a pair of devices. One has a pod link's name: NetworkManager must not manage it. The other looks like a network card
 * (eth and a number): it must not get a connection by itself. Both are removed afterwards.
 */
export async function checkFreshDevice(machine: Machine): Promise<Check> {
  if (!machine.running) return notRunning('fresh-device');
  const [card, podLink] = ['eth9990', 'enbcheck0'];
  // A check that was killed may have left its pair.
  await machine.run('ip', ['link', 'del', podLink]);
  const made = await machine.run('ip', ['link', 'add', card, 'type', 'veth', 'peer', 'name', podLink]);
  if (made.exitCode !== 0)
    return fail('fresh-device', 'IMAGE_UNFIT', `no device can be made: ${made.stderr.trim()}`);
  try {
    // Both must be up for either to have carrier; NetworkManager connects a device only with carrier.
    for (const device of [podLink, card]) await machine.run('ip', ['link', 'set', device, 'up']);
    await machine.run('udevadm', ['settle', '--timeout=10']);
    let ofCard: string | undefined;
    let ofPodLink: string | undefined;
    let alone = true;
    for (let look = 1; look <= LOOKS_AT_DEVICES; look++) {
      if (look > 1) await machine.pause(1_000);
      const { stdout, exitCode, missing } = await machine.run('nmcli', [
        '--terse',
        '--fields',
        'DEVICE,STATE',
        'device',
        'status',
      ]);
      // Without NetworkManager no program takes a device: a Fedora image has no systemd-networkd.
      if (missing) return pass('fresh-device', 'there is no NetworkManager');
      const states = new Map(stdout.split('\n').map((line) => line.split(':') as [string, string]));
      [ofCard, ofPodLink] = [states.get(card), states.get(podLink)];
      alone =
        exitCode === 0 &&
        ofPodLink === 'unmanaged' &&
        /^(unmanaged|disconnected|unavailable)/.test(`${ofCard}`);
      if ([ofCard, ofPodLink].some((state) => state?.startsWith('connect'))) break;
    }
    return alone
      ? pass('fresh-device', 'NetworkManager leaves fresh devices alone', { ofCard, ofPodLink })
      : fail(
          'fresh-device',
          'IMAGE_UNFIT',
          `NetworkManager has a fresh card ${ofCard ?? 'unseen'} and a pod link ${ofPodLink ?? 'unseen'}: conf.d/80-eniboot.conf is missing or overridden`,
          { ofCard, ofPodLink },
        );
  } finally {
    await machine.run('ip', ['link', 'del', card]);
  }
}

function settingsOf(text: string): [string, string][] {
  return text.split('\n').flatMap((line): [string, string][] => {
    const at = line.indexOf('=');
    const [key, value] = [line.slice(0, Math.max(0, at)).trimEnd(), line.slice(at + 1).trim()];
    const name = key.startsWith('-') ? key.slice(1) : key;
    return /^[\w.*/-]+$/.test(name) && value !== '' ? [[name.replaceAll('/', '.'), value]] : [];
  });
}

function rootOption({ root }: Machine): string[] {
  return root === '' ? [] : [`--root=${root}`];
}

function notRunning(id: string): Check {
  return skip(id, 'only a running machine shows it');
}
