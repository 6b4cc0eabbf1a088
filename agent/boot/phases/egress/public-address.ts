import { readPublicAddress } from '../../../aws/metadata.ts';
import { Failure } from '../../../messages/failure.ts';
import type { Context } from '../../context.ts';
import type { NodeFacts } from '../../facts/facts.ts';

/** How long IMDS may lag behind with the public address of an instance that has one. Milliseconds. */
const LAG_MS = 5_000;

/** The boot ENI's public IPv4 address; undefined when it has none. Waits for it when the node must have one. */
export async function observePublicAddress(context: Context, node: NodeFacts): Promise<string | undefined> {
  const known = context.cloud.publicAddress ?? node.bootEni.publicAddress;
  const isAwaited = node.config.egress.publicAddress === 'require' && context.mode.kind !== 'repair';
  return known ?? (isAwaited ? addressWithin(context, node, LAG_MS) : undefined);
}

/** @throws NO_PUBLIC_ADDRESS when IMDS does not show one in time */
export async function requestPublicAddress(context: Context, node: NodeFacts): Promise<void> {
  const { eniId } = node.bootEni;
  const ec2 = await context.ec2();
  await context.waiting(ec2.requestPublicAddress(eniId));
  context.cloud.publicAddress = await addressWithin(context, node, Number.POSITIVE_INFINITY);
  if (context.cloud.publicAddress !== undefined) return;
  throw new Failure('NO_PUBLIC_ADDRESS', 'EC2 accepted the request, but IMDS shows no public IPv4 address', {
    eniId,
  });
}

/** The address that IMDS shows within this time; undefined when it still shows none. */
async function addressWithin(context: Context, node: NodeFacts, ms: number): Promise<string | undefined> {
  const { clock, imds } = context;
  const endsAt = Math.min(context.until(), clock.bootMs() + ms);
  for (let pause = 250; ; pause = Math.min(4_000, pause * 2)) {
    const seen = await context.waiting(readPublicAddress(imds, node.bootEni.mac));
    if (seen !== undefined) return seen;
    if (clock.bootMs() + pause >= endsAt) return undefined;
    await context.waiting(clock.sleep(pause));
  }
}
