// kubelet and cri-o on a machine whose boot fails in several ways, one after another. kubelet stays off, also when an
// operator starts it by hand, and the runtime has no network for pods. Then all faults are removed, and the same
// machine becomes a node.
import assert from 'node:assert/strict';
import type { FailureCode } from '../../agent/messages/failure.ts';
import type { ImdsFault } from '../aws/faults.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import type { Bench } from '../vm/bench.ts';
import type { Facts } from './cases.ts';
import { announcedKubeNode, type KubeNode } from './kube.ts';

/**
 * One way to fail: one of those classes of the boot's fault matrix (test/boot/faults) that can be undone on a running
 * machine.
 */
interface Hindrance {
  what: string;
  code: FailureCode;
  /** Sections of the node's configuration. */
  config?: Record<string, unknown>;
  /** Faults of the cloud; all are cleared afterwards. */
  cloud?: (cloud: Cloud) => void;
  /** For the boot this fault may pass: the boot tries until its deadline, which is shortened for the test. */
  mayPass?: true;
  /** A shell script for the machine, and the script that undoes it. */
  machine?: [make: string, undo: string];
}

function ec2(action: string, error: string): (cloud: Cloud) => void {
  return ({ faults }) => {
    faults.ec2.add({ action, error });
  };
}

function imds(fault: ImdsFault): (cloud: Cloud) => void {
  return ({ faults }) => {
    faults.imds.add(fault);
  };
}

function absent(...paths: string[]): [string, string] {
  const each = (line: (path: string) => string) => paths.map(line).join('\n');
  return [each((path) => `mv ${path} ${path}.away`), each((path) => `mv ${path}.away ${path}`)];
}

const nonsense = { boot: { deadlineSeconds: 'soon' } };

const hindrances: Hindrance[] = [
  {
    what: 'a value the configuration does not know',
    code: 'CONFIG_INVALID',
    config: nonsense,
  },
  {
    what: 'IMDS is silent',
    code: 'IMDS_UNREACHABLE',
    cloud: imds({ unanswered: true }),
    mayPass: true,
  },
  {
    what: 'IMDS is off',
    code: 'IMDS_FORBIDDEN',
    cloud: imds({ status: 403 }),
    mayPass: true,
  },
  {
    what: 'the role may not create ENIs',
    code: 'EC2_DENIED',
    cloud: ec2('CreateNetworkInterface', 'UnauthorizedOperation'),
  },
  { what: 'EC2 is down', code: 'EC2_UNAVAILABLE', cloud: ec2('*', 'Unavailable'), mayPass: true },
  {
    what: 'EC2 allows no further ENI',
    code: 'ENI_LIMIT',
    cloud: ec2('AttachNetworkInterface', 'AttachmentLimitExceeded'),
  },
  { what: 'nft is gone', code: 'TOOL_MISSING', machine: absent('/usr/sbin/nft') },
  {
    what: 'the manifest is of another executable',
    code: 'BAD_DIGEST',
    machine: [
      `cp /usr/libexec/eniboot/current/manifest.json /run/manifest.json
sed -i 's/"sha256": *"[0-9a-f]\\{8\\}/"sha256": "00000000/' /usr/libexec/eniboot/current/manifest.json`,
      'cat /run/manifest.json >/usr/libexec/eniboot/current/manifest.json',
    ],
  },
  {
    what: 'the plugins’ folder is read-only',
    code: 'FILE_WRITE',
    machine: [
      'rm -f /opt/cni/bin/eniboot; mount --bind /opt/cni/bin /opt/cni/bin; mount -o remount,bind,ro /opt/cni/bin',
      'umount /opt/cni/bin',
    ],
  },
  {
    what: 'kubelet is gone, and what the image build noted of it',
    code: 'KUBELET_MISSING',
    machine: absent('/usr/libexec/eniboot/kubelet-version', '/usr/bin/kubelet'),
  },
  {
    what: 'the API server cannot be reached, and must be',
    code: 'API_SERVER_UNREACHABLE',
    config: { apiServer: { endpoint: 'https://10.0.0.200:6443', required: true } },
  },
];

