import { setTimeout as delay } from 'node:timers/promises';
import * as assert from 'uvu/assert';

/** Waits until `holds` neither throws nor returns false. @throws its last error, or `what`, after 15 s. */
export async function eventually(what: string, holds: () => unknown): Promise<void> {
  const end = Date.now() + 15_000;
  for (;;) {
    try {
      if ((await holds()) !== false) return;
      if (Date.now() > end) assert.unreachable(`not within 15 s: ${what}`);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    await delay(10);
  }
}
