// Records the calls of the simulated EC2, SSM and CloudWatch.
import { AwsError } from './ec2/errors.ts';
import type { Scheduler } from './ec2/scheduler.ts';
import type { Caller } from './ec2/state.ts';
import type { ServiceName } from './fetch.ts';

export interface ApiCall {
  service: ServiceName;
  action: string;
  instanceId?: string | undefined;
  at: number;
  mutating: boolean;
  /** False when it was refused: error, throttle, denial, dry run. */
  accepted: boolean;
  error?: string | undefined;
  request?: object | undefined;
}

interface Recording {
  service: ApiCall['service'];
  calls: ApiCall[];
  scheduler: Scheduler;
  isMutating(action: string): boolean;
  carryOut(action: string, request: object): object;
}

/** Carries calls out. Each is put into `calls` before it is carried out, and its outcome is added afterwards. */
export function recording({ service, calls, scheduler, isMutating, carryOut }: Recording) {
  return (action: string, request: object, caller: Caller = {}): object => {
    const call: ApiCall = {
      service,
      action,
      instanceId: caller.instanceId,
      at: scheduler.now(),
      mutating: isMutating(action),
      accepted: false,
      request,
    };
    calls.push(call);
    try {
      const answer = carryOut(action, request);
      call.accepted = true;
      return answer;
    } catch (error) {
      if (error instanceof AwsError) call.error = error.code;
      throw error;
    }
  };
}
