// The packets that the VPC has carried to the mesh's port, with their addresses. The kernel counts them where they
// leave an instance.
import { execFileSync } from 'node:child_process';
import { MESH_PORT } from './sidecar.ts';

const RULES = `table bridge mesh {
  set flows { type ipv4_addr . ipv4_addr; flags dynamic; size 65535; counter; }
  chain seen {
    type filter hook prerouting priority -250; policy accept;
    iifname "e*" ether type ip tcp dport ${MESH_PORT} update @flows { ip saddr . ip daddr }
  }
}
`;

export interface Flow {
  from: string;
  to: string;
  packets: number;
}

export function watchFlows(): void {
  execFileSync('nft', ['-f', '-'], { input: RULES });
}

export function forgetFlows(): void {
  execFileSync('nft', ['flush', 'set', 'bridge', 'mesh', 'flows']);
}

export function flows(): Flow[] {
  const listed = JSON.parse(
    execFileSync('nft', ['-j', 'list', 'set', 'bridge', 'mesh', 'flows'], { encoding: 'utf8' }),
  ) as {
    nftables: { set?: { elem?: { elem: { val: { concat: string[] }; counter: { packets: number } } }[] } }[];
  };
  const elements = listed.nftables.flatMap(({ set }) => set?.elem ?? []);
  return elements.map(({ elem }) => {
    const [from = '', to = ''] = elem.val.concat;
    return { from, to, packets: elem.counter.packets };
  });
}
