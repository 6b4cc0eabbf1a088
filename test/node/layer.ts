// The files that a node of these tests has beside eniboot: kubelet, a runtime, their units and configuration, and an
// image.
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
 * @param name a runtime; `cluster` for kube-proxy beside cri-o; `join` for kubeadm beside cri-o; `proxy` for kube-proxy
 *   with stand-ins for kubelet and runtime.
 * @param work empty folder that exists as long as the run.
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
  // The image build writes this file.
  const kubeletVersion = join(work, 'kubelet-version');
  writeFileSync(kubeletVersion, `Kubernetes ${versionOf(kubelet)}\n`);
  return [
    talkers,
    guest('common'),
    guest(runtime),
    ...(name === 'cluster' ? [guest('cluster'), kubeProxy(say)] : []),
    ...programs,
    ...(name === 'join' ? joinLayer(say) : []),
    { from: kubeletVersion, to: '/usr/libexec/eniboot/kubelet-version' },
    { from: makeImage(work, join(ensureBuilt(pod, say), 'pod')), to: '/usr/share/e2e/e2e.tar' },
  ];
}

/** kubeadm with its package's drop-in, and the files of docs/join.md. Builds the control plane too. */
function joinLayer(say: (line: string) => void): LayerEntry[] {
  const examples = join(import.meta.dirname, '../../docs/examples/join');
  const units = '/etc/systemd/system';
  for (const module of [modules.cluster, modules.controllers, modules.etcd]) ensureBuilt(module, say);
  return [
    { from: join(import.meta.dirname, 'guest/join'), to: '/' },
    { from: join(ensureBuilt(modules.kubeadm, say), 'kubeadm'), to: '/usr/bin/kubeadm' },
    {
      from: join(import.meta.dirname, '../systemd/fixtures/10-kubeadm.conf'),
      to: '/usr/share/e2e/kubeadm/10-kubeadm.conf',
    },
    { from: join(examples, 'kubeadm/join.yaml'), to: '/usr/share/e2e/kubeadm/join.yaml' },
    { from: join(examples, 'kubeadm/kubeadm-join.service'), to: `${units}/kubeadm-join.service` },
    { from: join(examples, 'tls/20-join.conf'), to: `${units}/kubelet.service.d/20-join.conf` },
    { from: join(examples, 'tls/config.yaml'), to: '/var/lib/kubelet/config.yaml' },
  ];
}

/** Builds the control plane too: it runs beside the nodes, where there is no network from which it could be built. */
function kubeProxy(say: (line: string) => void): LayerEntry {
  for (const module of [modules.etcd, modules.pod, modules.kubelet, modules.kubeadm, modules.controllers])
    ensureBuilt(module, say);
  return { from: join(ensureBuilt(modules.cluster, say), 'kube-proxy'), to: '/usr/bin/kube-proxy' };
}
