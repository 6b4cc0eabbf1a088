// Programs that replace real ones and fail as those do.
import { STAND_IN_BUILD } from '../../build/stand-in.ts';
import type { Bench } from './fault.ts';

const FOLDER = '/opt/stand-ins';
/** A PATH with the stand-ins first. */
export const STAND_INS_FIRST = `${FOLDER}:USUAL`;

export async function standIn({ instance }: Bench, name: string, script: string): Promise<void> {
  instance.write(`${FOLDER}/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
}

/** A node with an executable whose kernel port can be made to fail. */
export const HINDERED = { built: STAND_IN_BUILD };

/** Commands that match the pattern are refused with `refusal` (errno, words); without `refusal` they succeed and have no effect. */
export function kernelThat(pattern: string, refusal?: string): (bench: Bench) => void {
  const line = refusal === undefined ? pattern : `${pattern}\t${refusal}`;
  return ({ instance }) => instance.write('/run/stand-in/node', `${line}\n`);
}

/** A PATH that has every program that eniboot needs, except one. */
export const ONLY_NEEDED = FOLDER;
const needed = ['ip', 'nft', 'flock', 'arping', 'sh', 'cat', 'env'];

export function missing(program: string): (bench: Bench) => Promise<void> {
  return async ({ instance }) => {
    const rest = needed.filter((one) => one !== program).join(' ');
    const script = `mkdir -p ${FOLDER}; for p in ${rest}; do ln -s "$(command -v $p)" ${FOLDER}/$p; done`;
    const { exitCode, stderr } = await instance.run('sh', ['-ec', script]);
    if (exitCode !== 0) throw new Error(stderr);
  };
}
