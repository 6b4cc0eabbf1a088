export {
  type Cloud,
  type CloudOptions,
  type Instance,
  type Latency,
  type LaunchOptions,
  type Leak,
  type PodEniSpec,
  realisticLatency,
  startCloud,
} from './cloud.ts';
export { type ApiCall, createEc2, type Ec2 } from './ec2/ec2.ts';
export { AwsError } from './ec2/errors.ts';
export { virtualScheduler } from './ec2/scheduler.ts';
