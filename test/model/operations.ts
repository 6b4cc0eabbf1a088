// The operations of a node, as plain data: one generator for every driver. A pod or prefix is chosen by a share of those that
// exist when the operation is played, so that any part of a sequence is a sequence, too.
import fc from 'fast-check';
import type { Cloud } from '../aws/index.ts';

/** From 0 to 1: which of the existing pods or prefixes. */
type Pick = number;
/** SIGKILL to the program so many milliseconds after its start; its children go on. undefined: no kill. */
type Kill = number | undefined;
export type Ec2Fault = Parameters<Cloud['faults']['ec2']['add']>[0];

export type Operation =
  /** ADDs of so many pods, all at once; `hasty`: DELs of the killed ones follow while their children still work. */
  | { kind: 'add'; count: number; kill: Kill; hasty: boolean }
  /** A second ADD of a pod that has its network. */
  | { kind: 'add-again'; pick: Pick }
  /** DEL, with the namespace's path or without it. A killed DEL is repeated later. */
  | { kind: 'del'; pick: Pick; path: boolean; kill: Kill }
  /** The DEL that a runtime sends after a killed or failed call. */
  | { kind: 'del-owed'; pick: Pick; kill: Kill }
  | { kind: 'check'; pick: Pick }
  | { kind: 'gc'; kill: Kill }
  | { kind: 'status' }
  /** `pods`: the number of ADDs and DELs that run meanwhile. */
  | { kind: 'refill'; fault: Ec2Fault | undefined; pods: number; kill: Kill }
  | { kind: 'collect'; pods: number; kill: Kill }
  | { kind: 'repair'; pods: number; kill: Kill }
  /** `kill`: of the first boot after the reboot. */
  | { kind: 'reboot'; kill: Kill }
  /** The namespace of a living pod is deleted. */
  | { kind: 'lose-namespace'; pick: Pick }
  /** The pod ends and its runtime forgets it without a DEL, as when the runtime's state is lost. */
  | { kind: 'abandon'; pick: Pick }
  | { kind: 'flush-nft' }
  /** EC2 takes a prefix away, or gives the node one. */
  | { kind: 'lose-prefix'; pick: Pick }
  | { kind: 'gain-prefix'; pick: Pick }
  | { kind: 'imds-lag'; ms: number }
  /** The boot clock moves forward. */
  | { kind: 'wait'; seconds: number };

const pick = fc.integer({ min: 0, max: 999 }).map((n) => n / 1000);

/** One call in `of` is killed within its usual run time. */
const killed = (of: number, withinMs: number): fc.Arbitrary<Kill> =>
  fc.oneof(
    { weight: of - 1, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: withinMs }) },
  );

const changing = [
  'AssignPrivateIpAddresses',
  'UnassignPrivateIpAddresses',
  'CreateNetworkInterface',
  'AttachNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
  'DetachNetworkInterface',
  'DeleteNetworkInterface',
];
const ec2Fault: fc.Arbitrary<Ec2Fault> = fc.oneof(
  fc.record({
    action: fc.constant('*'),
    error: fc.constantFrom('RequestLimitExceeded', 'InternalError'),
    times: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({
    action: fc.constantFrom(...changing, 'DescribeNetworkInterfaces'),
    error: fc.constantFrom('UnauthorizedOperation', 'InvalidParameterValue'),
    times: fc.integer({ min: 1, max: 2 }),
  }),
  fc.record({
    action: fc.constantFrom(...changing),
    lost: fc.constant('close' as const),
    times: fc.constant(1),
  }),
  fc.record({ action: fc.constant('*'), close: fc.constant(true), times: fc.constant(1) }),
);

const of = <K extends Operation['kind']>(
  kind: K,
  fields: {
    [F in Exclude<keyof Extract<Operation, { kind: K }>, 'kind'>]: fc.Arbitrary<
      Extract<Operation, { kind: K }>[F]
    >;
  },
): fc.Arbitrary<Operation> =>
  fc.record({ kind: fc.constant(kind), ...fields }) as unknown as fc.Arbitrary<Operation>;

const meanwhile = fc.oneof(
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) },
);

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 22, arbitrary: of('add', { count: fc.constant(1), kill: killed(4, 90), hasty: fc.boolean() }) },
  {
    weight: 6,
    arbitrary: of('add', {
      count: fc.integer({ min: 2, max: 6 }),
      kill: killed(4, 200),
      hasty: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: of('add-again', { pick }) },
  { weight: 18, arbitrary: of('del', { pick, path: fc.boolean(), kill: killed(4, 70) }) },
  { weight: 8, arbitrary: of('del-owed', { pick, kill: killed(6, 70) }) },
  { weight: 4, arbitrary: of('check', { pick }) },
  { weight: 3, arbitrary: of('gc', { kill: killed(3, 120) }) },
  { weight: 1, arbitrary: of('status', {}) },
  {
    weight: 12,
    arbitrary: of('refill', {
      fault: fc.option(ec2Fault, { nil: undefined, freq: 3 }),
      pods: meanwhile,
      kill: killed(4, 500),
    }),
  },
  { weight: 3, arbitrary: of('collect', { pods: meanwhile, kill: killed(4, 300) }) },
  { weight: 2, arbitrary: of('repair', { pods: meanwhile, kill: killed(4, 400) }) },
  { weight: 1, arbitrary: of('reboot', { kill: killed(3, 900) }) },
  { weight: 3, arbitrary: of('lose-namespace', { pick }) },
  { weight: 2, arbitrary: of('abandon', { pick }) },
  { weight: 1, arbitrary: of('flush-nft', {}) },
  { weight: 2, arbitrary: of('lose-prefix', { pick }) },
  { weight: 1, arbitrary: of('gain-prefix', { pick }) },
  { weight: 1, arbitrary: of('imds-lag', { ms: fc.constantFrom(10, 10, 1_000, 3_000) }) },
  {
    weight: 9,
    arbitrary: of('wait', {
      seconds: fc.oneof(
        { weight: 4, arbitrary: fc.integer({ min: 1, max: 90 }) },
        { weight: 1, arbitrary: fc.integer({ min: 200, max: 900 }) },
      ),
    }),
  },
);

/** The same operations for the same seed, and a longer sequence begins with the shorter one. */
export function operations(count: number, seed: number): Operation[] {
  return fc.sample(operation, { numRuns: count, seed });
}
