// Builds the executable and starts the half of a demo that makes devices, in namespaces of its own.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildExecutable } from '../build/executable.ts';

const root = join(import.meta.dirname, '../..');

/** Ends this process with the script's exit code. @param script a file in this folder. */
export function startInSandbox(script: string, args: string[]): void {
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
  buildExecutable();
  const scratch = mkdtempSync(join(tmpdir(), 'eniboot-demo-'));
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const show = spawn('sh', [sandbox, process.execPath, join(import.meta.dirname, script), ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TMPDIR: scratch },
  });
  // Ctrl-C reaches the whole foreground group; when the sandbox ends, all its processes end.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => show.kill('SIGKILL'));
  show.on('close', (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)));
}