/**
 * The deadline is in a file, since user data cannot always be read. On a busy machine an emulated boot without any
 * fault needs most of this time.
 */
const SHORT = '/etc/eniboot/config.d/50-e2e.yaml';
const SHORT_SECONDS = 40;

export async function holdKubelet(bench: Bench): Promise<Facts> {
  const cloud = await startCloud();
  const nowhere = { config: { pods: { subnets: { tags: { eniboot: 'nowhere' } } } } };
  const { node, line } = await announcedKubeNode(bench, 'crio', cloud, 'one', nowhere);
  try {
    assert.match(line, /FAILED NO_POD_SUBNET/);
    const facts: Facts = { 'no subnet has the tag': await held(node) };
    await node.sh('mkdir -p /etc/eniboot/config.d');
    for (const hindrance of hindrances) facts[hindrance.what] = await failed(node, cloud, hindrance);
    facts['started by hand'] = await startedByHand(node);

    node.base.node.configure({});
    assert.equal(await boot(node), 'READY');
    await node.networkIs(true);
    await node.startsAgain('kubelet', 0);
    const starts = await node.sh(
      "journalctl -b --no-pager -o cat -u kubelet | grep -c 'Started kubelet.service'",
    );
    assert.equal(starts.trim(), '1', 'kubelet has started once in all this time');
    const enis = node.base.node.instance.enis.length;
    assert.equal(enis, 2, 'the boots that failed have left no ENI');
    return { ...facts, 'nothing is wrong any more': 'READY, kubelet runs' };
  } finally {
    await node.base.node.end();
    await cloud.stop();
  }
}

async function failed(node: KubeNode, cloud: Cloud, hindrance: Hindrance): Promise<string> {
  node.base.node.configure(hindrance.config ?? {});
  hindrance.cloud?.(cloud);
  const [make, undo] = hindrance.machine ?? [':', ':'];
  const short =
    hindrance.mayPass === true ? `echo 'boot: {deadlineSeconds: ${SHORT_SECONDS}}' >${SHORT}` : '';
  await node.sh(`${make}\n${short}`);
  assert.equal(await boot(node), hindrance.code, hindrance.what);
  const said = await held(node);
  await node.sh(`${undo}\nrm -f ${SHORT}`);
  cloud.faults.clear();
  await cloud.settled();
  return `${hindrance.code}; ${said}`;
}

/** The result of the boot: a failure code, or READY. */
async function boot(node: KubeNode): Promise<string> {
  const text = await node.sh(
    'systemctl reset-failed eniboot.service; systemctl start eniboot.service || :; eniboot status --json || :',
    300_000,
  );
  const { verdict, failure } = JSON.parse(text) as { verdict: string; failure?: { code: string } };
  return verdict === 'ready' ? 'READY' : (failure?.code ?? verdict);
}

/** Checks that kubelet has not run, and that the runtime says that pods have no network. */
async function held(node: KubeNode): Promise<string> {
  assert.equal((await node.startOf('kubelet')).process, 0, 'kubelet has not started');
  assert.equal(await node.sh('ls /etc/cni/net.d'), '', 'the runtime has no network');
  const said = await node.networkIs(false);
  return `kubelet off, runtime: ${said}`;
}

/**
 * When an operator starts kubelet, systemd first starts the boot, which kubelet requires; kubelet starts only if the
 * boot ends READY.
 */
async function startedByHand(node: KubeNode): Promise<string> {
  node.base.node.configure(nonsense);
  const { exitCode, stderr } = await node.base.node.machine.run('systemctl start kubelet.service', 300_000);
  assert.notEqual(exitCode, 0, 'systemctl start kubelet fails');
  await held(node);
  return stderr.trim().split('\n')[0] ?? '';
}
