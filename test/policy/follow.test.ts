// List and watch of the API server, against a stand-in: pages, bookmarks, forgotten versions, connections that are cut,
// refusals.
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isFailure } from '../../agent/messages/failure.ts';
import { follow } from '../../agent/policy/follow.ts';
import { systemClock } from '../../agent/port/clock.ts';
import { type ApiObject, type ApiStandIn, startApiServer, TOKEN } from './api-server.ts';
import { eventually } from './eventually.ts';

interface Seen {
  api: ApiStandIn;
  /** As the follower keeps them. */
  names: Set<string>;
  /** Begin and end of lists, and reports of silence. */
  told: string[];
  stop: AbortController;
  ended: Promise<void>;
}

const MIB = 2 ** 20;
const test = suite<Seen>('follow');
const pod = (name: string, nodeName = 'a'): ApiObject =>
  ({ metadata: { name, namespace: 'x' }, spec: { nodeName } }) as ApiObject;

test.before.each(async (context) => {
  context.api = await startApiServer();
  context.names = new Set();
  context.told = [];
  context.stop = new AbortController();
});
test.after.each(async ({ api, stop, ended }) => {
  stop.abort();
  await ended;
  await api.stop();
});

function start(context: Seen, { token = TOKEN, ca = context.api.ca, query = {} } = {}): void {
  const { api, names, told, stop } = context;
  const nameOf = (object: unknown) => (object as ApiObject).metadata.name;
  let listed = new Set<string>();
  context.ended = follow(
    { url: api.url, identity: () => ({ ca, token }) },
    { path: '/api/v1/pods', query },
    {
      begin: () => {
        told.push('begin');
        listed = new Set();
      },
      put: (object) => {
        names.add(nameOf(object));
        listed.add(nameOf(object));
      },
      end: () => {
        told.push('end');
        for (const name of names) if (!listed.has(name)) names.delete(name);
      },
      remove: (object) => names.delete(nameOf(object)),
      silent: (problem) =>
        told.push(isFailure(problem) ? `${problem.code}: ${problem.message}` : problem.message),
    },
    { clock: systemClock, signal: stop.signal, random: () => 0.1 },
  );
}

test('a list in pages, and what is changed after it', async (context) => {
  const { api, names, told } = context;
  for (let at = 0; at < 1201; at += 1) api.put('pods', pod(`p${at}`));
  start(context);
  await eventually('the list', () => told.includes('end'));
  assert.is(names.size, 1201);
  assert.is(api.requests.filter((one) => one.includes('limit=500')).length, 3, 'three pages of 500');
  await eventually('the watch', () => api.watches() === 1);
  api.put('pods', pod('late'));
  api.remove('pods', pod('p7'));
  await eventually('both changes', () => names.has('late') && !names.has('p7'));
  assert.equal(told, ['begin', 'end']);
});

test('only what was asked for: the pods of one node', async (context) => {
  context.api.put('pods', pod('here'));
  context.api.put('pods', pod('there', 'b'));
  start(context, { query: { fieldSelector: 'spec.nodeName=a' } });
  await eventually('the watch', () => context.api.watches() === 1);
  assert.equal([...context.names], ['here']);
});

test('a watch that is cut goes on where it was: nothing is lost, and nothing listed again', async (context) => {
  const { api, names, told } = context;
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  api.put('pods', pod('before'));
  await eventually('the first', () => names.has('before'));
  api.cut();
  api.put('pods', pod('meanwhile'));
  await eventually('the second', () => names.has('meanwhile'));
  assert.is(told.filter((one) => one === 'begin').length, 1);
  assert.match(told[2] ?? '', /cut short|aborted/, 'and it is told');
});

test('a bookmark is where a watch goes on, though nothing of its own has changed', async (context) => {
  const { api } = context;
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  api.put('namespaces', { metadata: { name: 'y' } });
  api.bookmark();
  await delay(50);
  api.cut();
  await eventually(
    'the next watch',
    () => api.requests.filter((one) => one.includes('watch=true')).length === 2,
  );
  assert.match(api.requests.at(-1) ?? '', /resourceVersion=1001/);
});

