// A node in the VM that runs pods: the plugin called as a runtime calls it, pods that are network namespaces with a real ipvlan,
// servers that answer with the client's address, and captures of the packets.
import type { Cloud } from '../aws/index.ts';
import { type Answer, conf, LEFTOVERS, type Pod, variablesOf } from '../cni/rig.ts';
import { type Bench, coldNode, type Node, type NodeOptions } from '../vm/bench.ts';

const PLUGIN = '/opt/cni/bin/eniboot';
const CAPTURES = '/run/e2e/captures';

/**
 * Switched off, because it takes minutes under emulation and e2e:vm shows it: cloud-init (eniboot's own connection replaces it)
 * and timers that go off every minute; a case that needs such a service starts it.
 */
export const quiet = [
  'cloud-init=disabled',
  ...['repair', 'refill', 'collect'].map((name) => `systemd.mask=eniboot-${name}.timer`),
];

/** A pod's name, or '' for the node itself. */
export type Place = string;

/** One packet of a connection's set-up, as a capture saw it. */
export interface Seen {
  /** Where it was captured: a pod's name, or `node`. */
  place: string;
  device: string;
  direction: 'In' | 'Out';
  /** ADDRESS.PORT */
  from: string;
  to: string;
  /** The SYN-ACK; else the SYN. */
  reply: boolean;
}

export interface PodNode {
  /** The cluster's name, for messages. */
  name: string;
  node: Node;
  /** The boot ENI's primary address. */
  address: string;
  /** Runs a shell script as root on the node; throws the output with any exit code but 0. */
  sh(script: string, timeoutMs?: number): Promise<string>;
  /** One plugin call; `config` without more gets the configuration of the boot's conflist. */
  cni(command: string, variables?: Record<string, string>, config?: unknown): Promise<Answer>;
  /** Makes a namespace and calls ADD; throws when that fails. */
  addPod(name: string): Promise<Pod>;
  /** Calls DEL for the pod and removes its namespace. */
  deletePod(name: string): Promise<void>;
  /** Starts servers that answer every TCP connection, and every UDP packet, with the client's address. */
  serve(places: Place[], port?: number): Promise<void>;
  /** A server's answer; empty when none came within some seconds. `to` is `ADDRESS:PORT`, or an HTTP URL. */
  ask(place: Place, to: string, protocol?: 'TCP4' | 'UDP4'): Promise<string>;
  /** Starts captures of connection set-ups at places, on every device there. */
  capture(places: Place[]): Promise<void>;
  /** The packets captured since the last call. */
  captured(): Promise<Seen[]>;
  /**
   * Reboots the machine and waits for READY. Namespaces, servers and captures are gone.
   *
   * @param early a script that runs as soon as the machine answers, beside eniboot's boot.
   */
  reboot(early?: string): Promise<void>;
  /** Remains of eniboot's pods on the node: links, rules, routes, neighbours, leases. Empty when there are none. */
  leftovers(): Promise<string[]>;
}

/** Boots a machine and waits for READY. Its configuration is `options.config`, added to that of every VM. */
export async function bootPodNode(
  bench: Bench,
  cloud: Cloud,
  name: string,
  options: Omit<NodeOptions, 'cloud'> = {},
  kernelArguments: string[] = [],
): Promise<PodNode> {
  const node = await coldNode(bench, { ...options, cloud }, [...quiet, ...kernelArguments]);
  try {
    await becomesReady(name, node);
  } catch (error) {
    await node.end();
    throw error;
  }
  return podNode(name, node, bench.patience);
}

