// What a cluster's nodes are to do at present: the rollout that is under way, and its direction. The orchestrator writes it
// before it sends anything, a node reads it before it acts and again before it switches. So a command that the SSM agent runs
// again later, for up to two days (aws/amazon-ssm-agent, agent/framework/processor/processor.go), changes nothing any more
// once its rollout has been taken back or another has begun.

export interface Wanted {
  /** ID of the rollout. */
  rollout: string;
  direction: 'forward' | 'back';
}

export function wantedParameter(cluster: string): string {
  return `/eniboot/rollout/${cluster}/wanted`;
}

export function isWanted(text: string | undefined, { rollout, direction }: Wanted): boolean {
  try {
    const value = JSON.parse(text ?? 'null') as Partial<Wanted> | null;
    return value?.rollout === rollout && value.direction === direction;
  } catch {
    return false;
  }
}
