// The AMI's template, checked by the real Packer without a call to AWS.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { PackerTools } from './fetch.ts';

const root = join(import.meta.dirname, '../..');
export const TEMPLATE = join(root, 'packer');

export function runPacker(tools: PackerTools, args: string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(tools.packer, args, {
    cwd: root,
    encoding: 'utf8',
    env: {
      ...process.env,
      PACKER_PLUGIN_PATH: tools.plugins,
      PACKER_NO_COLOR: '1',
      CHECKPOINT_DISABLE: '1',
    },
  });
  return { status, said: `${stdout}${stderr}` };
}

/** Checks its form, and each variable file: the check, and Packer's message when it fails. Needs both bundles in dist/. */
export function* templateChecks(tools: PackerTools): Generator<[what: string, problem: string | undefined]> {
  const said = (args: string[]) => {
    const result = runPacker(tools, args);
    return result.status === 0 ? undefined : result.said;
  };
  yield ['packer fmt -check', said(['fmt', '-check', '-recursive', '-diff', TEMPLATE])];
  for (const file of readdirSync(TEMPLATE).filter((name) => /\.pkrvars\.(json|hcl)$/.test(name)))
    yield [
      `packer validate -var-file=${file}`,
      said(['validate', `-var-file=${join(TEMPLATE, file)}`, TEMPLATE]),
    ];
}
