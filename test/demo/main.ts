// `npm run demo`: a node boots in a simulated AWS while you watch, and the result is proven from outside. This half runs on the
// machine itself; everything that makes devices runs in the sandbox (show.ts).
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { startInSandbox } from './sandbox.ts';

const args = process.argv.slice(2);
const help = `Usage: npm run demo [-- [--json] [--keep] [--type TYPE] | --vm [--json]]

Starts a simulated AWS (real network devices, in namespaces of its own), boots one node in it with the real executable,
and shows the result from outside. Changes nothing on this machine and leaves nothing behind.

  --json       print one object instead
  --keep       keep the node running and tell how to look inside; Ctrl-C ends it
  --type TYPE  instance type (default m5.xlarge)
  --vm         on real kernels with systemd and ipvlan instead: a node boots and is repaired, then two nodes in two zones,
               their pods, and the addresses that they see (QEMU; 5 minutes without KVM)
`;
if (args.includes('--help')) {
  process.stdout.write(help);
  process.exit(0);
}
if (args.includes('--vm')) {
  const rest = args.filter((arg) => arg !== '--vm');
  const wrong = rest.find((arg) => arg !== '--json');
  if (wrong !== undefined) {
    process.stderr.write(`demo: --vm does not go with ${wrong}\n${help}`);
    process.exit(2);
  }
  process.exit(runInVms(rest.includes('--json')));
}
const at = args.findIndex(
  (arg, index) => !['--json', '--keep', '--type'].includes(arg) && args[index - 1] !== '--type',
);
if (at !== -1) {
  process.stderr.write(`demo: ${args[at]} is not an option\n${help}`);
  process.exit(2);
}

startInSandbox('show.ts', args);

/** The same in VMs: cases of the two suites, one after the other. */
function runInVms(json: boolean): number {
  const parts = {
    node: ['test/vm/main.ts', 'good-boot', 'ruleset-flushed'],
    pods: ['test/pods/main.ts', 'pods-and-nodes'],
  };
  const found: Record<string, unknown> = {};
  for (const [name, [script = '', ...cases]] of Object.entries(parts)) {
    const words = cases.flatMap((one) => ['--case', one]);
    const { status, stdout } = spawnSync(
      'sh',
      [join(import.meta.dirname, '../launch.sh'), 'vm', script, ...words, ...(json ? ['--json'] : [])],
      { stdio: ['inherit', json ? 'pipe' : 'inherit', 'inherit'], encoding: 'utf8' },
    );
    if (json && stdout !== '') found[name] = JSON.parse(stdout);
    if (status === 0) continue;
    if (json) process.stdout.write(`${JSON.stringify(found)}\n`);
    return status ?? 1;
  }
  if (json) process.stdout.write(`${JSON.stringify(found)}\n`);
  return 0;
}
