// The only redactor: the secrets that it removes, the texts that it keeps, and the ways out of the machine, which all use it.
import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fail, pass, warn } from '../../agent/boot/phase.ts';
import { endOf } from '../../agent/cli/support-bundle.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { Failure } from '../../agent/messages/failure.ts';
import { redact } from '../../agent/messages/redact.ts';
import { createLog } from '../../agent/port/log.ts';
import { gone, stays } from './redact.ts';

for (const [what, text, ...secrets] of gone)
  test(`removed: ${what}`, () => {
    const after = redact(text);
    for (const secret of secrets) {
      assert.ok(text.includes(secret), 'the table is wrong');
      assert.not.ok(after.text.includes(secret), after.text);
    }
    assert.ok(after.removed > 0);
    for (const kept of ['kept: yes', '"kept":1', 'kept1', 'end', '--verbose'])
      if (text.includes(kept)) assert.ok(after.text.includes(kept), after.text);
    assert.is(redact(after.text).text, after.text, 'a second redaction changes nothing');
  });

for (const text of stays)
  test(`stays: ${JSON.stringify(text).slice(0, 80)}`, () => assert.equal(redact(text), { text, removed: 0 }));

test('the end of a long text does not begin inside a secret, also when redaction leaves little of the rest', () => {
  const limit = 400_000;
  const rest = `\n${'x'.repeat(2 * limit - 10)}\nkept: yes\n`;
  for (const before of ['', 'an earlier line\n'])
    assert.is(
      redact(endOf(`${before}password=one-hunter2${rest}`, rest.length + 8)).text.includes('hunter2'),
      false,
    );
  assert.is(endOf('one\ntwo\n', 4), 'two\n');
  assert.is(endOf('one\ntwo\n', 5), 'two\n');
  assert.is(endOf('one\ntwo\n', 8), 'one\ntwo\n');
  assert.is(endOf('x'.repeat(9), 8), '');
});

test('property: a secret in any form is removed', () => {
  const word = fc.stringMatching(/^[A-Za-z0-9/+=._][A-Za-z0-9/+=._-]{7,59}$/);
  const dresses: ((secret: string) => string)[] = [
    (secret) => `password=${secret}`,
    (secret) => `DB_PASSWORD: ${secret}`,
    (secret) => `"SecretAccessKey" : "${secret}",`,
    (secret) => `{\\"Token\\":\\"${secret}\\"}`,
    (secret) => `Authorization: Bearer ${secret}`,
    (secret) => `curl -H 'X-aws-ec2-metadata-token: ${secret}' http://169.254.169.254/`,
    (secret) => `kubeadm join --token ${secret}`,
    (secret) => `https://user:${secret}@example.com/`.replaceAll('/+', '+'),
    (secret) => `client-key-data: ${secret}`,
    (secret) => `secret: |\n  ${secret}\n  ${secret}\n`,
    (secret) => `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
    (secret) => `-----BEGIN EC PRIVATE KEY-----\n${secret}`,
  ];
  fc.assert(
    fc.property(
      word,
      fc.constantFrom(...dresses),
      fc.stringMatching(/^[ a-z]{0,20}$/),
      (secret, dress, before) => {
        const dressed = `${before}\n${dress(secret.replaceAll('/', 'x'))}\nend`;
        const { text, removed } = redact(dressed);
        assert.not.ok(text.includes(secret.replaceAll('/', 'x')), `${dressed} → ${text}`);
        assert.ok(removed > 0);
        assert.match(text, /end$|\[removed\]$/);
      },
    ),
    { numRuns: 3_000 },
  );
});

/** Every way by which a text leaves the machine, or is kept on it. */
const waysOut: Record<string, (secret: string) => string> = {
  'the message of a failure': (secret) => new Failure('INTERNAL', `tar said: password=${secret}`).message,
  'the facts of a failure': (secret) => {
    const { facts } = new Failure('INTERNAL', '', { stderr: `--token ${secret}`, env: { API_KEY: secret } });
    return JSON.stringify(facts);
  },
  'the evidence of a check': (secret) =>
    JSON.stringify([
      pass('a', `psk=${secret}`, { stderr: `curl -u bob:${secret}` }),
      warn('b', '', { list: [{ name: 'DB_PASSWORD', value: secret }] }),
      fail('c', 'INTERNAL', `token: ${secret}`, { token: [secret] }),
    ]),
  'the log, for the journal': (secret) => logged('json', secret),
  'the log, for people': (secret) => logged('text', secret),
  'a problem of the configuration': (secret) =>
    JSON.stringify(
      problemsOf(`cluster: a\npassword: ${secret}\nextra: {"name": "API_TOKEN", "value": "${secret}"}\n`),
    ),
};

for (const [what, of] of Object.entries(waysOut))
  test(`no secret is in ${what}`, () => {
    const text = of('hunter2');
    assert.not.match(text, 'hunter2');
    assert.match(text, /\[removed\]|\(hidden\)/);
  });

function logged(form: 'json' | 'text', secret: string): string {
  const { write } = process.stderr;
  let text = '';
  process.stderr.write = (piece: string | Uint8Array) => {
    text += String(piece);
    return true;
  };
  try {
    createLog({ level: 'info', form }).warn('it failed', {
      reason: `Authorization: Bearer ${secret}`,
      facts: { clientSecret: secret },
    });
  } finally {
    process.stderr.write = write;
  }
  assert.match(text, 'it failed');
  return text;
}

function problemsOf(content: string): unknown {
  try {
    return loadConfig([{ name: 'config.yaml', content }]);
  } catch (error) {
    return (error as Failure).facts['problems'];
  }
}

test('values that are no secrets keep their type: numbers, booleans, dates and texts', () => {
  const facts = {
    at: new Date(0),
    n: 1,
    ok: true,
    hasToken: false,
    text: 'a',
    none: undefined,
    list: [1, 'b'],
  };
  assert.equal(new Failure('INTERNAL', 'a', facts).facts, facts);
});

test('10 MB of log take about a second', () => {
  const line = `Nov 23 02:00:00 ip-10-0-0-4 kubelet[2311]: I1123 02:00:00.123456 2311 reconciler.go:251] "Started for volume" (UniqueName: "kubernetes.io/projected/8c1f2b6e-3f0a-4b0c-9d55-0a4c1b2d3e4f") pod="kube-system/coredns" token=abc\n`;
  const log = line.repeat(10_000_000 / line.length);
  const before = process.threadCpuUsage();
  assert.ok(redact(log).removed > 10_000);
  const { user, system } = process.threadCpuUsage(before);
  // CPU time: other programs use the processor as well.
  assert.ok(user + system < 3_000_000, `${(user + system) / 1e6} s`);
});

test.run();
