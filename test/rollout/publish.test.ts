// Two operators publish at once: neither loses what it has published, and the archive that was there first stays.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FleetAws } from '../../agent/aws/fleet.ts';
import { parseRelease } from '../../agent/aws/release.ts';
import { type Failure, isFailure } from '../../agent/messages/failure.ts';
import { publishRelease } from '../../agent/rollout/releases.ts';
import { createFleet, operatorOf } from './fleet.ts';

const scratch = mkdtempSync(join(tmpdir(), 'publish-'));
const server = createServer((request, response) =>
  response.end(readFileSync(join(scratch, request.url ?? ''))),
);
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address() as AddressInfo;

/** An archive of version 3.0.0; archives differ by a word in it. */
function archiveOf(word: string): { file: string; url: string } {
  const folder = join(scratch, `${word}.d`);
  mkdirSync(folder);
  const manifest = { version: '3.0.0', files: [], plugins: [], word };
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  execFileSync('tar', ['-C', folder, '-czf', join(scratch, word), 'manifest.json']);
  return { file: join(scratch, word), url: `http://127.0.0.1:${port}/${word}` };
}

const archives = { x64: archiveOf('x64'), arm64: archiveOf('arm64'), other: archiveOf('other') };
const name = '/eniboot/releases/3.0.0';
type Publish = { x64?: { file: string; url: string }; arm64?: { file: string; url: string } };

interface Outcome {
  mine: string;
  /** The published addresses in the end, by the word in the address. */
  stands: Record<string, string | undefined>;
  writes: number;
}

/** Publishes `mine`. After its read of the parameter and before its write, other operators publish the second list. */
async function race(mine: Publish, theirs: Publish[], before: Publish[] = []): Promise<Outcome> {
  const fleet = createFleet({ zones: [1] });
  const { aws } = operatorOf(fleet);
  const publish = (by: FleetAws, what: Publish) => publishRelease(by, { x64: what.x64, arm64: what.arm64 });
  let left = theirs;
  const slow: FleetAws = {
    ...aws,
    async readParameter(reference) {
      const found = await aws.readParameter(reference);
      const [...others] = left;
      left = [];
      for (const other of others) await publish(aws, other);
      return found;
    },
  };
  const all = async () => {
    for (const one of before) await publish(aws, one);
    return publish(slow, mine).then(
      () => 'published',
      (error: Failure) => (isFailure(error) ? error.code : String(error)),
    );
  };
  // Downloads take real time, calls virtual time.
  const pump = setInterval(() => fleet.scheduler.advance(100), 1);
  const said = await all().finally(() => clearInterval(pump));
  const versions = fleet.ssm.parameters.get(name) ?? [];
  const release = parseRelease(versions.at(-1)?.value ?? '');
  const word = (url: string | undefined) => url?.split('/').at(-1);
  return {
    mine: said,
    stands: { x64: word(release.x64?.url), arm64: word(release.arm64?.url) },
    writes: versions.length,
  };
}

const { x64, arm64, other } = archives;
const cases: [string, Publish, Publish[], Publish[], Outcome][] = [
  ['alone', { x64 }, [], [], { mine: 'published', stands: { x64: 'x64', arm64: undefined }, writes: 1 }],
  [
    'another CPU',
    { x64 },
    [{ arm64 }],
    [],
    { mine: 'published', stands: { x64: 'x64', arm64: 'arm64' }, writes: 3 },
  ],
  [
    'the same',
    { x64 },
    [{ x64 }],
    [],
    { mine: 'published', stands: { x64: 'x64', arm64: undefined }, writes: 2 },
  ],
  [
    'both, by two',
    { x64 },
    [{ arm64 }, { x64 }],
    [],
    { mine: 'published', stands: { x64: 'x64', arm64: 'arm64' }, writes: 4 },
  ],
  [
    'beside a published one',
    { x64 },
    [{ arm64 }],
    [{ x64 }],
    { mine: 'published', stands: { x64: 'x64', arm64: 'arm64' }, writes: 4 },
  ],
  [
    'other contents',
    { x64 },
    [{ x64: other }],
    [],
    { mine: 'RELEASE_DIFFERS', stands: { x64: 'other', arm64: undefined }, writes: 3 },
  ],
];
for (const [what, mine, theirs, before, outcome] of cases) {
  test(`published at once: ${what}`, async () => {
    assert.equal(await race(mine, theirs, before), outcome);
  });
}

test.after(() => {
  server.close();
});
test.run();
