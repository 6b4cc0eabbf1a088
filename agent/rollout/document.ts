// The SSM Command document: schema 2.2, one step that calls `eniboot update` and nothing else. Its parameters are
// checked by patterns that leave nothing for a shell to interpret.
import { isDeepStrictEqual } from 'node:util';
import type { DescribedDocument, FleetAws, StoredDocument } from '../aws/fleet.ts';
import { haltParameter } from '../aws/halt-flag.ts';
import { wantedParameter } from '../aws/wanted.ts';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import type { Spec } from './spec.ts';

const DOCUMENT = 'eniboot-update';

const VERSION = '^\\d+\\.\\d+\\.\\d+[A-Za-z0-9_.-]*$';

const content = {
  schemaVersion: '2.2',
  description: 'Updates eniboot in place on a node, or takes a version back. Called by `eniboot rollout`.',
  parameters: {
    action: {
      type: 'String',
      allowedValues: ['update', 'rollback', 'follow', 'check'],
      description: 'What to do.',
    },
    version: {
      type: 'String',
      allowedPattern: VERSION,
      description: 'The version to update to, to take back, or to check.',
    },
    digests: {
      type: 'String',
      allowedPattern: '^[0-9a-f]{64}(,[0-9a-f]{64})?$',
      description: 'SHA-256 of the archives of that version.',
    },
    halt: {
      type: 'String',
      allowedPattern: '^/[A-Za-z0-9_./-]+$',
      description: 'Parameter that holds the halt flag.',
    },
    wanted: {
      type: 'String',
      allowedPattern: '^/[A-Za-z0-9_./-]+$',
      description: 'Parameter that says which rollout is wanted, and in which direction.',
    },
    until: {
      type: 'String',
      allowedPattern: '^\\d{10}$',
      description: 'When the request expires: seconds since the epoch.',
    },
    seconds: {
      type: 'String',
      allowedPattern: '^\\d{2,4}$',
      description: 'Time that the node has, in seconds.',
    },
    rollout: {
      type: 'String',
      allowedPattern: '^[A-Za-z0-9-]+$',
      description: 'ID of the rollout that asks.',
    },
  },
  mainSteps: [
    {
      action: 'aws:runShellScript',
      name: 'update',
      precondition: { StringEquals: ['platformType', 'Linux'] },
      inputs: {
        timeoutSeconds: '{{ seconds }}',
        runCommand: [
          'exec /usr/libexec/eniboot/current/eniboot update --action {{ action }} --version {{ version }} --digests {{ digests }} --halt {{ halt }} --wanted {{ wanted }} --until {{ until }} --seconds {{ seconds }} --rollout {{ rollout }} --json',
        ],
      },
    },
  ],
};

/** Instances of one command. Source: SSM API reference, Target: at most 50 values. */
export const NODES_PER_COMMAND = 50;

/**
 * What a node is asked. `rollback`: leave the version for the one that ran before this rollout. `follow`: leave it for the one
 * that the zone's parameter names. `check`: report version and health; changes nothing, and the node reads only the version and
 * the time of this question.
 */
export interface Question {
  action: 'update' | 'rollback' | 'follow' | 'check';
  version: string;
  digests: readonly string[];
  cluster: string;
  /** When the request expires, in milliseconds since the epoch. */
  untilMs: number;
  seconds: number;
  /** ID of the rollout. */
  rollout: string;
}

/** The question as parameters of the document. */
export function parametersOf(question: Question): Record<string, string> {
  const { action, version, digests, cluster, untilMs, seconds, rollout } = question;
  return {
    action,
    version,
    digests: digests.join(','),
    halt: haltParameter(cluster),
    wanted: wantedParameter(cluster),
    until: String(Math.ceil(untilMs / 1000)),
    seconds: String(seconds),
    rollout,
  };
}

/**
 * Milliseconds until a command has expired: the time for delivery plus the time for execution. After that no node starts the
 * command, and a node that is at it stops (boot/version/update.ts).
 */
export function commandMs({ node }: Spec): number {
  return (node.deliverySeconds + node.updateSeconds) * 1000;
}

/** Milliseconds to wait for a document to become Active, which takes seconds. AWS gives no limit. */
const ACTIVE_MS = 60_000;
const LOOK_MS = 1_000;

/**
 * The document with the contents that this version of eniboot needs, in status Active. A document that already has these
 * contents is not written again, so an operator who may only send it needs no further rights. A version with unknown contents
 * is never pinned. Throws ROLLOUT_DOCUMENT_UNUSABLE.
 */
export async function ensureDocument(
  aws: FleetAws,
  clock: Clock,
): Promise<StoredDocument & { name: string }> {
  const { version, hash } = await becomeActive(aws, clock, await findOrWrite(aws));
  return { name: DOCUMENT, version, hash };
}

async function findOrWrite(aws: FleetAws): Promise<DescribedDocument> {
  const text = JSON.stringify(content, null, 2);
  const latest = await aws.describeDocument(DOCUMENT);
  if (latest !== undefined && (await isOurs(aws, latest))) return latest;
  const written =
    latest === undefined
      ? await aws.createDocument(DOCUMENT, text)
      : await aws.updateDocument(DOCUMENT, text);
  if (written !== undefined) return written;
  // Another operator was faster, or the answer to the first attempt was lost, or an older version has these contents: the
  // reference of DuplicateDocumentContent says "matches another document", not which.
  const now = await aws.describeDocument(DOCUMENT);
  if (now !== undefined && (await isOurs(aws, now))) return now;
  throw new Failure(
    'ROLLOUT_DOCUMENT_UNUSABLE',
    `version ${now?.version ?? 'none'} of the SSM document ${DOCUMENT}, its latest, has other contents than this version of eniboot needs, and AWS refuses these as known already`,
    { document: DOCUMENT, version: now?.version },
  );
}

/** AWS may format JSON differently, so parsed values are compared. */
async function isOurs(aws: FleetAws, { version }: DescribedDocument): Promise<boolean> {
  const text = await aws.readDocument(DOCUMENT, version);
  try {
    return isDeepStrictEqual(JSON.parse(text), content);
  } catch {
    return false;
  }
}

/** A document that was already there is awaited too: another operator may have written it a moment ago. */
async function becomeActive(
  aws: FleetAws,
  clock: Clock,
  written: DescribedDocument,
): Promise<DescribedDocument> {
  const until = clock.bootMs() + ACTIVE_MS;
  for (let now = written; ; ) {
    if (now.status === 'Active') return now;
    if (now.status === 'Failed' || clock.bootMs() >= until)
      throw new Failure(
        'ROLLOUT_DOCUMENT_UNUSABLE',
        `version ${now.version} of the SSM document ${DOCUMENT} is ${now.status}${now.reason === '' ? '' : `: ${now.reason}`}`,
        { document: DOCUMENT, version: now.version, status: now.status },
      );
    await clock.sleep(LOOK_MS);
    // DescribeDocument may not return the new version yet.
    now = (await aws.describeDocument(DOCUMENT, written.version)) ?? now;
  }
}
