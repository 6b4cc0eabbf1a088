// ready: the conflist is put into place last, because the runtime reports the network as ready the moment it reads it.
import { rmSync } from 'node:fs';
import { must } from '../../host/command.ts';
import { RUN_DIR } from '../../host/names.ts';
import { NODE_FILE, type NodeFile, readNodeFile } from '../../host/node-file.ts';
import { hasSystemd, isStartedBySystemd } from '../../host/notify.ts';
import { installedRuntime } from '../../host/sandboxes.ts';
import { type Failure, isFailure } from '../../messages/failure.ts';
import { POLICY_FILE, settingsText } from '../../policy/settings.ts';
import { listIfPresent, readIfPresent } from '../../port/fs.ts';
import { hostName } from '../../port/runtime.ts';
import { type Change, planFiles, type WantedFile } from '../change.ts';
import type { Context } from '../context.ts';
import { BOOTED_CONFIG } from '../facts/booted.ts';
import { bootedConfigText } from '../facts/config.ts';
import type { NodeFacts, PodEni, Vpc } from '../facts/facts.ts';
import { type Check, fail, type Phase, pass, warn } from '../phase.ts';
import { bandwidthCapabilities } from './bandwidth.ts';
import { nodeFile } from './node-file.ts';
import { isKubeletReleased, isWarming, RELEASE, releasesNow } from './release.ts';

const NAME = '10-eniboot.conflist';
const WRITTEN = `${RUN_DIR}/cni/${NAME}`;
const CNI_FOLDER = '/etc/cni/net.d';
/** Where cri-o and libcni look. tmpfiles.d removes the file at every boot before the runtime starts. */
const COPY = `${CNI_FOLDER}/${NAME}`;
/**
 * Written before kubelet is released by a run that does not end with a start of kubelet. Removed once systemd has accepted the
 * start.
 */
const START_DUE = `${RUN_DIR}/kubelet-start-due`;

interface Observed {
  files: WantedFile[];
  /** `text`: what node.json should hold. `node`: what the plugin reads from it now, or why it cannot read it. */
  told: { text: string; node: NodeFile | Failure };
  /** policy.json exists: this run or an earlier run in this boot has written it. */
  policyFile: boolean;
  runtime: 'crio' | 'containerd';
  /** Names in CNI_FOLDER. */
  configurations: string[];
}

export function ready(context: Context, node: NodeFacts, vpc: Vpc, pods: readonly PodEni[]): Phase<Observed> {
  return {
    name: 'ready',

    async observe() {
      const told = nodeFile(node, vpc.cidrs, pods);
      return {
        files: wantedFiles(context, node, told).map((file) => ({ ...file, found: readIfPresent(file.path) })),
        told: { text: told, node: toldNode() },
        policyFile: readIfPresent(POLICY_FILE) !== undefined,
        runtime: installedRuntime(),
        configurations: listIfPresent(CNI_FOLDER),
      };
    },

    plan: ({ files, policyFile }) => [
      ...planFiles(files),
      ...(policyFile && node.config.policy === undefined ? [policiesOff] : []),
    ],

    judge: ({ files, told, runtime, configurations }) => [
      files.some(({ path, text, found }) => path === COPY && found === text)
        ? pass('conflist', `${COPY} is in place`)
        : fail('conflist', 'CONFLIST_DIFFERS', `${COPY} is not as written`, { path: COPY }),
      checkNodeFile(told),
      ...checkOrder(runtime, configurations),
    ],
  };
}

function wantedFiles(context: Context, node: NodeFacts, told: string): Omit<WantedFile, 'found'>[] {
  const text = conflist(node);
  return [
    { path: NODE_FILE, text: told, purpose: 'for the CNI plugin' },
    { path: WRITTEN, text },
    { path: COPY, text, purpose: 'the runtime reports the network ready' },
    ...policyFiles(node),
    ...(isWarming(node) || isTokenDue(context, node) ? [] : releaseFiles(context)),
    // Last: from here on this boot counts as READY.
    {
      path: BOOTED_CONFIG,
      text: bootedConfigText(node.config),
      mode: 0o600,
      purpose: 'what repair and refill go by',
    },
  ];
}

/** The files that eniboot-policy.service has a condition on, and reads. */
function policyFiles({ config }: NodeFacts): Omit<WantedFile, 'found'>[] {
  const { policy, apiServer } = config;
  if (policy === undefined || apiServer === undefined) return [];
  const { strict, identity, nodeName = hostName() } = policy;
  const text = settingsText({ apiServer: apiServer.endpoint, nodeName, strict, identity });
  return [{ path: POLICY_FILE, text, purpose: 'network policies are in force' }];
}

