import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export interface CloudInitPart {
  type: string;
  file: string | undefined;
  text: string;
}

/** The parts that cloud-init finds in each of these user data; undefined when it throws. Starts Python once. */
export function cloudInitParts(userData: (string | Uint8Array)[]): (CloudInitPart[] | undefined)[] {
  const input = JSON.stringify(userData.map((one) => Buffer.from(one).toString('base64')));
  const program = join(import.meta.dirname, 'cloud-init.py');
  const { status, stdout, stderr } = spawnSync('/usr/bin/python3', [program], {
    input,
    encoding: 'utf8',
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`cloud-init.py: ${stderr}`);
  const answers = JSON.parse(stdout) as ({ type: string; file: string | null; text: string }[] | null)[];
  return answers.map((parts) =>
    parts?.map(({ type, file, text }) => ({
      type,
      file: file ?? undefined,
      text: Buffer.from(text, 'base64').toString('latin1'),
    })),
  );
}
