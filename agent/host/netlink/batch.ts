// A line for `ip -batch`, ready to be done: by one message, or by a question and what is to be done with its answers.
import { flushOf } from './flush.ts';
import { lineOf } from './ip.ts';
import type { Outcome, Routing } from './requests.ts';

/** @param podFd a descriptor of the pod's namespace, for lines that name it. */
export type Act = (routing: Routing, podFd: number) => Outcome;

/**
 * @param netns the path that stands for the pod's namespace in the line.
 * @param inet6 as `ip -6`.
 * @returns undefined where the form of one of them is not known.
 */
export function actsOf(texts: readonly string[], netns: string, inet6 = false): Act[] | undefined {
  const acts: Act[] = [];
  for (const text of texts) {
    const act = actOf(text, netns, inet6);
    if (act === undefined) return undefined;
    acts.push(act);
  }
  return acts;
}

function actOf(text: string, netns: string, inet6: boolean): Act | undefined {
  const flush = flushOf(text, inet6);
  if (flush !== undefined) return (routing) => routing.flush(flush);
  const line = lineOf(text, netns, inet6);
  if (line === undefined) return undefined;
  return (routing, podFd) => routing.perform(() => line({ index: (device) => routing.index(device), podFd }));
}
