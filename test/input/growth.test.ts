// time limit: 600 s
// Parsers of texts from outside take time in proportion to the text. Each parser is a line of a table here. It gets runs of many
// kinds of characters, and then runs eight times as long, and the times are compared. They are seconds of CPU time of this thread:
// other work on the machine does not count.
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { listMacs } from '../../agent/aws/metadata.ts';
import { parseRelease } from '../../agent/aws/release.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { importLyft } from '../../agent/config/lyft.ts';
import { resolveParameters } from '../../agent/config/parameters.ts';
import { configMediaType } from '../../agent/config/source.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import { canonical, objectsOf } from '../../agent/host/nft-listing.ts';
import { redact } from '../../agent/messages/redact.ts';
import { bounds } from '../../agent/port/bounds.ts';
import { readReport } from '../../agent/rollout/node-report.ts';
import { readConfiguration, readVariables, refuseRequests } from '../../cni/call.ts';

/** A parser of texts from outside. */
interface Parser {
  /** Characters of its longest text: enough to tell quadratic time from time in proportion. */
  longest: number;
  /** May throw; a returned promise is awaited. */
  read(text: string): unknown;
  /** Texts around a run; a run without any is always tried, too. */
  around?: [before: string, after: string][];
  /** Further runs, added to those of all parsers. */
  runs?: readonly string[];
}

const part = (headers: string) =>
  `Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\n\n--b\n${headers}\n\n`;
const conflist = (inner: string) =>
  `{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"cni-ipvlan-vpc-k8s-ipam",${inner}}]}`;

/** For redaction: beginnings of secrets whose end does not come. */
const beginnings =
  `token= token=" token=' token={ token=[ token={" token=\\" token=** password:x secret: name= name=" name=token value= value={
value=" value=\\" value=' name:token,value={ {"name":"token","value":" --token --token" -u -ua: -u=a: a:// a://a@ a:a@ a://a:a@ @tcp( a:b@tcp( Bearer Cookie:
Cookie:a= 'Cookie: arn: arn:a:secret: eyJ eyJaaaaaaaa. ghp_ sk- sk-a1 AKIA abcdef.0123456789abcde -----BEGIN -----BEGIN\u00a0A-----
-----END\u00a0A----- AbC1+/ /Ab1`
    .split(/[ \n]/)
    .flatMap((one) => [one, `${one} `, `${one}\n`])
    .map((one) => one.replaceAll('\u00a0', ' '));

const withParameter = loadConfig([
  { name: 'config.yaml', content: 'cluster: c\npods: {subnets: {ids: ["ssm:/ids"]}}\n' },
]).config;

const parsers: Record<string, Parser> = {
  'user data': {
    longest: 16 * 1024,
    read: userDataSources,
    around: [
      ['Content-Type: multipart/mixed; boundary="', ''],
      ['Content-Type: multipart/mixed; boundary="b"', '\n\n--b\n'],
      [part('Content-Type: text/plain'), '\n--b--\n'],
      [part('Content-Transfer-Encoding: quoted-printable'), 'x\n--b--\n'],
      [part('Content-Transfer-Encoding: base64'), 'x\n--b--\n'],
      [part('Content-Disposition: attachment;'), '\n--b--\n'],
      ['MIME-Version: 1.0\n', '\n#eniboot-config\n'],
      [part('Content-Type: text/x-shellscript'), '\n--c\n#eniboot-config\n'],
      ['#cloud-config-archive\n- |\n  ', '\n'],
    ],
  },
  'user data, gzipped': {
    longest: 128 * 1024,
    read: (text) => userDataSources(gzipSync(text)),
    around: [[part('Content-Transfer-Encoding: quoted-printable'), 'x\n--b--\n']],
  },
  configuration: {
    longest: bounds.documentBytes / 4,
    read: (text) => loadConfig([{ name: 'config.yaml', content: text }]),
    around: [
      ['cluster: ', '\n'],
      ['cluster: "', '"\n'],
      ['cluster: |\n  ', '\n'],
      ['pods: {', '}'],
      ['pods:\n  subnets:\n    ids: [', ']'],
    ],
  },
  'Lyft conflist': {
    longest: bounds.documentBytes / 4,
    read: (text) => importLyft('10-x.conflist', text, { cluster: 'c', subnets: [] }),
    around: [
      [conflist('"subnetTags":{"a":"').slice(0, -3), '"}}]}'],
      [conflist('"x":[').slice(0, -3), ']}]}'],
    ],
  },
  'release in a parameter': { longest: 8 * 1024, read: parseRelease, around: [['{"version":"1.0.0', '"}']] },
  'value of a parameter': {
    longest: 8 * 1024,
    read: (text) => resolveParameters(withParameter, new Map([['/ids', text]])),
    around: [['subnet-0a1b2c3d,', '']],
  },
  'list of IMDS': {
    longest: 1024 * 1024,
    read: (text) => listMacs({ read: async () => text, readBytes: async () => undefined, requests: 0 }),
  },
  'report of a node': {
    longest: 64 * 1024,
    read: readReport,
    around: [['{"eniboot":"update"', '']],
  },
  'listing of nft': {
    longest: 1024 * 1024,
    read: (text) => objectsOf(canonical(text)),
    around: [['{"nftables":[{"chain":{"name":"', '"}}]}']],
  },
  'configuration of a CNI call': {
    longest: 1024 * 1024,
    read: (text) => refuseRequests(readConfiguration('ADD', text), ''),
    around: [
      ['{"cniVersion":"1.1.0","name":"', '"}'],
      ['{"cniVersion":"1.1.0","name":"n","ipMasq":"', '"}'],
    ],
  },
  'variables of a CNI call': {
    // The limit of one string of an environment: MAX_ARG_STRLEN, execve(2).
    longest: 128 * 1024,
    read: (text) =>
      readVariables('ADD', (name) => (name === 'CNI_ARGS' || name === 'CNI_CONTAINERID' ? text : '/a')),
    around: [['K8S_POD_NAMESPACE=', ';K8S_POD_NAME=a']],
  },
  'text to redact': {
    longest: 128 * 1024,
    read: redact,
    runs: beginnings,
    around: [
      ['password: ', ''],
      ['{"name":"a","value":', ''],
      ["curl -H 'Cookie: ", ''],
      ['secrets:\n', ''],
      ['-----BEGIN RSA PRIVATE KEY-----\n', ''],
    ],
  },
};

