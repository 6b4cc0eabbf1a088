import { run } from '../port/exec.ts';

/**
 * Whether an address answers ARP on a device. At most two requests are sent, with sender 0.0.0.0 (an address probe, RFC
 * 5227). undefined when arping is not installed. With -D, arping exits 1 when a host has answered.
 */
export async function routerAnswers(device: string, address: string): Promise<boolean | undefined> {
  const result = await run('arping', ['-D', '-q', '-c', '2', '-w', '2', '-I', device, address], {
    timeoutMs: 4_000,
  });
  if (result.missing) return undefined;
  return result.exitCode === 1;
}
