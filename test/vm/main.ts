// npm run e2e:vm: boots eniboot on a real kernel with systemd, NetworkManager and cloud-init, in a VM whose EC2 is
// the simulated AWS.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bench } from './bench.ts';
import { cases } from './cases.ts';
import { ensureImage, type Image, packageVersions } from './image/image.ts';
import type { CaseResult, Job } from './job.ts';
import { layOver, stage } from './layer.ts';
import { probeAccelerator } from './machine.ts';

const help = `Usage: npm run e2e:vm [-- --quick | --case NAME…] [--json] [--list]

Boots the executable in a VM (QEMU; KVM where it works, emulation elsewhere) against the simulated AWS.
  --quick       one good boot and one failure
  --case NAME   only this case; may be repeated
  --json        one JSON object on stdout, progress on stderr
  --list        name the cases and stop

A full run takes about 20 minutes under emulation and writes docs/evidence/e2e-vm.json. The root image is built once,
about 90 s. Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.
`;

const repository = join(import.meta.dirname, '../..');
const node = process.execPath;

// An interrupt reaches the sandbox too and ends it; this process stays to clear up gigabytes of disks.
process.on('SIGINT', () => undefined);

process.exit(await main());

async function main(): Promise<number> {
  const options = readArguments();
  if (typeof options === 'number') return options;
  const say = (line: string) => process[options.json ? 'stderr' : 'stdout'].write(`${line}\n`);

  const started = performance.now();
  const work = mkdtempSync(join(tmpdir(), 'eniboot-vm-'));
  try {
    const image = ensureImage(say);
    const accelerator = await probeAccelerator(image.kernel);
    say(`${options.names.length} cases, ${accelerator === 'kvm' ? 'KVM' : 'emulation (no working KVM)'}`);
    const bench: Bench = {
      work,
      root: layEniboot(image, work),
      kernel: image.kernel,
      initrd: image.initrd,
      accelerator,
      patience: accelerator === 'kvm' ? 0.5 : 1,
    };
    const results = runCases(
      { bench, names: options.names, results: join(work, 'results.json') },
      options.json,
    );
    const report = {
      ...provenance(image, accelerator),
      passed: results.filter((result) => result.passed).length,
      failed: results.filter((result) => !result.passed).length,
      seconds: Math.round((performance.now() - started) / 1000),
      cases: results,
    };
    if (options.full) {
      mkdirSync(join(repository, 'docs/evidence'), { recursive: true });
      writeFileSync(join(repository, 'docs/evidence/e2e-vm.json'), `${JSON.stringify(report, null, 2)}\n`);
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else say(`\n${timingTable(results)}\n\n${report.passed} passed, ${report.failed} failed`);
    return report.failed === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

interface Options {
  names: string[];
  json: boolean;
  full: boolean;
}

function readArguments(): Options | number {
  let values: { quick?: boolean; case?: string[]; json?: boolean; list?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        quick: { type: 'boolean' },
        case: { type: 'string', multiple: true },
        json: { type: 'boolean' },
        list: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${help}`);
    return 2;
  }
  if (values.help === true) {
    process.stdout.write(help);
    return 0;
  }
  if (values.list === true) {
    process.stdout.write(cases.map((one) => `${one.name.padEnd(22)} ${one.title}\n`).join(''));
    return 0;
  }
  const unknown = (values.case ?? []).filter((name) => !cases.some((one) => one.name === name));
  if (unknown.length > 0) {
    process.stderr.write(`no case is called ${unknown.join(', ')}; --list names them\n`);
    return 2;
  }
  const wanted = cases.filter((one) => {
    if (values.case !== undefined) return values.case.includes(one.name);
    return values.quick !== true || one.quick === true;
  });
  return {
    names: wanted.map((one) => one.name),
    json: values.json === true,
    full: wanted.length === cases.length,
  };
}

/** Builds the executable and lays it, the node's files and the stand-ins over a copy of the root image. */
function layEniboot(image: Image, work: string): string {
  execFileSync(node, [join(repository, 'agent/build/build.ts'), '--no-bundle', 'x64'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const built = join(repository, 'dist/x64');
  const { version } = JSON.parse(readFileSync(join(built, 'manifest.json'), 'utf8')) as { version: string };
  const home = '/usr/libexec/eniboot';
  const kubeletVersion = join(work, 'kubelet-version');
  // The image build records it; the stand-in has none of its own.
  writeFileSync(kubeletVersion, 'Kubernetes v1.36.1\n');
  const staging = join(work, 'staging');
  stage(
    staging,
    [
      { from: join(repository, 'systemd/usr'), to: '/usr' },
      { from: join(repository, 'systemd/etc'), to: '/etc' },
      { from: join(import.meta.dirname, 'node'), to: '/' },
      { from: join(built, 'eniboot'), to: `${home}/${version}/eniboot` },
      { from: join(built, 'manifest.json'), to: `${home}/${version}/manifest.json` },
      { from: kubeletVersion, to: `${home}/kubelet-version` },
    ],
    [{ path: `${home}/current`, target: version }],
  );
  const root = join(work, 'root.raw');
  layOver(image.root, root, staging);
  rmSync(staging, { recursive: true });
  return root;
}

function runCases(job: Job, json: boolean): CaseResult[] {
  const jobFile = join(job.bench.work, 'job.json');
  writeFileSync(jobFile, JSON.stringify(job));
  spawnSync('sh', [join(repository, 'test/sandbox.sh'), node, join(import.meta.dirname, 'run.ts'), jobFile], {
    stdio: ['ignore', json ? 2 : 1, 2],
  });
  const done = existsSync(job.results) ? (JSON.parse(readFileSync(job.results, 'utf8')) as CaseResult[]) : [];
  // A runner that dies takes none of its cases along unseen.
  const missing = job.names.filter((name) => !done.some((result) => result.name === name));
  return [
    ...done,
    ...missing.map((name) => ({
      name,
      title: cases.find((one) => one.name === name)?.title ?? '',
      passed: false,
      seconds: 0,
      error: 'did not run: the runner ended before it',
      timings: [],
    })),
  ];
}

function provenance(image: Image, accelerator: string) {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: repository, encoding: 'utf8' }).trim();
  const qemu = execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).split('\n')[0];
  return {
    commit: git('rev-parse', 'HEAD'),
    uncommitted: git('status', '--porcelain', '--', 'agent', 'cni', 'systemd', 'test').length > 0,
    at: new Date().toISOString(),
    accelerator,
    image: image.digest,
    versions: {
      qemu,
      ...packageVersions(image, ['systemd', 'network-manager', 'cloud-init', 'linux-image-cloud-amd64']),
    },
  };
}

function timingTable(results: CaseResult[]): string {
  const rows = results
    .flatMap((result) => result.timings)
    .map((one) => [
      one.boot,
      ...[one.powerOn, one.started, one.verdict, one.kubelet, one.eniboot, one.own].map((value) =>
        value === undefined || Number.isNaN(value) ? '-' : value.toFixed(1),
      ),
    ]);
  if (rows.length === 0) return 'no boot was timed';
  const table = [
    [
      'seconds',
      'power-on to verdict',
      'eniboot starts',
      'verdict',
      'kubelet starts',
      'eniboot took',
      'of it own',
    ],
    ...rows,
  ];
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  return table
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    )
    .join('\n');
}
