export type { ApiCall } from './calls.ts';
export {
  type Cloud,
  type CloudOptions,
  type Latency,
  realisticLatency,
  startCloud,
} from './cloud.ts';
export { createEc2, type Ec2, type Ec2Options } from './ec2/ec2.ts';
export { AwsError } from './ec2/errors.ts';
export { type VirtualScheduler, virtualScheduler } from './ec2/scheduler.ts';
export type { Instance } from './instance/instance.ts';
export type { LaunchOptions } from './launch.ts';
