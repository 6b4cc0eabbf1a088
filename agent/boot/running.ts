// Checks of what only a running node can show, and a boot cannot: the runtime answers, leases match sandboxes, kubelet is active.

import { earlierNodeFile } from '../host/node-file.ts';
import { listSandboxes, runtimeSockets } from '../host/sandboxes.ts';
import { showUnits } from '../host/units.ts';
import { isFailure } from '../messages/failure.ts';
import { type Carried, listCarried } from '../pool/carried.ts';
import { strays } from '../pool/entry.ts';
import { listLeases } from '../pool/lease.ts';
import { checkPods } from './checks/pods.ts';
import { checkPolicies, POLICY_SERVICE } from './checks/policies.ts';
import { isBooted, notBooted } from './facts/booted.ts';
import { type Check, fail, pass, row, warn } from './phase.ts';
import { isKubeletReleased } from './phases/release.ts';

/** Takes at most as long as crictl does: some 15 s. */
export async function checkRunning(): Promise<Check[]> {
  const [units, answers] = await Promise.all([checkUnits(), askRuntime()]);
  return [...units, ...answers, checkPoolFolder(), ...checkCarried(), ...checkBooted()];
}

/** Pods are looked at only on a node that has been READY. */
function checkBooted(): Check[] {
  if (isBooted()) return [checkPods()];
  const failure = notBooted('no pod was looked at');
  return failure.code === 'NOT_BOOTED'
    ? []
    : [fail('booted-config', failure.code, failure.message, failure.facts)];
}

/** Reads unit states. On a machine without systemd, one row says so. */
async function checkUnits(): Promise<Check[]> {
  const shown = await showUnits(
    ['crio.service', 'containerd.service', 'kubelet.service', POLICY_SERVICE],
    ['Id', 'LoadState', 'ActiveState'],
  );
  if ('reason' in shown) {
    const summary = 'systemd does not answer: runtime, kubelet and the policy service were not looked at';
    return [warn('units', summary, { stderr: shown.reason })];
  }
  const { units } = shown;
  const state = (id: string) =>
    units.find((unit) => unit['Id'] === id && unit['LoadState'] === 'loaded')?.['ActiveState'];
  const runtimes = ['crio.service', 'containerd.service'].filter((id) => state(id) !== undefined);
  const active = runtimes.find((id) => state(id) === 'active');
  const down = `${runtimes.join(', ')} is ${state(runtimes[0] ?? '')}`;
  const why = runtimes.length === 0 ? 'no container runtime is installed' : down;
  return [
    active === undefined ? fail('runtime', 'RUNTIME_DOWN', why) : pass('runtime', `${active} is active`),
    checkKubelet(state('kubelet.service')),
    ...checkPolicies(state(POLICY_SERVICE)),
  ];
}

/** Files in the pool's folder that the pool ignores. An operator may have meant an address by one. */
function checkPoolFolder(): Check {
  const paths = strays();
  return paths.length === 0
    ? pass('pool-folder', 'every file of the pool is an address or a note of eniboot')
    : warn('pool-folder', `passed over in the pool's folder, remove: ${paths.join(', ')}`, { paths });
}

/** Addresses that a pod has given itself, or that a lost namespace has kept. Empty on a node that has not booted. */
function checkCarried(): Check[] {
  const node = earlierNodeFile();
  const found = node === undefined ? undefined : listCarried(node.podEnis);
  if (found === undefined) return [];
  const { carried, unseen } = found;
  const check = row('addresses', { carried, unseen });
  const what = `${carried.length} addresses of the pool are carried without a lease`;
  if (carried.length > 0) return [check.warn(`${what}: ${carriedText(carried)}`)];
  return [
    unseen.length === 0
      ? check.pass('no address of the pool is carried without a lease')
      : check.warn(`could not look for the pool's addresses in: ${unseen.join('; ')}`),
  ];
}

/** Which namespace has which addresses: a pod by its name, any other namespace by its path. */
function carriedText(carried: Carried[]): string {
  const who = new Map<string, string[]>();
  for (const { address, pod, netns } of carried) {
    const name = pod ?? netns;
    who.set(name, [...(who.get(name) ?? []), address]);
  }
  return [...who].map(([name, addresses]) => `${addresses.join(', ')} by ${name}`).join('; ');
}

/** In a warm pool, a READY node waits without kubelet until the pool releases it. */
function checkKubelet(state: string | undefined): Check {
  if (state === 'active') return pass('kubelet', 'kubelet.service is active');
  const check = row('kubelet', { state });
  const text = `kubelet.service is ${state ?? 'not installed'}`;
  return state !== undefined && isBooted() && !isKubeletReleased()
    ? check.pass(`${text}: the instance waits in a warm pool, and repair starts it once it leaves`)
    : check.fail('KUBELET_DOWN', text);
}

/** Whether the runtime behind each socket answers. Empty when there is no socket. */
async function askRuntime(): Promise<Check[]> {
  const sockets = runtimeSockets();
  if (sockets.length === 0) return [];
  // Leases are read first: a pod that comes meanwhile has its sandbox before its lease.
  const leases = listLeases();
  try {
    const sandboxes = new Set((await listSandboxes()).map((sandbox) => sandbox.id));
    const without = leases.filter((lease) => !sandboxes.has(lease.owner.containerId));
    return [
      pass('runtime-answers', `the runtime answers: ${sandboxes.size} sandboxes`, { sockets }),
      without.length === 0
        ? pass('leases', `each of ${leases.length} leased addresses has its sandbox`)
        : warn(
            'leases',
            `${without.length} of ${leases.length} leased addresses have no sandbox: collect frees them once their pods are provably gone`,
            { addresses: without.map((lease) => `${lease.address} ${lease.owner.containerId}`) },
          ),
    ];
  } catch (error) {
    if (isFailure(error, 'TOOL_MISSING'))
      return [warn('runtime-answers', `the runtime was not asked: ${error.message}`, { sockets })];
    if (!isFailure(error, 'NO_SANDBOX_LIST')) throw error;
    return [
      fail('runtime-answers', 'RUNTIME_DOWN', `the runtime does not answer: ${error.message}`, error.facts),
    ];
  }
}
