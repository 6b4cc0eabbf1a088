// Command documents: versions that never change, a default that moves, a SHA-256 for each. Source: SSM API reference.
import { createHash } from 'node:crypto';
import type {
  CreateDocumentRequest,
  CreateDocumentResult,
  DescribeDocumentRequest,
  DescribeDocumentResult,
  DocumentDescription,
  GetDocumentRequest,
  GetDocumentResult,
  UpdateDocumentDefaultVersionRequest,
  UpdateDocumentDefaultVersionResult,
  UpdateDocumentRequest,
  UpdateDocumentResult,
} from '@aws-sdk/client-ssm';
import { AwsError } from '../ec2/errors.ts';
import { seconds } from './parameters.ts';
import type { Handlers, Region } from './region.ts';

/** A Command document of schema 2.2: the members that are carried out. */
export interface CommandDocument {
  schemaVersion: '2.2';
  parameters?: Record<
    string,
    { type: string; default?: string; allowedPattern?: string; allowedValues?: string[] }
  >;
  mainSteps: { action: string; name: string; inputs: { runCommand: string[]; timeoutSeconds?: string } }[];
}

export interface DocumentVersion {
  version: number;
  content: string;
  parsed: CommandDocument;
  hash: string;
  at: number;
  status: 'Creating' | 'Updating' | 'Active';
}

interface Document {
  versions: DocumentVersion[];
  standard: number;
}

export interface Documents {
  handlers: Handlers;
  /** $DEFAULT, $LATEST or a number. Throws AwsError. */
  find(name: string, version: string | undefined): DocumentVersion;
  /** The same for a version that is to be run: it must be Active. */
  findActive(name: string, version: string | undefined): DocumentVersion;
}

const LARGEST = 64 * 1024;

/** AWS's own document, as far as eniboot uses it: one command. */
const RUN_SHELL_SCRIPT = JSON.stringify({
  schemaVersion: '2.2',
  parameters: { commands: { type: 'StringList' } },
  mainSteps: [
    { action: 'aws:runShellScript', name: 'runShellScript', inputs: { runCommand: ['{{ commands }}'] } },
  ],
});

export function createDocuments(region: Region): Documents {
  const documents = new Map<string, Document>([
    ['AWS-RunShellScript', { versions: [{ ...read(RUN_SHELL_SCRIPT, 1), status: 'Active' }], standard: 1 }],
  ]);

  function documentOf(name: string | undefined): Document {
    const document = documents.get(name ?? '');
    if (document === undefined)
      throw new AwsError('InvalidDocument', `Document with name ${name} does not exist.`);
    return document;
  }

  function find(name: string, wanted: string | undefined): DocumentVersion {
    const document = documentOf(name);
    const found =
      wanted === '$LATEST'
        ? document.versions.at(-1)
        : document.versions.find(
            ({ version }) =>
              version ===
              (wanted === undefined || wanted === '$DEFAULT' ? document.standard : Number(wanted)),
          );
    if (found === undefined)
      throw new AwsError('InvalidDocumentVersion', `The document version ${wanted} is not valid.`);
    return found;
  }

  /** An assumption: AWS documents no error for a document that is not Active. This is its code for other faults of documents. */
  function findActive(name: string, wanted: string | undefined): DocumentVersion {
    const found = find(name, wanted);
    if (found.status === 'Active') return found;
    throw new AwsError('InvalidDocument', `Document ${name} is ${found.status}, not Active.`);
  }

  /** A new version is not Active at once. Source: SSM API reference, DocumentDescription, Status. */
  function add(name: string, document: Document, version: DocumentVersion): void {
    document.versions.push(version);
    documents.set(name, document);
    region.scheduler.after(region.latency.documentMs, () => {
      version.status = 'Active';
    });
  }

  function read(content: string | undefined, version: number): DocumentVersion {
    const text = content ?? '';
    if (Buffer.byteLength(text) > LARGEST)
      throw new AwsError('MaxDocumentSizeExceeded', 'The size limit of a document is 64 KB.');
    let parsed: CommandDocument;
    try {
      parsed = JSON.parse(text) as CommandDocument;
    } catch {
      throw new AwsError('InvalidDocumentContent', 'The content is not valid JSON.');
    }
    if (parsed.schemaVersion !== '2.2' || !Array.isArray(parsed.mainSteps) || parsed.mainSteps.length === 0)
      throw new AwsError('InvalidDocumentContent', 'Only Command documents of schema 2.2 are simulated.');
    const hash = createHash('sha256').update(text).digest('hex');
    const status = version === 1 ? 'Creating' : 'Updating';
    return { version, content: text, parsed, hash, at: region.scheduler.now(), status };
  }

  function describe(name: string, version: DocumentVersion): DocumentDescription {
    const document = documentOf(name);
    return {
      Name: name,
      DocumentVersion: String(version.version),
      DefaultVersion: String(document.standard),
      LatestVersion: String(document.versions.at(-1)?.version ?? 0),
      Hash: version.hash,
      HashType: 'Sha256',
      Status: version.status,
      DocumentType: 'Command',
      DocumentFormat: 'JSON',
      SchemaVersion: '2.2',
      CreatedDate: seconds(version.at),
    };
  }

  function create(request: CreateDocumentRequest): CreateDocumentResult {
    const name = request.Name ?? '';
    if (documents.has(name))
      throw new AwsError(
        'DocumentAlreadyExists',
        `Document with name ${name} already exists in the specified region.`,
      );
    const version = read(request.Content, 1);
    add(name, { versions: [], standard: 1 }, version);
    return { DocumentDescription: describe(name, version) };
  }

  function update(request: UpdateDocumentRequest): UpdateDocumentResult {
    const document = documentOf(request.Name);
    const latest = document.versions.at(-1);
    if (request.DocumentVersion !== '$LATEST' && request.DocumentVersion !== String(latest?.version))
      throw new AwsError('InvalidDocumentVersion', 'Only the latest version can be updated.');
    const version = read(request.Content, (latest?.version ?? 0) + 1);
    if (version.hash === latest?.hash)
      throw new AwsError('DuplicateDocumentContent', 'The content is the same as that of the last version.');
    add(request.Name ?? '', document, version);
    return { DocumentDescription: describe(request.Name ?? '', version) };
  }

  function setDefault(request: UpdateDocumentDefaultVersionRequest): UpdateDocumentDefaultVersionResult {
    const name = request.Name ?? '';
    documentOf(name).standard = find(name, request.DocumentVersion).version;
    return { Description: { Name: name, DefaultVersion: request.DocumentVersion } };
  }

  return {
    find,
    findActive,
    handlers: {
      readers: {
        DescribeDocument: (request: DescribeDocumentRequest): DescribeDocumentResult => ({
          Document: describe(request.Name ?? '', find(request.Name ?? '', request.DocumentVersion)),
        }),
        GetDocument: (request: GetDocumentRequest): GetDocumentResult => {
          const { version, content } = find(request.Name ?? '', request.DocumentVersion);
          return { Name: request.Name, DocumentVersion: String(version), Content: content };
        },
      },
      writers: {
        CreateDocument: create,
        UpdateDocument: update,
        UpdateDocumentDefaultVersion: setDefault,
      },
    },
  };
}
