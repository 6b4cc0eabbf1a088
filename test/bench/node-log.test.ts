// The records that `npm run bench:node` reads from cri-o's log. The lines are cri-o 1.36's, from a node in the VM.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRuntimeLog } from './node-log.ts';

const line = (at: string, message: string, more = '') =>
  `time="2026-11-26T19:16:${at}313993191Z" level=info msg="${message}" ${more}`;
const pod = 'web-ip-10-0-0-4.eu-west-1.compute.internal';

test("a pod's record goes from the request for its sandbox to the running container", () => {
  const { pods, failures } = readRuntimeLog(
    [
      line(
        '01.',
        `Running pod sandbox: default/${pod}/POD`,
        'id=1 name=/runtime.v1.RuntimeService/RunPodSandbox',
      ),
      line('02.', `Got pod network &{Name:${pod} Namespace:default}`),
      line('03.', `Adding pod default_${pod} to CNI network \\"eniboot\\" (type=eniboot)`),
      line('04.', `Checking pod default_${pod} for CNI network eniboot (type=eniboot)`),
      line('05.', 'Checking CNI network eniboot (config version=1.1.0)'),
      line('06.', `Ran pod sandbox 11fa9 with infra container: default/${pod}/POD`, 'id=1'),
      line(
        '07.',
        'Started container',
        `PID=812 containerID=2b description=default/${pod}/serve sandboxID=11fa9`,
      ),
      line('08.', `Checking pod default_${pod} for CNI network eniboot (type=eniboot)`),
    ].join('\n'),
  );
  assert.equal(failures, []);
  const seconds = Object.entries(pods[pod] ?? {}).map(([what, at]) => [what, new Date(at).getUTCSeconds()]);
  assert.equal(Object.fromEntries(seconds), {
    asked: 1,
    addBegins: 3,
    addEnds: 4,
    checked: 5,
    sandbox: 6,
    started: 7,
  });
  assert.is(new Date(pods[pod]?.asked ?? 0).toISOString(), '2026-11-26T19:16:01.313Z');
});

test('when two pods are checked at once, the end of each CHECK is unknown', () => {
  const { pods } = readRuntimeLog(
    ['a', 'b']
      .map((name) => line('04.', `Checking pod default_${name} for CNI network eniboot (type=eniboot)`))
      .concat(line('05.', 'Checking CNI network eniboot (config version=1.1.0)'))
      .join('\n'),
  );
  assert.is(pods['a']?.checked, undefined);
  assert.is(pods['b']?.checked, undefined);
});

test('a sandbox that cri-o removes is a failure', () => {
  const message = 'NetworkStart: stopping network for sandbox 11fa9dbcb516541a9da8';
  const { failures } = readRuntimeLog(
    [line('01.', 'Checking CNI network eniboot (config version=1.1.0)'), line('02.', message)].join('\n'),
  );
  assert.equal(failures, [message]);
});

test.run();
