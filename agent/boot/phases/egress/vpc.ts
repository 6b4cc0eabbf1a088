// The blocks of the VPC. EC2 is asked, because IMDS omits secondary blocks on some instance families. A VPC may get another
// block while nodes live, so each boot and refill asks.
import { isCidr } from '../../../host/ipv4.ts';
import { RUN_DIR } from '../../../host/names.ts';
import { earlierNodeFile } from '../../../host/node-file.ts';
import { Failure, isFailure } from '../../../messages/failure.ts';
import { readIfPresent, readJsonIfPresent } from '../../../port/fs.ts';
import type { WantedFile } from '../../change.ts';
import { type Context, orSilence } from '../../context.ts';
import type { NodeFacts } from '../../facts/facts.ts';

export interface VpcSeen {
  /** Sorted. */
  cidrs: string[];
  /** EC2's answer, to be kept for the rest of this boot; empty without an answer. */
  note: WantedFile[];
  degraded: string[];
}

/** EC2's last answer in this boot. */
const VPC_FILE = `${RUN_DIR}/vpc-cidrs.json`;

/**
 * When EC2 does not answer, its earlier answer in this boot or IMDS's is used. Without either, the phase fails: a node that
 * would send VPC traffic to the Internet is worse than no node. Repair does not ask EC2.
 */
export async function observeVpc(context: Context, node: NodeFacts): Promise<VpcSeen> {
  const fromImds = node.bootEni.vpcCidrs;
  const known = readKnown();
  const withImds = (cidrs: readonly string[]) => [...new Set([...cidrs, ...fromImds])].sort();
  const seen = (cidrs: readonly string[]): VpcSeen => ({ cidrs: withImds(cidrs), note: [], degraded: [] });
  if (context.mode.kind === 'repair') return seen(known ?? routedSoFar(node));
  context.cloud.vpcCidrs ??= await ask(context, node, known !== undefined);
  const said = context.cloud.vpcCidrs;
  if (!isFailure(said)) return { ...seen(said), note: [noteOf(said)] };
  if (known !== undefined) return seen(known);
  return { ...seen([]), degraded: [`VPC CIDRs are IMDS's: ${said.message}`] };
}

function noteOf(cidrs: readonly string[]): WantedFile {
  const text = JSON.stringify([...cidrs].sort());
  return { path: VPC_FILE, text, mode: 0o600, found: readIfPresent(VPC_FILE) };
}

/** EC2's answer; or why there is none, when the node can go on without it. */
async function ask(context: Context, node: NodeFacts, isKnown: boolean): Promise<string[] | Failure> {
  const canGoOn = isKnown || node.bootEni.vpcCidrs.length > 0;
  const said = await orSilence(context, canGoOn, () => describe(context, node));
  // Thousands of nodes boot at once. A node that needs EC2 anyway for its first pod ENI waits here for its turn.
  const waits = !isKnown && node.otherEnis.length === 0;
  return waits && isFailure(said, 'EC2_THROTTLED') ? describe(context, node) : said;
}

async function describe(context: Context, { bootEni }: NodeFacts): Promise<string[]> {
  const ec2 = await context.ec2();
  const cidrs = await context.waiting(ec2.describeVpcCidrs(bootEni.vpcId));
  if (cidrs.length > 0) return cidrs;
  // Every VPC has a block, so an empty list is no answer.
  throw new Failure('EC2_UNAVAILABLE', `EC2 names no CIDR of ${bootEni.vpcId}`, {
    action: 'DescribeVpcs',
    vpcId: bootEni.vpcId,
  });
}

/** The VPC blocks of which pods were told, for a repair without EC2's answer: an empty answer of IMDS takes no block away. */
function routedSoFar({ config }: NodeFacts): string[] {
  const configured = config.pods.routes;
  return earlierNodeFile()?.podRoutes.filter((cidr) => !configured.includes(cidr)) ?? [];
}

function readKnown(): string[] | undefined {
  const value = readJsonIfPresent(VPC_FILE);
  const isKnown = Array.isArray(value) && value.length > 0;
  return isKnown && value.every((one) => typeof one === 'string' && isCidr(one)) ? value : undefined;
}
