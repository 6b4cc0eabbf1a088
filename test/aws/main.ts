// `npm run aws`: the simulated AWS on its own, to try it with any AWS client.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { realScheduler } from './ec2/scheduler.ts';
import { startCloud } from './index.ts';
import { modelledNode } from './ssm/modelled-node.ts';

const help = `The simulated AWS: EC2, SSM and CloudWatch's alarms on a local port, with simulated instances behind it.

Usage: npm run aws -- [--port 4566] [--nodes 2] [--json]

  --port N    local port to listen on (default 4566)
  --nodes N   instances to launch at the start (default 2, one in each zone)
  --json      print one JSON object instead of text, then keep running

The instances are managed nodes of cluster demo: their SSM agents answer. A model stands in for \`eniboot update\` there, and
takes about ten seconds. Releases 1.0.0, which they run, and 1.1.0 are published, so that a rollout can be tried.

The CloudWatch alarm "demo" is OK, for \`alarms: [demo]\` in a spec. This sets it to ALARM, with the keys that are printed:
  curl --aws-sigv4 aws:amz:eu-west-1:monitoring --user KEY:SECRET http://127.0.0.1:4566 \\
    -H 'X-Amz-Target: GraniteServiceVersion20100801.SetAlarmState' \\
    -d '{"AlarmName":"demo","StateValue":"ALARM","StateReason":"a try"}'

When it is interrupted, it stops and removes everything that it made.

Then, in another terminal, with the credentials it prints:
  aws --endpoint-url http://127.0.0.1:4566 --region eu-west-1 ec2 describe-instances
  aws --endpoint-url http://127.0.0.1:4566 --region eu-west-1 ssm get-parameter --name /eniboot/bundle/euw1-az1
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 dist/x64/eniboot rollout run rollout.yaml

It needs Linux with iproute2 and nftables, and either root or user namespaces for ordinary users.
`;

/** What the inner process tells the outer process, and --json prints. */
interface Ready {
  endpoint: string;
  region: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  instances: { id: string; zone: string; privateIp: string; publicIp: string | null }[];
}

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '4566' },
    nodes: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    inside: { type: 'string' },
  },
});

if (values.help) process.stdout.write(help);
else if (values.inside !== undefined) await inside(values.inside, numberOf('nodes', values.nodes));
else await outside(numberOf('port', values.port));

/** Runs in the sandbox: the region itself, served on a Unix socket because the namespace has no way out. */
async function inside(socketPath: string, nodes: number): Promise<void> {
  const cloud = await startCloud();
  const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
  for (let index = 0; index < nodes; index++) {
    const { id } = await cloud.launch({
      subnet: zones[index % zones.length]?.id ?? '',
      tags: { Name: `node-${index + 1}`, 'eniboot:cluster': 'demo' },
    });
    const node = modelledNode(
      id,
      { version: '1.0.0' },
      {
        scheduler: realScheduler,
        updateMs: () => 10_000,
        parameter: (name) => cloud.ssm.parameters.get(name)?.at(-1)?.value,
      },
    );
    cloud.ssm.nodes.set(id, node);
  }
  const release = (version: string, digit: string) => {
    const archive = { url: `https://bundles.example/${version}.tar.gz`, sha256: digit.repeat(64) };
    const text = JSON.stringify({ version, x64: archive, arm64: archive });
    cloud.ssm.put(`/eniboot/releases/${version}`, text);
    return text;
  };
  const running = release('1.0.0', 'a');
  release('1.1.0', 'b');
  for (const zoneId of new Set([...cloud.subnets.values()].map((subnet) => subnet.zoneId)))
    cloud.ssm.put(`/eniboot/bundle/${zoneId}`, running);
  cloud.cloudwatch.set('demo', 'OK');
  await cloud.listenOn(socketPath);
  const ready: Ready = {
    endpoint: '',
    region: cloud.region,
    credentials: cloud.operator,
    instances: [...cloud.instances.values()].map((instance) => ({
      id: instance.id,
      zone: instance.zone,
      privateIp: instance.bootEni.primaryIp,
      publicIp: instance.bootEni.publicIp ?? null,
    })),
  };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
}

async function outside(port: number): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'eniboot-aws-'));
  const socketPath = join(work, 'api');
  const sandbox = join(import.meta.dirname, '..', 'sandbox.sh');
  const child = spawn(
    'sh',
    [sandbox, process.execPath, import.meta.filename, '--inside', socketPath, '--nodes', values.nodes],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  process.once('exit', () => {
    child.kill('SIGKILL');
    rmSync(work, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(0));

  const ready = await firstLine(child);
  const relay = createServer((client) => {
    const inner = connect(socketPath);
    client.pipe(inner).pipe(client);
    for (const end of [client, inner]) end.on('error', () => client.destroy());
  });
  relay.once('error', (error) =>
    fail(`Cannot listen on 127.0.0.1:${port}: ${error.message}. Choose another with --port.`),
  );
  relay.listen(port, '127.0.0.1', () => announce({ ...ready, endpoint: `http://127.0.0.1:${port}` }));
}

async function firstLine(child: ChildProcess): Promise<Ready> {
  if (child.stdout === null) throw new Error('the inner process has no output');
  const lines = createInterface({ input: child.stdout });
  return new Promise((resolve) => {
    lines.once('line', (line) => resolve(JSON.parse(line) as Ready));
    child.once('exit', (code) =>
      fail(`The simulated AWS ended with ${code}. The lines above say why; --help says what it needs.`),
    );
  });
}

function announce(ready: Ready): void {
  if (values.json) {
    process.stdout.write(`${JSON.stringify(ready)}\n`);
    return;
  }
  process.stdout.write(`The simulated AWS listens on ${ready.endpoint} (Ctrl-C ends it).

  export AWS_ACCESS_KEY_ID=${ready.credentials.accessKeyId}
  export AWS_SECRET_ACCESS_KEY=${ready.credentials.secretAccessKey}
  export AWS_DEFAULT_REGION=${ready.region}
  aws --endpoint-url ${ready.endpoint} ec2 describe-instances

`);
  for (const one of ready.instances)
    process.stdout.write(`${one.id}  ${one.zone}  ${one.privateIp.padEnd(15)}  ${one.publicIp ?? '-'}\n`);
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535)
    fail(`--${name} must be a whole number, not "${text}".`);
  return value;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}
