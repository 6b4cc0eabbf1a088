// Configured labels that kubelet may set: kubelet refuses to start with a label that it may not set.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { kubeletFiles } from '../../agent/boot/phases/kubelet/files.ts';
import { nodeLabelProblem } from '../../agent/config/node-labels.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { node } from '../kubelet/node.ts';

test('labels that kubelet may set on its own node', () => {
  for (const [key, value] of [
    ['team', 'search'],
    ['example.com/team', ''],
    ['a.b.c/D_e.f-g', '1.2_3-4'],
    ['node.kubernetes.io/pool', 'general'],
    ['sub.node.kubernetes.io/pool', 'x'],
    ['kubelet.kubernetes.io/x', 'y'],
    ['beta.kubernetes.io/instance-type', 'm5.large'],
    ['notkubernetes.io/x', 'y'],
    ['karpenter.sh/nodepool', 'default'],
  ] as const)
    assert.is(nodeLabelProblem(key, value), undefined, key);
});

test('labels that kubelet may not set, each with the reason', () => {
  for (const [key, value, reason] of [
    ['node-role.kubernetes.io/worker', '', 'NodeRestriction'],
    ['node-restriction.kubernetes.io/x', 'y', 'NodeRestriction'],
    ['kubernetes.io/role', 'x', 'NodeRestriction'],
    ['k8s.io/x', 'y', 'NodeRestriction'],
    ['cloud.k8s.io/x', 'y', 'NodeRestriction'],
    ['topology.kubernetes.io/rack', 'r1', 'NodeRestriction'],
    ['xnode.kubernetes.io/pool', 'x', 'NodeRestriction'],
    ['topology.kubernetes.io/zone', 'eu-west-1b', 'is set from'],
    ['topology.k8s.aws/zone-id', 'euw1-az2', 'is set from'],
    ['kubernetes.io/hostname', 'me', 'is set from'],
    ['a b', 'x', 'not a label key'],
    ['', 'x', 'not a label key'],
    ['a/b/c', 'x', 'not a label key'],
    ['/b', 'x', 'not a label key'],
    ['Example.com/b', 'x', 'not a label key'],
    ['x=y', 'z', 'not a label key'],
    ['-a', 'z', 'not a label key'],
    ['a'.repeat(64), 'z', 'not a label key'],
    ['team', 'a b', 'not a label value'],
    ['team', 'a,other=b', 'not a label value'],
    ['team', '$(reboot)', 'not a label value'],
    ['team', 'a"b', 'not a label value'],
    ['team', 'a\nb', 'not a label value'],
    ['team', 'a\n', 'not a label value'],
    ['team', 'a'.repeat(64), 'not a label value'],
  ] as const)
    assert.match(nodeLabelProblem(key, value) ?? 'accepted', reason, `${key}=${value}`);
});

test('a bad label fails by its path, before anything is rendered', () => {
  assert.throws(
    () => kubeletFiles({ ...node, labels: { 'node-role.kubernetes.io/worker': '' } }),
    (error: unknown) =>
      isFailure(error, 'CONFIG_INVALID') &&
      error.facts['path'] === 'kubernetes.labels["node-role.kubernetes.io/worker"]',
  );
});

test.run();
