// Runs the cases in the sandbox that main.ts has made: real Packer with its real Amazon plugin, the simulated EC2, and instances to
// which Packer connects by SSH.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addImage, buildLeftovers } from '../aws/ec2/actions/images.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';
import type { Bench } from '../vm/bench.ts';
import type { NamespaceBase } from './bases.ts';
import { type AmiCase, cases, type Workshop } from './cases.ts';
import { type Hosts, serveHosts, stsPort } from './hosts.ts';
import type { Disk, Machines } from './machines.ts';
import { namespaces } from './namespaces.ts';
import { vms } from './vms.ts';

export interface Job {
  work: string;
  /** The bases that the cases need. */
  bases: { namespaces?: NamespaceBase; vms?: Bench };
  hosts: Hosts;
  packer: string;
  plugins: string;
  names: string[];
  results: string;
}

export interface Result {
  name: string;
  passed: boolean;
  seconds: number;
  error?: string;
  facts?: Workshop['facts'];
}

const repository = join(import.meta.dirname, '../..');
const [jobFile = ''] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, 'utf8')) as Job;

function machinesOf(one: AmiCase, work: string): Machines {
  const { bases } = job;
  if (one.machines === 'vms' && bases.vms !== undefined) return vms(bases.vms);
  if (bases.namespaces !== undefined) return namespaces(bases.namespaces, work, one.missingModule);
  throw new Error('the base of its instances was not prepared');
}

async function runCase(one: AmiCase): Promise<Workshop['facts']> {
  const work = join(job.work, one.name);
  mkdirSync(work);
  const machines = machinesOf(one, work);
  const disks = new Map<string, Disk>();
  /** Image → the disk of its instance, which has stopped: nothing writes to the disk any more. */
  const snapshots = new Map<string, Disk>();
  const cloud: Cloud = await startCloud({
    machineFor: (record) => {
      const from = snapshots.get(record.imageId);
      const { disk, machine } = machines.launch(cloud, record, from);
      if (from === undefined) disks.set(record.id, disk);
      return machine;
    },
  });
  cloud.ec2.subscribe((event) => {
    if (event.kind !== 'image') return;
    const disk = disks.get(event.from) ?? snapshots.get(event.from);
    if (disk !== undefined) snapshots.set(event.image.id, disk);
  });
  const endHosts = await serveHosts(job.hosts, cloud);
  const userData = join(work, 'node.yaml');
  writeFileSync(userData, `#eniboot-config\n${configText(cloud)}`);
  const { slowness, booted } = machines;
  const facts: Workshop['facts'] = {};
  let builds = 0;
  try {
    await one.check({
      ...{ userData, cloud, disks, slowness, booted, facts },
      eniboot: (...args) => eniboot(args, { env: operatorEnvironment(cloud), timeoutMs: 150_000 * slowness }),
      build: (change) => build(cloud, machines, join(work, `build-${++builds}`), change),
      leftovers: () => leftovers(cloud, machines),
    });
    return facts;
  } finally {
    await machines.end();
    await endHosts();
    await cloud.stop();
  }
}

async function leftovers(cloud: Cloud, machines: Machines): Promise<string[]> {
  await cloud.settled();
  return [
    ...buildLeftovers(cloud.ec2.world),
    ...machines.running().map((id) => `the machine of ${id} runs`),
    ...cloud.leakReport().map((one) => `${one.kind} ${one.id}: ${one.why}`),
  ];
}

export interface Change {
  variables?: Record<string, unknown>;
  /** Edits a copy of packer/ and dist/ before the build. */
  edit?: (folder: string) => void;
  /** Ends Packer with SIGINT after this output. */
  interruptAt?: RegExp;
}

export interface Built {
  status: number | null;
  said: string;
  /** The copy of packer/ in which Packer ran. */
  folder: string;
}

async function build(cloud: Cloud, machines: Machines, work: string, change: Change = {}): Promise<Built> {
  const { world } = cloud.ec2;
  const name = (arch: string) => `Fedora-Cloud-Base-AmazonEC2.${arch}-44-1.6`;
  const base = addImage(world, { name: name('x86_64'), architecture: 'x86_64' });
  const folder = join(work, 'packer');
  cpSync(join(repository, 'packer'), folder, { recursive: true });
  cpSync(join(repository, 'dist'), join(folder, '../dist'), { recursive: true });
  writeFileSync(join(folder, 'keys/amazon-ssm-agent.gpg'), job.hosts.agentKey);
  const variables = {
    ...job.hosts.variables,
    subnet_id: [...cloud.subnets.keys()][0],
    ssh_interface: 'private_ip',
    base_images: {
      x86_64: { id: base.id, name: base.name },
      arm64: { id: base.id, name: name('aarch64') },
    },
    instance_types: { x86_64: 'm5.large', arm64: 'm7g.xlarge' },
    fedora_version: 44,
    poll_seconds: 1,
    ...change.variables,
  };
  writeFileSync(join(folder, 'run.pkrvars.json'), JSON.stringify(variables));
  const template = join(folder, 'eniboot.pkr.hcl');
  writeFileSync(template, machines.fit(readFileSync(template, 'utf8')));
  change.edit?.(join(folder, '..'));
  const packer = spawn(
    job.packer,
    ['build', '-color=false', '-only=*.x86_64', '-var-file=packer/run.pkrvars.json', 'packer'],
    {
      // As in the README: from the repository's root.
      cwd: join(folder, '..'),
      env: {
        PATH: process.env['PATH'],
        HOME: work,
        TMPDIR: work,
        PACKER_PLUGIN_PATH: job.plugins,
        CHECKPOINT_DISABLE: '1',
        AWS_ACCESS_KEY_ID: cloud.operator.accessKeyId,
        AWS_SECRET_ACCESS_KEY: cloud.operator.secretAccessKey,
        AWS_ENDPOINT_URL_EC2: cloud.endpoints.ec2,
        AWS_ENDPOINT_URL_STS: `${cloud.endpoints.ec2}:${stsPort}`,
        AWS_EC2_METADATA_DISABLED: 'true',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    },
  );
  let said = '';
  let interrupted = false;
  const hear = (chunk: unknown) => {
    said += String(chunk);
    writeFileSync(join(work, 'packer.log'), said);
    if (interrupted || change.interruptAt?.test(said) !== true) return;
    interrupted = true;
    // Ctrl-C signals the process group; Packer's own parent process ignores the signal.
    if (packer.pid !== undefined) process.kill(-packer.pid, 'SIGINT');
  };
  packer.stdout.on('data', hear);
  packer.stderr.on('data', hear);
  const status = await new Promise<number | null>((done) => packer.once('close', done));
  return { status, said, folder };
}

const results: Result[] = [];
for (const one of cases.filter(({ name }) => job.names.includes(name))) {
  const started = performance.now();
  const result: Result = { name: one.name, passed: false, seconds: 0 };
  try {
    const facts = await runCase(one);
    if (Object.keys(facts).length > 0) result.facts = facts;
    result.passed = true;
  } catch (error) {
    result.error = error instanceof Error ? error.message : String(error);
  }
  result.seconds = Math.round((performance.now() - started) / 1000);
  results.push(result);
  process.stdout.write(`${result.passed ? 'passed' : 'FAILED'}  ${one.name} (${result.seconds} s)\n`);
  if (result.error !== undefined) process.stdout.write(`${result.error.replace(/^/gm, '    ')}\n`);
  writeFileSync(job.results, JSON.stringify(results));
}
process.exit(0);
