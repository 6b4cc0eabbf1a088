// Everything that a boot, a repair or a refill changes on the machine and in EC2 by a phase's plan, as values. apply.ts makes
// the changes.
import type { AddressRequest, CreateEni } from '../aws/ec2.ts';
import type { KernelOperation } from '../kernel/operation.ts';
import type { NEVER_USED, Owned } from '../pool/entry.ts';
import type { Source } from './facts/bundle-state.ts';
import type { NodeFacts } from './facts/facts.ts';

/** A request to create an ENI. It is written to disk before it is sent (phases/attach/attempts.ts). */
export interface Attempt {
  request: CreateEni;
  /** Known once EC2 has answered. */
  eniId?: string;
  /** Boot-clock milliseconds of that answer. */
  madeMs?: number;
}

export type AttachStep = { summary: string } & (
  | { kind: 'protect'; eniId: string; attachmentId: string }
  | { kind: 'assign'; eniId: string; addresses: AddressRequest }
  | { kind: 'assign-ipv6'; eniId: string }
  | { kind: 'adopt'; eniId: string; deviceIndex: number }
  | { kind: 'create'; deviceIndex: number; addresses: AddressRequest }
);

/** What to do with a request of an earlier run: send it again, or close it. */
export type ResumptionStep = { summary: string; attempt: Attempt } & (
  | { kind: 'repeat' }
  | { kind: 'strike' }
);

/** One thing to do, with a summary for people. */
export type Change = { summary: string } & (
  | {
      do: 'write';
      path: string;
      text: string;
      mode?: number | undefined;
      /** The file is a note that saves a call later. Where the disk cannot be written, the run goes on without it. */
      mayFail?: true | undefined;
    }
  | { do: 'link'; path: string; target: string }
  /** A file that eniboot wrote and that the configuration no longer asks for. */
  | { do: 'remove'; path: string }
  /** NetworkManager's configuration: the file, and a reload when NetworkManager runs. */
  | { do: 'network-manager'; path: string; text: string; reload: boolean }
  | { do: 'manage'; device: string; managed: boolean }
  /** Safe to repeat. The first operation that the kernel refuses ends the change. */
  | { do: 'kernel'; operations: readonly KernelOperation[] }
  /**
   * `loaded` is the text with the present values of the counters, so that they count on from there. `present`: the tables
   * exist.
   */
  | { do: 'tables'; text: string; loaded: string; present: boolean }
  | { do: 'public-address'; node: NodeFacts }
  | { do: 'ec2'; step: AttachStep | ResumptionStep; node: NodeFacts }
  | { do: 'finish-adding' }
  | { do: 'pool'; owned: Owned; releasedAt: number | typeof NEVER_USED }
  | { do: 'stage'; source: Source; node: NodeFacts }
);

export type ChangeOf<Do extends Change['do']> = Extract<Change, { do: Do }>;

/** The same name for changes that do the same. */
export function nameOf(change: Change): string {
  const { summary } = change;
  if (change.do === 'kernel') return `${summary}\n${JSON.stringify(change.operations)}`;
  return `${summary}\n${'text' in change ? change.text : ''}`;
}

/** A file: the wanted text, and the text that was found. */
export interface WantedFile {
  path: string;
  text: string;
  mode?: number;
  mayFail?: true;
  /** What writing the file does, where the path does not say it. */
  purpose?: string;
  found: string | undefined;
}

/** Changes for the files that differ from what they should be. */
export function planFiles(files: readonly WantedFile[]): Change[] {
  return files
    .filter(({ text, found }) => found !== text)
    .map(({ path, text, mode, mayFail, purpose }) => ({
      ...{ do: 'write', path, text, mode, mayFail },
      summary: `write ${path}${purpose === undefined ? '' : `: ${purpose}`}`,
    }));
}
