// The parts of a machine that a boot must not change, as one text. Two texts are compared line by line.
import type { Instance } from '../../aws/index.ts';

/** Files that eniboot owns; every other file below these folders belongs to another program. */
const OWN = [
  '/etc/cni/net.d/10-eniboot.conflist',
  '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
  '/etc/crio/crio.conf.d/10-eniboot.conf',
  '/opt/cni/bin/',
  '/usr/libexec/eniboot/current',
  '/usr/libexec/eniboot/previous',
  '/var/lib/eniboot/',
];

/**
 * The boot ENI's addresses and routes, other programs' policy rules and nftables tables, and every file (size, change
 * time, link target) that does not belong to eniboot.
 */
export async function othersState(instance: Instance): Promise<string[]> {
  const device = instance.deviceOf(instance.bootEni.id) ?? '';
  const script = `
ip -o -4 -force -batch - <<'EOF'
rule show
address show dev ${device}
route show table main dev ${device}
EOF
nft list ruleset
find /etc /opt /usr/libexec/eniboot /var/lib -xdev \\( -type f -o -type l \\) -printf '%p %s %C@ %l\\n'
`;
  const result = await instance.run('sh', ['-c', script], { timeoutMs: 60_000 });
  const lines = result.stdout
    .replace(/^table (inet|netdev) eniboot \{\n[^]*?^\}\n/gm, '')
    .split('\n')
    .map((line) => line.replace(/valid_lft.*/, ''))
    .filter((line) => !line.startsWith('512:') && !OWN.some((path) => line.startsWith(path)));
  if (lines.length < 5) throw new Error(`the machine's state was not read: ${result.stderr}`);
  return lines.sort();
}

/** eniboot's temporary files, in all folders that it writes to. */
export async function temporaries(instance: Instance): Promise<string[]> {
  const script = `find /etc /opt /usr/libexec/eniboot /var/lib/eniboot /run/eniboot -xdev -name '.*.tmp' 2>/dev/null`;
  const { stdout } = await instance.run('sh', ['-c', script], { timeoutMs: 60_000 });
  return stdout.split('\n').filter((line) => line !== '');
}

export function changesBetween(before: string[], after: string[]): string[] {
  const was = new Set(before);
  const is = new Set(after);
  return [
    ...before.filter((line) => !is.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !was.has(line)).map((line) => `+ ${line}`),
  ];
}
