// Properties of systemd units.
import { run } from '../port/exec.ts';

/** Properties by name for each unit; the reason when systemd does not answer. Source: systemctl(1), "show". */
export async function showUnits(
  units: readonly string[],
  properties: readonly string[],
): Promise<{ units: Record<string, string>[] } | { reason: string }> {
  const result = await run('systemctl', ['show', `--property=${properties.join()}`, ...units]);
  if (result.exitCode !== 0) return { reason: result.stderr.trim() };
  const shown = result.stdout
    .trim()
    .split('\n\n')
    .map((block) =>
      Object.fromEntries(
        block
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      ),
    );
  return { units: shown };
}
