// Programs put in the place of real ones, to behave as those do when something is wrong.
import type { Bench } from './fault.ts';

const FOLDER = '/opt/stand-ins';
/** A PATH on which they come first. */
export const STAND_INS_FIRST = `${FOLDER}:USUAL`;

export async function standIn({ instance }: Bench, name: string, script: string): Promise<void> {
  instance.write(`${FOLDER}/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
}

/** The PATH of a machine that has what eniboot needs, but for one program. */
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
