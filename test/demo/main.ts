// `npm run demo`: a node boots in a simulated AWS while you watch, and its result is proven from outside.
// This half runs on the machine as it is; everything that makes devices runs in the sandbox (show.ts).
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const args = process.argv.slice(2);
const help = `Usage: npm run demo [-- [--json] [--keep] [--type TYPE]]

Starts a simulated AWS (real network devices, in namespaces of its own), boots one node in it with the real executable,
and shows from outside what came of it. Touches nothing on this machine and leaves nothing behind.

  --json       print one object instead
  --keep       leave the node up and say how to look inside; Ctrl-C ends it
  --type TYPE  instance type (default m5.xlarge)
`;
if (args.includes('--help')) {
  process.stdout.write(help);
  process.exit(0);
}
const at = args.findIndex(
  (arg, index) => !['--json', '--keep', '--type'].includes(arg) && args[index - 1] !== '--type',
);
if (at !== -1) {
  process.stderr.write(`demo: ${args[at]} is not an option\n${help}`);
  process.exit(2);
}

const sandbox = join(root, 'test/sandbox.sh');
const probe = spawnSync('sh', [sandbox, 'true'], { encoding: 'utf8' });
if (probe.status !== 0) {
  process.stderr.write(`This needs network and mount namespaces, and they are not allowed here: ${probe.stderr.trim()}
Run it as root (sudo npm run demo), or allow unprivileged user namespaces:
  sysctl -w kernel.unprivileged_userns_clone=1          (Debian)
  sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (Ubuntu)
`);
  process.exit(1);
}
process.stderr.write('building the executable …\n');
execFileSync(
  process.execPath,
  [join(root, 'agent/build/build.ts'), '--no-bundle', process.arch === 'arm64' ? 'arm64' : 'x64'],
  {
    stdio: ['ignore', 'ignore', 'inherit'],
  },
);
const show = spawn('sh', [sandbox, process.execPath, join(import.meta.dirname, 'show.ts'), ...args], {
  cwd: root,
  stdio: 'inherit',
});
// Ctrl-C reaches the whole foreground group, and the sandbox takes everything in it along when it ends.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => show.kill('SIGKILL'));
show.on('close', (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)));
