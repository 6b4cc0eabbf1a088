// Simulated nodes that run pods: the real executable, called as a runtime calls it; pods are network namespaces of the node.
// The executable contains stand-in/execute.ts, which makes a real ipvlan where the kernel has it.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecResult } from '../../agent/port/exec-result.ts';
import type { Cloud } from '../aws/index.ts';
import { launchNode, type Node, type NodeOptions } from '../boot/node.ts';
import { STAND_IN_BUILD } from '../build/stand-in.ts';

const PLUGINS = '/opt/cni/bin';
const PLUGIN = `${PLUGINS}/eniboot`;
const STAND_IN = '/run/stand-in';
/** Folder with a stand-in for the reference plugin `ipvlan`. */
export const INTERFACE_PLUGINS = `${STAND_IN}/plugins`;
const PATH = `${STAND_IN}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

/** The command prefix (strace) that makes the Nth such system call fail. */
function failing(call: string, error: string, nth: number): string[] {
  const inject = `inject=${call}:error=${error}:when=${nth}`;
  return ['strace', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', inject];
}

/** The plugin's answer: a result, an error, or no output. */
export interface Answer {
  exit: number | null;
  /** Parsed standard output; undefined when it was empty. */
  json: any;
  stdout: string;
  stderr: string;
  ms: number;
}

export interface Pod {
  id: string;
  netns: string;
  address: string;
  /** Its IPv6 address, where it has one. */
  address6?: string | undefined;
  result: any;
}

export interface PodNode extends Node {
  /** Calls a plugin of the node (or one at a path), by default `eniboot` with `conf`. */
  cni(
    command: string,
    variables?: Record<string, string>,
    config?: unknown,
    plugin?: string,
  ): Promise<Answer>;
  /** A call that is killed (SIGKILL) after so many milliseconds; false when it had ended before. */
  cniKilled(command: string, variables: Record<string, string>, afterMs: number): Promise<boolean>;
  /** `eniboot ARGS` with the same PATH as the plugin. */
  tool(args: string[]): Promise<ExecResult>;
  /** Makes a namespace and calls ADD; throws when that fails. `variables` are added to those that every ADD needs. */
  addPod(name: string, variables?: Record<string, string>, config?: unknown): Promise<Pod>;
  /** Runs a program in a namespace of the node. */
  inPod(name: string, file: string, args: string[]): Promise<ExecResult>;
  /** Starts an HTTP server on port 80 that answers with the client's address. '' is the node itself. */
  serve(name: string, port?: number): Promise<void>;
  /** The answer to an HTTP GET; empty when none came within 2 s. */
  fetch(name: string, url: string): Promise<string>;
  sh(script: string): Promise<string>;
  /** Refuses the Nth operation from here on, counted over calls, removals not counted; undefined ends that. */
  failAt(operation: number | undefined, errno?: number): void;
  /** Makes the kernel refuse the Nth netlink request of each call with ENOBUFS; undefined ends that. */
  refuseAt(request: number | undefined): void;
  /** Starts each call under strace with these arguments; without arguments that ends. */
  trace(...args: string[]): void;
  /** Makes the leases of the node's pods older than a runtime's list of valid attachments. */
  ageLeases(): Promise<string>;
  /** Remains of eniboot's pods on the node: links, rules, routes, leases. Empty when there are none. */
  leftovers(): Promise<string[]>;
}

/** Shell script: prints a line for each part of a pod on the node. */
export const LEFTOVERS = `
  for link in /sys/class/net/enb*; do [ ! -e "$link" ] || echo "link $link"; done
  ip rule show | grep -E '^(1024|1025):' | sed 's/^/rule /' || :
  ip route show table all proto 140 | sed 's/^/route /'
  ip -6 route show table all proto 140 | sed 's/^/route /'
  ip neigh show nud permanent | sed 's/^/neighbour /'
  ls /run/eniboot/pool/leased | sed 's/^/lease /'`;

/** Shell script: sets the time of every lease to 0. Written in place, because a lease is known by its file. */
const AGE_LEASES = `cd /run/eniboot/pool/leased || exit 0
  for lease in *; do
    [ -s "$lease" ] || continue
    aged=$(sed '6s/.*/0/' "$lease") && printf '%s\\n' "$aged" >"$lease"
  done`;

export const conf = { cniVersion: '1.1.0', name: 'eniboot', type: 'eniboot' };

export function variablesOf(id: string, netns: string): Record<string, string> {
  return { CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0' };
}

/** What kube-proxy does to packets: destination NAT by `rules`, and masquerading of packets with its mark. */
export async function proxy(node: PodNode, family: 'ip' | 'ip6', rules: string): Promise<void> {
  await node.sh(`nft -f - <<'EOF'
