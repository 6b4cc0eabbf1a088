// ready: the conflist goes into place last, because the runtime reports the network ready the moment it
// reads it.
import { rmSync } from 'node:fs';
import { must } from '../host/command.ts';
import { RUN_DIR } from '../host/names.ts';
import { NODE_FILE, type NodeFile, readNodeFile } from '../host/node-file.ts';
import { hasSystemd, isStartedBySystemd } from '../host/notify.ts';
import { isFailure } from '../messages/failure.ts';
import { listIfPresent, readIfPresent, writeIfChanged } from '../port/fs.ts';
import { bandwidthCapabilities } from './bandwidth.ts';
import { BOOTED_CONFIG } from './booted.ts';
import { installedRuntime } from './kubelet.ts';
import { bootedConfigText } from './node-config.ts';
import { nodeFile } from './node-facts.ts';
import { type Boot, type Change, type Check, fail, nodeOf, type Phase, pass, warn } from './phase.ts';

const NAME = '10-eniboot.conflist';
const WRITTEN = `${RUN_DIR}/cni/${NAME}`;
const CNI_FOLDER = '/etc/cni/net.d';
/** Where cri-o and libcni look; removed by tmpfiles.d at every boot before the runtime starts. */
const COPY = `${CNI_FOLDER}/${NAME}`;
/** kubelet.service has a condition on this file: absent while the instance waits in a warm pool. */
const RELEASE = `${RUN_DIR}/kubelet-released`;
/** Made before a release that no boot follows with a start of kubelet, and gone once systemd has taken that start. */
const START_DUE = `${RUN_DIR}/kubelet-start-due`;

type Planned = Change & { path: string; text: string; mode?: number };

export const ready: Phase<Planned[], Planned> = {
  name: 'ready',
  budgetSeconds: 10,

  observe: async (boot) => {
    const text = conflist(boot);
    return [
      { path: NODE_FILE, text: nodeFile(boot), summary: `write ${NODE_FILE} for the CNI plugin` },
      { path: WRITTEN, text, summary: `write ${WRITTEN}` },
      { path: COPY, text, summary: `write ${COPY}: the runtime reports the network ready` },
      ...(isWarming(boot) ? [] : [{ path: RELEASE, text: '', summary: 'release kubelet' }]),
      // Last: from here on this boot counts as READY.
      {
        path: BOOTED_CONFIG,
        text: bootedConfigText(boot.config),
        mode: 0o600,
        summary: `write ${BOOTED_CONFIG}: what repair and refill go by`,
      },
    ];
  },

  plan: (wanted) => wanted.filter((one) => readIfPresent(one.path) !== one.text),

  async apply(changes, _observed, boot) {
    for (const change of changes) {
      // eniboot.service starts kubelet after its own boot; after a repair, or a boot by hand, nobody does.
      const byHand = hasSystemd() && !isStartedBySystemd();
      if (change.path === RELEASE && (boot.localOnly || byHand)) writeIfChanged(START_DUE, '');
      writeIfChanged(change.path, change.text, change.mode);
    }
  },

  async verify(boot) {
    return [
      readIfPresent(COPY) === conflist(boot)
        ? pass('conflist', `${COPY} is in place`)
        : fail('conflist', 'CONFLIST_DIFFERS', `${COPY} is not as written`, { path: COPY }),
      checkNodeFile(boot),
      ...checkOrder(),
    ];
  },
};

/** cri-o asks for our network by its name; containerd takes the first there is, which may be meant (Multus). */
function checkOrder(): Check[] {
  if (installedRuntime() !== 'containerd') return [];
  const first = takenFirst(listIfPresent(CNI_FOLDER));
  if (first === undefined) return [];
  return [
    first === NAME
      ? pass('conflist-order', `containerd takes ${NAME}`)
      : warn(
          'conflist-order',
          `containerd takes ${first}, which sorts before ${NAME}: pods get what it says, and eniboot only if it calls it`,
          { path: `${CNI_FOLDER}/${first}` },
        ),
  ];
}

/** The file that a runtime takes which goes by names. Source: libcni, ConfFiles; containerd, cni.WithDefaultConf. */
function takenFirst(names: string[]): string | undefined {
  return names.filter((name) => /\.(?:conf|conflist|json)$/.test(name)).sort()[0];
}

/**
 * That the plugin can read it, and that it says of the node what there is now. What it says of pod ENIs is repair's and
 * refill's to keep: one may come while somebody looks.
 */
function checkNodeFile(boot: Boot): Check {
  try {
    const told = readNodeFile();
    const now = JSON.parse(nodeFile(boot)) as NodeFile;
    const changed = FOLLOWED.filter(([, fact]) => fact(told) !== fact(now)).map(
      ([what, fact]) => `${what}: ${fact(now)}, not ${fact(told)}`,
    );
    return changed.length === 0
      ? pass('node-file', `${NODE_FILE} can be read`)
      : warn(
          'node-file',
          `pods do not know yet what has changed on the node; repair tells them: ${changed.join('; ')}`,
          {
            path: NODE_FILE,
            changed,
          },
        );
  } catch (error) {
    if (!isFailure(error)) throw error;
    return fail('node-file', error.code, error.message, { path: NODE_FILE });
  }
}

/** What living pods follow: docs/limits.md has the table. */
const FOLLOWED: [what: string, fact: (node: NodeFile) => string][] = [
  ['addresses', (node) => [...node.nodeAddresses, ...(node.ipv6?.nodeAddresses ?? [])].join(' ')],
  ['routes of pods', (node) => node.podRoutes.join(' ')],
  ['MTU', (node) => `${node.mtu}`],
];

/** Whether this boot lets kubelet run; not while the instance waits in a warm pool. */
export function isKubeletReleased(): boolean {
  return readIfPresent(RELEASE) !== undefined;
}

/**
 * Starts kubelet if a repair or a boot by hand has released it and no start has been taken yet: once, so that whoever stops it later
 * has the last word.
 *
 * @throws KUBELET_DOWN when systemd does not take it: the next repair tries again.
 */
export async function startIfDue(): Promise<void> {
  if (readIfPresent(START_DUE) === undefined || !isKubeletReleased()) return;
  await must('KUBELET_DOWN', 'systemctl', ['start', '--no-block', 'kubelet.service']);
  rmSync(START_DUE, { force: true });
}

/** In a warm pool the instance is prepared and stopped again: kubelet must not join the cluster meanwhile. */
function isWarming(boot: Boot): boolean {
  return nodeOf(boot).lifecycleTarget?.startsWith('Warmed:') === true;
}

/** One plugin does the whole chain. cniVersions lets a runtime that knows 1.1.0 choose it. */
function conflist(boot: Boot): string {
  const capabilities = bandwidthCapabilities(boot);
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
    name: 'eniboot',
    plugins: [{ type: 'eniboot', ...(capabilities === undefined ? {} : { capabilities }) }],
  };
  return `${JSON.stringify(list, null, 2)}\n`;
}
