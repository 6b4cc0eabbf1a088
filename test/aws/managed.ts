// A simulated instance as Run Command reaches it: its SSM agent has registered, and runs scripts in the instance.
import type { Cloud, Instance } from './index.ts';

/** What `image check --booted` looks at (systemd, SELinux, the kernel's modules) is not in namespaces: a stand-in for its answer. */
const fit = '{"fit":true,"checks":[]}\n';

/** @param root folder of the instance that is the agent's root, where its file tree is not. */
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

/** @param run how the agent runs a script, where the instance is not made of namespaces. */
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