/** The characters that long texts consist of. */
const runs = [
  ...[' ', '\t', '\n', '\r', '\r\n', '\u00a0', '\0', ' \n', '\n ', ' \t'],
  ...[
    '=',
    '=\n',
    '=3D',
    '= ',
    '-',
    '--b\n',
    '--',
    '_',
    '.',
    '..',
    '0',
    '0.',
    '0-',
    'a',
    'aB3',
    'é',
    '\ud83d\ude00',
  ],
  ...['"', '""', "'", '\\', '\\"', '\\\\', '`', '[', ']', '[]', '[[', '{', '}', '{}', '(', '<', '<>'],
  ...[
    ',',
    ', ',
    ';',
    '; ',
    ';a=',
    ':',
    ': ',
    '::',
    '/',
    '//',
    '://',
    '@',
    '#',
    ' #',
    '%',
    '&',
    '*',
    '!',
    '|',
    '>',
    '$',
  ],
  ...[
    'a ',
    'a\n',
    'a: ',
    'a:\n',
    'a: b\n',
    '- ',
    '- a\n',
    '-\n',
    '? ',
    '? a\n',
    'a=',
    'a=b ',
    'a,',
    '"a":',
    '"a",',
    "'a',",
  ],
  ...[
    'a: &b c\n',
    '*b ',
    '&b ',
    '!c ',
    '---\n',
    '...\n',
    'Content-Type: multipart/mixed; boundary=b\n\n--b\n',
  ],
];

/** Milliseconds below which growth cannot be told from noise, and does not matter. */
const NEGLIGIBLE = 100;
/** For eight times the text: 8 is in proportion, 64 is quadratic. */
const MOST = 24;

/** Milliseconds of CPU time. */
async function timeOf(parser: Parser, text: string): Promise<number> {
  const before = process.threadCpuUsage();
  try {
    await parser.read(text);
  } catch {
    // Most of these texts are refused; only the time matters.
  }
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

for (const [name, parser] of Object.entries(parsers)) {
  test(`${name}: eight times the text takes about eight times as long`, async () => {
    const worst: string[] = [];
    for (const [before, after] of [['', ''], ...(parser.around ?? [])] as const)
      for (const run of [...runs, ...(parser.runs ?? [])]) {
        const of = (length: number) =>
          before +
          run.repeat(Math.max(1, Math.floor((length - before.length - after.length) / run.length))) +
          after;
        const taken = new Map<number, number>();
        // From short to long, so that quadratic time is found before it takes minutes.
        for (let length = parser.longest / 512; length <= parser.longest; length *= 8) {
          const text = of(length);
          let ms = await timeOf(parser, text);
          const most = MOST * Math.max(taken.get(length / 8) ?? Infinity, NEGLIGIBLE / MOST);
          // A garbage collection may fall into one of the tries.
          for (let tries = 0; tries < 3 && ms > most; tries += 1)
            ms = Math.min(ms, await timeOf(parser, text));
          taken.set(length, ms);
          if (ms > most)
            worst.push(
              `${JSON.stringify(before)} + ${JSON.stringify(run)}…: ${length} in ${ms.toFixed(0)} ms`,
            );
          // In proportion so far, and slow enough to be sure.
          if (ms > most || ms > 2 * NEGLIGIBLE) break;
        }
      }
    assert.equal(worst, []);
  });
}

test('the unpacked size of user data is bounded as a whole, with any number of layers', () => {
  // 16 KiB of gzip with 60 parts. Each part unpacks to a megabyte of blanks.
  const inner = gzipSync(' '.repeat(1_000_000)).toString('base64');
  const part = `--b\nContent-Type: ${configMediaType}\nContent-Transfer-Encoding: base64\n\n${inner}\n`;
  const text = `Content-Type: multipart/mixed; boundary="b"\n\n${part.repeat(60)}--b--\n`;
  const packed = gzipSync(text);
  assert.ok(packed.length < 16 * 1024, `${packed.length}`);
  const sources = userDataSources(packed);
  const refused = sources.filter((source) => 'refused' in source);
  assert.is(sources.length, 60);
  assert.is(refused.length, 60, 'even the first part has no room, because its message has taken some');
  assert.match(JSON.stringify(refused[0]), 'unpacks to over 1 MiB');
});

test('a file that is not YAML has a few problems, not one for each character', () => {
  try {
    loadConfig([{ name: 'config.yaml', content: `cluster: ${']'.repeat(10_000)}` }]);
    assert.unreachable();
  } catch (error) {
    assert.is((error as { facts: { problems: unknown[] } }).facts.problems.length, 50);
  }
});

test.run();
