// The state that the parts of the simulated SSM share: time, instances and images of the region; and how lists are paged.
import { AwsError } from '../ec2/errors.ts';
import type { Scheduler } from '../ec2/scheduler.ts';

/** Milliseconds that each step takes. AWS publishes none of them: these are orders of magnitude. */
export interface SsmLatency {
  /** From SendCommand to the script's start on a node that is online. */
  deliveryMs: number;
  /** Until a new command shows up in ListCommands. */
  listLagMs: number;
  /** Until a new command's invocations show up. */
  invocationMs: number;
  /** Until a document, or a new version of it, is Active. */
  documentMs: number;
}

export const ssmLatency: Readonly<SsmLatency> = {
  deliveryMs: 0,
  listLagMs: 0,
  invocationMs: 200,
  documentMs: 700,
};

export interface Region {
  scheduler: Scheduler;
  /** Kept, not copied: changing it later counts. */
  latency: SsmLatency;
  /** arn:aws:ssm:REGION:ACCOUNT */
  arnPrefix: string;
  accountId: string;
  /** Tags of an instance; undefined when EC2 does not know the instance, or it is terminated. */
  tagsOf(instanceId: string): ReadonlyMap<string, string> | undefined;
  imageExists(imageId: string): boolean;
  /** Whether the CloudWatch alarm of that name is in ALARM. */
  isInAlarm(name: string): boolean;
  /** Whether the caller's role has a permission that AWS checks within another call. */
  may(permission: string): boolean;
}

export type Handler = (request: never) => object;

export interface Handlers {
  readers: Record<string, Handler>;
  writers: Record<string, Handler>;
}

/** One page. `most` is the largest MaxResults. */
export function paged<T>(
  items: T[],
  request: { MaxResults?: number | undefined; NextToken?: string | undefined },
  most: number,
): { items: T[]; NextToken?: string } {
  const size = request.MaxResults ?? most;
  if (size < 1 || size > most)
    throw new AwsError('ValidationException', `MaxResults must be a value between 1 and ${most}`);
  const start = request.NextToken === undefined ? 0 : Number(request.NextToken.replace(/^page:/, ''));
  if (!Number.isInteger(start)) throw new AwsError('InvalidNextToken', 'The specified token is not valid.');
  const end = start + size;
  return { items: items.slice(start, end), ...(end < items.length ? { NextToken: `page:${end}` } : {}) };
}
