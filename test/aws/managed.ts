// A simulated instance as Run Command reaches it: its SSM agent has registered, and runs scripts in the instance's own
// namespaces.
import type { Cloud, Instance } from './index.ts';

/** @param root folder of the instance that is the agent's root, where its file tree is not. */
export function manage(cloud: Cloud, instance: Instance, root?: string): void {
  cloud.ssm.nodes.set(instance.id, {
    instanceId: instance.id,
    online: true,
    lastPingAt: Date.now(),
    run(script, ended) {
      const stopped = new AbortController();
      const work = async () => {
        const options = { timeoutMs: 120_000, signal: stopped.signal };
        const { exitCode, stdout, stderr } = await (root === undefined
          ? instance.run('sh', ['-c', script], options)
          : instance.run('chroot', [root, 'sh', '-c', script], options));
        if (!stopped.signal.aborted) ended({ exitCode: exitCode ?? 137, stdout, stderr });
      };
      work().catch((error: unknown) => ended({ exitCode: 255, stdout: '', stderr: String(error) }));
      return () => stopped.abort();
    },
  });
}
