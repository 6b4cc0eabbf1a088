// A VM node with kubelet and a container runtime: static pods, and what kubelet and the runtime report about them.
import assert from 'node:assert/strict';
import type { Cloud } from '../aws/index.ts';
import { bootPodNode, type PodNode, podNode, quiet } from '../pods/node.ts';
import { type Bench, coldNode, type NodeOptions } from '../vm/bench.ts';
import { IMAGE } from './image.ts';
import type { Runtime } from './layer.ts';

/** Folder in which kubelet finds its static pods. */
export const MANIFESTS = '/etc/kubernetes/manifests';
/** Memory for kubelet and a runtime beside what every VM runs. */
const memoryMiB = 2048;

/** A pod as kubelet shows it on /pods. */
export interface PodStatus {
  name: string;
  ip: string;
  ready: boolean;
  restarts: number;
}

/** A node whose pods kubelet makes. The functions of PodNode that make plugin calls themselves do not apply to it. */
export interface KubeNode {
  runtime: Runtime;
  base: PodNode;
  sh: PodNode['sh'];
  /** kubelet's list of its static pods; empty while kubelet does not answer. */
  pods(): Promise<PodStatus[]>;
  /** Waits until kubelet shows exactly these pods as ready, and `accept` is true for them. */
  running(names: string[], accept?: (pods: PodStatus[]) => boolean): Promise<Record<string, PodStatus>>;
  /** Gives a pod to kubelet. */
  place(name: string, container?: object): Promise<void>;
  remove(name: string): Promise<void>;
  /** The answer of a server to a client in the pod's container: the address that the server saw. */
  ask(pod: string, to: string): Promise<string>;
  /** One of kubelet's own pages, such as `/configz`. */
  page(path: string): Promise<string>;
  /** Waits until the runtime reports this state of the pods' network. Returns the runtime's message. */
  networkIs(ready: boolean): Promise<string>;
  /** Boot-clock seconds at which systemd started a unit's present process and called the unit active; 0: never. */
  startOf(unit: string): Promise<{ process: number; active: number }>;
  /** Addresses that the pool has leased, each with its ENI. */
  leases(): Promise<{ address: string; eniId: string; sandbox: string }[]>;
  /** Waits until the pool has leased exactly these addresses. */
  leasedAre(addresses: () => Promise<string[]>): Promise<void>;
  /** Waits until the unit has a process that started after that moment. */
  startsAgain(unit: string, after: number): Promise<void>;
  /** Waits until the node has no links, rules, routes, neighbours or leases of pods. */
  emptied(): Promise<void>;
}

/** Boots a machine that must become READY. */
export async function bootKubeNode(
  bench: Bench,
  runtime: Runtime,
  cloud: Cloud,
  name: string,
  options: Omit<NodeOptions, 'cloud'> = {},
  kernelArguments: string[] = [],
): Promise<KubeNode> {
  const base = await bootPodNode(bench, cloud, name, { memoryMiB, ...options }, kernelArguments);
  return kubeNode(base, runtime, bench.patience);
}

/** Boots a machine, and returns the verdict of its first boot beside it. */
export async function announcedKubeNode(
  bench: Bench,
  runtime: Runtime,
  cloud: Cloud,
  name: string,
  options: Omit<NodeOptions, 'cloud'>,
): Promise<{ node: KubeNode; line: string }> {
  const machine = await coldNode(bench, { memoryMiB, ...options, cloud }, quiet);
  try {
    const line = await machine.announced();
    return { node: kubeNode(podNode(name, machine, bench.patience), runtime, bench.patience), line };
  } catch (error) {
    await machine.end();
    throw error;
  }
}

