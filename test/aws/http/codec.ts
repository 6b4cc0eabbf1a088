// The EC2 Query protocol: form parameters in, XML out. Names come from the API description inside
// @aws-sdk/client-ec2, so that every action speaks AWS's own wire format.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { cacheFolder } from '../../../agent/build/cache.ts';
import { AwsError } from '../ec2/errors.ts';
import { refusal } from '../requests/check.ts';

// A shape in the SDK is an array: [kind, namespace, name, traits, ...rest], kinds below; a member is a shape, a
// number for a simple type, a function returning either, or [one of these, traits].
const listKind = 1;
const structureKind = 3;
const operationKind = 9;
const booleanType = 2;
const numberType = 1;
const timestampTypes = [4, 5, 6, 7];

interface Traits {
  xmlName?: string;
  ec2QueryName?: string;
}

interface Shape {
  kind: 'structure' | 'list' | 'boolean' | 'number' | 'timestamp' | 'string';
  traits: Traits;
  members?: [string, Shape][];
  item?: Shape;
}

interface Operation {
  input: Shape;
  output: Shape;
}

function open(schema: unknown): Shape {
  const target = typeof schema === 'function' ? (schema as () => unknown)() : schema;
  if (typeof target === 'number') return { kind: simple(target), traits: {} };
  // Operations without an output.
  if (target === 'unit') return { kind: 'structure', traits: {}, members: [] };
  if (!Array.isArray(target)) throw new Error(`unexpected shape in the API description: ${String(target)}`);
  const [kind, second] = target as unknown[];
  if (kind === structureKind && typeof second === 'string') {
    const [, , , , names, schemas] = target as [number, string, string, unknown, string[], unknown[]];
    return {
      kind: 'structure',
      traits: {},
      members: names.map((name, index) => [name, open(schemas[index])]),
    };
  }
  if (kind === listKind && typeof second === 'string')
    return { kind: 'list', traits: {}, item: open(target[4]) };
  if (kind === 0 && typeof second === 'string') return { kind: simple(target[4] as number), traits: {} };
  const traits = typeof second === 'object' && second !== null ? (second as Traits) : {};
  const inner = open(kind);
  return { ...inner, traits: { ...inner.traits, ...traits } };
}

function simple(type: number): Shape['kind'] {
  if (type === booleanType) return 'boolean';
  if (type === numberType) return 'number';
  if (timestampTypes.includes(type)) return 'timestamp';
  if (type >= 64) return 'list';
  return 'string';
}

const load = createRequire(import.meta.url);
const { version } = load('@aws-sdk/client-ec2/package.json') as { version: string };
/** Changes when the form of the kept descriptions changes. */
const LAYOUT = '1';
const folder = cacheFolder('ec2-shapes', `${version}-${LAYOUT}`);
const known = new Map<string, Operation>();

/**
 * The SDK takes 0.2 s of processor and 60 MB of memory to load, and a test uses a dozen of its 700 operations: each is kept in a
 * file when it is first used.
 */
function operation(action: string): Operation {
  let found = known.get(action);
  if (found === undefined) {
    found = kept(action) ?? describe(action);
    known.set(action, found);
  }
  return found;
}

function kept(action: string): Operation | undefined {
  if (!/^\w+$/.test(action)) return undefined;
  try {
    return JSON.parse(readFileSync(join(folder, `${action}.json`), 'utf8')) as Operation;
  } catch {
    return undefined;
  }
}

