// What only a running node can show, and a boot cannot: the runtime answers, leases match sandboxes, kubelet is up.

import { earlierNodeFile } from '../host/node-file.ts';
import { listSandboxes, runtimeSockets } from '../host/sandboxes.ts';
import { isFailure } from '../messages/failure.ts';
import { type Carried, listCarried } from '../pool/carried.ts';
import { listLeases } from '../pool/lease.ts';
import { strays } from '../pool/pool.ts';
import { run } from '../port/exec.ts';
import { isBooted } from './booted.ts';
import { type Check, fail, pass, warn } from './phase.ts';
import { checkPods } from './pods.ts';
import { isKubeletReleased } from './ready.ts';

/** Takes at most as long as crictl does: some 15 s. */
export async function checkRunning(): Promise<Check[]> {
  const [units, answers] = await Promise.all([checkUnits(), askRuntime()]);
  return [...units, ...answers, checkPoolFolder(), ...checkCarried(), ...(isBooted() ? [checkPods()] : [])];
}

/** Reads unit states; on a machine without systemd there is nothing to say but that. */
async function checkUnits(): Promise<Check[]> {
  const result = await run('systemctl', [
    'show',
    '--property=Id,LoadState,ActiveState',
    'crio.service',
    'containerd.service',
    'kubelet.service',
  ]);
  if (result.exitCode !== 0)
    return [
      warn('units', 'systemd does not answer: runtime and kubelet were not looked at', {
        stderr: result.stderr.trim(),
      }),
    ];
  const units = result.stdout
    .trim()
    .split('\n\n')
    .map((block) =>
      Object.fromEntries(
        block
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      ),
    );
  const state = (id: string) =>
    units.find((unit) => unit['Id'] === id && unit['LoadState'] === 'loaded')?.['ActiveState'];
  const runtimes = ['crio.service', 'containerd.service'].filter((id) => state(id) !== undefined);
  const active = runtimes.find((id) => state(id) === 'active');
  return [
    active === undefined
      ? fail(
          'runtime',
          'RUNTIME_DOWN',
          runtimes.length === 0
            ? 'no container runtime is installed'
            : `${runtimes.join(', ')} is ${state(runtimes[0] ?? '')}`,
        )
      : pass('runtime', `${active} is active`),
    checkKubelet(state('kubelet.service')),
  ];
}

/** What stands in the pool's folder and is passed over: somebody may have meant an address by it. */
function checkPoolFolder(): Check {
  const paths = strays();
  return paths.length === 0
    ? pass('pool-folder', 'every file of the pool is an address or a note of eniboot')
    : warn('pool-folder', `passed over in the pool's folder, remove: ${paths.join(', ')}`, { paths });
}

/** Addresses that a pod has given itself, or a lost namespace has kept; nothing on a node that has not booted. */
function checkCarried(): Check[] {
  const node = earlierNodeFile();
  const found = node === undefined ? undefined : listCarried(node.podEnis);
  if (found === undefined) return [];
  const { carried, unseen } = found;
  if (carried.length > 0)
    return [
      warn(
        'addresses',
        `${carried.length} addresses of the pool are carried by somebody who has not leased them: ${carriedText(carried)}`,
        { carried, unseen },
      ),
    ];
  return [
    unseen.length === 0
      ? pass('addresses', 'nobody carries an address of the pool without a lease')
      : warn('addresses', `could not look for the pool's addresses in: ${unseen.join('; ')}`, { unseen }),
  ];
}

/** Who carries which: a pod by its name, any other namespace by its path. */
function carriedText(carried: Carried[]): string {
  const who = new Map<string, string[]>();
  for (const { address, pod, netns } of carried) {
    const name = pod ?? netns;
    who.set(name, [...(who.get(name) ?? []), address]);
  }
  return [...who].map(([name, addresses]) => `${addresses.join(', ')} by ${name}`).join('; ');
}

/** In a warm pool a READY node waits without kubelet until it is let go. */
function checkKubelet(state: string | undefined): Check {
  if (state === 'active') return pass('kubelet', 'kubelet.service is active');
  const text = `kubelet.service is ${state ?? 'not installed'}`;
  return state !== undefined && isBooted() && !isKubeletReleased()
    ? pass('kubelet', `${text}: the instance waits in a warm pool, and repair starts it once it leaves`, {
        state,
      })
    : fail('kubelet', 'KUBELET_DOWN', text, { state });
}

/** Whether the runtime behind each socket answers; nothing where there is no socket. */
async function askRuntime(): Promise<Check[]> {
  const sockets = runtimeSockets();
  if (sockets.length === 0) return [];
  // Leases first: a pod that comes meanwhile has its sandbox before its lease.
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
