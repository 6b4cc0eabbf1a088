// Other programs on a node (neighbours), an entry for each: its text in docs/neighbours.md, and its cases. A case has the rules
// that are loaded into the kernel of a READY node with pods, the new rows of `eniboot check`, and the ways of a pod that they
// break, tried with packets. A new neighbour is an entry, another of its settings is a line.
import type { Way } from '../../agent/host/obstacles/packet.ts';
import {
  awsNode,
  ciliumChains,
  ciliumRules,
  ciliumUndo,
  docker,
  docker28,
  istio,
  kubeProxyIptables,
  kubeProxyNftables,
  linkerd,
  type Names,
  nodeLocalDns,
  operatorAllowing,
  operatorDrop,
  tailscaleChains,
  tailscaleRules,
  tcSays,
  wgQuickAll,
} from './rules.ts';

export interface Case {
  /** The neighbour's setting, in an operator's words. */
  name: string;
  /** Shell script on the node. */
  load: (names: Names) => string;
  /** Undoes changes other than nftables tables. */
  undo?: (names: Names) => string;
  /** New rows, by the beginning of their id, with a part of their text. No other row may be new. */
  rows: [id: string, says: string | RegExp][];
  broken: Way[];
  /** Ways that the rows also name, and that this test cannot show, because its other ends are too near. */
  named?: Way[];
  /** True: `eniboot repair` restores the ways. */
  repaired?: true;
  /** The user whose requests are tried: a mesh redirects all but its proxy's. */
  uid?: number;
  /** A further command in the pod, which must exit with 0. */
  also?: (names: Names) => string;
}

export interface Neighbour {
  name: string;
  /** Whether it works beside eniboot, or why not; for the page. */
  works: string;
  /** What an operator has to do; absent when there is nothing to do. */
  todo?: string;
  cases: Case[];
  /** Tests with real programs that show more. */
  elsewhere?: string;
}

const restore = (text: string) => `iptables-restore <<'EOF'\n${text}EOF\n`;
const restoreInPod = (text: string) => `ip netns exec a ${restore(text)}`;
const nft = (text: string) => `nft -f - <<'EOF'\n${text}EOF\n`;
const device = (name: string, address: string) =>
  `ip link add ${name} type veth peer name ${name}p; ip addr add ${address} dev ${name}; ip link set ${name} up; ip link set ${name}p up\n`;
const bridge = `ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up\n`;
const noBridge = () => 'ip link del docker0';

/** All ways that are forwarded as new connections, without kubelet's and a Service's way back into its pod. */
const forwarded: Way[] = ['internet', 'outside', 'service'];

