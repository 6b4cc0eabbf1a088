// The first process that needs AWS's models fetches them, also when two come at once; a failure is told in one sentence.
// pip and the wheel are stand-ins: their answers are not tested here.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const work = mkdtempSync(join(tmpdir(), 'eniboot-fetch-'));
test.after(() => rmSync(work, { recursive: true }));

interface Ended {
  status: number | null;
  out: string;
  err: string;
}

/** Runs fetch.ts with a cache of its own and a python3 that is this script. */
function fetchWith(python: string, cache: string): Promise<Ended> {
  const bin = mkdtempSync(join(work, 'bin-'));
  writeFileSync(join(bin, 'python3'), `#!/bin/sh\n${python}\n`);
  chmodSync(join(bin, 'python3'), 0o755);
  const child = spawn(process.execPath, [join(import.meta.dirname, 'fetch.ts')], {
    env: { ...process.env, PATH: `${bin}:${process.env['PATH']}`, XDG_CACHE_HOME: cache },
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk) => {
    out += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    err += String(chunk);
  });
  return new Promise((done) => child.on('close', (status) => done({ status, out, err })));
}

/** A python3 that answers `-m pip download` and `-m zipfile -e WHEEL FOLDER`. pip waits until `count` processes are in it. */
const together = (meeting: string, count: number) => `
case $2 in
  pip) echo >${meeting}/$$; while [ "$(ls ${meeting} | wc -l)" -lt ${count} ]; do sleep 0.02; done ;;
  zipfile)
    for model in ec2/2016-11-15 ssm/2014-11-06 cloudwatch/2010-08-01; do
      mkdir -p "$5/botocore/data/$model"
      echo '{"operations":{},"shapes":{}}' | gzip >"$5/botocore/data/$model/service-2.json.gz"
    done ;;
esac`;

test('two processes that fetch at once both get the models and leave no other file', async () => {
  const [cache, meeting] = [join(work, 'cache'), join(work, 'meeting')];
  mkdirSync(meeting);
  const both = await Promise.all([1, 2].map(() => fetchWith(together(meeting, 2), cache)));
  for (const { status, err } of both) assert.equal([status, err], [0, '']);
  assert.is(new Set(both.map(({ out }) => out)).size, 1);
  assert.ok(existsSync(join(both[0]?.out.trim() ?? '', 'ssm.json')));
  assert.is(readdirSync(join(both[0]?.out.trim() ?? '', '..')).length, 1);
  assert.is((await fetchWith('exit 1', cache)).status, 0, 'the next process needs no pip');
});

for (const [name, python, why] of [
  ['no pip', 'echo "/usr/bin/python3: No module named pip" >&2; exit 1', /No module named pip/],
  ['another digest', 'echo "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" >&2; exit 1', /DO NOT MATCH/],
  ['a wheel without the models', 'exit 0', /ENOENT.*service-2\.json\.gz/],
] as const)
  test(`a failed fetch is told in one sentence: ${name}`, async () => {
    const cache = join(work, `cache-${name}`);
    const { status, out, err } = await fetchWith(python, cache);
    assert.equal([status, out], [1, '']);
    assert.match(err, /^AWS's models of its requests \(botocore [\d.]+\) could not be fetched: [^\n]+\n$/);
    assert.match(err, why);
    assert.match(err, /python3-pip/);
    assert.equal(readdirSync(join(cache, 'eniboot/botocore')), []);
  });

test.run();
