// What the machine itself shows: commands and files that tell of its network, its units and eniboot's own state. Chosen
// to hold no secrets: no environments, no command lines of processes, no user data, no foreign configuration.
import { run } from '../../port/exec.ts';
import { endingOf, succeeded } from '../../port/exec-result.ts';
import { listIfPresent, readBytesIfPresent } from '../../port/fs.ts';
import { LIBEXEC_DIR, RUN_DIR, STATE_DIR, STATUS_FILE } from '../names.ts';

/** One file of the bundle, as it was found. */
export interface Part {
  name: string;
  text: string;
  /** What is missing from it, and why. */
  problem?: string;
}

/** Bytes read of any file; far above what ours hold. */
const READ_LIMIT = 1024 * 1024;
const UNITS = [
  'eniboot*',
  'crio.service',
  'containerd.service',
  'kubelet.service',
  'NetworkManager.service',
  'NetworkManager-wait-online.service',
  'cloud-init*',
  'network-online.target',
];

const commands: { name: string; command: [string, ...string[]] }[] = [
  { name: 'journal-eniboot.txt', command: journal(20_000, ['eniboot*']) },
  { name: 'journal-node.txt', command: journal(5_000, ['crio', 'containerd', 'kubelet', 'NetworkManager']) },
  {
    name: 'units.txt',
    command: ['systemctl', 'list-units', '--all', '--full', '--no-pager', '--plain', ...UNITS],
  },
  { name: 'units-failed.txt', command: ['systemctl', 'list-units', '--failed', '--no-pager', '--plain'] },
  { name: 'dmesg.txt', command: ['dmesg'] },
  { name: 'ip-link.txt', command: ['ip', '-details', '-statistics', 'link'] },
  { name: 'ip-address.txt', command: ['ip', 'address'] },
  { name: 'ip-rule.txt', command: ['ip', 'rule'] },
  { name: 'ip-route.txt', command: ['ip', 'route', 'show', 'table', 'all'] },
  { name: 'ip-neighbour.txt', command: ['ip', 'neighbour'] },
  { name: 'ip-6.txt', command: ['ip', '-6', 'route', 'show', 'table', 'all'] },
  { name: 'nft.txt', command: ['nft', 'list', 'ruleset'] },
  { name: 'network-manager.txt', command: ['nmcli', 'device'] },
  { name: 'disk.txt', command: ['df', '-P', '/', '/run', '/var/lib', '/usr/libexec'] },
  { name: 'version-ip.txt', command: ['ip', '-V'] },
  { name: 'version-nft.txt', command: ['nft', '--version'] },
  { name: 'version-systemd.txt', command: ['systemctl', '--version'] },
  { name: 'version-kubelet.txt', command: ['kubelet', '--version'] },
  { name: 'version-crio.txt', command: ['crio', '--version'] },
];

const files: { name: string; paths: string[] }[] = [
  { name: 'status.json', paths: [STATUS_FILE] },
  { name: 'metrics.txt', paths: listed(`${STATE_DIR}/metrics`) },
  { name: 'versions.txt', paths: ['/proc/version', '/etc/os-release', `${LIBEXEC_DIR}/kubelet-version`] },
  { name: 'manifest-installed.json', paths: [`${LIBEXEC_DIR}/current/manifest.json`] },
  {
    name: 'written.txt',
    paths: [
      '/etc/cni/net.d/10-eniboot.conflist',
      '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
      '/etc/crio/crio.conf.d/10-eniboot.conf',
      '/run/NetworkManager/conf.d/90-eniboot.conf',
    ],
  },
];

/** Everything, one part after the other; `about` is told the name of the next. Never throws. */
export async function collectEvidence(signal: AbortSignal, about: (name: string) => void): Promise<Part[]> {
  const parts: Part[] = [];
  for (const { name, command } of commands) {
    if (signal.aborted) return parts;
    about(name);
    parts.push(await output(name, command, signal));
  }
  for (const { name, paths } of files) parts.push(contents(name, paths));
  parts.push(contents('sysctl.txt', sysctls()), listing());
  return parts;
}

function journal(lines: number, units: string[]): [string, ...string[]] {
  const selected = units.flatMap((unit) => ['--unit', unit]);
  return ['journalctl', '--boot', '--no-pager', '--output=short-iso', `--lines=${lines}`, ...selected];
}

async function output(name: string, command: [string, ...string[]], signal: AbortSignal): Promise<Part> {
  const [file, ...args] = command;
  try {
    const result = await run(file, args, { timeoutMs: 10_000, signal });
    if (result.missing) return { name, text: '', problem: `${file} ${endingOf(result)}` };
    const text = `$ ${command.join(' ')}\n${result.stdout}${result.stderr}`;
    return succeeded(result) ? { name, text } : { name, text, problem: `${file}: ${endingOf(result)}` };
  } catch (error) {
    return { name, text: '', problem: String(error) };
  }
}

/** The files one after the other, each under its name unless it stands alone. */
function contents(name: string, paths: string[]): Part {
  const problems: string[] = [];
  const texts = paths.flatMap((path) => {
    try {
      const bytes = readBytesIfPresent(path, READ_LIMIT);
      if (bytes === undefined) {
        problems.push(`${path} does not exist`);
        return [];
      }
      const text = Buffer.from(bytes).toString('utf8');
      return [paths.length === 1 ? text : `==> ${path} <==\n${text}${text.endsWith('\n') ? '' : '\n'}`];
    } catch (error) {
      problems.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
      return [];
    }
  });
  return { name, text: texts.join(''), ...(problems.length === 0 ? {} : { problem: problems.join('; ') }) };
}

/** The kernel settings that decide where packets go. */
function sysctls(): string[] {
  const perDevice = [
    'rp_filter',
    'forwarding',
    'src_valid_mark',
    'arp_ignore',
    'arp_announce',
    'accept_redirects',
  ];
  return [
    '/proc/sys/net/ipv4/ip_forward',
    '/proc/sys/net/ipv4/neigh/default/gc_thresh3',
    '/proc/sys/net/netfilter/nf_conntrack_count',
    '/proc/sys/net/netfilter/nf_conntrack_max',
    ...listIfPresent('/proc/sys/net/ipv4/conf').flatMap((device) =>
      perDevice.map((name) => `/proc/sys/net/ipv4/conf/${device}/${name}`),
    ),
  ];
}

/** Names say it all in the pool; of everything else, that it is there. */
function listing(): Part {
  const lines: string[] = [];
  const visit = (folder: string, depth: number) => {
    for (const name of listIfPresent(folder)) {
      lines.push(`${folder}/${name}`);
      if (depth > 0) visit(`${folder}/${name}`, depth - 1);
    }
  };
  try {
    visit(RUN_DIR, 3);
    for (const folder of [LIBEXEC_DIR, '/etc/eniboot', '/etc/cni/net.d', '/opt/cni/bin', STATE_DIR])
      visit(folder, 1);
  } catch (error) {
    return { name: 'files.txt', text: lines.join('\n'), problem: String(error) };
  }
  return { name: 'files.txt', text: `${lines.join('\n')}\n` };
}

function listed(folder: string): string[] {
  return listIfPresent(folder).map((name) => `${folder}/${name}`);
}
