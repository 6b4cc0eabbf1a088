import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

test('the boot clock goes on without a file descriptor left', () => {
  const script = `
    const { openSync } = await import('node:fs');
    const { systemClock } = await import('${new URL('../../agent/port/clock.ts', import.meta.url).href}');
    const before = systemClock.bootMs();
    let code;
    try { for (;;) openSync('/dev/null'); } catch (error) { code = error.code; }
    const started = performance.now();
    while (performance.now() - started < 50);
    const after = systemClock.bootMs();
    console.log(JSON.stringify({ code, passed: after - before }));
  `;
  const said = execFileSync(
    'sh',
    ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    {
      encoding: 'utf8',
    },
  );
  const { code, passed } = JSON.parse(said) as { code: string; passed: number };
  assert.is(code, 'EMFILE');
  assert.ok(passed >= 40 && passed < 5_000, String(passed));
});

test.run();
