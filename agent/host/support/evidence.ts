// The machine's own evidence: commands and files that show its network, its units and eniboot's state. None of them
// holds secrets: no environments, no command lines of processes, no user data, no configuration of other programs.
import { messageOf } from '../../messages/failure.ts';
import { run } from '../../port/exec.ts';
import { endingOf, succeeded } from '../../port/exec-result.ts';
import { listIfPresent, readBytesIfPresent } from '../../port/fs.ts';
import { LIBEXEC_DIR, RUN_DIR, STATE_DIR, STATUS_FILE } from '../names.ts';

/** One file of the bundle, as it was found. */
export interface Part {
  name: string;
  text: string;
  /** What is missing from the file, and why. */
  problem?: string;
}

/** Bytes that are read of each file; eniboot's own files are far smaller. */
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

const commands: Record<string, [string, ...string[]]> = {
  'journal-eniboot.txt': journal(20_000, ['eniboot*']),
  'journal-node.txt': journal(5_000, ['crio', 'containerd', 'kubelet', 'NetworkManager']),
  'units.txt': ['systemctl', 'list-units', '--all', '--full', '--no-pager', '--plain', ...UNITS],
  'units-failed.txt': ['systemctl', 'list-units', '--failed', '--no-pager', '--plain'],
  'dmesg.txt': ['dmesg'],
  'ip-link.txt': ['ip', '-details', '-statistics', 'link'],
  'ip-address.txt': ['ip', 'address'],
  'ip-rule.txt': ['ip', 'rule'],
  'ip-route.txt': ['ip', 'route', 'show', 'table', 'all'],
  'ip-neighbour.txt': ['ip', 'neighbour'],
  'ip-6.txt': ['ip', '-6', 'route', 'show', 'table', 'all'],
  'nft.txt': ['nft', 'list', 'ruleset'],
  'network-manager.txt': ['nmcli', 'device'],
  'disk.txt': ['df', '-P', '/', '/run', '/var/lib', '/usr/libexec'],
  'version-ip.txt': ['ip', '-V'],
  'version-nft.txt': ['nft', '--version'],
  'version-systemd.txt': ['systemctl', '--version'],
  'version-kubelet.txt': ['kubelet', '--version'],
  'version-crio.txt': ['crio', '--version'],
};

const files: Record<string, string[]> = {
  'status.json': [STATUS_FILE],
  'metrics.txt': listed(`${STATE_DIR}/metrics`),
  'versions.txt': ['/proc/version', '/etc/os-release', `${LIBEXEC_DIR}/kubelet-version`],
  'manifest-installed.json': [`${LIBEXEC_DIR}/current/manifest.json`],
  'written.txt': [
    '/etc/cni/net.d/10-eniboot.conflist',
    '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
    '/etc/crio/crio.conf.d/10-eniboot.conf',
    '/run/NetworkManager/conf.d/90-eniboot.conf',
  ],
};

/**
 * All parts, collected one after the other; `about` is called with the name of each before it is collected. Never
 * throws.
 */
export async function collectEvidence(signal: AbortSignal, about: (name: string) => void): Promise<Part[]> {
  const parts: Part[] = [];
  for (const [name, command] of Object.entries(commands)) {
    if (signal.aborted) return parts;
    about(name);
    parts.push(await output(name, command, signal));
  }
  for (const [name, paths] of Object.entries(files)) parts.push(contents(name, paths));
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

/** The files' contents in order, each under its name unless there is only one file. */
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
      problems.push(`${path}: ${messageOf(error)}`);
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

/** For the pool the names of its files, which hold all its data; for everything else only whether it is there. */
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
