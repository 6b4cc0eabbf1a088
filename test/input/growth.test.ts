// time limit: 300 s
// What reads a text from outside takes time in proportion to the text. Each parser is a line of a table here; it gets
// every run of characters, eight times as long the second time, and what it then takes is compared. Seconds of the
// processor that this thread used, not of the clock: other work on the machine does not count.
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseRelease } from '../../agent/aws/release.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { importLyft } from '../../agent/config/lyft.ts';
import { maximumBytes } from '../../agent/config/source.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import { redact } from '../../agent/messages/redact.ts';

/** One that reads texts from outside. */
interface Parser {
  /** Characters of the longest text it is given: its limit, or far more than it ever reads. */
  longest: number;
  read(text: string): unknown;
  /** What runs stand between, beside nothing. */
  around?: [before: string, after: string][];
}

const part = (headers: string) =>
  `Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\n\n--b\n${headers}\n\n`;
const conflist = (inner: string) =>
  `{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"cni-ipvlan-vpc-k8s-ipam",${inner}}]}`;

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
    ],
  },
  'user data, gzipped': {
    longest: 1024 * 1024,
    read: (text) => userDataSources(gzipSync(text)),
    around: [[part('Content-Transfer-Encoding: quoted-printable'), 'x\n--b--\n']],
  },
  configuration: {
    longest: maximumBytes,
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
    longest: maximumBytes,
    read: (text) => importLyft('10-x.conflist', text, { cluster: 'c', subnets: [] }),
    around: [
      [conflist('"subnetTags":{"a":"').slice(0, -3), '"}}]}'],
      [conflist('"x":[').slice(0, -3), ']}]}'],
    ],
  },
  'release in a parameter': { longest: 8 * 1024, read: parseRelease, around: [['{"version":"1.0.0', '"}']] },
  'text to redact': {
    longest: 512 * 1024,
    read: redact,
    around: [
      ['password: ', ''],
      ['{"name":"a","value":', ''],
      ["curl -H 'Cookie: ", ''],
      ['secrets:\n', ''],
      ['-----BEGIN RSA PRIVATE KEY-----\n', ''],
    ],
  },
};

/** What a text is made long with. */
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

const cpuMs = (work: () => void): number => {
  const before = process.threadCpuUsage();
  work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
};

/** Milliseconds below which growth cannot be told from noise, and matters to nobody. */
const NEGLIGIBLE = 40;
/** Eight times the text: 8 in proportion, 64 where it is squared. */
const MOST = 24;

function timeOf(parser: Parser, text: string): number {
  return cpuMs(() => {
    try {
      parser.read(text);
    } catch {
      // Most of these texts are refused; how fast is the question.
    }
  });
}

for (const [name, parser] of Object.entries(parsers)) {
  test(`${name}: eight times the text takes about eight times as long`, () => {
    const worst: string[] = [];
    for (const [before, after] of [['', ''], ...(parser.around ?? [])] as const)
      for (const run of runs) {
        const of = (length: number) =>
          before +
          run.repeat(Math.max(1, Math.floor((length - before.length - after.length) / run.length))) +
          after;
        const taken = new Map<number, number>();
        // From short to long, so that a squared one is told before it takes minutes.
        for (let length = 512; length <= parser.longest; length *= 2) {
          const text = of(length);
          let ms = timeOf(parser, text);
          const most = MOST * Math.max(taken.get(length / 8) ?? Infinity, NEGLIGIBLE / MOST);
          // A collection of garbage may fall into one of them.
          for (let tries = 0; tries < 3 && ms > most; tries += 1) ms = Math.min(ms, timeOf(parser, text));
          taken.set(length, ms);
          if (ms > most)
            worst.push(
              `${JSON.stringify(before)} + ${JSON.stringify(run)}…: ${length} in ${ms.toFixed(0)} ms`,
            );
          // In proportion so far, and slow enough to have told.
          if (ms > most || ms > 2 * NEGLIGIBLE) break;
        }
      }
    assert.equal(worst, []);
  });
}

test.run();
