// A node at rest for faults, and all resources on it that could leak, read without the product's code.
import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { buildMacvlanVariant } from '../build/stand-in.ts';
import { conf, kernelHasIpvlan, variablesOf } from '../cni/rig.ts';
import { LOOK, type Look, rangesOf, readLook } from '../model/look.ts';
import type { Called } from '../model/machine.ts';
import { nativeNode } from '../model/native.ts';
import { type Bundles, serveBundles } from '../rollout/bundles.ts';
import {
  READ_TRACE,
  RECORD,
  RECORDED,
  type Started,
  throughPrograms,
  traced,
  untouched,
  wrap,
} from './inject.ts';

/** A pod that lives during all cases. */
const RESIDENT = 'resident';

/** A call of the product: `eniboot ARGS`, or the plugin when there is a CNI command. */
export interface Call {
  args: string[];
  cni?: { command: string; variables: Record<string, string>; config: object };
}

export interface Ran extends Called {
  ms: number;
  /** True: it had not ended in time. */
  late: boolean;
}

/** The objects that all nodes of a worker share. */
export interface World {
  cloud: Cloud;
  bundles: Bundles;
  plugin: string;
  stop(): Promise<void>;
}

/** Short waits of the cloud, so that nearly all of the time is the product's. */
const LATENCY = { attachMs: 5, deviceMs: 3, detachMs: 5, describeLagMs: 5, imdsLagMs: 5, instanceMs: 5 };

export async function createWorld(): Promise<World> {
  const cloud = await startCloud({ latency: LATENCY });
  const bundles = await serveBundles(cloud);
  // Without ipvlan in the kernel, a macvlan stands in, so that an ADD takes its netlink path.
  const variant = kernelHasIpvlan() ? undefined : buildMacvlanVariant();
  return {
    cloud,
    bundles,
    plugin: variant?.executable ?? '/opt/cni/bin/eniboot',
    async stop() {
      bundles.stop();
      await cloud.stop();
      if (variant !== undefined) rmSync(variant.folder, { recursive: true, force: true });
    },
  };
}

/** All state without the pool: paths, links, rules, routes, tables, settings. Values that change with each call are left out. */
const STATE = `find /run/eniboot /run/netns /etc/eniboot /etc/cni /etc/kubernetes /etc/crio /etc/NetworkManager \\
  /etc/systemd/network /opt/cni /usr/libexec/eniboot /var/lib/eniboot \\
  \\( -regex '/run/eniboot/pool/\\(free\\|cooling\\|leased\\|retiring\\|owned\\|leaving\\|adding\\)/.*' -prune \\) -o \\
  -name refill-wanted -o -printf '%p %y %m %l\\n' 2>/dev/null | sort
for file in /run/eniboot/node.json /run/eniboot/config.json /etc/cni/net.d/* /etc/kubernetes/*/* /etc/crio/*/*; do
  [ ! -f "$file" ] || sha256sum "$file"
done
ip -d -o link | sed -E 's/^[0-9]+: //; s/(link-netnsid|ifindex|qlen) [0-9]+//g; s/@if[0-9]+//'
for family in -4 -6; do ip $family rule; ip $family route show table all; done | grep -v fe80::
ip neigh show nud permanent
nft -s list ruleset | sed '/elements = {/,/}/d' | sed -E 's/packets [0-9]+ bytes [0-9]+//'
sysctl net.ipv4.ip_forward
ip -n ${RESIDENT} -d -o link | sed -E 's/^[0-9]+: //; s/(link-netnsid|ifindex|qlen) [0-9]+//g; s/@if[0-9]+//'
ip -n ${RESIDENT} -4 addr show dev eth0 | grep inet
for family in -4 -6; do ip -n ${RESIDENT} $family rule; ip -n ${RESIDENT} $family route show table all; done | grep -v fe80::
nsenter --net=/run/netns/${RESIDENT} nft -s list ruleset
for lock in $(find /run/eniboot -name '*lock*' -type f); do flock --nonblock $lock true && echo "lock $lock is free" || echo "lock $lock is HELD"; done
`;
/** Processes, without this one and the machine's own. */
const PROCESSES = `me=$$; ps -eo pid=,ppid=,args= | awk -v me=$me '$1 != 1 && $1 != me && $2 != me { $1 = ""; $2 = ""; print }'`;

export interface FaultNode {
  id: string;
  world: World;
  instance: Awaited<ReturnType<typeof nativeNode>>['node']['instance'];
  /** A call of the product, with a time limit. */
  call(call: Call, started?: Started, boundMs?: number): Promise<Ran>;
  cni(command: string, pod: string, more?: object): Call;
  sh(script: string): Promise<string>;
  wait(seconds: number): Promise<void>;
  /** Runs the call with its system calls traced. */
  trace(call: Call): Promise<string>;
  /** Runs the call with its programs traced. */
  tracePrograms(call: Call): Promise<string>;
  struck(): Promise<string>;
  look(): Promise<Look>;
  /** Waits for effects that are still ending, then names what the node has more or less than at rest. */
  differences(): Promise<string[]>;
  /** Takes the node's present state as its state at rest. */
  rested(): Promise<void>;
  /** The parts of a pod on the node, in pool and kernel. */
  leftOf(pod: string): Promise<string[]>;
  end(): Promise<void>;
}