test('a version that is forgotten: a new list, and what is gone is gone', async (context) => {
  const { api, names, told } = context;
  api.put('pods', pod('old'));
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  api.cut();
  api.remove('pods', pod('old'));
  api.put('pods', pod('new'));
  api.compact();
  await eventually('the new list', () => names.has('new'));
  await eventually('its end', () => !names.has('old'));
  assert.is(told.filter((one) => one === 'end').length, 2);
});

test('a page that is forgotten: the list begins anew', async (context) => {
  const { api, names, told } = context;
  for (let at = 0; at < 1201; at += 1) api.put('pods', pod(`p${at}`));
  const original = api.requests.push.bind(api.requests);
  let once = true;
  api.requests.push = (...added) => {
    if (once && added[0]?.includes('continue=')) {
      once = false;
      api.compact();
    }
    return original(...added);
  };
  start(context);
  await eventually('the list', () => told.includes('end'));
  assert.equal(told, ['begin', 'begin', 'end']);
  assert.is(names.size, 1201);
});

test('refused, busy, and then answered: what was said stands, and the reason is told', async (context) => {
  const { api, names, told } = context;
  api.put('pods', pod('one'));
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  api.refuse(403, 1);
  api.cut();
  await eventually('the refusal', () => told.some((one) => one.startsWith('POLICY_API_FAILED: 403')));
  assert.ok(names.has('one'));
  await eventually('the watch again', () => api.watches() === 1);
  api.refuse(429, 1, { 'retry-after': '1' });
  api.cut();
  const since = Date.now();
  await eventually('the watch again', () => api.watches() === 1);
  assert.ok(Date.now() - since >= 1000, 'not before the second that the API server asked for');
});

test('a wrong token and a foreign authority are told, and nothing is taken', async (context) => {
  context.api.put('pods', pod('one'));
  start(context, { token: 'wrong' });
  await eventually('the refusal', () => context.told.some((one) => one.includes('401')));
  context.stop.abort();
  await context.ended;
  context.stop = new AbortController();
  const other = await startApiServer();
  start(context, { ca: other.ca });
  await other.stop();
  await eventually('the refusal', () => context.told.some((one) => /certificate/.test(one)));
  assert.is(context.names.size, 0);
});

/** A pod of about this many bytes of JSON. */
const long = (name: string, bytes: number) =>
  ({ ...pod(name), status: { message: 'x'.repeat(bytes) } }) as ApiObject;

test('objects of a length that etcd can hold come by a watch and in a list', async (context) => {
  const { api, names, told } = context;
  api.put('pods', long('first', 11 * MIB));
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  api.put('pods', long('second', 11 * MIB));
  api.put('pods', pod('after'));
  await eventually('the change', () => names.has('after'));
  assert.equal([...names], ['first', 'second', 'after']);
  assert.equal(told, ['begin', 'end']);
});

test('a page that is too long is asked for again with fewer objects', async (context) => {
  const { api, names, told } = context;
  for (let at = 0; at < 40; at += 1) api.put('pods', long(`p${at}`, MIB));
  start(context);
  await eventually('the watch', () => api.watches() === 1);
  assert.is(names.size, 40);
  assert.equal(told, ['begin', 'end'], 'and no problem is told');
  api.put('pods', pod('after'));
  await eventually('the change', () => names.has('after'));
});

for (const [what, line] of [
  ['cannot be read', '{"type":'],
  ['is no event', '{"type":"ADDED","object":{"metadata":null}}'],
  ['is too long', 'x'.repeat(13 * 2 ** 20)],
] as const)
  test(`a line that ${what} is not asked for again: a list has what it said`, async (context) => {
    const { api, names, told } = context;
    start(context);
    await eventually('the watch', () => api.watches() === 1);
    api.say(line);
    await eventually('the new list', () => told.filter((one) => one === 'end').length === 2);
    assert.is(told.length, 5, 'and the problem is told');
    await eventually('the watch again', () => api.watches() === 1);
    api.put('pods', pod('after'));
    await eventually('the change', () => names.has('after'));
  });

test.run();
