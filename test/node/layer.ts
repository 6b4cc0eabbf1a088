// What a node of these tests has beside eniboot: kubelet, a runtime, their units and configuration, and an image.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LayerEntry } from '../vm/layer.ts';
import { STAND_INS } from '../vm/prepare.ts';
import { ensureBuilt, modules, programsOf, versionOf } from './fetch.ts';
import { makeImage } from './image.ts';

export type Runtime = 'crio' | 'containerd';

/**
 * Builds what is missing.
 *
 * @param name a runtime, or `cluster` for kube-proxy beside cri-o, or `proxy` for kube-proxy with stand-ins for kubelet and runtime.
 * @param work empty folder that lives as long as the run.
 */
export function nodeLayer(name: string | undefined, work: string, say: (line: string) => void): LayerEntry[] {
  const guest = (folder: string) => ({ from: join(import.meta.dirname, 'guest', folder), to: '/' });
  const talkers = { from: join(import.meta.dirname, '../pods/node'), to: '/' };
  if (name === 'proxy') return [STAND_INS, talkers, guest('cluster'), kubeProxy(say)];
  const { kubelet, crictl, pod } = modules;
  const runtime: Runtime = name === 'containerd' ? 'containerd' : 'crio';
  const programs = [kubelet, modules[runtime], crictl].flatMap((module) => {
    const folder = ensureBuilt(module, say);
    return programsOf(module).map((program) => ({ from: join(folder, program), to: `/usr/bin/${program}` }));
  });
  // The image build records it.
  const kubeletVersion = join(work, 'kubelet-version');
  writeFileSync(kubeletVersion, `Kubernetes ${versionOf(kubelet)}\n`);
  return [
    talkers,
    guest('common'),
    guest(runtime),
    ...(name === 'cluster' ? [guest('cluster'), kubeProxy(say)] : []),
    ...programs,
    { from: kubeletVersion, to: '/usr/libexec/eniboot/kubelet-version' },
    { from: makeImage(work, join(ensureBuilt(pod, say), 'pod')), to: '/usr/share/e2e/e2e.tar' },
  ];
}

/** Builds the control plane too: it runs beside the nodes, where there is no network to build it from. */
function kubeProxy(say: (line: string) => void): LayerEntry {
  ensureBuilt(modules.etcd, say);
  ensureBuilt(modules.pod, say);
  return { from: join(ensureBuilt(modules.cluster, say), 'kube-proxy'), to: '/usr/bin/kube-proxy' };
}