export async function createNode(world: World): Promise<FaultNode> {
  const { cloud, plugin } = world;
  const config = configText(
    cloud,
    'pool: { target: 16, lowWater: 6, surplus: 32 }\nboot: { deadlineSeconds: 60 }\n',
  );
  const { node, call: start, sh, wait } = await nativeNode(cloud, { type: 't3.small', config });
  const { instance } = node;
  let resting: string[] = [];
  let processes = '';

  async function call(
    { args, cni }: Call,
    { by, env }: Started = untouched(),
    boundMs = 60_000,
  ): Promise<Ran> {
    const program = cni === undefined ? '/usr/libexec/eniboot/current/eniboot' : plugin;
    const [file = program, ...rest] = [...by, program, ...args];
    const started = performance.now();
    const called = await start(file, rest, {
      env: {
        ...env,
        ...(cni === undefined
          ? {}
          : { CNI_COMMAND: cni.command, CNI_PATH: '/opt/cni/bin', ...cni.variables }),
      },
      ...(cni === undefined ? {} : { input: JSON.stringify(cni.config) }),
      endAfterMs: boundMs,
    });
    const ms = performance.now() - started;
    return { ...called, ms, late: ms >= boundMs };
  }

  const look = async () => readLook(await sh(`${LOOK}:`), [], instance);

  async function state(): Promise<string[]> {
    return (await sh(`(${STATE}) 2>&1`)).split('\n').filter((line) => line.trim() !== '');
  }

  /** What must hold for every node at rest, with any prefixes. */
  async function wrongWithPool(): Promise<string[]> {
    const seen = await look();
    const wrong: string[] = [];
    const { entries, owned, ec2 } = seen;
    const addresses = entries.map((entry) => entry.address);
    for (const address of new Set(addresses.filter((one, at) => addresses.indexOf(one) !== at)))
      wrong.push(`${address} is in the pool twice`);
    if (owned.join(' ') !== [...ec2].sort().join(' '))
      wrong.push(`the pool has ${owned.join(', ')}, EC2 ${ec2.join(', ')}`);
    if (entries.length !== owned.length * 16)
      wrong.push(`${entries.length} addresses of ${owned.length} prefixes`);
    for (const entry of entries)
      if (entry.state === 'retiring' || (entry.state === 'leased' && entry.rest !== `${RESIDENT},eth0`))
        wrong.push(`${entry.address} is ${entry.state} ${entry.rest}`);
    if (seen.unfinished.length > 0) wrong.push(`adding: ${seen.unfinished.join(', ')}`);
    if (seen.leaving.size + seen.leavingEnis.length > 0) wrong.push('prefixes or ENIs are leaving');
    const egress = rangesOf(owned.map((one) => one.split(' ')[1] ?? ''));
    if (seen.egress !== egress) wrong.push(`the egress set is ${seen.egress}, not ${egress}`);
    const leaks = cloud.leakReport().filter((leak) => leak.tags['eniboot:instance'] === instance.id);
    for (const leak of leaks) wrong.push(JSON.stringify(leak));
    return wrong;
  }

  const self: FaultNode = {
    id: instance.id,
    world,
    instance,
    call,
    cni: (command, pod, more = {}) => ({
      args: [],
      cni: {
        command,
        variables: pod === '' ? {} : variablesOf(pod, `/run/netns/${pod}`),
        config: { ...conf, ...more },
      },
    }),
    sh,
    wait,
    async trace(one) {
      await call(one, traced());
      return sh(READ_TRACE);
    },
    async tracePrograms(one) {
      await sh(RECORD);
      await call(one, throughPrograms());
      return sh(RECORDED);
    },
    struck: () => sh(READ_TRACE),
    look,
    async differences() {
      await cloud.settled();
      let strays = '';
      for (let tries = 0; tries < 60; tries += 1) {
        strays = await sh(PROCESSES);
        if (strays === processes) break;
        // The program that stands in for a hanging one is ended by the test, not by the product.
        if (tries === 3) await sh("pkill -KILL -fx 'sleep 1000' || :");
        await delay(tries < 10 ? 50 : 250);
      }
      const found = await wrongWithPool();
      if (strays !== processes) found.push(`processes: ${strays.trim()}`);
      let now: string[] = [];
      // Namespaces, and devices in them, disappear a moment after the end of the program that deleted them.
      for (let tries = 0; tries < 5; tries += 1) {
        now = await state();
        if (now.join('\n') === resting.join('\n')) break;
        await delay(200);
      }
      found.push(...now.filter((line) => !resting.includes(line)).map((line) => `+ ${line}`));
      found.push(...resting.filter((line) => !now.includes(line)).map((line) => `- ${line}`));
      return found;
    },
    async rested() {
      await cloud.settled();
      processes = await sh(PROCESSES);
      resting = await state();
      const wrong = await wrongWithPool();
      if (wrong.length > 0) throw new Error(`not at rest: ${wrong.join('\n')}`);
    },
    async leftOf(pod) {
      const { entries, kernel } = await look();
      const resident = entries.find((entry) => entry.rest === `${RESIDENT},eth0`)?.address;
      return [
        ...entries
          .filter((entry) => entry.rest.startsWith(`${pod},`))
          .map((entry) => `${entry.address} is leased`),
        ...[...kernel]
          .filter(([address]) => address !== resident)
          .map(([address, names]) => `${address} has ${[...names].join(', ')}`),
      ];
    },
    async end() {
      await instance.terminate();
      await cloud.settled();
    },
  };
  await sh(wrap);
  await sh(`ip netns add ${RESIDENT}; echo '{"items":[]}' > /run/model/sandboxes.json`);
  const added = await call(self.cni('ADD', RESIDENT));
  if (added.exit !== 0) throw new Error(`no resident pod: ${added.stdout}${added.stderr}`);
  return self;
}
