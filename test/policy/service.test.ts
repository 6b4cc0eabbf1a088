// time limit: 240 s
// The policy service follows what boots and updates make of it: other settings, another version, no policies any more.
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configText, ENIBOOT } from '../boot/node.ts';
import { eventually } from './eventually.ts';
import { startTwoNodes, type TwoNodes } from './two-nodes.ts';

let rig: TwoNodes;

test.before(async () => {
  rig = await startTwoNodes();
  rig.isolate('b', { policyTypes: ['Ingress'] });
  await shut();
});
test.after(() => rig.stop());

const ask = () => rig.one.fetch('a', `http://${rig.b.address}/`);
const shut = () => eventually('b is shut', async () => (await ask()) === '');

/** The exit code of node one's service, which the action ends. */
async function endedBy(action: () => Promise<unknown>): Promise<number> {
  const ended = once(rig.service, 'exit') as Promise<[number]>;
  await action();
  const [code] = await ended;
  return code;
}

const setting = (section: string) =>
  rig.one.sh(`cat > /etc/eniboot/config.yaml <<'END'
${section}
END
${ENIBOOT} boot >/dev/null`);

test('other settings: the service ends, and the rules stay', async () => {
  const section = await rig.one.sh('cat /etc/eniboot/config.yaml');
  const logging = section.replace('policy: {', 'policy: { logDenied: true,');
  assert.is.not(logging, section);
  assert.is(await endedBy(() => setting(logging)), 0);
  assert.is(await ask(), '', 'b is shut while no service runs');
  assert.match(rig.journal(), /"wanted":"other-settings"/);
  rig.service = rig.serve(rig.one);
  await shut();
});

test('another version: the service ends, and the rules stay', async () => {
  const switched = 'cd /usr/libexec/eniboot; ln -s "$(readlink current)" 9.9.9; ln -sfn 9.9.9 current';
  assert.is(await endedBy(() => rig.one.sh(switched)), 0);
  assert.is(await ask(), '');
  assert.match(rig.journal(), /"wanted":"other-version"/);
  // Otherwise the next boot switches back, and the service may end for that.
  await rig.one.sh('cd /usr/libexec/eniboot; ln -sfn "$(readlink 9.9.9)" current; rm 9.9.9');
  rig.service = rig.serve(rig.one);
  await shut();
});

test('one lost file opens no pod: repair writes it again, and the service goes on', async () => {
  for (const lost of [
    'rm /run/eniboot/policy.json',
    `python3 -c "import json; f='/run/eniboot/node.json'; n=json.load(open(f)); del n['policy']; json.dump(n, open(f, 'w'))"`,
  ]) {
    await rig.one.sh(lost);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assert.is(await ask(), '', lost);
    await rig.one.sh(`${ENIBOOT} repair`);
    assert.is(rig.service.exitCode, null, 'the service runs');
  }
});

test('a damaged settings file is no end of policies', async () => {
  await rig.one.sh('cp /run/eniboot/policy.json /run/kept; echo damaged > /run/eniboot/policy.json');
  const stopped = rig.one.instance.spawn(ENIBOOT, ['policy', 'serve'], { stdio: 'ignore' });
  const [code] = (await once(stopped, 'exit')) as [number];
  assert.is(code, 1, 'systemd starts it again');
  await rig.one.sh('mv /run/kept /run/eniboot/policy.json');
  rig.service.kill();
  await once(rig.service, 'exit').catch(() => undefined);
  rig.service = rig.serve(rig.one);
  await shut();
});

/** The row of policies in `eniboot check`, with systemd's word for the service's state; systemd itself is not there. */
async function checked(state: string): Promise<{ result: string; code?: string; summary: string }> {
  const units = `Id=eniboot-policy.service\\nLoadState=loaded\\nActiveState=${state}\\n`;
  rig.one.instance.write('/opt/stand-ins/systemctl', `#!/bin/sh\nprintf '${units}'\n`, 0o755);
  const path = 'PATH=/opt/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin';
  const { checks } = JSON.parse(await rig.one.sh(`${path} ${ENIBOOT} check --json || :`));
  return checks.find(({ id }: { id: string }) => id === 'policies');
}

const putBack = async () =>
  Number(
    /^eniboot_policy_put_back_total (\d+)$/m.exec(
      await rig.one.sh(`${ENIBOOT} pool refill >/dev/null; cat /var/lib/eniboot/metrics/node.prom`),
    )?.[1],
  );

test('a table that another program empties is written again, and the journal, metrics and check tell of it', async () => {
  await eventually('check knows the pods', async () =>
    /1 pods isolated/.test((await checked('active')).summary),
  );
  const before = await putBack();
  await rig.one.sh('ip netns exec b nft flush table inet eniboot_policy');
  await eventually('check tells of pod b', async () =>
    /rules of x\/b/.test((await checked('active')).summary),
  );
  assert.is((await checked('active')).result, 'warn');
  assert.is(await ask(), '', 'b is shut again');
  assert.match(rig.journal(), /another program has changed the rules[^\n]*x\/b/);
  assert.is(await putBack(), before + 1);
});

test('check tells of a service that is down, starts, or hangs', async () => {
  assert.equal(pick(await checked('failed')), ['fail', 'POLICY_SERVICE_DOWN']);
  assert.equal(pick(await checked('activating')), ['warn', undefined]);
  rig.service.kill();
  await once(rig.service, 'exit');
  await rig.one.sh('touch -d "2 minutes ago" /run/eniboot-policy/counts.json');
  assert.equal(pick(await checked('active')), ['fail', 'POLICY_SERVICE_DOWN']);
  rig.service = rig.serve(rig.one);
  await eventually('check is content', async () => (await checked('active')).result !== 'fail');
});

function pick({ result, code }: { result: string; code?: string }) {
  return [result, code];
}

test('no policies any more: a boot plans it, and the service takes the rules out and ends', async () => {
  const without = configText(rig.cloud, '');
  const planned = await rig.one.sh(`cat > /tmp/without.yaml <<'END'
${without}
END
cp /tmp/without.yaml /etc/eniboot/config.yaml; ${ENIBOOT} plan`);
  assert.match(planned, /remove \/run\/eniboot\/policy\.json: no `policy` any more/);
  assert.is(await endedBy(() => setting(without)), 3, 'systemd does not start it again');
  assert.is(await ask(), rig.a.address, 'b is open');
  assert.not.match(await rig.one.sh('nft list tables; ip netns exec b nft list tables'), /eniboot_policy/);
  assert.is(await rig.one.sh('ls /run/eniboot-policy'), '');
});

test('a service that was not there at the end of policies takes the rules out when it starts', async () => {
  await rig.one.sh(`ip netns exec b nft add table inet eniboot_policy`);
  rig.service = rig.serve(rig.one);
  const [code] = (await once(rig.service, 'exit')) as [number];
  assert.is(code, 3);
  assert.not.match(await rig.one.sh('ip netns exec b nft list tables'), /eniboot_policy/);
});

test.run();
