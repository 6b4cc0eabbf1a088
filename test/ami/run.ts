// Runs the cases in the sandbox that main.ts made: real Packer with its real Amazon plugin, the simulated EC2, and build
// instances with a root of their own, into which Packer comes by SSH.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer as createIdentityServer } from 'node:http';
import { createServer } from 'node:https';
import { join, normalize } from 'node:path';
import { addImage, buildLeftovers } from '../aws/ec2/actions/images.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { type AmiCase, cases } from './cases.ts';
import type { Hosts } from './prepare.ts';

export interface Job {
  work: string;
  root: string;
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
}

const repository = join(import.meta.dirname, '../..');
const [jobFile = ''] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, 'utf8')) as Job;
/** The plugin asks STS who it is before anything else: the one answer it needs, from a stand-in. */
const stsPort = 8081;
const callerIdentity =
  '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/operator</Arn><UserId>AIDASIMULATED</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>';

async function runCase(one: AmiCase): Promise<void> {
  const work = join(job.work, one.name);
  mkdirSync(work);
  const disks = new Map<string, string>();
  const cloud: Cloud = await startCloud({
    machineFor: (record) => ({
      launch: {},
      started: async (instance) => {
        const disk = join(work, record.id);
        for (const name of ['upper', 'work', 'root']) mkdirSync(join(disk, name), { recursive: true });
        cpSync(job.hosts.layer, join(disk, 'upper'), { recursive: true });
        const publicKey = cloud.ec2.world.keyPairs.get(record.keyName ?? '')?.publicKey ?? '';
        const hosts = job.hosts.names.map((name) => `${new URL(cloud.endpoints.ec2).hostname} ${name}`);
        writeFileSync(
          join(disk, 'upper/etc/hosts'),
          `127.0.0.1 localhost ip-${instance.bootEni.primaryIp.replaceAll('.', '-')}\n${hosts.join('\n')}\n`,
        );
        if (one.missingModule !== undefined)
          writeFileSync(join(disk, 'upper/stand-in/missing-modules'), `${one.missingModule}\n`);
        disks.set(record.id, disk);
        const daemon = instance.spawn('sh', ['-euc', startInstance, 'instance', job.root, disk, publicKey], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        let said = '';
        daemon.stderr?.on('data', (chunk) => {
          said += String(chunk);
          writeFileSync(join(work, 'sshd.log'), said);
        });
      },
    }),
  });
  const web = createServer(
    { cert: readFileSync(job.hosts.certificate), key: readFileSync(job.hosts.key) },
    (request, response) => {
      const path = normalize(decodeURIComponent(request.url ?? '/'));
      const host = (request.headers.host ?? '').replace(/:\d+$/, '');
      try {
        const body = readFileSync(join(job.hosts.www, host, path));
        response.writeHead(200, { 'content-length': body.length }).end(body);
      } catch {
        response.writeHead(404).end();
      }
    },
  );
  const sts = createIdentityServer((_request, response) => response.end(callerIdentity));
  await new Promise<void>((done) => sts.listen(stsPort, new URL(cloud.endpoints.ec2).hostname, done));
  await new Promise<void>((done) => web.listen(443, new URL(cloud.endpoints.ec2).hostname, done));
  try {
    await one.check({
      cloud,
      build: (change) => build(cloud, work, change),
      disks,
      leftovers: () => leftovers(cloud),
    });
  } finally {
    for (const server of [web, sts]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
    await cloud.stop();
  }
}

async function leftovers(cloud: Cloud): Promise<string[]> {
  await cloud.settled();
  return [
    ...buildLeftovers(cloud.ec2.world),
    ...cloud.leakReport().map((one) => `${one.kind} ${one.id}: ${one.why}`),
  ];
}

/** $1 the root, $2 the instance's disk, $3 the public key that cloud-init would take from IMDS. */
const startInstance = `
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/run/sshd"
chown -R 0:0 "$root/etc/sudoers.d" "$root/usr/local/bin" "$root/etc/yum.repos.d"
chroot "$root" useradd --create-home --shell /bin/bash fedora
chroot "$root" usermod --password '*' fedora
install -d -m 0700 "$root/home/fedora/.ssh"
printf '%s\\n' "$3" >"$root/home/fedora/.ssh/authorized_keys"
chroot "$root" chown -R fedora: /home/fedora
chroot "$root" rpm --install --nodeps /stand-in/*.rpm
chroot "$root" ssh-keygen -A >/dev/null
exec chroot "$root" /usr/sbin/sshd -D -e
`;

export interface Change {
  variables?: Record<string, unknown>;
  /** Edits a copy of packer/ and dist/ before the build. */
  edit?: (folder: string) => void;
  /** Ends Packer with SIGINT when it has said this. */
  interruptAt?: RegExp;
}

export interface Built {
  status: number | null;
  said: string;
  /** Copy of packer/ it ran in. */
  folder: string;
}

async function build(cloud: Cloud, work: string, change: Change = {}): Promise<Built> {
  const { world } = cloud.ec2;
  const name = (arch: string) => `Fedora-Cloud-Base-AmazonEC2.${arch}-44-1.6`;
  const base = addImage(world, { name: name('x86_64'), architecture: 'x86_64' });
  const folder = join(work, 'tree/packer');
  cpSync(join(repository, 'packer'), folder, { recursive: true });
  symlinkSync(join(repository, 'systemd'), join(folder, '../systemd'));
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
    ...change.variables,
  };
  writeFileSync(join(folder, 'run.pkrvars.json'), JSON.stringify(variables));
  change.edit?.(join(folder, '..'));
  const packer = spawn(
    job.packer,
    ['build', '-color=false', '-only=*.x86_64', '-var-file=packer/run.pkrvars.json', 'packer'],
    {
      // As the README has it: from the repository's root.
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
        AWS_POLL_DELAY_SECONDS: '1',
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
    // As Ctrl-C does: Packer's own parent process takes none, its group does.
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
    await runCase(one);
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
