// What the nodes of a cluster are to do at present: the rollout that is under way, and its direction. A rollout writes it
// before it sends a command; a node reads it before it acts and again before it switches. The SSM agent may run a command again
// for up to two days (aws/amazon-ssm-agent, agent/framework/processor/processor.go). Such a command changes nothing once its
// rollout has been taken back or another one has begun.

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
