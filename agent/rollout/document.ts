// The SSM Command document: schema 2.2, one step that calls `eniboot update` and nothing else. Its parameters are
// checked by patterns that leave nothing for a shell to interpret.
import type { FleetAws, StoredDocument } from '../aws/fleet.ts';

const DOCUMENT = 'eniboot-update';

const VERSION = '^\\d+\\.\\d+\\.\\d+[A-Za-z0-9_.-]*$';

const content = {
  schemaVersion: '2.2',
  description: 'Updates eniboot in place on a node, or takes a version back. Called by `eniboot rollout`.',
  parameters: {
    action: { type: 'String', allowedValues: ['update', 'rollback'], description: 'What to do.' },
    version: {
      type: 'String',
      allowedPattern: VERSION,
      description: 'The version to update to, or the one to take back.',
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
          'exec /usr/libexec/eniboot/current/eniboot update --action {{ action }} --version {{ version }} --digests {{ digests }} --halt {{ halt }} --seconds {{ seconds }} --rollout {{ rollout }} --json',
        ],
      },
    },
  ],
};

/** The document as it is in this version of eniboot: made or updated when it is not there. */
export async function ensureDocument(aws: FleetAws): Promise<StoredDocument & { name: string }> {
  const text = JSON.stringify(content, null, 2);
  const existing = await aws.describeDocument(DOCUMENT);
  const document =
    existing === undefined
      ? await aws.createDocument(DOCUMENT, text)
      : ((await aws.updateDocument(DOCUMENT, text)) ?? existing);
  return { name: DOCUMENT, ...document };
}
