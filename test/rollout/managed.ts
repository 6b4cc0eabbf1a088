// A simulated instance as Run Command reaches it: its SSM agent runs the script in the instance's own namespaces.
import type { Cloud, Instance } from '../aws/index.ts';

export function manage(cloud: Cloud, instance: Instance): void {
  cloud.ssm.nodes.set(instance.id, {
    instanceId: instance.id,
    online: true,
    lastPingAt: Date.now(),
    run(script, ended) {
      const stopped = new AbortController();
      const work = async () => {
        const options = { timeoutMs: 120_000, signal: stopped.signal };
        const { exitCode, stdout, stderr } = await instance.run('sh', ['-c', script], options);
        if (!stopped.signal.aborted) ended({ exitCode: exitCode ?? 137, stdout, stderr });
      };
      work().catch((error: unknown) => ended({ exitCode: 255, stdout: '', stderr: String(error) }));
      return () => stopped.abort();
    },
  });
}
