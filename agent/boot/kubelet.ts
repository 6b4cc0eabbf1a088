// kubelet: what kubelet and the runtime must know about this node, written where each of them looks.
import { mem } from 'systeminformation';
import { KUBELET_VERSION } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { endingOf, notRun } from '../port/exec-result.ts';
import { isThere, readIfPresent, writeIfChanged } from '../port/fs.ts';
import { processors } from '../port/runtime.ts';
import { capacityOf } from './attach.ts';
import { kubeletFiles } from './kubelet-files.ts';
import { type Boot, type Change, fail, isDualStack, nodeOf, type Phase, pass } from './phase.ts';

interface Target {
  path: string;
  text: string;
  mode: number;
}

type Planned = Change & { target: Target };

export const kubelet: Phase<Target[], Planned> = {
  name: 'kubelet',
  budgetSeconds: 30,

  observe: (boot) => wantedFiles(boot),

  plan: (wanted) =>
    wanted
      .filter((target) => readIfPresent(target.path) !== target.text)
      .map((target) => ({ target, summary: `write ${target.path}` })),

  async apply(changes) {
    for (const { target } of changes) writeIfChanged(target.path, target.text, target.mode);
  },

  async verify(boot) {
    const wanted = await wantedFiles(boot);
    const wrong = wanted
      .filter((target) => readIfPresent(target.path) !== target.text)
      .map((target) => target.path);
    const capacity = capacityOf(boot);
    return [
      wrong.length === 0
        ? pass('kubelet-files', `${wanted.length} files for kubelet and cri-o are in place`, {
            files: wanted.map((one) => one.path),
          })
        : fail('kubelet-files', 'KUBELET_FILES_DIFFER', `not as written: ${wrong.join(', ')}`, { wrong }),
      pass('max-pods', `max-pods ${capacity.maxPods}: ${capacity.explain}`, { ...capacity }),
    ];
  },
};

async function wantedFiles(boot: Boot): Promise<Target[]> {
  const { identity, bootEni } = nodeOf(boot);
  const { kubernetes } = boot.config;
  const [kubeletVersion, memory] = await Promise.all([findKubeletVersion(), mem()]);
  const files = kubeletFiles({
    kubeletVersion,
    instanceId: identity.instanceId,
    instanceType: identity.instanceType,
    region: identity.region,
    zone: identity.zone,
    zoneId: identity.zoneId,
    nodeIps: [bootEni.addresses[0] ?? '', ...bootEni.ipv6Addresses.slice(0, 1)],
    dualStack: isDualStack(boot),
    maxPods: capacityOf(boot).maxPods,
    memoryBytes: memory.total,
    vcpus: processors(),
    runtime: installedRuntime(),
    resolvConf: readIfPresent('/etc/resolv.conf') ?? '',
    clusterDns: kubernetes.clusterDns,
    clusterDomain: kubernetes.clusterDomain,
    labels: kubernetes.labels,
  });
  return files.flatMap((file) => [
    { path: file.path, text: file.text, mode: file.mode },
    ...(file.copy === undefined ? [] : [{ path: file.copy, text: file.text, mode: file.mode }]),
  ]);
}

/** cri-o where both are. */
export function installedRuntime(): 'crio' | 'containerd' {
  const isHere = (name: string) =>
    ['/usr/bin', '/usr/local/bin'].some((folder) => isThere(`${folder}/${name}`));
  return !isHere('crio') && isHere('containerd') ? 'containerd' : 'crio';
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
    // What it has read of the volume stays in memory, so the next attempt gets further.
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
