// The states of the nodes during attempts: reverse-path filters, kube-proxy, no guard.
import { type ProxyMode, proxyOff, proxyOn, type Service } from '../pods/proxy.ts';
import type { Field, Stage } from './attempt.ts';
import { FOLDER, type Ground, pods } from './ground.ts';

/**
 * Removes the guard and leaves eniboot's older chains: deletes tables of family netdev, on the nodes and in pods, and the rules
 * of all other chains. Resolves to the names of the removed tables and chains.
 */
export async function takeGuardAway(ground: Ground): Promise<string[]> {
  const kept = [
    ...['postrouting', 'egress', 'keep_port', 'marks', 'services', 'clamp', 'no_service'],
    ...['prerouting', 'output', 'prerouting6', 'output6', 'postrouting6', 'arriving'],
  ];
  const script = (names: readonly string[]) => `
    for pod in - ${names.join(' ')}; do
      run=''; [ $pod = - ] || run="ip netns exec $pod"
      $run nft list tables | while read -r _ family name; do
        case $family-$name in
        netdev-eniboot*)
          $run nft delete table netdev "$name"; echo "$pod netdev $name" ;;
        *-eniboot*)
          $run nft list table "$family" "$name" | sed -n 's/^\tchain \\([^ ]*\\) {$/\\1/p' | while read -r chain; do
            case ' ${kept.join(' ')} ' in
            *" $chain "*) ;;
            *)
              # The chain itself has a handle, and each of its rules.
              [ "$($run nft -a list chain "$family" "$name" "$chain" | grep -c '# handle')" -gt 1 ] || continue
              $run nft flush chain "$family" "$name" "$chain"; echo "$pod $family $name $chain" ;;
            esac
          done ;;
        esac
      done
    done`;
  const said = [await ground.sh('one', script(pods)), await ground.sh('two', script(['far']))];
  return said
    .join('')
    .split('\n')
    .filter((line) => line !== '');
}

/** Puts the nodes into a state; the returned function undoes it. */
export async function enter(ground: Ground, stage: Stage, field: Field): Promise<() => Promise<void>> {
  const nodes = isProxy(stage) ? (['one', 'two'] as const) : (['one'] as const);
  for (const node of nodes) await ground.sh(node, stageOn(stage, field, node));
  return async () => {
    for (const node of nodes) await ground.sh(node, stageOff(stage));
  };
}

function isProxy(stage: Stage): stage is ProxyMode {
  return stage !== 'plain' && stage !== 'loose';
}

const FILTERS = `${FOLDER}/filters`;

function stageOn(stage: Stage, field: Field, node: 'one' | 'two'): string {
  if (stage === 'plain') return '';
  if (stage === 'loose')
    return `cd /proc/sys/net/ipv4/conf; grep . */rp_filter >${FILTERS}; for one in */rp_filter; do echo 0 >$one; done`;
  const { services6 } = field;
  const proxy = `${proxyOn(stage, field[node].ip4, servicesOf(field, node))}\n${hostPorts(field)}`;
  if (field.a.ip6 === undefined || node === 'two' || stage === 'iptables') return proxy;
  const backends = { [services6.far]: `[${field.far.ip6}]:7777`, [services6.imds]: `[${field.imds.ip6}]:80` };
  const of6 = Object.entries(backends);
  if (stage === 'nftables') {
    const rules = of6.map(
      ([virtual, backend]) =>
        `ip6 daddr ${virtual} meta l4proto { tcp, udp } th dport 80 dnat to ${backend};`,
    );
    return `${proxy}\nnft 'table ip6 proxy6 { chain prerouting { type nat hook prerouting priority dstnat; ${rules.join(' ')} }; }'`;
  }
  // IPVS needs a route before a packet's mark is known (test/pods/dual-stack.ts).
  return [
    proxy,
    'ip link set kube-ipvs0 up',
    `ip -6 route add default via fe80::1 dev "$(ip -o route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')" metric 9999`,
    ...of6.flatMap(([virtual, backend]) => [
      `ip -6 address add ${virtual}/128 dev kube-ipvs0 nodad`,
      `ipvsadm -A -t [${virtual}]:80 -s rr`,
      `ipvsadm -a -t [${virtual}]:80 -r ${backend} -m -w 1`,
    ]),
  ].join('\n');
}

/** The rules of the reference plugin portmap, without those for a pod that asks itself. */
function hostPorts({ b, imds }: Field): string {
  const rules = [`tcp dport 8080 dnat to ${b.ip4}:7777`, `tcp dport 8099 dnat to ${imds.ip4}:80`].map(
    (rule) => `fib daddr type local ${rule};`,
  );
  return `nft 'table ip hostports { chain prerouting { type nat hook prerouting priority dstnat; ${rules.join(' ')} }; }'`;
}

function stageOff(stage: Stage): string {
  if (stage === 'plain') return '';
  if (stage === 'loose')
    return `cd /proc/sys/net/ipv4/conf; while IFS=: read -r file value; do [ ! -e $file ] || echo $value >$file; done <${FILTERS}`;
  return `${proxyOff(stage)} || :
    nft delete table ip hostports
    nft delete table ip6 proxy6 2>/dev/null || :
    ip -6 route del default via fe80::1 metric 9999 2>/dev/null || :`;
}

function servicesOf(field: Field, node: 'one' | 'two'): Service[] {
  const service = (
    name: string,
    clusterIp: string,
    address: string,
    more: Partial<Service> = {},
  ): Service => ({
    name,
    protocol: 'tcp',
    clusterIp,
    port: 80,
    endpoint: { address, port: 7777, here: node === 'one' && address !== field.far.ip4 },
    ...more,
  });
  const { services, imds, b, c, far } = field;
  return [
    service('here', services.b, b.ip4, { nodePort: 30013, ...(node === 'one' ? { local: true } : {}) }),
    service('other-eni', services.c, c.ip4),
    service('elsewhere', services.far, far.ip4, { nodePort: 30010 }),
    service('metadata', services.imds, imds.ip4, {
      nodePort: 30099,
      endpoint: { address: imds.ip4, port: 80, here: false },
    }),
  ];
}
