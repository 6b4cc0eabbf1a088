// What a node of these tests has beside eniboot: kubelet, a runtime, their units and configuration, and an image.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LayerEntry } from '../vm/layer.ts';
import { ensureBuilt, modules, programsOf, versionOf } from './fetch.ts';
import { makeImage } from './image.ts';

export type Runtime = 'crio' | 'containerd';

/**
 * Builds what is missing.
 *
 * @param name a runtime, or `cluster` for kube-proxy beside cri-o.
 * @param work empty folder that lives as long as the run.
 */
export function nodeLayer(name: string | undefined, work: string, say: (line: string) => void): LayerEntry[] {
  const { kubelet, crictl, pod } = modules;
  const runtime: Runtime = name === 'containerd' ? 'containerd' : 'crio';
  const programs = [kubelet, modules[runtime], crictl].flatMap((module) => {
    const folder = ensureBuilt(module, say);
    return programsOf(module).map((program) => ({ from: join(folder, program), to: `/usr/bin/${program}` }));
  });
  if (name === 'cluster') {
    // The control plane runs beside the nodes; it is built here, where there is a network.
    ensureBuilt(modules.etcd, say);
    const proxy = join(ensureBuilt(modules.cluster, say), 'kube-proxy');
    programs.push({ from: proxy, to: '/usr/bin/kube-proxy' });
  }
  // The image build records it.
  const kubeletVersion = join(work, 'kubelet-version');
  writeFileSync(kubeletVersion, `Kubernetes ${versionOf(kubelet)}\n`);
  const guest = (folder: string) => ({ from: join(import.meta.dirname, 'guest', folder), to: '/' });
  return [
    { from: join(import.meta.dirname, '../pods/node'), to: '/' },
    guest('common'),
    guest(runtime),
    ...(name === 'cluster' ? [guest('cluster')] : []),
    ...programs,
    { from: kubeletVersion, to: '/usr/libexec/eniboot/kubelet-version' },
    { from: makeImage(work, join(ensureBuilt(pod, say), 'pod')), to: '/usr/share/e2e/e2e.tar' },
  ];
}
