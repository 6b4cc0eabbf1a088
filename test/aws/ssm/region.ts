// What the parts of the simulated SSM share: time, the region's instances and images, and how lists are cut into pages.
import { AwsError } from '../ec2/errors.ts';
import type { Scheduler } from '../ec2/scheduler.ts';

/** Milliseconds each thing takes. AWS publishes none of them: orders of magnitude. */
export interface SsmLatency {
  /** From SendCommand to the script's start on a node that is online. */
  deliveryMs: number;
  /** Until a new command shows up in ListCommands. */
  listLagMs: number;
  /** Until its invocations show up. */
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
  /** Tags of an instance; undefined when EC2 does not know it, or it is terminated. */
  tagsOf(instanceId: string): ReadonlyMap<string, string> | undefined;
  imageExists(imageId: string): boolean;
  /** Whether the caller's role may do what AWS looks at within another call. */
  may(permission: string): boolean;
}

export type Handler = (request: never) => object;

export interface Handlers {
  readers: Record<string, Handler>;
  writers: Record<string, Handler>;
}

/** One page; `most` is also what MaxResults may not exceed. */
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
