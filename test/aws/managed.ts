// A simulated instance as a managed node: its SSM agent has registered, and Run Command runs scripts in the instance.
import type { Cloud, Instance } from './index.ts';

/** Namespaces have no systemd, SELinux or kernel modules for `image check --booted` to look at: this stands in for its answer. */
const fit = '{"fit":true,"checks":[]}\n';

/** @param root the folder that is the agent's root; default is the instance's file tree. */
export function manage(cloud: Cloud, instance: Instance, root?: string): void {
  manageBy(cloud, instance.id, async (script, signal) => {
    if (script.includes(' image check --booted')) return { exitCode: 0, stdout: fit, stderr: '' };
    const options = { timeoutMs: 120_000, signal };
    return root === undefined
      ? instance.run('sh', ['-c', script], options)
      : instance.run('chroot', [root, 'sh', '-c', script], options);
  });
}

type Run = (
  script: string,
  signal: AbortSignal,
) => Promise<{ exitCode: number | null; stdout: string; stderr: string }>;

/** @param run how the agent runs a script, for an instance that is not made of namespaces. */
export function manageBy(cloud: Cloud, instanceId: string, run: Run): void {
  cloud.ssm.nodes.set(instanceId, {
    instanceId,
    online: true,
    lastPingAt: Date.now(),
    run(script, ended) {
      const stopped = new AbortController();
      const work = async () => {
        const { exitCode, stdout, stderr } = await run(script, stopped.signal);
        if (!stopped.signal.aborted) ended({ exitCode: exitCode ?? 137, stdout, stderr });
      };
      work().catch((error: unknown) => ended({ exitCode: 255, stdout: '', stderr: String(error) }));
      return () => stopped.abort();
    },
  });
}
