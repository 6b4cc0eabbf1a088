// What only a running node can show, and a boot cannot: the runtime answers, kubelet is up.
import { run } from '../port/exec.ts';
import { type Check, fail, pass, warn } from './phase.ts';

/** Reads unit states; on a machine without systemd there is nothing to say but that. */
export async function checkRunning(): Promise<Check[]> {
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
  const kubelet = state('kubelet.service');
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
    kubelet === 'active'
      ? pass('kubelet', 'kubelet.service is active')
      : fail('kubelet', 'KUBELET_DOWN', `kubelet.service is ${kubelet ?? 'not installed'}`),
  ];
}
