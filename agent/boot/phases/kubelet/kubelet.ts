// kubelet: what kubelet and the runtime must know about this node, written where each of them looks.
import { mem } from 'systeminformation';
import { KUBELET_VERSION } from '../../../host/names.ts';
import { installedRuntime } from '../../../host/sandboxes.ts';
import { Failure } from '../../../messages/failure.ts';
import { run } from '../../../port/exec.ts';
import { endingOf, notRun } from '../../../port/exec-result.ts';
import { readIfPresent } from '../../../port/fs.ts';
import { processors } from '../../../port/runtime.ts';
import { type Change, planFiles, type WantedFile } from '../../change.ts';
import type { Context } from '../../context.ts';
import type { Capacity } from '../../facts/capacity.ts';
import { isDualStack, type NodeFacts } from '../../facts/facts.ts';
import { type Check, fail, type Phase, pass, warn } from '../../phase.ts';
import { BOOTSTRAP_KUBECONFIG, type JoinFiles, observeJoin } from '../join.ts';
import { kubeletFiles } from './files.ts';

interface Observed {
  files: WantedFile[];
  join: JoinFiles;
}

export function kubelet(context: Context, node: NodeFacts, capacity: Capacity): Phase<Observed> {
  return {
    name: 'kubelet',

    async observe() {
      const [files, join] = await Promise.all([
        observeFiles(node, capacity),
        observeJoin(context, node.config, node.identity, node.lifecycleTarget),
      ]);
      return { files, join };
    },

    plan: ({ files, join: { wanted, dropped } }) => [
      ...planFiles([...files, ...wanted]),
      ...dropped.map(
        (path): Change => ({ do: 'remove', path, summary: `remove ${path}: no \`join\` any more` }),
      ),
    ],

    judge: ({ files, join }) => [
      checkFiles('kubelet-files', `${files.length} files for kubelet and cri-o`, files),
      ...checkJoin(node, join),
      pass('max-pods', `max-pods ${capacity.maxPods}: ${capacity.explain}`, { ...capacity }),
    ],

    degradations: ({ join: { withoutToken } }) =>
      withoutToken === undefined ? [] : [`${WITHOUT_TOKEN}: ${withoutToken.code}: ${withoutToken.message}`],
  };
}

const WITHOUT_TOKEN = 'kubelet has its certificate, and no token for the day when that ends';

/** Checks the files only. Whether kubelet can join with them is decided by the API server. */
function checkJoin({ config: { join } }: NodeFacts, { wanted, withoutToken }: JoinFiles): Check[] {
  if (join === undefined) return [];
  if (withoutToken !== undefined)
    return [
      warn('kubelet-join', `${WITHOUT_TOKEN}: ${withoutToken.message}`, {
        ...{ code: withoutToken.code, remedy: withoutToken.remedy },
      }),
    ];
  return [
    checkFiles(
      'kubelet-join',
      `the bootstrap kubeconfig, with the token from ${join.token} and a CA named by its digest,`,
      wanted,
    ),
  ];
}

function checkFiles(id: string, what: string, files: WantedFile[]): Check {
  const wrong = files.filter(({ text, found }) => found !== text).map(({ path }) => path);
  return wrong.length === 0
    ? pass(id, `${what} ${files.length === 1 ? 'is' : 'are'} in place`, {
        files: files.map(({ path }) => path),
      })
    : fail(id, 'KUBELET_FILES_DIFFER', `not as written: ${wrong.join(', ')}`, { wrong });
}

async function observeFiles(node: NodeFacts, { maxPods }: Capacity): Promise<WantedFile[]> {
  const { identity, bootEni } = node;
  const { kubernetes } = node.config;
  const [kubeletVersion, memory] = await Promise.all([findKubeletVersion(), mem()]);
  const files = kubeletFiles({
    kubeletVersion,
    instanceId: identity.instanceId,
    instanceType: identity.instanceType,
    region: identity.region,
    zone: identity.zone,
    zoneId: identity.zoneId,
    nodeIps: [bootEni.addresses[0] ?? '', ...bootEni.ipv6Addresses.slice(0, 1)],
    dualStack: isDualStack(node),
    maxPods,
    memoryBytes: memory.total,
    vcpus: processors(),
    runtime: installedRuntime(),
    resolvConf: readIfPresent('/etc/resolv.conf') ?? '',
    clusterDns: kubernetes.clusterDns,
    clusterDomain: kubernetes.clusterDomain,
    labels: kubernetes.labels,
    bootstrapKubeconfig: node.config.join === undefined ? undefined : BOOTSTRAP_KUBECONFIG,
  });
  return files.flatMap(({ path, copy, text, mode }) =>
    [path, ...(copy === undefined ? [] : [copy])].map((place) => ({
      ...{ path: place, text, mode },
      found: readIfPresent(place),
    })),
  );
}

async function findKubeletVersion(): Promise<string> {
  const baked = readIfPresent(KUBELET_VERSION)?.trim();
  if (baked !== undefined && baked !== '') return baked;
  const result = await run('kubelet', ['--version']);
  if (result.exitCode === 0) return result.stdout.trim();
  const facts = { file: KUBELET_VERSION, exitCode: result.exitCode };
  if (!result.missing) {
    const exhausted = notRun(result);
    if (exhausted !== undefined) throw exhausted;
    // What kubelet has read of the volume stays in memory, so the next attempt gets further.
    if (result.exitCode === null)
      throw new Failure(
        'KUBELET_SILENT',
        `${KUBELET_VERSION} is absent, and \`kubelet --version\` ${endingOf(result)}`,
        facts,
      );
  }
  throw new Failure(
    'KUBELET_MISSING',
    `no kubelet: ${KUBELET_VERSION} is absent and \`kubelet --version\` does not run`,
    facts,
  );
}
