// The SSM Command document: schema 2.2, one step that calls `eniboot update` and nothing else. Its parameters are
// checked by patterns that leave nothing for a shell to interpret.
import type { DescribedDocument, FleetAws, StoredDocument } from '../aws/fleet.ts';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';

const DOCUMENT = 'eniboot-update';

const VERSION = '^\\d+\\.\\d+\\.\\d+[A-Za-z0-9_.-]*$';

const content = {
  schemaVersion: '2.2',
  description: 'Updates eniboot in place on a node, or takes a version back. Called by `eniboot rollout`.',
  parameters: {
    action: { type: 'String', allowedValues: ['update', 'rollback', 'check'], description: 'What to do.' },
    version: {
      type: 'String',
      allowedPattern: VERSION,
      description: 'The version to update to, to take back, or to ask after.',
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
      description: 'When nobody wants it any more: seconds since the epoch.',
    },
    seconds: { type: 'String', allowedPattern: '^\\d{2,4}$', description: 'Time the node has.' },
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

/** A document is Active after seconds. AWS names no limit. */
const ACTIVE_MS = 60_000;
const LOOK_MS = 1_000;

/**
 * The document as it is in this version of eniboot: made or updated when it is not there, and Active.
 * Throws ROLLOUT_DOCUMENT_UNUSABLE.
 */
export async function ensureDocument(
  aws: FleetAws,
  clock: Clock,
): Promise<StoredDocument & { name: string }> {
  const text = JSON.stringify(content, null, 2);
  const existing = await aws.describeDocument(DOCUMENT);
  const document =
    existing === undefined
      ? await aws.createDocument(DOCUMENT, text)
      : ((await aws.updateDocument(DOCUMENT, text)) ?? existing);
  const { version, hash } = await becomeActive(aws, clock, document);
  return { name: DOCUMENT, version, hash };
}

/** Also for one that was there: another operator may have written it a moment ago. */
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
    // It may not be shown yet.
    now = (await aws.describeDocument(DOCUMENT, written.version)) ?? now;
  }
}