function describe(action: string): Operation {
  const shape = (load('@aws-sdk/client-ec2') as Record<string, unknown>)[`${action}$`];
  if (!Array.isArray(shape) || shape[0] !== operationKind)
    throw new AwsError('InvalidAction', `The action ${action} is not valid for this web service.`);
  const described = { input: open(shape[4]), output: open(shape[5]) };
  const file = join(folder, `${action}.json`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${file}.${process.pid}`, JSON.stringify(described));
  renameSync(`${file}.${process.pid}`, file);
  return described;
}

interface Tree {
  text?: string;
  children: Map<string, Tree>;
}

/** Form parameters of one request as the SDK's input object. Unknown parameters are refused, as EC2 does. */
export function decodeRequest(action: string, form: URLSearchParams): object {
  const root: Tree = { children: new Map() };
  for (const [key, value] of form) {
    if (key === 'Action' || key === 'Version') continue;
    let at = root;
    for (const part of key.split('.')) {
      const child = at.children.get(part) ?? { children: new Map() };
      at.children.set(part, child);
      at = child;
    }
    at.text = value;
  }
  // Timestamps and blobs stay text: the simulated actions only compare them.
  return decode(operation(action).input, root, '', (code, message) =>
    refusal('ec2', action, code, message),
  ) as object;
}

function decode(
  shape: Shape,
  tree: Tree,
  path: string,
  refuse: (code: string, why: string) => AwsError,
): unknown {
  const name = path.slice(0, -1);
  const compound = shape.kind === 'structure' || shape.kind === 'list';
  if (compound ? tree.text !== undefined && tree.text !== '' : tree.children.size > 0)
    throw refuse(
      'InvalidParameterValue',
      `The parameter ${name} is ${compound ? 'not one value' : 'one value'}`,
    );
  if (shape.kind === 'structure') {
    const byName = new Map(
      (shape.members ?? []).map(([name, member]) => [queryName(name, member), { name, member }]),
    );
    const result: Record<string, unknown> = {};
    for (const [key, child] of tree.children) {
      const found = byName.get(key);
      if (found === undefined)
        throw refuse('UnknownParameter', `The parameter ${path}${key} is not recognized`);
      result[found.name] = decode(found.member, child, `${path}${key}.`, refuse);
    }
    return result;
  }
  if (shape.kind === 'list') {
    const item = shape.item ?? { kind: 'string' as const, traits: {} };
    return [...tree.children.entries()]
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([index, child]) => {
        if (!/^[1-9]\d*$/.test(index))
          throw refuse('UnknownParameter', `The parameter ${path}${index} is not recognized`);
        return decode(item, child, `${path}${index}.`, refuse);
      });
  }
  const text = tree.text ?? '';
  const expected = (what: string) =>
    refuse('InvalidParameterValue', `Value (${text}) for parameter ${name} is invalid. ${what} is expected.`);
  if (shape.kind === 'boolean') {
    if (text !== 'true' && text !== 'false') throw expected('A boolean');
    return text === 'true';
  }
  if (shape.kind !== 'number') return text;
  if (!/^-?\d+$/.test(text)) throw expected('An integer');
  return Number(text);
}

function queryName(name: string, shape: Shape): string {
  const { ec2QueryName, xmlName } = shape.traits;
  if (ec2QueryName !== undefined) return ec2QueryName;
  const wire = xmlName ?? name;
  return `${wire[0]?.toUpperCase() ?? ''}${wire.slice(1)}`;
}

/** The SDK's output object as the XML document EC2 sends. */
export function encodeResponse(action: string, answer: object, requestId: string): string {
  const { output } = operation(action);
  const empty = (output.members ?? []).length === 0 || Object.keys(answer).length === 0;
  // Actions without a result of their own answer <return>true</return>.
  const body = empty ? '<return>true</return>' : encode(output, answer);
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>${requestId}</requestId>${body}</${action}Response>\n`;
}

function encode(shape: Shape, value: unknown): string {
  if (shape.kind === 'structure') {
    return (shape.members ?? [])
      .map(([name, member]) => {
        const inner = (value as Record<string, unknown>)[name];
        if (inner === undefined || inner === null) return '';
        const tag = member.traits.xmlName ?? name;
        return `<${tag}>${encode(member, inner)}</${tag}>`;
      })
      .join('');
  }
  if (shape.kind === 'list') {
    const item = shape.item ?? { kind: 'string' as const, traits: {} };
    return (value as unknown[]).map((one) => `<item>${encode(item, one)}</item>`).join('');
  }
  return escapeXml(value instanceof Date ? value.toISOString() : String(value));
}

export function encodeError(code: string, message: string, requestId: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error></Errors><RequestID>${requestId}</RequestID></Response>\n`;
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? '');
}
