// time limit: 300 s
// The paths of docs/network-policy.md over IPv6, on two simulated nodes of two families.
import { test } from 'uvu';
import { testPaths } from './paths.ts';
import { startTwoNodes, type TwoNodes } from './two-nodes.ts';

let rig: TwoNodes;

test.before(async () => {
  rig = await startTwoNodes(6);
});
test.after(() => rig.stop());

testPaths(test, 6, () => rig);

test.run();
