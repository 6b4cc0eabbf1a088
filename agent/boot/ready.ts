// ready: the conflist goes into place last, because the runtime reports the network ready the moment it
// reads it.
import { RUN_DIR } from '../host/names.ts';
import { NODE_FILE } from '../host/node-file.ts';
import { readIfPresent, writeIfChanged } from '../port/fs.ts';
import { nodeFile } from './node-facts.ts';
import { type Boot, type Change, fail, nodeOf, type Phase, pass } from './phase.ts';

const WRITTEN = `${RUN_DIR}/cni/10-eniboot.conflist`;
/** Where cri-o and libcni look; removed by tmpfiles.d at every boot before the runtime starts. */
const COPY = '/etc/cni/net.d/10-eniboot.conflist';
/** kubelet.service has a condition on this file: absent while the instance waits in a warm pool. */
const RELEASE = `${RUN_DIR}/kubelet-released`;

type Planned = Change & { path: string; text: string };

export const ready: Phase<Planned[], Planned> = {
  name: 'ready',
  budgetSeconds: 10,

  observe: async (boot) => {
    const text = conflist();
    return [
      { path: NODE_FILE, text: nodeFile(boot), summary: `write ${NODE_FILE} for the CNI plugin` },
      { path: WRITTEN, text, summary: `write ${WRITTEN}` },
      { path: COPY, text, summary: `write ${COPY}: the runtime reports the network ready` },
      ...(isWarming(boot) ? [] : [{ path: RELEASE, text: '', summary: 'release kubelet' }]),
    ];
  },

  plan: (wanted) => wanted.filter((one) => readIfPresent(one.path) !== one.text),

  async apply(changes) {
    for (const change of changes) writeIfChanged(change.path, change.text);
  },

  async verify() {
    return [
      readIfPresent(COPY) === conflist()
        ? pass('conflist', `${COPY} is in place`)
        : fail('conflist', 'CONFLIST_DIFFERS', `${COPY} is not as written`, { path: COPY }),
    ];
  },
};

/** Whether a change of this phase lets kubelet start. */
export function isRelease(change: Change): boolean {
  return 'path' in change && change.path === RELEASE;
}

/** In a warm pool the instance is prepared and stopped again: kubelet must not join the cluster meanwhile. */
function isWarming(boot: Boot): boolean {
  return nodeOf(boot).lifecycleTarget?.startsWith('Warmed:') === true;
}

/** One plugin does the whole chain. cniVersions lets a runtime that knows 1.1.0 choose it. */
function conflist(): string {
  const list = {
    cniVersion: '1.0.0',
    cniVersions: ['0.4.0', '1.0.0', '1.1.0'],
    name: 'eniboot',
    plugins: [{ type: 'eniboot' }],
  };
  return `${JSON.stringify(list, null, 2)}\n`;
}
