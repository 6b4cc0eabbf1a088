// What a boot must leave as it is on a machine, as one text: two of them are compared line by line.
import type { Instance } from '../../aws/index.ts';

/** Files eniboot owns; everything else below these folders belongs to somebody else. */
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
 * The boot ENI's addresses and routes, others' policy rules and nftables tables, and every file (size, change
 * time, link target) that is not eniboot's own.
 */
export async function othersState(instance: Instance): Promise<string[]> {
  const device = instance.deviceOf(instance.bootEni.id) ?? '';
  const script = `
ip -o -4 address show dev ${device} | sed 's/valid_lft.*//'
ip -4 route show table main dev ${device}
ip -4 rule show | grep -v '^512:'
nft list tables | grep -Ev ' (inet|netdev) eniboot$' | while read -r word family name; do nft list table "$family" "$name"; done
find /etc /opt /usr/libexec/eniboot /var/lib -xdev \\( -type f -o -type l \\) -printf '%p %s %C@ %l\\n'
`;
  const result = await instance.run('sh', ['-c', script], { timeoutMs: 60_000 });
  const lines = result.stdout.split('\n').filter((line) => !OWN.some((path) => line.startsWith(path)));
  if (lines.length < 5) throw new Error(`the machine was not looked at: ${result.stderr}`);
  return lines.sort();
}

/** Temporary files of eniboot's, wherever it writes. */
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