export const neighbours: Neighbour[] = [
  {
    name: 'docker',
    works:
      'Containers and pods work beside each other. docker drops forwarded packets of other programs when it has turned forwarding on itself. Started after eniboot, which turns forwarding on, it drops nothing.',
    todo: 'Start docker after eniboot.service, or let pods’ links pass in `DOCKER-USER`, as the row of `eniboot check` tells.',
    cases: [
      {
        name: 'started before forwarding was on: FORWARD has policy DROP',
        load: () => bridge + restore(docker),
        undo: noBridge,
        rows: [
          [
            'neighbours-firewall',
            /table ip filter, chain FORWARD: policy drop drops what pods send to the Internet/,
          ],
        ],
        broken: forwarded,
      },
      {
        name: 'docker 28, the same',
        load: () => bridge + restore(docker28),
        undo: noBridge,
        rows: [['neighbours-firewall', /table ip filter, chain FORWARD: policy drop/]],
        broken: forwarded,
      },
      {
        name: 'with the remedy of the row',
        load: () =>
          `${bridge}${restore(docker)}iptables -I DOCKER-USER -i enb+ -j ACCEPT && iptables -I DOCKER-USER -o enb+ -j ACCEPT`,
        undo: noBridge,
        rows: [],
        broken: [],
      },
      {
        name: 'started after eniboot',
        load: () => bridge + restore(docker.replace('FORWARD DROP', 'FORWARD ACCEPT')),
        undo: noBridge,
        rows: [],
        broken: [],
      },
      {
        name: 'its network inside the VPC',
        load: () => bridge.replace('172.17.0.1/16', '100.64.17.1/24'),
        undo: noBridge,
        rows: [['neighbours-hidden-vpc', '100.64.17.0/24 dev docker0']],
        broken: [],
      },
    ],
  },
  {
    name: 'nftables.service, or tables of an operator',
    works:
      'Tables that let pods’ links pass work. A reload with `flush ruleset`, with which distributions’ files begin, also deletes eniboot’s tables; repair restores them within a minute.',
    todo: 'Let `enb*` pass in both directions in each forward chain that drops; leave `flush ruleset` out, or flush your own tables.',
    cases: [
      {
        name: 'a forward chain that drops',
        load: () => nft(operatorDrop),
        rows: [['neighbours-firewall', /table inet filter, chain forward: policy drop drops/]],
        broken: forwarded,
      },
      {
        name: 'a forward chain that lets pods’ links pass',
        load: () => nft(operatorAllowing),
        rows: [],
        broken: [],
      },
      {
        name: 'an input chain without kubelet’s port',
        load: () => nft(operatorAllowing.replace('22, 10250', '22')),
        rows: [
          [
            'neighbours-firewall',
            /table inet filter, chain input: policy drop drops what pods send to the node/,
          ],
        ],
        broken: ['node'],
      },
      {
        name: 'the service reloaded with its own file',
        // The same as `flush ruleset`, except for the tables of the test's stand-ins.
        load: () =>
          `nft delete table inet eniboot; nft delete table netdev eniboot\n${nft('table inet filter {\n  chain input { type filter hook input priority filter; }\n}\n')}`,
        rows: [['egress-table', 'missing']],
        broken: ['internet', 'outside', 'service'],
        repaired: true,
      },
    ],
  },
  {
    name: 'settings and filters of operators',
    works:
      'Queues without filters work, and so do rates on the boot ENI. The settings in this row stop packets.',
    cases: [
      {
        name: 'forwarding off for the boot ENI',
        load: ({ bootDevice }) => `sysctl -qw net/ipv4/conf/${bootDevice}/forwarding=0`,
        undo: ({ bootDevice }) => `sysctl -qw net/ipv4/conf/${bootDevice}/forwarding=1`,
        rows: [['neighbours-forwarding', /setting net\/ipv4\/conf\/\w+\/forwarding = 0: what comes in by/]],
        broken: ['internet', 'outside'],
      },
      {
        name: 'a pod’s link in a bridge',
        load: ({ podLink }) => `ip link add br9 type bridge; ip link set ${podLink} master br9`,
        undo: () => 'ip link del br9',
        rows: [['neighbours-enslaved', /enb\w+ belongs to br9/]],
        broken: ['internet', 'node', 'outside', 'service'],
      },
      {
        name: 'a filter that redirects, and a BPF program',
        load: ({ bootDevice, podDevice }) => tcSays(bootDevice, podDevice),
        undo: () => 'rm /run/fakes/tc',
        rows: [
          [
            'neighbours-tc',
            /filter matchall of tc at ingress of \w+, preference 49152: what it matches is dropped or sent elsewhere/,
          ],
        ],
        broken: [],
      },
    ],
  },
  {
    name: 'firewalld',
    works:
      'Services, NodePorts and hostPorts work, because firewalld lets packets with a translated destination pass. It refuses pods’ connections to the Internet.',
    todo: '`firewall-cmd --permanent --zone=trusted --add-interface=enb+ && firewall-cmd --reload`.',
    cases: [
      {
        name: 'its default zone, set up by firewalld itself',
        load: () => '. /run/firewalld-start',
        undo: () => '. /run/firewalld-stop',
        rows: [
          [
            'neighbours-firewall',
            /table inet firewalld, chain filter_FORWARD_POLICIES: .* drops what pods send to the Internet/,
          ],
          [
            'neighbours-firewall',
            /table inet firewalld, chain filter_INPUT_POLICIES: .* drops what pods send to the node/,
          ],
        ],
        broken: ['internet', 'node'],
      },
      {
        name: 'with pods’ links in the zone trusted',
        load: () => '. /run/firewalld-start; fw --zone=trusted --add-interface=enb+',
        undo: () => '. /run/firewalld-stop',
        rows: [],
        broken: [],
      },
    ],
  },
  {
    name: 'kube-proxy',
    works:
      'All three modes work. eniboot depends on none of their names, and on no mark but 0x4000, which it does not change.',
    elsewhere: '`npm run e2e:node`: kube-proxy itself in each mode, on a node with kubelet',
    cases: [
      { name: 'mode iptables', load: () => restore(kubeProxyIptables), rows: [], broken: [] },
      { name: 'mode nftables', load: () => nft(kubeProxyNftables), rows: [], broken: [] },
    ],
  },
  {
    name: 'kube-vip, keepalived',
    works:
      'An address that moves onto the boot ENI disturbs no pod. Running pods reach it after repair has updated them, within a minute. EC2 must have the address as the boot ENI’s.',
    cases: [
      {
        name: 'a virtual address on the boot ENI, as both programs add it',
        load: ({ bootDevice }) => `ip addr add 10.0.0.200/32 dev ${bootDevice}`,
        undo: ({ bootDevice }) => `ip addr del 10.0.0.200/32 dev ${bootDevice}`,
        rows: [['node-file', 'pods do not know yet what has changed on the node']],
        broken: [],
      },
    ],
  },
  {
    name: 'Multus',
    works:
      'eniboot’s network must be the pod’s first, other networks follow; ADD does not replace the default route of another network (`NETNS_TAKEN`). cri-o asks for eniboot by name; containerd takes the first file.',
    elsewhere:
      '`test/cni/netlink.test.ts` (`NETNS_TAKEN`); `conflist-order` in `eniboot check` names the file that containerd takes',
    cases: [
      {
        name: 'its file before eniboot’s, with cri-o',
        load: () =>
          'echo \'{"cniVersion":"1.0.0","name":"multus","type":"multus"}\' >/etc/cni/net.d/00-multus.conf',
        undo: () => 'rm /etc/cni/net.d/00-multus.conf',
        rows: [],
        broken: [],
      },
    ],
  },
  {
    name: 'NodeLocal DNSCache',
    works: 'Pods reach its link-local address over their veth, with and without connection tracking.',
    cases: [
      {
        name: 'its rules and its address',
        load: () => `${device('nodelocaldns', '169.254.20.10/32')}${restore(nodeLocalDns)}`,
        undo: () => 'ip link del nodelocaldns',
        rows: [],
        broken: [],
        also: () => 'curl -sf -m 1 http://169.254.20.10:53/',
      },
    ],
  },
  {
    name: 'istio-cni',
    works:
      'Its rules are in the pod’s namespace, behind eniboot’s; CHECK accepts them as additions of a later plugin.',
    cases: [
      {
        name: 'redirection in a pod, seen by its proxy',
        load: () => restoreInPod(istio),
        undo: () => 'ip netns exec a nft delete table ip nat',
        rows: [],
        broken: [],
        uid: 1337,
      },
    ],
  },
  {
    name: 'linkerd-cni',
    works: 'The same.',
    cases: [
      {
        name: 'redirection in a pod, seen by its proxy',
        load: () => restoreInPod(linkerd),
        undo: () => 'ip netns exec a nft delete table ip nat',
        rows: [],
        broken: [],
        uid: 2102,
      },
    ],
  },
  {
    name: 'Cilium',
    works:
      'Not as the cluster’s network: two plugins would give each pod an interface. Its rules and chains alone disturb no pod. Its BPF programs on the node’s devices cannot be judged: `check` lists them, and `check --probe` tests the ways.',
    todo: 'Do not run its agent as a CNI on these nodes.',
    cases: [
      {
        name: 'its rules and chains',
        load: () => `${ciliumRules}\n${restore(ciliumChains)}`,
        undo: () => ciliumUndo,
        rows: [],
        broken: [],
      },
    ],
  },
  {
    name: 'AWS’s agents: aws-node (amazon-vpc-cni-k8s)',
    works:
      'Not on the same node: both attach ENIs and give out their addresses. Its remains in the kernel after its removal disturb no pod, except rules for addresses of its former pods that other pods have now. The SSM agent and the EBS, EFS and load-balancer controllers do not change packets of pods.',
    todo: 'Keep its DaemonSet off these nodes by a node selector.',
    cases: [
      {
        name: 'its rules, left behind',
        load: () => `ip rule add priority 1024 fwmark 0x80/0x80 lookup main\n${restore(awsNode)}`,
        undo: () => 'ip rule del priority 1024 fwmark 0x80/0x80',
        rows: [],
        broken: [],
      },
      {
        name: 'a rule for an address that a pod on another node has now',
        load: ({ far }) => `ip rule add priority 512 to ${far} lookup main`,
        undo: ({ far }) => `ip rule del priority 512 to ${far}`,
        rows: [
          [
            'neighbours-routing',
            /policy rule `512: from all to 10\.0\.64\.\d+ lookup main` finds .* what pods send to Services/,
          ],
        ],
        broken: ['service'],
      },
    ],
  },
  {
    name: 'amazon-ec2-net-utils',
    works:
      'Does not work: it configures each ENI by DHCP, and the node then has addresses that belong to pods.',
    todo: 'Remove the package; the image does not have it.',
    cases: [
      {
        name: 'an address and a table for a pod ENI',
        load: ({ podDevice }) =>
          `ip addr add 10.0.64.4/20 dev ${podDevice}; ip rule add priority 10001 from 10.0.64.4 lookup 10001; ip route add default via 10.0.64.1 dev ${podDevice} table 10001`,
        undo: ({ podDevice }) =>
          `ip rule del priority 10001; ip route flush table 10001; ip addr flush dev ${podDevice}`,
        rows: [['bare ', 'carries']],
        broken: [],
      },
    ],
  },
  {
    name: 'nm-cloud-setup',
    works:
      'Not on pod ENIs, which NetworkManager does not manage; the image masks it. When it has run, a row tells so.',
    todo: '`systemctl mask --now nm-cloud-setup.timer nm-cloud-setup.service`.',
    cases: [
      {
        name: 'addresses and a table for a pod ENI',
        load: ({ podDevice }) =>
          `ip addr add 10.0.64.20/20 dev ${podDevice}; ip rule add priority 30400 from 10.0.64.20 lookup 30400; ip route add default via 10.0.64.1 dev ${podDevice} table 30400`,
        undo: ({ podDevice }) =>
          `ip rule del priority 30400; ip route flush table 30400; ip addr flush dev ${podDevice}`,
        rows: [['bare ', 'carries']],
        broken: [],
      },
    ],
  },
  {
    name: 'tailscale',
    works:
      'Its peers and all ways of a pod work. With an exit node pods do not reach the Internet. It treats 100.64.0.0/10 as its own and drops packets from there: pods with such addresses do not reach the node.',
    todo: 'Use no exit node on nodes; choose pod subnets outside 100.64.0.0/10, or `--netfilter-mode=off`.',
    cases: [
      {
        name: 'joined to a tailnet',
        load: () =>
          `${device('tailscale0', '100.101.102.103/32')}${tailscaleRules}\n${restore(tailscaleChains)}`,
        undo: () =>
          'for priority in 5210 5230 5250 5270; do ip rule del priority $priority; done; ip link del tailscale0',
        rows: [],
        broken: [],
      },
      {
        name: 'with an exit node',
        load: () =>
          `${device('tailscale0', '100.101.102.103/32')}${tailscaleRules}\nip route add default dev tailscale0 table 52\nip route add throw 10.0.0.0/16 table 52\nip route add throw 169.254.0.0/16 table 52`,
        undo: () =>
          'for priority in 5210 5230 5250 5270; do ip rule del priority $priority; done; ip route flush table 52; ip link del tailscale0',
        rows: [
          ['egress-route', 'the Internet is not reached'],
          [
            'neighbours-routing',
            /policy rule `5270: from all lookup 52` finds `default dev tailscale0` in table 52: what pods send to the Internet leaves by tailscale0/,
          ],
        ],
        broken: ['internet'],
      },
    ],
  },
  {
    name: 'WireGuard (wg-quick)',
    works:
      'Tunnels to networks of their own work. A tunnel for all destinations (`AllowedIPs = 0.0.0.0/0`) also takes the node’s traffic to the API server and to the metadata service.',
    todo: 'Use AllowedIPs without 0.0.0.0/0.',
    cases: [
      {
        name: 'AllowedIPs = 192.168.77.0/24',
        load: () => `${device('wg0', '10.77.0.2/32')}ip route add 192.168.77.0/24 dev wg0`,
        undo: () => 'ip link del wg0',
        rows: [],
        broken: [],
      },
      {
        name: 'AllowedIPs = 0.0.0.0/0',
        load: () => `${device('wg0', '10.77.0.2/32')}${wgQuickAll}`,
        undo: () =>
          'ip rule del table 51820; ip rule del table main suppress_prefixlength 0; ip link del wg0',
        rows: [
          ['identify', /./],
          [
            'neighbours-routing',
            /policy rule `\d+: not from all fwmark 0xca6c lookup 51820` finds `default dev wg0` in table 51820: what pods send to the Internet leaves by wg0/,
          ],
        ],
        broken: ['internet', 'service'],
        named: ['outside'],
      },
    ],
  },
];