/** eniboot-policy.service follows: it takes its rules out of all pods and ends. */
const policiesOff: Change = {
  do: 'remove',
  path: POLICY_FILE,
  summary: `remove ${POLICY_FILE}: no \`policy\` any more`,
};

/** The phase kubelet could not read the token that kubelet joins with. The next repair tries again. */
function isTokenDue(context: Context, { config, lifecycleTarget }: NodeFacts): boolean {
  return (
    config.join !== undefined && releasesNow(context, lifecycleTarget) && context.joinToken === undefined
  );
}

function releaseFiles({ mode }: Context): Omit<WantedFile, 'found'>[] {
  // eniboot.service starts kubelet after its own boot. After a repair, or a boot by hand, no unit starts it.
  const byHand = hasSystemd() && !isStartedBySystemd();
  const isDue = !isKubeletReleased() && (mode.kind === 'repair' || byHand);
  return [
    ...(isDue ? [{ path: START_DUE, text: '', purpose: 'kubelet is to be started' }] : []),
    { path: RELEASE, text: '', purpose: 'releases kubelet' },
  ];
}

/** cri-o asks for eniboot's network by its name. containerd takes the first network, which may be intended (Multus). */
function checkOrder(runtime: Observed['runtime'], configurations: string[]): Check[] {
  if (runtime !== 'containerd') return [];
  const first = takenFirst(configurations);
  if (first === undefined) return [];
  if (first === NAME) return [pass('conflist-order', `containerd takes ${NAME}`)];
  const what = 'pods get what it says, and eniboot only if it calls it';
  const summary = `containerd takes ${first}, which sorts before ${NAME}: ${what}`;
  return [warn('conflist-order', summary, { path: `${CNI_FOLDER}/${first}` })];
}

/** The file that a runtime chooses when it sorts by name. Source: libcni, ConfFiles; containerd, cni.WithDefaultConf. */
function takenFirst(names: string[]): string | undefined {
  return names.filter((name) => /\.(?:conf|conflist|json)$/.test(name)).sort()[0];
}

/**
 * Checks that the plugin can read the node file, and that the file says what the node is now. Repair and refill keep its pod
 * ENIs up to date, so these are not compared: an ENI may come during the check.
 */
function checkNodeFile({ text, node: told }: Observed['told']): Check {
  if (isFailure(told)) return fail('node-file', told.code, told.message, { path: NODE_FILE });
  const now = JSON.parse(text) as NodeFile;
  const changed = FOLLOWED.filter(([, fact]) => fact(told) !== fact(now)).map(
    ([what, fact]) => `${what}: ${fact(now)}, not ${fact(told)}`,
  );
  const behind = 'pods do not know yet what has changed on the node; repair tells them';
  return changed.length === 0
    ? pass('node-file', `${NODE_FILE} can be read`)
    : warn('node-file', `${behind}: ${changed.join('; ')}`, { path: NODE_FILE, changed });
}

function toldNode(): NodeFile | Failure {
  try {
    return readNodeFile();
  } catch (error) {
    if (isFailure(error)) return error;
    throw error;
  }
}

/** The facts that living pods follow; docs/runbook.md has the table. */
const FOLLOWED: [what: string, fact: (node: NodeFile) => string][] = [
  ['addresses', (node) => [...node.nodeAddresses, ...(node.ipv6?.nodeAddresses ?? [])].join(' ')],
  ['routes of pods', (node) => node.podRoutes.join(' ')],
  ['MTU', (node) => `${node.mtu}`],
];

/**
 * Starts kubelet if a repair or a boot by hand has released it and systemd has not accepted a start yet. It does so once: an
 * operator who stops kubelet later has the last word.
 *
 * @throws KUBELET_DOWN when systemd does not accept the start; the next repair tries again.
 */
export async function startIfDue(): Promise<void> {
  if (readIfPresent(START_DUE) === undefined || !isKubeletReleased()) return;
  await must('KUBELET_DOWN', 'systemctl', ['start', '--no-block', 'kubelet.service']);
  rmSync(START_DUE, { force: true });
}

/** One plugin does the whole chain. A runtime that knows version 1.1.0 can choose it from cniVersions. */
function conflist(node: NodeFacts): string {
  const capabilities = bandwidthCapabilities(node);
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
    name: 'eniboot',
    plugins: [{ type: 'eniboot', ...(capabilities === undefined ? {} : { capabilities }) }],
  };
  return `${JSON.stringify(list, null, 2)}\n`;
}