function kubeNode(base: PodNode, runtime: Runtime, patience: number): KubeNode {
  const waitMs = 180_000 * patience;

  /** Calls `look` repeatedly until it returns a value. */
  async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
    const giveUpAt = performance.now() + waitMs;
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      if (performance.now() < giveUpAt) continue;
      const journal = await base.sh(
        `crictl pods || :; crictl ps -a || :; journalctl -b --no-pager -n 60 -o cat -u kubelet -u ${runtime}`,
      );
      assert.fail(`${what}, after ${waitMs / 1000} s\n${journal}`);
    }
  }

  const self: KubeNode = {
    runtime,
    base,
    sh: base.sh,
    page: (path) => base.sh(`curl -sfk --max-time 60 https://127.0.0.1:10250${path}`),
    async pods() {
      // A kubelet that is still starting a hundred pods may not finish its answer.
      const { exitCode, stdout } = await base.node.machine.run(
        'curl -sfk --max-time 30 https://127.0.0.1:10250/pods',
        60_000 * patience,
      );
      return exitCode === 0 ? podsOf(JSON.parse(stdout)) : [];
    },
    async running(names, accept = () => true) {
      let last: PodStatus[] = [];
      const pods = await until(`not all as they should be: ${names.join(', ')}`, async () => {
        last = await self.pods();
        const here = last.map((pod) => pod.name).sort();
        const settled = here.join() === [...names].sort().join() && last.every((pod) => pod.ready);
        return settled && accept(last) ? last : undefined;
      }).catch((error: Error) => assert.fail(`${error.message}\n${JSON.stringify(last)}`));
      return Object.fromEntries(pods.map((pod) => [pod.name, pod]));
    },
    async place(name, container = {}) {
      // The file is hidden until it is renamed into place: kubelet reads every file that it finds.
      await base.sh(`mkdir -p ${MANIFESTS}; cat >${MANIFESTS}/.${name} <<'EOF'\n${manifest(name, container)}\nEOF
        mv ${MANIFESTS}/.${name} ${MANIFESTS}/${name}.json`);
    },
    async remove(name) {
      await base.sh(`rm ${MANIFESTS}/${name}.json`);
    },
    async ask(pod, to) {
      const label = `io.kubernetes.pod.name=${pod}-$(hostname)`;
      const answer = await base.sh(
        `crictl exec --sync "$(crictl ps --quiet --state running --label "${label}")" /pod ask ${to}`,
      );
      return answer.trim();
    },
    networkIs: (ready) =>
      until(`the network is not ${ready ? 'ready' : 'unready'} for the runtime`, async () => {
        const { exitCode, stdout } = await base.node.machine.run('crictl info', 60_000 * patience);
        if (exitCode !== 0) return undefined;
        const { status } = JSON.parse(stdout) as RuntimeInfo;
        const network = status.conditions.find(({ type }) => type === 'NetworkReady');
        assert.ok(network, `crictl info names no NetworkReady: ${stdout}`);
        return network.status === ready ? network.message : undefined;
      }),
    async startOf(unit) {
      const shown = await base.sh(`systemctl show ${unit}`);
      const at = (name: string) =>
        Number(new RegExp(`^${name}TimestampMonotonic=(\\d+)$`, 'm').exec(shown)?.[1]) / 1e6;
      return { process: at('ExecMainStart'), active: at('ActiveEnter') };
    },
    async leases() {
      const listed = await base.sh('ls /run/eniboot/pool/leased');
      return listed
        .split('\n')
        .filter((line) => line !== '')
        .map((lease) => {
          const [address = '', eniId = '', sandbox = ''] = lease.split(',');
          return { address, eniId, sandbox };
        });
    },
    async leasedAre(addresses) {
      await until('the pool has not leased what the pods have', async () => {
        const [leased, wanted] = [(await self.leases()).map(({ address }) => address), await addresses()];
        return leased.sort().join() === wanted.sort().join() ? true : undefined;
      });
    },
    async startsAgain(unit, after) {
      await until(`${unit} did not start again`, async () => {
        const { process, active } = await self.startOf(unit);
        return process > after && active >= process ? true : undefined;
      });
    },
    async emptied() {
      await until('something of the pods is left', async () => {
        const left = await base.leftovers();
        return left.length === 0 ? true : undefined;
      });
    },
  };
  return self;
}

interface RuntimeInfo {
  status: { conditions: { type: string; status: boolean; message: string }[] };
}

/** A pod's file; `container` overrides fields of its container. */
export function manifest(name: string, container: object = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'serve',
          image: IMAGE,
          imagePullPolicy: 'Never',
          command: ['/pod', 'serve'],
          // Without an API server, this shows which address kubelet takes for the node's.
          env: [{ name: 'NODE_IP', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } }],
          readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1, timeoutSeconds: 20 },
          ...container,
        },
      ],
    },
  });
}

/** The fields of /pods that are used here. */
interface PodList {
  items:
    | {
        metadata: { name: string };
        spec: { nodeName: string };
        status: {
          podIP?: string;
          conditions?: { type: string; status: string }[];
          containerStatuses?: { restartCount: number }[];
        };
      }[]
    | null;
}

function podsOf({ items }: PodList): PodStatus[] {
  return (items ?? []).map(({ metadata, spec, status }) => ({
    // kubelet appends the name of its node to a static pod's name.
    name: metadata.name.slice(0, -`-${spec.nodeName}`.length),
    ip: status.podIP ?? '',
    ready:
      status.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ?? false,
    restarts: status.containerStatuses?.[0]?.restartCount ?? 0,
  }));
}
