// Carries out changes. Phases change the machine and EC2 only through this module.

import { rmSync } from 'node:fs';
import { reloadNetworkManager, setManaged } from '../host/network-manager.ts';
import { replaceTables } from '../host/nft.ts';
import { inNode } from '../kernel/execute.ts';
import { failureOfProblem, speaking } from '../kernel/failure.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { addToPool, finishAdding } from '../pool/prefixes.ts';
import { linkAtomic, writeIfChanged } from '../port/fs.ts';
import type { Change, ChangeOf } from './change.ts';
import type { Context } from './context.ts';
import { settle } from './phases/attach/describe.ts';
import { takeStep } from './phases/attach/ec2.ts';
import { requestPublicAddress } from './phases/egress/public-address.ts';
import { stageBundle } from './version/bundle.ts';

/**
 * Makes the changes in order. The first change that fails ends the run; its failure names it as `change`. When this returns,
 * EC2 has everything that it has accepted.
 */
export async function apply(changes: readonly Change[], context: Context): Promise<void> {
  for (const change of changes) {
    try {
      await (ways[change.do] as Way<Change['do']>)(change, context);
    } catch (error) {
      const { code, message, facts } = failureOf(error);
      throw new Failure(code, message, { ...facts, change: change.summary }, error);
    }
  }
  const asked = changes.findLast((change) => change.do === 'ec2');
  if (asked !== undefined) await settle(context, asked.node);
}

type Way<Do extends Change['do']> = (change: ChangeOf<Do>, context: Context) => unknown;

const ways: { [Do in Change['do']]: Way<Do> } = {
  write: ({ path, text, mode, mayFail }, { log }) => {
    try {
      writeIfChanged(path, text, mode);
    } catch (error) {
      if (mayFail !== true) throw error;
      log.warn('not noted', { path, reason: String(error) });
    }
  },
  remove: ({ path }) => rmSync(path, { force: true }),
  link: ({ path, target }) => linkAtomic(path, target),
  'network-manager': async ({ path, text, reload }) => {
    writeIfChanged(path, text);
    if (reload) await reloadNetworkManager();
  },
  manage: ({ device, managed }) => setManaged(device, managed),
  kernel: ({ operations }) => {
    const problem = speaking('KERNEL_CHANGE', 'the node', () => inNode((kernel) => kernel.run(operations)));
    if (problem !== undefined) throw failureOfProblem(problem);
  },
  tables: async (change, context) => {
    context.loaded = await replaceTables(change);
  },
  'public-address': ({ node }, context) => requestPublicAddress(context, node),
  ec2: ({ step, node }, context) => takeStep(step, context, node),
  'finish-adding': () => finishAdding(),
  pool: ({ owned, releasedAt }) => addToPool(owned, releasedAt),
  stage: async ({ source, node }, context) => {
    if (context.bundle !== undefined)
      context.bundle = await stageBundle(context, node, context.bundle, source);
  },
};
