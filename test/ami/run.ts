// Runs the cases in the sandbox that main.ts made: real Packer with its real Amazon plugin, the simulated EC2, and build
// instances with a root of their own, into which Packer comes by SSH.
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer as createIdentityServer } from 'node:http';
import { createServer } from 'node:https';
import { join, normalize } from 'node:path';
import { addImage, buildLeftovers } from '../aws/ec2/actions/images.ts';
import { type Cloud, type Instance, startCloud } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { configText, ENIBOOT } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';
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
  /** Image → the disk of the instance it was made of, which has stopped: nothing writes to it any more. */
  const snapshots = new Map<string, string>();
  const cloud: Cloud = await startCloud({
    machineFor: (record) => ({
      launch: {},
      started: async (instance) => {
        const disk = join(work, record.id);
        for (const name of ['upper', 'work', 'root']) mkdirSync(join(disk, name), { recursive: true });
        const snapshot = snapshots.get(record.imageId);
        if (snapshot !== undefined) {
          await bootNode(cloud, instance, `${join(snapshot, 'upper')}:${job.root}`, disk);
          return;
        }
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
  cloud.ec2.subscribe((event) => {
    if (event.kind !== 'image') return;
    const disk = disks.get(event.from) ?? snapshots.get(event.from);
    if (disk !== undefined) snapshots.set(event.image.id, disk);
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
  const userData = join(work, 'node.yaml');
  writeFileSync(userData, `#eniboot-config\n${configText(cloud)}`);
  let builds = 0;
  try {
    await one.check({
      userData,
      eniboot: (...args) => eniboot(args, { env: operatorEnvironment(cloud), timeoutMs: 150_000 }),
      cloud,
      build: (change) => build(cloud, join(work, `build-${++builds}`), change),
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

/** A node of a finished image: what systemd would start of it, without systemd. Its SSM agent has registered. */
async function bootNode(cloud: Cloud, instance: Instance, lower: string, disk: string): Promise<void> {
  const shell = (script: string, timeoutMs: number, ...args: string[]) =>
    instance.run('sh', ['-euc', script, 'node', ...args], { timeoutMs });
  const mounted = await shell(mountRoot, 20_000, lower, disk);
  if (mounted.exitCode !== 0) throw new Error(`the disk of ${instance.id}: ${mounted.stderr}`);
  const root = join(disk, 'root');
  const tool = await shell(standInNft, 20_000, root);
  if (tool.exitCode !== 0) throw new Error(`nft for ${instance.id}: ${tool.stderr}`);
  manage(cloud, instance, root);
  if (existsSync(join(disk, '../never-boots'))) return;
  const booted = await shell(
    'chroot "$1" systemd-machine-id-setup; exec chroot "$1" "$2" boot --json',
    120_000,
    root,
    ENIBOOT,
  );
  writeFileSync(join(disk, 'boot.log'), booted.stdout + booted.stderr);
}

async function leftovers(cloud: Cloud): Promise<string[]> {
  await cloud.settled();
  return [
    ...buildLeftovers(cloud.ec2.world),
    ...cloud.leakReport().map((one) => `${one.kind} ${one.id}: ${one.why}`),
  ];
}

/** $1 what is below, $2 the instance's disk. */
const mountRoot = `
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
`;

/** The image's nftables is a name and a version: the program and its libraries are this machine's. $1 the node's root. */
const standInNft = `
nft=$(command -v nft)
for file in "$nft" $(ldd "$nft" | grep -o '/[^ ]*'); do
  [ -e "$1$file" ] || { mkdir -p "$1\${file%/*}"; cp -L "$file" "$1$file"; }
done
`;

/** $3 the public key that cloud-init would take from IMDS. */
const startInstance = `${mountRoot}
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
  const folder = join(work, 'packer');
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
    poll_seconds: 1,
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