/** The same for a booted machine; the object also works after a reboot. */
export function podNode(name: string, node: Node, patience: number): PodNode {
  const at = (place: Place) => (place === '' ? '' : `ip netns exec ${place}`);
  const file = (place: Place) => `${CAPTURES}/${place === '' ? 'node' : place}.txt`;

  const self: PodNode = {
    name,
    node,
    address: node.instance.bootEni.primaryIp,
    async sh(script, timeoutMs = 60_000 * patience) {
      const result = await node.machine.run(`set -e\n${script}`, timeoutMs);
      if (result.exitCode === 0) return result.stdout;
      throw new Error(
        `${name}: exit code ${result.exitCode} of: ${script}\n${result.stdout}${result.stderr}`.trimEnd(),
      );
    },
    async cni(command, variables = {}, config = conf) {
      const environment = Object.entries({ CNI_COMMAND: command, CNI_PATH: '/opt/cni/bin', ...variables })
        .map(([key, value]) => `${key}='${value}'`)
        .join(' ');
      const started = performance.now();
      const { exitCode, stdout, stderr } = await node.machine.run(
        `${environment} ${PLUGIN} <<'EOF'\n${typeof config === 'string' ? config : JSON.stringify(config)}\nEOF`,
        60_000 * patience,
      );
      const json = stdout === '' ? undefined : JSON.parse(stdout);
      return { exit: exitCode, json, stdout, stderr, ms: performance.now() - started };
    },
    async addPod(pod) {
      const netns = `/run/netns/${pod}`;
      await self.sh(`ip netns add ${pod}`);
      const { exit, json, stdout, stderr } = await self.cni('ADD', variablesOf(pod, netns));
      if (exit !== 0) throw new Error(`${name}: ADD of ${pod}: ${stdout}${stderr}`);
      return { id: pod, netns, address: json.ips[0].address.split('/')[0], result: json };
    },
    async deletePod(pod) {
      const { exit, stdout, stderr } = await self.cni('DEL', variablesOf(pod, `/run/netns/${pod}`));
      if (exit !== 0) throw new Error(`${name}: DEL of ${pod}: ${stdout}${stderr}`);
      await self.sh(`ip netns del ${pod}`);
    },
    async serve(places, port = 80) {
      const answer = 'EXEC:/usr/libexec/e2e/seen';
      const start = (place: Place) => `
        ${at(place)} setsid socat TCP4-LISTEN:${port},fork,reuseaddr,backlog=64 ${answer} >/dev/null 2>&1 &
        ${at(place)} setsid socat UDP4-RECVFROM:${port},fork ${answer} >/dev/null 2>&1 &`;
      const up = (place: Place) => `
        i=0
        until [ "$(${at(place)} ss -Hltun 'sport = :${port}' | wc -l)" -ge 2 ]; do
          i=$((i + 1)); [ $i -lt 100 ] || { echo 'the servers did not start' >&2; exit 1; }; sleep 0.2
        done`;
      await self.sh([...places.map(start), ...places.map(up)].join('\n'));
    },
    async ask(place, to, protocol = 'TCP4') {
      const seconds = Math.ceil(5 * patience);
      const client = to.startsWith('http:')
        ? `curl -s --max-time ${seconds} ${to}`
        : protocol === 'TCP4'
          ? `timeout ${seconds} socat -u TCP4:${to} -`
          : `timeout ${seconds} socat -t${seconds} -T1 - UDP4:${to} <<'EOF'\nwho am I\nEOF`;
      const { stdout } = await node.machine.run(`${at(place)} ${client}`, 60_000 * patience);
      return stdout.trim();
    },
    async capture(places) {
      // Only connection set-ups: the other packets of a connection pass the same devices. The agent's own connections, whose timers
      // go on meanwhile, are left out.
      const filter = "'tcp[tcpflags] & tcp-syn != 0 and not host 169.254.169.254 and not host 10.0.255.10'";
      const start = (place: Place) => `
        ${at(place)} setsid tcpdump --immediate-mode -lnn -i any ${filter} >>${file(place)} 2>${file(place)}.log &
        until grep -q 'listening on' ${file(place)}.log; do sleep 0.2; done`;
      await self.sh(`mkdir -p ${CAPTURES}\n${places.map(start).join('\n')}`);
    },
    async captured() {
      // One process for all files: each costs a tenth of a second under emulation.
      const text = await self.sh(
        `cd ${CAPTURES}; sleep 0.4; grep -H . *.txt || :; for file in *.txt; do : >$file; done`,
      );
      return text.split('\n').flatMap(parseCapture);
    },
    async reboot(early) {
      node.forgetConsole();
      await node.machine.reboot(300_000 * patience);
      if (early !== undefined) await self.sh(early, 300_000 * patience);
      await becomesReady(name, node);
    },
    async leftovers() {
      const found = await self.sh(LEFTOVERS);
      return found
        .split('\n')
        .filter((line) => line !== '')
        .sort();
    },
  };
  return self;
}

async function becomesReady(name: string, node: Node): Promise<void> {
  const line = await node.announced();
  if (!line.includes('READY')) throw new Error(`node ${name}: ${line}`);
}

/** `one.txt:12:00:00.000000 ens5  Out IP 10.0.0.4.40000 > 10.0.64.5.80: Flags [S], …` */
function parseCapture(line: string): Seen[] {
  const match = /^(.+?)\.txt:\S+ (\S+)\s+(In|Out)\s+IP (\S+) > (\S+): Flags \[(S\.?)/.exec(line);
  if (match === null) return [];
  const [, place = '', device = '', direction, from = '', to = '', flags] = match;
  return [{ place, device, direction: direction as Seen['direction'], from, to, reply: flags === 'S.' }];
}
