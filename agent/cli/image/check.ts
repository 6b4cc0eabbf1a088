import { writeFileSync } from 'node:fs';
import { Failure } from '../../messages/failure.ts';
import { statIfPresent } from '../../port/fs.ts';
import { requireRoot } from '../../port/runtime.ts';
import { formed, parse } from '../arguments.ts';
import type { CommandIo } from '../command.ts';
import { requireWritable } from '../named-files.ts';

export async function check(args: string[], io: CommandIo): Promise<number> {
  const { values } = parse('image check', args, {
    booted: { type: 'boolean' },
    root: { type: 'string' },
    expect: { type: 'string', multiple: true },
    allow: { type: 'string', multiple: true },
    report: { type: 'string' },
    json: { type: 'boolean' },
  });
  const expected = new Map((values.expect ?? []).map(expectation));
  const allowed = values.allow ?? [];
  for (const path of allowed)
    formed(
      'image check',
      '--allow',
      path,
      /^\/(etc|root|var\/lib)\/./,
      'a path below /etc, /root or /var/lib',
    );
  const root = folderOf(values.root);
  requireRoot('image check');
  if (values.report !== undefined) requireWritable(values.report);
  const { checkImage } = await import('../../image/check.ts');
  const { machineAt } = await import('../../image/machine.ts');
  const checks = await checkImage(machineAt(root), {
    booted: values.booted === true,
    ...{ expected, allowed },
  });
  const fit = checks.every((one) => one.result !== 'fail');
  const { checksText } = await import('../checks-text.ts');
  const report = `${JSON.stringify({ fit, checks })}\n`;
  if (values.report !== undefined) writeFileSync(values.report, report);
  io.stdout(values.json === true ? report : checksText(checks, io.isTTY));
  return fit ? 0 : 1;
}

function expectation(text: string): [string, string] {
  const [, name, version] = /^([\w.+-]+)=(\S+)$/.exec(text) ?? [];
  if (name !== undefined && version !== undefined) return [name, version];
  throw new Failure('USAGE', `eniboot image check: --expect ${text} is not PACKAGE=VERSION`);
}

function folderOf(path: string | undefined): string {
  if (path === undefined) return '';
  if (statIfPresent(path)?.isDirectory() !== true)
    throw new Failure('FILE_READ', `eniboot image check: --root ${path} is not a folder`, { path });
  return path;
}
