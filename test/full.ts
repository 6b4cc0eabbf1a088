// `npm run test:full`: everything at full size, which takes hours. Each suite writes its evidence (commit, versions, counts, seed,
// time) to docs/evidence/<name>.json.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const evidence = (name: string) => join(root, 'docs/evidence', `${name}.json`);

interface Suite {
  name: string;
  script: string;
  args: string[];
}

const suites: Suite[] = [
  { name: 'check', script: 'check', args: [] },
  { name: 'test', script: 'test', args: ['--coverage', '--evidence', evidence('test')] },
  { name: 'packer', script: 'test:packer', args: [] },
  { name: 'e2e-ami', script: 'e2e:ami', args: [] },
  { name: 'kill', script: 'test:kill', args: ['--count', '1000', '--evidence', evidence('kill')] },
  { name: 'faults', script: 'test:faults', args: ['--count', '2000', '--evidence', evidence('faults')] },
  { name: 'model', script: 'test:model', args: ['--ops', '10000', '--evidence', evidence('model')] },
  {
    name: 'model-native',
    script: 'test:model',
    args: ['--driver', 'native', '--ops', '1000', '--evidence', evidence('model-native')],
  },
  { name: 'fuzz', script: 'test:fuzz', args: ['--evidence', evidence('fuzz')] },
  { name: 'rollout', script: 'test:rollout', args: ['--evidence', evidence('rollout')] },
  { name: 'bench-boot', script: 'bench:boot', args: ['--evidence', evidence('bench-boot')] },
  { name: 'bench-cni', script: 'bench:cni', args: ['--evidence', evidence('bench-cni')] },
  {
    name: 'bench-fleet',
    script: 'bench:fleet',
    args: ['--nodes', '5000', '--evidence', evidence('bench-fleet')],
  },
  { name: 'bench-rollout', script: 'bench:rollout', args: ['--evidence', evidence('bench-rollout')] },
  { name: 'bench-node', script: 'bench:node', args: ['--evidence', evidence('bench-node')] },
  { name: 'e2e-vm', script: 'e2e:vm', args: [] },
  { name: 'e2e-vm-forky', script: 'e2e:vm', args: ['--release', 'forky'] },
  {
    name: 'e2e-vm-arm64',
    script: 'e2e:vm',
    args: [
      ...['--arch', 'arm64', '--case', 'good-boot', '--case', 'eni-never-comes'],
      ...['--evidence', evidence('e2e-vm-arm64')],
    ],
  },
  { name: 'e2e-pods', script: 'e2e:pods', args: [] },
  { name: 'e2e-node', script: 'e2e:node', args: [] },
  ...['network-policy', 'network-policy-nftables', 'cyclonus'].map((name) => ({
    name: `e2e-node-${name}`,
    script: 'e2e:node',
    args: ['--case', name, '--evidence', evidence(`e2e-node-${name}`)],
  })),
  {
    name: 'e2e-node-network-policy-simulated',
    script: 'e2e:node',
    args: [
      ...['network-policy-simulated', 'network-policy-off', 'cyclonus-simulated'].flatMap((name) => [
        '--case',
        name,
      ]),
      ...['--evidence', evidence('e2e-node-network-policy-simulated')],
    ],
  },
  { name: 'e2e-mesh', script: 'e2e:mesh', args: [] },
];

const asked = process.argv.slice(2);
if (asked.includes('--help') || asked.some((name) => !suites.some((suite) => suite.name === name))) {
  process.stdout.write(
    `Usage: npm run test:full [-- SUITE…]\nSuites: ${suites.map((suite) => suite.name).join(', ')}; all by default.\n`,
  );
  process.exit(asked.includes('--help') ? 0 : 2);
}

mkdirSync(join(root, 'docs/evidence'), { recursive: true });
const results: { name: string; code: number; seconds: number }[] = [];
for (const suite of suites.filter(({ name }) => asked.length === 0 || asked.includes(name))) {
  process.stdout.write(`\n== ${suite.name}\n`);
  const started = performance.now();
  const code = await run(suite);
  results.push({ name: suite.name, code, seconds: Math.round((performance.now() - started) / 1000) });
}
process.stdout.write('\n');
for (const { name, code, seconds } of results) {
  process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'} ${String(seconds).padStart(6)} s  ${name}\n`);
}
const failed = results.filter((result) => result.code !== 0).length;
process.stdout.write(`${results.length - failed} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);

function run(suite: Suite): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn('npm', ['run', '--silent', suite.script, '--', ...suite.args], {
      cwd: root,
      stdio: 'inherit',
    });
    child.on('close', (code) => resolve(code ?? 1));
  });
}
