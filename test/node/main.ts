// npm run e2e:node: a real Kubernetes node, with kubelet and a container runtime, in a VM whose EC2 is the simulated
// AWS.
import { join } from 'node:path';
import { table } from '../../agent/cli/table.ts';
import { ensureGoTools } from '../cni/fetch.ts';
import { runSuite } from '../vm/suite.ts';
import { cases } from './cases.ts';
import { conformanceLayer } from './conformance.ts';
import { critestLayer } from './critest.ts';
import { nodeLayer } from './layer.ts';

process.exit(
  await runSuite({
    name: 'e2e:node',
    about: `Boots a node with the real kubelet and container runtime in a VM (QEMU; KVM where it works, emulation elsewhere)
against the simulated AWS, and runs static pods on it. The first run compiles kubelet and the runtimes, many minutes.`,
    cases,
    runner: join(import.meta.dirname, 'run.ts'),
    extra: ([one], work, say) => {
      const [runtime, tests] = (one?.layer ?? '').split('+');
      const files = nodeLayer(runtime, work, say);
      if (tests === 'critest') return [...files, ...critestLayer(work, ensureGoTools(), say)];
      return tests === undefined ? files : [...files, ...conformanceLayer(tests, work, say)];
    },
    summary: (results) =>
      table([
        ['what', 'found'],
        ...results.flatMap(({ facts }) =>
          Object.entries(facts ?? {}).map(([what, found]) => [what, String(found)]),
        ),
      ]).trimEnd(),
  }),
);
