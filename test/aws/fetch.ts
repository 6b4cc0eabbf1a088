// AWS's own models of its requests, from botocore on the Python package index. The simulated AWS checks requests against them.
// They are kept between runs in a folder named for the digest. Sandboxes have no network: this runs before them.
//   node test/aws/fetch.ts   fetches missing models (needs pip)
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { cacheFolder } from '../../agent/build/cache.ts';

const BOTOCORE = {
  version: '1.44.8',
  sha256: '76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043',
};
/** The services that are simulated, with the version of the API that the SDK uses. */
const services = { ec2: '2016-11-15', ssm: '2014-11-06', cloudwatch: '2010-08-01' };

export type ServiceName = keyof typeof services;

/** Changes when the form of the kept models changes. */
const LAYOUT = '2';

const folder = cacheFolder('botocore', `${BOTOCORE.version}-${BOTOCORE.sha256.slice(0, 12)}-${LAYOUT}`);

/** A shape in a service-2.json. Source: botocore's docs/source/development, "The service description". */
export interface ModelShape {
  type: string;
  members?: Record<string, { shape: string }>;
  required?: string[];
  member?: { shape: string };
  key?: { shape: string };
  value?: { shape: string };
  min?: number;
  max?: number;
  pattern?: string;
  enum?: string[];
}

export interface Model {
  version: string;
  /** Operation → the shape of its input; an operation without one has `undefined`. */
  operations: Record<string, string | undefined>;
  shapes: Record<string, ModelShape>;
}

/** undefined when it has not been fetched. */
export function modelOf(service: ServiceName): Model | undefined {
  const path = join(folder, `${service}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Model) : undefined;
}

/** @throws when the models are neither there nor can be fetched; the error has the last line of the program that failed. */
function ensureModels(): string {
  if (existsSync(folder)) return folder;
  mkdirSync(join(folder, '..'), { recursive: true });
  // Made in a folder beside it and renamed as a whole: what is in the cache is complete.
  const work = mkdtempSync(join(folder, '..', '.fetch-'));
  try {
    const pinned = join(work, 'requirements.txt');
    writeFileSync(pinned, `botocore==${BOTOCORE.version} --hash=sha256:${BOTOCORE.sha256}\n`);
    // pip compares the digest.
    const pip = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes'];
    python(work, [...pip, '--dest', work, '-r', pinned]);
    python(work, ['-m', 'zipfile', '-e', `botocore-${BOTOCORE.version}-py3-none-any.whl`, work]);
    const kept = mkdtempSync(join(work, 'kept-'));
    for (const [service, api] of Object.entries(services)) {
      const packed = readFileSync(join(work, 'botocore/data', service, api, 'service-2.json.gz'));
      writeFileSync(
        join(kept, `${service}.json`),
        JSON.stringify(inputsOf(gunzipSync(packed).toString(), api)),
      );
    }
    renameOnto(kept, folder);
    return folder;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function python(cwd: string, args: string[]): void {
  const { error, status, stderr } = spawnSync('python3', args, { cwd, stdio: 'pipe', encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1));
}

/** Another process may have been faster: its files are the same. */
function renameOnto(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    const taken =
      error instanceof Error && 'code' in error && ['ENOTEMPTY', 'EEXIST'].includes(String(error.code));
    if (!taken) throw error;
  }
}

interface Published {
  operations: Record<string, { input?: { shape: string } }>;
  shapes: Record<string, ModelShape>;
}

/** The shapes of requests, without the documentation: a twelfth of the whole. */
function inputsOf(text: string, version: string): Model {
  const { operations, shapes } = JSON.parse(text) as Published;
  const inputs = Object.entries(operations).map(([name, { input }]) => [name, input?.shape] as const);
  const kept: Record<string, ModelShape> = {};
  const open = inputs.flatMap(([, shape]) => shape ?? []);
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const shape = shapes[name];
    if (shape === undefined || kept[name] !== undefined) continue;
    const { type, members, required, member, key, value, min, max, pattern, enum: words } = shape;
    const only = ({ shape: of }: { shape: string }) => ({ shape: of });
    kept[name] = {
      type,
      ...(members && {
        members: Object.fromEntries(Object.entries(members).map(([at, one]) => [at, only(one)])),
      }),
      ...(required && { required }),
      ...(member && { member: only(member) }),
      ...(key && { key: only(key) }),
      ...(value && { value: only(value) }),
      ...(min !== undefined && { min }),
      ...(max !== undefined && { max }),
      ...(pattern !== undefined && { pattern }),
      ...(words && { enum: words }),
    };
    for (const one of [...Object.values(members ?? {}), member, key, value])
      if (one !== undefined) open.push(one.shape);
  }
  return { version, operations: Object.fromEntries(inputs), shapes: kept };
}

if (process.argv[1] === import.meta.filename) {
  try {
    process.stdout.write(`${ensureModels()}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    process.stderr.write(
      `AWS's models of its requests (botocore ${BOTOCORE.version}) could not be fetched: ${why}. This needs python3-pip and a Python package index that pip can reach.\n`,
    );
    process.exitCode = 1;
  }
}
