// time limit: 300 s
// The boot as systemd queues it, with the real units against which eniboot is ordered: no cycle, no deleted job, no message about
// eniboot's files. And graphs with planted cycles, which systemd must report.
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runIn, verify, withNode } from './graph.ts';
import { releases } from './releases.ts';

const enabledKubelet = { 'usr/lib/systemd/system-preset/00-operator.preset': 'enable kubelet.service\n' };

/** As docs/join.md has it for kubeadm. */
const joining = {
  'usr/lib/systemd/system-preset/00-operator.preset': 'enable kubeadm-join.service\n',
  'etc/systemd/system/kubeadm-join.service': readFileSync(
    join(import.meta.dirname, '../../docs/examples/join/kubeadm/kubeadm-join.service'),
    'utf8',
  ),
};
const operators = [
  ['', {}],
  [', kubelet enabled by an operator', enabledKubelet],
  [', kubeadm joins', joining],
] as const;

for (const release of releases) {
  for (const cloudInit of ['fedora', 'debian'] as const) {
    for (const runtime of ['crio', 'containerd'] as const) {
      for (const [what, extra] of operators) {
        test(`no cycle: ${release}, cloud-init as on ${cloudInit}, ${runtime}${what}`, () => {
          withNode({ release, cloudInit, runtime, extra }, (root) => {
            const { cycles, ours } = verify(root);
            assert.equal(cycles, []);
            assert.equal(ours, []);
          });
        });
      }
    }
  }

  test(`the graph of ${release} has the units against which eniboot is ordered`, () => {
    withNode({ release, cloudInit: 'fedora', runtime: 'crio' }, (root) => {
      for (const link of [
        'multi-user.target.wants/eniboot.service',
        'multi-user.target.wants/crio.service',
        'multi-user.target.wants/NetworkManager.service',
        'multi-user.target.wants/cloud-init.target',
        'network-online.target.wants/NetworkManager-wait-online.service',
        'cloud-init.target.wants/cloud-final.service',
        'cloud-init.target.wants/cloud-init-network.service',
        'sysinit.target.wants/eniboot-readahead.service',
        'sysinit.target.wants/nftables.service',
        'timers.target.wants/eniboot-repair.timer',
        'timers.target.wants/eniboot-refill.timer',
        'timers.target.wants/eniboot-collect.timer',
        'paths.target.wants/eniboot-refill.path',
      ]) {
        const wants = ['etc', 'usr/lib'].map((folder) => join(root, folder, 'systemd/system', link));
        assert.ok(wants.some(isLink), `${link} is missing`);
      }
      assert.is(state(root, 'eniboot.service'), 'enabled');
      assert.is(state(root, 'kubelet.service'), 'disabled');
      for (const masked of [
        'nm-cloud-setup.service',
        'nm-cloud-setup.timer',
        'cloud-init-hotplugd.socket',
        'cloud-init-hotplugd.service',
        'systemd-oomd.service',
        'systemd-oomd.socket',
      ]) {
        assert.is(state(root, masked), 'masked');
      }
    });
  });
}

test('kubeadm is enabled where an operator says so', () => {
  withNode({ release: releases[0], cloudInit: 'fedora', runtime: 'crio', extra: joining }, (root) => {
    assert.is(state(root, 'kubeadm-join.service'), 'enabled');
  });
});

/** Orderings that look harmless and make a cycle. */
const broken: Record<string, Record<string, string>> = {
  'eniboot after cloud-init has finished': {
    'etc/systemd/system/eniboot.service.d/x.conf': '[Unit]\nAfter=cloud-final.service\n',
  },
  'eniboot after cloud-init.target': {
    'etc/systemd/system/eniboot.service.d/x.conf': '[Unit]\nAfter=cloud-init.target\n',
  },
  'eniboot before the network is online': {
    'etc/systemd/system/eniboot.service.d/x.conf': '[Unit]\nBefore=network-online.target\n',
  },
  'cri-o before eniboot': { 'etc/systemd/system/crio.service.d/x.conf': '[Unit]\nBefore=eniboot.service\n' },
  'kubeadm after cloud-init has finished': {
    ...joining,
    'etc/systemd/system/kubeadm-join.service.d/x.conf': '[Unit]\nAfter=cloud-final.service\n',
  },
  'an enabled kubelet after cloud-init has finished': {
    ...enabledKubelet,
    'etc/systemd/system/kubelet.service.d/x.conf': '[Unit]\nAfter=cloud-final.service\n',
  },
};

for (const release of releases) {
  for (const [name, extra] of Object.entries(broken)) {
    test(`systemd of ${release} reports the cycle: ${name}`, () => {
      withNode({ release, cloudInit: 'fedora', runtime: 'crio', extra }, (root) => {
        const { cycles } = verify(root);
        assert.ok(
          cycles.some((line) => /ordering cycle/i.test(line)),
          'no cycle was reported',
        );
        assert.ok(
          cycles.some((line) => /deleted to break/i.test(line)),
          'no job was reported as deleted',
        );
      });
    });
  }

  test(`systemd of ${release} reports an unknown key in one of eniboot's units`, () => {
    const extra = {
      'etc/systemd/system/eniboot-collect.service.d/x.conf': '[Service]\nNoNewPrivilege=yes\n',
    };
    withNode({ release, cloudInit: 'fedora', runtime: 'crio', extra }, (root) => {
      assert.ok(verify(root).ours.some((line) => line.includes('NoNewPrivilege')));
    });
  });
}

function state(root: string, unit: string): string {
  return runIn(root, 'systemctl', ['is-enabled', unit]).output.trim();
}

/** Links have targets inside the root; followed from outside they would lead elsewhere. */
function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

test.run();
