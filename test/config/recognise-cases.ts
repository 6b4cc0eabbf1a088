// User data as operators write it, and what becomes of eniboot's configuration in it. A new case is a line.
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';

export interface UserDataCase {
  name: string;
  data: string | Uint8Array;
  /**
   * `read`: its configuration is in effect. A pattern: it is refused with that problem. `warns`: it is passed over with that
   * warning. `passes`: it is for another program and is passed over without a message.
   */
  becomes: 'read' | 'passes' | RegExp | { warns: RegExp };
  /** Why the result differs from cloud-init's parser. */
  unlike?: string;
}

const yaml = 'pods:\n  max: 33\n';
const marked = `#eniboot-config\n${yaml}`;
const base64 = (text: string | Uint8Array) => Buffer.from(text).toString('base64');

const outer = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="==X=="\n';
const script = '--==X==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n';
const typed = `--==X==\nContent-Type: application/vnd.eniboot.config+yaml\n\n${yaml}`;
const plain = `--==X==\nContent-Type: text/plain\n\n${marked}`;
const end = '--==X==--\n';
const message = `${outer}\n${script}${typed}${end}`;
const part = (...lines: string[]) => `${outer}\n${script}--==X==\n${lines.join('\n')}\n${end}`;
const ours = 'Content-Type: application/vnd.eniboot.config+yaml';
const crlf = (text: string) => text.replaceAll('\n', '\r\n');
const wide = (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le');
const lax = 'only eniboot reads it, so the mark does no harm';
const noMime = 'eniboot reads a message without MIME-Version, with a warning';
const packed = 'eniboot unpacks what cloud-init leaves packed';

export const userDataCases: UserDataCase[] = [
  // The text as a whole.
  { name: 'the marker first', data: marked, becomes: 'read' },
  { name: 'the marker first, CRLF', data: crlf(marked), becomes: 'read' },
  { name: 'blanks behind the marker', data: `#eniboot-config  \n${yaml}`, becomes: 'read' },
  { name: 'an empty line above the marker', data: `\n${marked}`, becomes: 'read' },
  {
    name: 'empty lines with blanks above the marker, CRLF',
    data: crlf(`\n  \n\n${marked}`),
    becomes: 'read',
  },
  { name: 'blanks before the marker', data: `   ${marked}`, becomes: 'read' },
  { name: 'a tab before the marker', data: `\t${marked}`, becomes: 'read' },
  { name: 'a byte-order mark before the marker', data: `\ufeff${marked}`, becomes: 'read', unlike: lax },
  { name: 'a byte-order mark and an empty line', data: `\ufeff\n${marked}`, becomes: 'read', unlike: lax },
  { name: 'an empty line and a byte-order mark', data: `\n\ufeff${marked}`, becomes: 'read', unlike: lax },
  { name: 'a no-break space before the marker', data: `\u00a0${marked}`, becomes: 'read' },
  { name: 'UTF-16 of PowerShell', data: wide(marked), becomes: /UTF-16/ },
  { name: 'UTF-16 without its mark', data: wide(marked).subarray(2), becomes: /UTF-16/ },
  { name: 'UTF-16, a whole message', data: wide(message), becomes: /UTF-16/ },
  { name: 'UTF-16 for another program', data: wide('<powershell>\n'), becomes: 'passes' },
  { name: 'CR alone between lines', data: marked.replaceAll('\n', '\r'), becomes: /holds no settings/ },
  { name: 'the marker in capitals', data: `#Eniboot-Config\n${yaml}`, becomes: /nearly/ },
  { name: 'a blank in the marker', data: `# eniboot-config\n${yaml}`, becomes: /nearly/ },
  { name: 'a colon behind the marker', data: `#eniboot-config:\n${yaml}`, becomes: /nearly/ },
  { name: 'a word behind the marker', data: `#eniboot-config v1\n${yaml}`, becomes: /nearly/ },
  { name: 'the marker without its sign', data: `eniboot-config\n${yaml}`, becomes: /nearly/ },
  {
    name: 'the marker as a hashbang',
    data: `#!eniboot-config\n${yaml}`,
    becomes: /nearly/,
  },
  {
    name: 'lines folded into one, as `userData: >` does',
    data: marked.replaceAll('\n', ' '),
    becomes: /nearly/,
  },
  { name: 'the marker below `---`', data: `---\n${marked}`, becomes: /not in its first line/ },
  { name: 'the marker below a comment', data: `# of team a\n${marked}`, becomes: /not in its first line/ },
  {
    name: 'the marker below the settings',
    data: `${yaml}#eniboot-config\n`,
    becomes: /not in its first line/,
  },
  { name: 'no marker', data: `cluster: prod\n${yaml}`, becomes: { warns: /does not begin with/ } },
  { name: 'a template', data: `## template: jinja\n${marked}`, becomes: /template/ },
  { name: 'nothing', data: '', becomes: 'passes' },
  { name: 'prose', data: 'hello\n', becomes: 'passes' },
  { name: 'ignition', data: '{"ignition": {"version": "3.4.0"}}', becomes: 'passes' },
  {
    name: 'prose with the marker in it',
    data: 'see #eniboot-config\n',
    becomes: { warns: /#eniboot-config/ },
  },

  { name: 'the marker in quotes', data: JSON.stringify(marked), becomes: /nearly/ },
  { name: 'newlines written as \\n', data: marked.replaceAll('\n', '\\n'), becomes: /nearly/ },
  { name: 'indented as a whole', data: marked.replace(/^/gm, '    '), becomes: 'read' },
  // User data for another program, with the marker in it.
  { name: 'a script', data: '#!/bin/sh\necho MIME-Version: 1.0\n', becomes: 'passes' },
  {
    name: 'a comment in a script',
    data: '#!/bin/sh\n# no #eniboot-config here\n',
    becomes: { warns: /shellscript/ },
  },
  {
    name: 'a heredoc in a script',
    data: `#!/bin/sh\ncat > /tmp/other-node <<X\n${marked}X\n`,
    becomes: { warns: /shellscript/ },
  },
  {
    name: 'a whole message in a heredoc',
    data: `#!/bin/sh\ncat > /tmp/other-node <<X\n${message}X\n`,
    becomes: { warns: /shellscript/ },
  },
  {
    name: 'a whole message in a heredoc, in a part',
    data: `${outer}\n--==X==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\ncat <<E\n${message.replaceAll('==X==', 'other')}E\n${end}`,
    becomes: { warns: /shellscript/ },
  },
  {
    name: 'write_files',
    data: `#cloud-config\nwrite_files:\n- path: /tmp/a\n  content: |\n    #eniboot-config\n    pods: {max: 33}\n`,
    becomes: { warns: /cloud-config/ },
  },
  {
    name: 'the second line of cloud-config',
    data: `#cloud-config\n${marked}`,
    becomes: { warns: /cloud-config/ },
  },
  { name: 'an include', data: '#include\nhttps://example.com/user-data\n', becomes: 'passes' },
  {
    name: 'cloud-config without its first line',
    data: `${outer}\n--==X==\nContent-Type: text/cloud-config\n\n# eniboot config is below /etc\na: b\n${end}`,
    becomes: 'passes',
  },

  // gzip and base64.
  { name: 'gzip', data: gzipSync(marked), becomes: 'read' },
  { name: 'gzip of gzip', data: gzipSync(gzipSync(marked)), becomes: 'read', unlike: packed },
  { name: 'base64', data: base64(marked), becomes: 'read', unlike: packed },
  {
    name: 'base64 in lines',
    data: base64(marked).replace(/(.{20})/g, '$1\r\n'),
    becomes: 'read',
    unlike: packed,
  },
  { name: 'base64 of base64', data: base64(base64(marked)), becomes: 'read', unlike: packed },
  { name: 'gzip in base64', data: base64(gzipSync(marked)), becomes: 'read', unlike: packed },
  { name: 'base64 in gzip', data: gzipSync(base64(marked)), becomes: 'read', unlike: packed },
  { name: 'base64 that was cut', data: base64(`${marked}#\n`).slice(0, -6), becomes: /cut short/ },
  {
    name: 'gzip seven times',
    data: [1, 2, 3, 4, 5, 6, 7].reduce((data) => gzipSync(data), Buffer.from(marked)),
    becomes: /packed more than/,
  },
  { name: 'gzip that was cut', data: gzipSync(marked).subarray(0, 40), becomes: /gzip that cannot/ },
  { name: 'a message in gzip', data: gzipSync(message), becomes: 'read' },
  { name: 'a message in base64', data: base64(message), becomes: 'read', unlike: packed },

  {
    name: 'base64 for addresses of pages',
    data: Buffer.from(`${marked}# ?>?>?>~~\n`).toString('base64url'),
    becomes: /cut short/,
  },
  { name: 'zstd', data: zstdCompressSync(marked), becomes: { warns: /zstd/ } },
  { name: 'zlib', data: deflateSync(marked), becomes: { warns: /zlib/ } },
  { name: 'xz', data: Buffer.from('fd377a585a000004', 'hex'), becomes: { warns: /xz/ } },
  {
    name: 'a typed part in zlib',
    data: part(ours, 'Content-Transfer-Encoding: base64', '', base64(deflateSync(yaml))),
    becomes: /not UTF-8/,
  },
  // The head of a message.
  {
    name: 'a message indented as a whole',
    data: message.replace(/^/gm, '    '),
    becomes: /before its first header/,
  },
  { name: 'a message with a typed part', data: message, becomes: 'read' },
  { name: 'a message with a marked part', data: `${outer}\n${script}${plain}${end}`, becomes: 'read' },
  { name: 'a message, CRLF', data: crlf(message), becomes: 'read' },
  {
    name: 'Content-Type first',
    data: `${outer.split('\n').reverse().join('\n').trim()}\n\n${script}${typed}${end}`,
    becomes: 'read',
  },
  { name: 'no empty line after the outer headers', data: outer + script + typed + end, becomes: 'read' },
  {
    name: 'no empty line anywhere, a marked part',
    data: (outer + script + plain + end).replaceAll('\n\n', '\n'),
    becomes: 'read',
  },
  { name: 'a line of blanks for the empty one', data: message.replace('\n\n', '\n \t\n'), becomes: 'read' },
  { name: 'a boundary without quotes', data: message.replace('"==X=="', '==X=='), becomes: 'read' },
  { name: 'a boundary with a blank in it', data: message.replaceAll('==X==', 'a b'), becomes: 'read' },
  { name: 'a boundary with a semicolon', data: message.replaceAll('==X==', 'a;b'), becomes: 'read' },
  {
    name: 'a boundary of slashes, as EKS writes it',
    data: message.replaceAll('==X==', '//'),
    becomes: 'read',
  },
  {
    name: 'a boundary with a colon',
    data: `${outer}\n${script}${typed}${end}`.replaceAll('==X==', 'a:b'),
    becomes: 'read',
  },
  {
    name: 'the boundary named below other parameters, folded',
    data: message.replace('; boundary', ';\n\tcharset=utf-8;\n boundary'),
    becomes: 'read',
  },
  {
    name: 'Content-Type twice: the first counts',
    data: message.replace('\n\n', '\nContent-Type: text/plain\n\n'),
    becomes: 'read',
  },
  { name: 'blanks before MIME-Version', data: `  ${message}`, becomes: 'read' },
  { name: 'a line of blanks above MIME-Version', data: `  \n${message}`, becomes: 'read' },
  { name: 'an empty line above MIME-Version', data: `\n${message}`, becomes: /before its first header/ },
  {
    name: 'an empty line above it all, CRLF',
    data: crlf(`\n${message}`),
    becomes: /before its first header/,
  },
  {
    name: 'an empty line above a marked part',
    data: `\n${outer}\n${script}${plain}${end}`,
    becomes: /before its first header/,
  },
  {
    name: 'a byte-order mark before MIME-Version',
    data: `\ufeff${message}`,
    becomes: /before its first header/,
  },
  {
    name: 'blanks before the only Content-Type',
    data: message.replace(outer, ` ${outer.split('\n').reverse().join('\n').trim()}\n`),
    becomes: /configuration|header|speaks/,
  },
  { name: 'a comment above MIME-Version', data: `# user data of team a\n${message}`, becomes: /eniboot/ },
  { name: 'no outer headers', data: script + typed + end, becomes: /no headers above/ },
  {
    name: 'no outer headers, MIME-Version in the parts',
    data: (script + plain + end).replaceAll('Content-Type', 'MIME-Version: 1.0\nContent-Type'),
    becomes: /no headers above/,
  },
  {
    name: 'no outer headers, an empty line first',
    data: `\n${script}${typed}${end}`,
    becomes: /no headers above/,
  },
  {
    name: 'MIME-Version alone',
    data: `MIME-Version: 1.0\n\n${script}${typed}${end}`,
    becomes: /no headers above/,
  },
  {
    name: 'no MIME-Version',
    data: message.replace('MIME-Version: 1.0\n', ''),
    becomes: 'read',
    unlike: noMime,
  },
  {
    name: 'MIME-Version after 4 KiB',
    data: `X-Pad: ${'x'.repeat(5000)}\n${message}`,
    becomes: 'read',
    unlike: noMime,
  },
  {
    name: 'Content-Type written with a blank',
    data: message.replace('Content-Type', 'Content-Type '),
    becomes: /no message|before|headers/,
  },
  {
    name: 'no boundary named',
    data: message.replace('; boundary="==X=="', ''),
    becomes: /names no boundary/,
  },
  { name: 'lines folded into one', data: message.replaceAll('\n', ' '), becomes: /header "/ },
  {
    name: "a message of one part that is eniboot's",
    data: `MIME-Version: 1.0\n${ours}\n\n${yaml}`,
    becomes: 'read',
  },
  {
    name: 'a message of one part, without MIME-Version',
    data: `${ours}\n\n${yaml}`,
    becomes: 'read',
    unlike: noMime,
  },
  {
    name: 'a message of one part with the marker',
    data: `MIME-Version: 1.0\nContent-Type: text/plain\n\n${marked}`,
    becomes: 'read',
  },
  {
    name: 'a message of one part without empty line',
    data: `MIME-Version: 1.0\n${ours}\n${yaml}`,
    becomes: /no empty line/,
    unlike: 'the parser takes the settings for headers',
  },

  // Boundaries.
  {
    name: 'a message that does not close',
    data: message.replace(end, ''),
    becomes: /closing MIME boundary/,
    unlike: 'half a configuration may be valid',
  },
  {
    name: 'a closing boundary with something behind it',
    data: message.replace(end, '--==X==--[\n'),
    becomes: /closing MIME boundary/,
    unlike: 'half a configuration may be valid',
  },
  { name: 'a closing boundary without newline', data: message.trimEnd(), becomes: 'read' },
  { name: 'not closed, with another part last', data: `${outer}\n${typed}${script}`, becomes: 'read' },
  {
    name: 'boundaries without the two dashes',
    data: message.replaceAll('--==X==', '==X=='),
    becomes: /has no line --==X==/,
  },
  {
    name: 'another boundary than the one named',
    data: message.replace('boundary="==X=="', 'boundary="==Y=="'),
    becomes: /has no line --==Y==/,
  },
  {
    name: 'another case than the one named',
    data: message.replaceAll('--==X==', '--==x=='),
    becomes: /has no line --==X==/,
  },
  {
    name: "eniboot's part before the first boundary",
    data: `${outer}\n${typed.replace('--==X==', '--==X=')}${script}${end}`,
    becomes: /before the first boundary/,
  },
  {
    name: "eniboot's part after the closing boundary",
    data: `${outer}\n${script}${end}${typed}`,
    becomes: /after the closing boundary/,
  },
  {
    name: "a misspelt boundary above eniboot's part",
    data: message.replace(typed, typed.replace('==X==', '=X==')),
    becomes: /is not the boundary/,
  },
  {
    name: "a misspelt boundary above eniboot's marked part",
    data: `${outer}\n${script}${plain.replace('--==X==', '==X==')}${end}`,
    becomes: /is not the boundary/,
  },
  {
    name: 'blanks behind a boundary',
    data: message.replaceAll('--==X==', '--==X== '),
    becomes: /closing MIME boundary/,
    unlike: 'half a configuration may be valid',
  },
  { name: 'a boundary twice', data: message.replace(typed, `--==X==\n${typed}`), becomes: 'read' },
  {
    name: 'prose before the first boundary',
    data: `${outer}\nThis is a message of several parts.\n${script}${typed}${end}`,
    becomes: 'read',
  },
  {
    name: 'a message in a message',
    data: `${outer}\n${script}--==X==\n${message.replaceAll('==X==', 'inner')}${end}`,
    becomes: 'read',
  },
  {
    name: 'a message in a message that does not close',
    data: `${outer}\n${script}--==X==\n${message.replaceAll('==X==', 'inner').replace('--inner--\n', '')}${end}`,
    becomes: /closing MIME boundary/,
    unlike: 'half a configuration may be valid',
  },
  {
    name: 'message/rfc822',
    data: `${outer}\n--==X==\nContent-Type: message/rfc822\n\n${message.replaceAll('==X==', 'inner')}${end}`,
    becomes: 'read',
  },
  {
    name: 'seventeen messages in one another',
    data: `MIME-Version: 1.0\n${Array.from({ length: 18 }, (_, at) => `Content-Type: multipart/mixed; boundary=b${at}x\n\n--b${at}x\n`).join('')}${ours}\n\n${yaml}`,
    becomes: /nested deeper/,
    unlike: 'a limit',
  },

  // Headers and encodings of a part.
  {
    name: 'a typed part without empty line',
    data: part(ours, yaml),
    becomes: /no empty line/,
    unlike: 'the parser takes the settings for headers',
  },
  {
    name: 'a typed part whose first empty line is within the settings',
    data: part(ours, 'cluster: prod', '', yaml),
    becomes: /"cluster" counts as a header/,
    unlike: 'the parser takes the settings for headers',
  },
  { name: 'a typed part without empty line, marked', data: part(ours, marked), becomes: 'read' },
  {
    name: 'a typed part with headers of cloud-init',
    data: part(ours, 'Merge-Type: list(append)', 'Launch-Index: 0', 'X-Team: a', '', yaml),
    becomes: 'read',
  },
  {
    name: 'the type in capitals',
    data: part('CONTENT-TYPE: Application/Vnd.Eniboot.Config+YAML', '', yaml),
    becomes: 'read',
  },
  { name: 'the type with a charset', data: part(`${ours}; charset="utf-8"`, '', yaml), becomes: 'read' },
  {
    name: 'the type with a charset and no semicolon',
    data: part(`${ours} charset=utf-8`, '', yaml),
    becomes: /which is not application/,
  },
  {
    name: 'nearly the type',
    data: part('Content-Type: application/vnd.eniboot+yaml', '', yaml),
    becomes: /which is not application/,
  },
  {
    name: 'nearly the type, marked',
    data: part('Content-Type: text/x-eniboot', '', marked),
    becomes: 'read',
  },
  {
    name: 'Content-Type misspelt',
    data: part('ContentType: application/vnd.eniboot.config+yaml', '', yaml),
    becomes: /header "contenttype"/,
  },
  {
    name: 'Content-Type of a part with a blank before the colon',
    data: part('Content-Type : application/vnd.eniboot.config+yaml', '', yaml),
    becomes: /cannot be read/,
  },
  {
    name: 'an empty line above the part’s headers',
    data: part('', ours, '', yaml),
    becomes: 'read',
    unlike: 'eniboot reads a message inside of a part',
  },
  {
    name: 'the marker in a script’s part, as karpenter wraps it',
    data: part('Content-Type: text/x-shellscript; charset="us-ascii"', '', marked),
    becomes: 'read',
  },
  { name: 'a marked part without headers', data: part('', marked), becomes: 'read' },
  {
    name: 'a marked part with blanks above',
    data: part('Content-Type: text/plain', '', '', `  ${marked}`),
    becomes: 'read',
  },
  {
    name: 'a marked part with a byte-order mark',
    data: part('Content-Type: text/plain', '', `\ufeff${marked}`),
    becomes: 'read',
    unlike: lax,
  },
  {
    name: 'a marked part of a foreign type',
    data: part('Content-Type: application/octet-stream', '', marked),
    becomes: 'read',
  },
  {
    name: 'the marker below a comment in text/plain',
    data: part('Content-Type: text/plain', '', `# of eniboot\n${marked}`),
    becomes: /not in its first line/,
  },
  {
    name: 'base64',
    data: part(ours, 'Content-Transfer-Encoding: base64', '', base64(yaml)),
    becomes: 'read',
  },
  {
    name: 'base64, marked',
    data: part('Content-Type: text/plain', 'Content-Transfer-Encoding: BASE64', '', base64(marked)),
    becomes: 'read',
  },
  {
    name: 'base64 of gzip',
    data: part(ours, 'Content-Transfer-Encoding: base64', '', base64(gzipSync(yaml))),
    becomes: 'read',
    unlike: packed,
  },
  {
    name: 'base64 of gzip with its type',
    data: part(
      'Content-Type: application/gzip',
      'Content-Transfer-Encoding: base64',
      '',
      base64(gzipSync(marked)),
    ),
    becomes: 'read',
  },
  {
    name: 'base64 without its header',
    data: part(ours, '', base64(yaml)),
    becomes: /no header says so/,
    unlike: 'base64 is no configuration',
  },
  {
    name: 'base64 without its header, marked',
    data: part('Content-Type: text/plain', '', base64(marked)),
    becomes: /no header says so/,
  },
  {
    name: 'base64 of gzip without its header',
    data: part('Content-Type: text/plain', '', base64(gzipSync(marked))),
    becomes: /no header says so/,
  },
  {
    name: 'base64 without its header, for another program',
    data: part('Content-Type: text/plain', '', base64('#!/bin/sh\ntrue\n')),
    becomes: 'passes',
  },
  {
    name: 'base64 with its header misspelt',
    data: part(ours, 'Content-Encoding: base64', '', base64(yaml)),
    becomes: /no header says so/,
    unlike: 'base64 is no configuration',
  },
  {
    name: 'plain text whose header claims base64',
    data: part(ours, 'Content-Transfer-Encoding: base64', '', yaml),
    becomes: /not the base64/,
    unlike: 'the parser reads nonsense',
  },
  {
    name: 'plain text whose header claims base64, marked',
    data: part('Content-Type: text/plain', 'Content-Transfer-Encoding: base64', '', marked),
    becomes: /not the base64/,
  },
  {
    name: 'quoted-printable',
    data: part(ours, 'Content-Transfer-Encoding: quoted-printable', '', 'pods:=0A  max: 3=\n3'),
    becomes: 'read',
  },
  {
    name: 'an unknown encoding',
    data: part(ours, 'Content-Transfer-Encoding: utf-8', '', yaml),
    becomes: 'read',
  },
  { name: 'CRLF in the part alone', data: `${outer}\n${script}${crlf(typed)}${end}`, becomes: 'read' },

  // cloud-config-archive.
  {
    name: 'an archive with a marked entry',
    data: `#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n- content: |\n    #eniboot-config\n    pods: {max: 33}\n`,
    becomes: 'read',
    unlike: 'the table’s cloud-init leaves an archive whole',
  },
  {
    name: 'an archive with a typed entry',
    data: `#cloud-config-archive\n- type: application/vnd.eniboot.config+yaml\n  content: |\n    pods: {max: 33}\n`,
    becomes: 'read',
    unlike: 'the table’s cloud-init leaves an archive whole',
  },
  {
    name: 'an archive of texts',
    data: '#cloud-config-archive\n- |\n  #eniboot-config\n  pods: {max: 33}\n',
    becomes: 'read',
    unlike: 'the table’s cloud-init leaves an archive whole',
  },
  {
    name: 'an archive with anchors',
    data: '#cloud-config-archive\n- &a |\n  #eniboot-config\n  pods: {max: 33}\n',
    becomes: /list of parts/,
  },
  {
    name: 'an archive with a typed entry, and an anchor elsewhere',
    data: '#cloud-config-archive\n- &a |\n  #!/bin/sh\n- type: application/vnd.eniboot.config+yaml\n  content: |\n    pods: {max: 33}\n',
    becomes: /:4 .*list of parts that cannot be read: has an anchor/,
  },
  {
    name: 'an archive that is no list',
    data: '#cloud-config-archive\ntype: application/vnd.eniboot.config+yaml\ncontent: |\n  pods: {max: 33}\n',
    becomes: /:2 .*list of parts that cannot be read: it is no list/,
  },
  {
    name: 'an archive with a typed entry whose content is no text',
    data: '#cloud-config-archive\n- type: application/vnd.eniboot.config+yaml\n  content:\n    pods: {max: 33}\n',
    becomes: /part 1:2 has no text as its `content`/,
  },
  {
    name: 'an archive with a typed entry without content',
    data: '#cloud-config-archive\n- |\n  #!/bin/sh\n- type: text/vnd.eniboot.config+yaml\n',
    becomes: /part 2:4 has no text as its `content`/,
  },
  {
    name: "an archive without eniboot's part",
    data: '#cloud-config-archive\n- |\n  #!/bin/sh\n',
    becomes: 'passes',
  },
];
