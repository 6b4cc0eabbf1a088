// The table of failure kinds: a failure that may pass is tried again, from any service.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { awsFailure } from '../../agent/aws/aws-failure.ts';
import { allPages } from '../../agent/aws/paging.ts';
import { failureCodes } from '../../agent/messages/codes.ts';
import { Failure } from '../../agent/messages/failure.ts';
import { codeOfKind, failureOf, isSilentCode, type Kind, type Service } from '../../agent/messages/kinds.ts';
import { bounds } from '../../agent/port/bounds.ts';

const services = Object.keys(codeOfKind) as Service[];
const PASSING: Kind[] = [
  'throttled',
  'unauthenticated',
  'unanswered',
  'unreadable',
  'senseless',
  'exhausted',
];

test('a failure that may pass is tried again; a denial and a refusal are not', () => {
  for (const service of services) {
    for (const kind of PASSING)
      assert.ok(failureCodes[codeOfKind[service][kind]].transient, `${service} ${kind}`);
    assert.not.ok(failureCodes[codeOfKind[service].denied].transient, service);
  }
  assert.not.ok(failureCodes[codeOfKind.EC2.refused].transient);
  assert.not.ok(failureCodes[codeOfKind.SSM.refused].transient);
});

test('a node with its ENIs becomes READY with any failure of EC2, except a denial and a refusal', () => {
  for (const kind of PASSING) {
    if (kind === 'exhausted') continue;
    for (const service of ['EC2', 'IMDS'] as const)
      assert.ok(isSilentCode(codeOfKind[service][kind]), `${service} ${kind}`);
  }
});

const answered = (name: string, httpStatusCode: number) =>
  Object.assign(new Error('words'), { name, $metadata: { httpStatusCode } });
const ofSystem = (code: string) => Object.assign(new Error('words'), { code, syscall: 'connect' });

/** An error, and its kind. */
const evidence: [unknown, Kind][] = [
  [answered('RequestLimitExceeded', 503), 'throttled'],
  [answered('Odd', 429), 'throttled'],
  [answered('UnauthorizedOperation', 403), 'denied'],
  [answered('AuthFailure', 401), 'unauthenticated'],
  [answered('InvalidParameterValue', 400), 'refused'],
  [answered('InternalError', 500), 'unanswered'],
  [answered('Odd', 502), 'unanswered'],
  [answered('TypeError', 200), 'unreadable'],
  [answered('RangeError', 200), 'unreadable'],
  [answered('Odd', 302), 'unreadable'],
  [answered('SyntaxError', 400), 'unreadable'],
  [ofSystem('ECONNREFUSED'), 'unanswered'],
  [ofSystem('ETIMEDOUT'), 'unanswered'],
  [ofSystem('EMSGSIZE'), 'unreadable'],
  [ofSystem('EBADMSG'), 'unreadable'],
  [ofSystem('EMFILE'), 'exhausted'],
  [ofSystem('ENFILE'), 'exhausted'],
  [ofSystem('ENOMEM'), 'exhausted'],
  ['a text', 'unanswered'],
  [undefined, 'unanswered'],
];

test('each error has its kind', () => {
  for (const service of ['EC2', 'SSM'] as const)
    for (const [error, kind] of evidence)
      assert.is(
        awsFailure(service, 'Act', {}, error).code,
        codeOfKind[service][kind],
        `${service} ${kind}: ${JSON.stringify(error)}`,
      );
});

test('an unexpected error has the code of its cause, else INTERNAL', () => {
  const own = new Failure('USAGE', 'x');
  assert.is(failureOf(own), own);
  const file = (code: string) => Object.assign(new Error('words'), { code, syscall: 'open', path: '/x' });
  for (const code of ['EMFILE', 'ENFILE', 'ENOMEM'])
    assert.is(failureOf(file(code)).code, 'SYSTEM_EXHAUSTED');
  for (const code of ['ENOSPC', 'EROFS', 'EACCES', 'EIO', 'ELOOP'])
    assert.is(failureOf(file(code)).code, 'FILE_WRITE');
  for (const defect of [new TypeError('x'), 'x', undefined, null])
    assert.is(failureOf(defect).code, 'INTERNAL');
});

test('no client of the SDK is made without limits', () => {
  const folder = join(import.meta.dirname, '../../agent');
  const made = readdirSync(folder, { recursive: true, encoding: 'utf8' }).flatMap((name) => {
    const text = name.endsWith('.ts') ? readFileSync(join(folder, name), 'utf8') : '';
    return /new (EC2|SSM)Client\(/.test(text) ? [{ name, text }] : [];
  });
  assert.equal(made.map(({ name }) => name).sort(), [
    'aws/ec2-sdk.ts',
    'aws/operator-clients.ts',
    'aws/ssm.ts',
  ]);
  for (const { name, text } of made) assert.match(text, /requestHandler(:| =) boundedHandler\(/, name);
});

test('a list of pages comes to an end, or is refused', async () => {
  const pages = (next: (at: number) => string | undefined, items: number[] = [1]) => {
    let at = 0;
    return allPages(
      'EC2',
      async () => {
        at += 1;
        return { NextToken: next(at) };
      },
      () => items,
    );
  };
  assert.is((await pages((at) => (at < 3 ? String(at) : undefined))).length, 3);
  assert.is((await pages((at) => (at < 3 ? String(at) : ''))).length, 3);
  const many = Array.from({ length: 10_000 }, (_, at) => at);
  for (const endless of [
    pages(() => 'same'),
    pages((at) => String(at)),
    pages((at) => String(at), []),
    pages((at) => String(at), many),
  ]) {
    const failure = await endless.then(
      () => undefined,
      (error: unknown) => error as Failure,
    );
    assert.is(failure?.code, 'EC2_UNAVAILABLE');
    assert.ok(Number(failure?.facts['pages']) <= bounds.listPages);
    assert.ok(Number(failure?.facts['elements']) <= bounds.listItems + many.length);
  }
});

test.run();
