// Checks a request against AWS's own model of the service: which members there are, of which type, length and form.
import { type Model, type ModelShape, modelOf, type ServiceName } from '../fetch.ts';

export interface Problem {
  kind: 'unknown' | 'missing' | 'type' | 'value';
  /** The member, such as `Tags[0].Key`. */
  at: string;
  /** AWS's text, without the member's name. */
  why: string;
}

/** The first problem of a value; undefined when it is well formed. */
type Check = (value: unknown, at: string) => Problem | undefined;

/** launch.sh sets it for a demonstration, which runs without these checks. */
const UNCHECKED = 'ENIBOOT_REQUESTS_UNCHECKED';

/** Every release of EC2 brings new values, and older clients send them: no list of them is complete. */
const OPEN_ENUMS = new Set(['InstanceType']);

const checks = new Map<string, Check>();
const models = new Map<ServiceName, Model>();

/** The request in the shapes of the SDK. Members without a value count as absent. */
export function modelProblem(service: ServiceName, action: string, request: object): Problem | undefined {
  const model = loaded(service);
  if (model === undefined) return undefined;
  if (!(action in model.operations)) return { kind: 'unknown', at: action, why: 'is no operation' };
  const input = model.operations[action];
  return input === undefined ? undefined : checkOf(service, model, input)(request, '');
}

function loaded(service: ServiceName): Model | undefined {
  const known = models.get(service);
  if (known !== undefined) return known;
  const model = modelOf(service);
  if (model !== undefined) models.set(service, model);
  else if (process.env[UNCHECKED] !== '1')
    throw new Error(`AWS's model of ${service} is not here: run node test/aws/fetch.ts`);
  return model;
}

/** Made once for each shape, because a fleet of thousands checks all the time. */
function checkOf(service: ServiceName, model: Model, name: string): Check {
  const key = `${service}/${name}`;
  const known = checks.get(key);
  if (known !== undefined) return known;
  const shape = model.shapes[name];
  if (shape === undefined) throw new Error(`the model of ${service} has no shape ${name}`);
  // A shape may contain itself. So the inner check is looked up when it is used, not when it is made.
  const inner = (one: { shape: string } | undefined): Check => {
    let check: Check | undefined;
    return (value, at) => {
      check ??= checkOf(service, model, one?.shape ?? '');
      return check(value, at);
    };
  };
  const check = makers[shape.type]?.(shape, inner, name);
  if (check === undefined) throw new Error(`the model of ${service} has a shape of type ${shape.type}`);
  checks.set(key, check);
  return check;
}

type Maker = (shape: ModelShape, inner: (one: { shape: string } | undefined) => Check, name: string) => Check;

const makers: Record<string, Maker> = {
  structure: structure,
  list: list,
  map: map,
  string: string,
  // Base64 text on the wire.
  blob: string,
  boolean: () => typed('a boolean', (value) => typeof value === 'boolean'),
  integer: whole,
  long: whole,
  double: () => typed('a number', (value) => typeof value === 'number'),
  timestamp: () =>
    typed('a timestamp', (value) =>
      value instanceof Date
        ? Number.isFinite(value.getTime())
        : typeof value === 'number' || (typeof value === 'string' && Number.isFinite(Date.parse(value))),
    ),
};

function structure(
  { members = {}, required = [] }: ModelShape,
  inner: (one: { shape: string }) => Check,
): Check {
  const byName = new Map(Object.entries(members).map(([name, one]) => [name, inner(one)]));
  return (value, at) => {
    if (!isObject(value)) return ofType(at, 'a structure');
    for (const [name, one] of Object.entries(value)) {
      if (one === undefined) continue;
      const check = byName.get(name);
      if (check === undefined) return { kind: 'unknown', at: join(at, name), why: 'is not recognized' };
      const problem = check(one, join(at, name));
      if (problem !== undefined) return problem;
    }
    const absent = required.find((name) => value[name] === undefined);
    return absent === undefined
      ? undefined
      : { kind: 'missing', at: join(at, absent), why: 'Member must not be null' };
  };
}

function list(shape: ModelShape, inner: (one: { shape: string } | undefined) => Check): Check {
  const item = inner(shape.member);
  return (value, at) => {
    if (!Array.isArray(value)) return ofType(at, 'a list');
    const size = sizeProblem(shape, value.length, at, 'length');
    if (size !== undefined) return size;
    for (const [index, one] of value.entries()) {
      const problem = item(one, `${at}[${index}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

function map(shape: ModelShape, inner: (one: { shape: string } | undefined) => Check): Check {
  const [key, item] = [inner(shape.key), inner(shape.value)];
  return (value, at) => {
    if (!isObject(value)) return ofType(at, 'a map');
    const entries = Object.entries(value);
    const size = sizeProblem(shape, entries.length, at, 'length');
    if (size !== undefined) return size;
    for (const [name, one] of entries) {
      const problem = key(name, join(at, name)) ?? item(one, join(at, name));
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

function string(shape: ModelShape, _inner: unknown, name: string): Check {
  const words = OPEN_ENUMS.has(name) || shape.enum === undefined ? undefined : new Set(shape.enum);
  const pattern = shape.pattern === undefined ? undefined : wholePattern(shape.pattern);
  return (value, at) => {
    if (typeof value !== 'string') return ofType(at, 'a string');
    if (words !== undefined && !words.has(value))
      return unfit(at, `Member must satisfy enum value set: [${[...words].join(', ')}]`);
    // AWS counts characters. One character may be two UTF-16 units of a JavaScript string.
    const size = sizeProblem(shape, [...value].length, at, 'length');
    if (size !== undefined) return size;
    if (pattern === undefined || pattern.test(value)) return undefined;
    return unfit(at, `Member must satisfy regular expression pattern: ${shape.pattern}`);
  };
}

function whole(shape: ModelShape): Check {
  return (value, at) =>
    typeof value === 'number' && Number.isInteger(value)
      ? sizeProblem(shape, value, at, 'value')
      : ofType(at, 'an integer');
}

function typed(what: string, fits: (value: unknown) => boolean): Check {
  return (value, at) => (fits(value) ? undefined : ofType(at, what));
}

function sizeProblem({ min, max }: ModelShape, size: number, at: string, what: 'length' | 'value') {
  if (min !== undefined && size < min)
    return unfit(at, `Member must have ${what} greater than or equal to ${min}`);
  if (max !== undefined && size > max)
    return unfit(at, `Member must have ${what} less than or equal to ${max}`);
  return undefined;
}

/** A Java expression, which AWS matches against the whole value. */
function wholePattern(pattern: string): RegExp {
  const [, inline, rest = pattern] = /^\(\?(i)\)(.*)$/s.exec(pattern) ?? [];
  const flags = `s${inline ?? ''}`;
  try {
    return new RegExp(`^(?:${rest})$`, `${flags}u`);
  } catch {
    // The pattern has escapes that JavaScript's Unicode mode refuses.
    return new RegExp(`^(?:${rest})$`, flags);
  }
}

function ofType(at: string, what: string): Problem {
  return { kind: 'type', at, why: `Member must be ${what}` };
}

function unfit(at: string, why: string): Problem {
  return { kind: 'value', at, why };
}

function join(at: string, name: string): string {
  return at === '' ? name : `${at}.${name}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