table ${family} proxy
delete table ${family} proxy
table ${family} proxy {
  chain services { ${rules}; }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain output { type nat hook output priority -100; jump services; }
  chain postrouting { type nat hook postrouting priority srcnat; meta mark and 0x4000 == 0x4000 masquerade; }
}
EOF`);
}

/** Boots a node and makes it ready for pods. */
export async function bootPodNode(cloud: Cloud, options: NodeOptions = {}): Promise<PodNode> {
  const node = await launchNode(cloud, { built: STAND_IN_BUILD, ...options });
  const { status, result } = await node.boot();
  if (status?.verdict !== 'ready') throw new Error(`the node did not boot: ${result.stderr}${result.stdout}`);
  return podNode(node);
}

/** Puts the stand-in's files onto a booted node. Needed again after a reboot, which empties /run. */
export function podNode(node: Node): PodNode {
  const { instance } = node;
  const script = readFileSync(join(import.meta.dirname, 'stand-in/switch.sh'), 'utf8');
  instance.write(`${STAND_IN}/switch`, script, 0o755);
  if (kernelHasIpvlan()) instance.write(`${STAND_IN}/ipvlan`, '');
  const plugin = `exec ${process.execPath} ${join(import.meta.dirname, 'ipvlan-plugin.ts')}`;
  instance.write(`${INTERFACE_PLUGINS}/ipvlan`, `#!/bin/sh\n${plugin}\n`, 0o755);

  let refused: string[] = [];
  const self: PodNode = {
    ...node,
    async cni(command, variables = {}, config = conf, plugin = 'eniboot') {
      const path = plugin.startsWith('/') ? plugin : `${PLUGINS}/${plugin}`;
      const [file, ...args] = [...refused, path];
      const answer = await instance.run(file ?? path, args, {
        env: { PATH, CNI_COMMAND: command, CNI_PATH: PLUGINS, ...variables },
        input: typeof config === 'string' ? config : JSON.stringify(config),
        timeoutMs: 30_000,
      });
      const { exitCode, stdout, stderr, ms } = answer;
      return { exit: exitCode, json: stdout === '' ? undefined : JSON.parse(stdout), stdout, stderr, ms };
    },
    async cniKilled(command, variables, afterMs) {
      const child = instance.spawn(PLUGIN, [], {
        env: { PATH, CNI_COMMAND: command, CNI_PATH: PLUGINS, ...variables },
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.stdin?.on('error', () => {}); // the plugin may end before it has read its input
      child.stdin?.end(JSON.stringify(conf));
      let killed = false;
      const timer = setTimeout(() => {
        killed = true;
        child.kill('SIGKILL');
      }, afterMs);
      await ended;
      clearTimeout(timer);
      return killed;
    },
    tool: (args) => node.eniboot(args, { env: { PATH } }),
    async addPod(name, variables = {}, config = conf) {
      await self.sh(`ip netns add ${name}`);
      const netns = `/run/netns/${name}`;
      const all = { ...variablesOf(name, netns), ...variables };
      const { exit, json, stdout, stderr } = await self.cni('ADD', all, config);
      if (exit !== 0) throw new Error(`ADD of ${name}: ${stdout}${stderr}`);
      const [address, address6] = json.ips.map((ip: any) => ip.address.split('/')[0]);
      return { id: name, netns, address, address6, result: json };
    },
    inPod: (name, file, args) => instance.run('ip', ['netns', 'exec', name, file, ...args]),
    async serve(name, port = 80) {
      const server = `require('node:http').createServer((q, a) => a.end(q.socket.remoteAddress.replace('::ffff:', ''))).listen(${port}, () => console.log('up'))`;
      const command = [process.execPath, '-e', server];
      const [file = '', ...args] = name === '' ? command : ['ip', 'netns', 'exec', name, ...command];
      const child = instance.spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise<void>((resolve, reject) => {
        child.stdout?.once('data', () => resolve());
        child.once('exit', () => reject(new Error(`the server in ${name} ended`)));
      });
      child.unref();
    },
    async fetch(name, url) {
      const client = `const r = require('node:http').get(process.argv[1], { timeout: 2000 }, (a) => { a.setEncoding('utf8'); a.on('data', (d) => process.stdout.write(d)); }); r.on('timeout', () => r.destroy()); r.on('error', () => process.exit(1));`;
      const command = [process.execPath, '-e', client, url];
      const [file = '', ...args] = name === '' ? command : ['ip', 'netns', 'exec', name, ...command];
      return (await instance.run(file, args)).stdout.trim();
    },
    async sh(text) {
      const result = await instance.run('sh', ['-ec', text]);
      if (result.exitCode !== 0) throw new Error(`${text}: ${result.stderr}`);
      return result.stdout;
    },
    trace(...args) {
      refused = args.length === 0 ? [] : ['strace', '-f', '-qq', '-o', '/dev/null', ...args];
    },
    refuseAt(request) {
      refused = request === undefined ? [] : failing('sendto', 'ENOBUFS', request);
    },
    failAt(operation, errno = 5) {
      const text = operation === undefined ? '' : `${operation} ${errno} Refused by the stand-in`;
      instance.write(`${STAND_IN}/refuse`, text);
    },
    // The sixth line of a note has the time of the lease.
    ageLeases: () => self.sh(AGE_LEASES),
    async leftovers() {
      const found = await self.sh(LEFTOVERS);
      return found.split('\n').filter((line) => line !== '');
    },
  };
  return self;
}

let ipvlan: boolean | undefined;

export function kernelHasIpvlan(): boolean {
  if (ipvlan !== undefined) return ipvlan;
  const script =
    'ip link add probe0 type veth peer name probe1 && ip link add link probe0 name probe2 type ipvlan mode l2';
  try {
    execFileSync('unshare', ['--net', 'sh', '-c', script], { stdio: 'ignore' });
    ipvlan = true;
  } catch {
    ipvlan = false;
  }
  return ipvlan;
}
