import { nearest } from '../config/nearest.ts';
import { Failure } from '../messages/failure.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';

const help = `Usage: eniboot image check [--booted] [--root FOLDER] [--expect PACKAGE=VERSION]... [--json]

Is this machine fit to become an AMI, and is an instance of it what it should be? Looks at kernel modules, the unit graph,
SELinux, swap, listening ports, sysctls, digests, versions, disk, NetworkManager, and what the build must not leave behind.

  --booted    it has booted from the finished image: looks at the boot's verdict, jobs, denials and failed units instead of
              what a build leaves behind
  --root FOLDER  a mounted image instead of this machine; what only a running one shows is a warning then
  --expect PACKAGE=VERSION  this RPM must have this version; may be given several times
  --json      one object: { "fit": true, "checks": [ { "id", "result", "summary", "evidence", "code"? } ] }

Loads the kernel modules and makes a pair of devices for a moment; changes nothing else. docs/images.md explains all of it.

Exit codes: 0 fit (warnings included), or done; 1 not, with a code; 2 wrong usage.
`;

const verbs = ['check'] as const;

export const imageCommand: Command = {
  name: 'image',
  summary: 'is this image fit to be an AMI; boot it, publish it, take it back',
  help,
  async run(args, io) {
    const [verb, ...rest] = args;
    if (verb === 'check') return check(rest, io);
    throw wrongVerb(verb);
  },
};

async function check(args: string[], io: CommandIo): Promise<number> {
  const { values } = parse('image check', args, {
    booted: { type: 'boolean' },
    root: { type: 'string' },
    expect: { type: 'string', multiple: true },
    json: { type: 'boolean' },
  });
  const expected = new Map((values.expect ?? []).map(expectation));
  const root = await folderOf(values.root);
  requireRoot('image check');
  const { checkImage } = await import('../image/check.ts');
  const { machineAt } = await import('../image/machine.ts');
  const checks = await checkImage(machineAt(root), { booted: values.booted === true, expected });
  const fit = checks.every((one) => one.result !== 'fail');
  const { checksText } = await import('./checks-text.ts');
  io.stdout(values.json === true ? `${JSON.stringify({ fit, checks })}\n` : checksText(checks, io.isTTY));
  return fit ? 0 : 1;
}

function expectation(text: string): [string, string] {
  const [, name, version] = /^([\w.+-]+)=(\S+)$/.exec(text) ?? [];
  if (name !== undefined && version !== undefined) return [name, version];
  throw new Failure('USAGE', `eniboot image check: --expect ${text} is not PACKAGE=VERSION`);
}

async function folderOf(path: string | undefined): Promise<string> {
  if (path === undefined) return '';
  const { statSync } = await import('node:fs');
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new Failure('USAGE', `eniboot image check: --root ${path} is not a folder`);
  return path;
}

function wrongVerb(verb: string | undefined): Failure {
  if (verb === undefined || verb.startsWith('-'))
    return new Failure('USAGE', `eniboot image: what to do is missing: ${verbs.join(', ')}`);
  const close = nearest(verb, verbs);
  return new Failure(
    'USAGE',
    `eniboot image: no ${verb}${close === undefined ? `; there are ${verbs.join(', ')}` : `; did you mean ${close}?`}`,
  );
}
