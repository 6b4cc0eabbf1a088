// Pages of docs/ that are generated from the code, so that they agree with it: the failure table from codes.ts, the licences of
// bundled npm packages from the lock file. `node_modules/.bin/node test/pages.ts` writes them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BUCKETS, type Description, series } from '../agent/boot/verdict/series.ts';
import { failureCodes } from '../agent/messages/codes.ts';
import { neighbours } from './neighbours/table.ts';

const ALLOWED = new Set(['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']);

interface Package {
  name: string;
  version: string;
  licence: string;
}

/** Production packages whose licence is not on the list; undefined when there is none. */
export function licenceProblems(root: string): string | undefined {
  const bad = bundled(root).filter((one) => !ALLOWED.has(one.licence));
  return bad.length === 0
    ? undefined
    : bad.map((one) => `${one.name}@${one.version}: ${one.licence}\n`).join('');
}

/** Path → text of every generated page. */
export function generatedPages(root: string): Record<string, string> {
  return {
    'docs/failures.md': failuresPage(),
    'docs/licences.md': licencesPage(root),
    'docs/metrics.md': metricsPage(),
    'docs/neighbours.md': neighboursPage(),
  };
}

function failuresPage(): string {
  const rows = Object.entries(failureCodes).map(
    ([code, text]) =>
      `| \`${code}\` | ${text.title} | ${text.transient ? 'yes' : 'no'} | ${text.remedy.replaceAll('|', '\\|')} |\n`,
  );
  return `# Failure codes

Written by \`node_modules/.bin/node test/pages.ts\` from agent/messages/codes.ts. A failed boot shows its code in the console line, in the instance
tag \`eniboot:verdict\`, in /run/eniboot/status.json (with the facts: what, where, EC2's own code) and in the log. Other commands
and the CNI plugin show it in their error.

\`Retried\` says whether a boot tries again by itself, within the phase's budget and the deadline; if not, it ends at once.

| code | meaning | retried | what to do |
|---|---|---|---|
${rows.join('')}`;
}

function neighboursPage(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const said = (rows: (typeof neighbours)[number]['cases'][number]['rows']) =>
    rows.length === 0 ? 'no row' : [...new Set(rows.map(([id]) => `\`${id.trim()}\``))].join(', ');
  const summary = neighbours
    .map(({ name, works, todo }) => `| ${name} | ${cell(works)} | ${cell(todo ?? '–')} |\n`)
    .join('');
  const cases = neighbours.flatMap(({ name, cases }) =>
    cases.map(
      ({ name: setting, rows, broken, named, repaired }) =>
        `| ${name} | ${cell(setting)} | ${[...broken, ...(named ?? [])].join(', ') || 'none'}${repaired === true ? ' (until repair)' : ''} | ${said(rows)} |\n`,
    ),
  );
  const elsewhere = neighbours
    .filter((one) => one.elsewhere !== undefined)
    .map(({ name, elsewhere: where }) => `- ${name}: ${where}.\n`);
  return `# Who else is on the node

Written by \`node_modules/.bin/node test/pages.ts\` from test/neighbours/table.ts, whose every row \`test/neighbours/neighbours.test.ts\` tries: on a READY
node with pods it loads the neighbour's rules (firewalld itself runs; the rules of the others are written as in their sources,
which test/neighbours/rules.ts names), sends packets on each of a pod's ways, and compares the result with \`eniboot check\`. None
of it was tried on real EC2.

\`eniboot check\`, the boot's last look and \`eniboot trace POD\` find rules of other programs that stop pods' packets, and name the table and
chain, the policy rule, the route, the filter or the setting, its effect on which packets, and a remedy. It is a warning: a firewall is its
owner's to change, and eniboot never does. Looked at are:

| row | what is checked |
|---|---|
| \`neighbours-firewall\` | base chains of all families and hooks on a pod's ways, of nft, iptables-nft and iptables-legacy: a packet of each way is followed through their rules, sets and maps to its verdict |
| \`neighbours-routing\` | policy rules and routes that win over eniboot's, for each of those packets |
| \`neighbours-hidden-vpc\` | routes of other programs for addresses of the VPC |
| \`neighbours-tc\` | filters of tc on the ENIs and pods' links that drop or redirect, and a forgotten netem |
| \`neighbours-enslaved\` | an ENI or a pod's link in a bridge, bond or VRF, with net.bridge.bridge-nf-call-iptables |
| \`neighbours-forwarding\` | forwarding that is off for one device alone (ip_forward and rp_filter have rows of their own: \`sysctl-…\`) |

"may drop" means that a rule before it depends on a match whose result the rules alone do not tell: an ipset, a program that packets are queued for, a match of
iptables where no iptables-save is installed. A drop that depends only on such a match (a rate, INVALID packets) is no row. BPF programs, chains of
netdev whose device nft 1.0.6 does not tell, and iptables-legacy without its program are listed as not judged. \`eniboot check --probe\` sends packets instead of
reading rules, and so sees what all of them do together.

## In short

| neighbour | beside eniboot | what to do |
|---|---|---|
${summary}
## What was tried

Ways: \`internet\` (pods to the Internet and back), \`vpc\` (by their own ENI), \`node\` (to and from the node, kubelet's port), \`service\` (a Service with its backend
on another node), \`outside\` (NodePort, hostPort).

| neighbour | setting | broken ways | rows in \`eniboot check\` |
|---|---|---|---|
${cases.join('')}
Other tests show more:

${elsewhere.join('')}
A rule without a priority (\`ip rule add\` of wg-quick, and of scripts) gets one below the lowest existing one, which is eniboot's 512 (IPv4): it is asked before all of
eniboot's rules, and wins. Name a priority above 1025.
`;
}

function metricsPage(): string {
  const rows = (file: string) =>
    Object.entries<Description>(series)
      .filter(([, one]) => one.file === file)
      .map(([name, { type, help, labels }]) => {
        const texts = Object.entries(labels).map(([label, text]) => `\`${label}\` (${text})`);
        return `| \`${name}\` | ${type} | ${help} | ${texts.join('; ')} |\n`;
      })
      .join('');
  const head = '| series | type | meaning | labels |\n|---|---|---|---|\n';
  return `# Metrics

Written by \`node_modules/.bin/node test/pages.ts\` from agent/boot/verdict/series.ts. Two text files in \`/var/lib/eniboot/metrics\`, for node_exporter:
\`--collector.textfile.directory=/var/lib/eniboot/metrics\`. All times are in seconds. No daemon keeps them current: the
values are as old as their file (\`node_textfile_mtime_seconds\`).

## boot.prom

Written by each run of \`eniboot boot\` once it has its verdict.

${head}${rows('boot.prom')}
## node.prom

Written by \`eniboot pool refill\` and \`eniboot pool collect\`, which timers run every few minutes. Counters and histograms start from 0 at
each boot of the machine. Every plugin call and every EC2 call appends one line to \`/run/eniboot/tally\`, and these runs add the lines up:
none is lost or counted twice, wherever a run is killed. If no timer runs, the file stops growing at 4 MiB (some 50,000 calls), and later
calls are not counted. Buckets of the histograms, in seconds: ${BUCKETS.join(', ')}.

${head}${rows('node.prom')}
Alert on: \`eniboot_boot_ready == 0\`; \`increase(eniboot_cni_calls_total{code!="OK"}[15m]) > 0\`;
\`sum by (instance) (eniboot_pool_addresses{state="ready"}) == 0\`; \`increase(eniboot_ec2_calls_total{outcome="EC2_THROTTLED"}[15m]) > 5\`.
The 99th percentile of an ADD: \`histogram_quantile(0.99, sum by (le) (rate(eniboot_cni_seconds_bucket{command="ADD",phase="total"}[1h])))\`.
`;
}

function licencesPage(root: string): string {
  const rows = bundled(root).map((one) => `| ${one.name} | ${one.version} | ${one.licence} |\n`);
  return `# Licences of bundled npm packages

Written by \`node_modules/.bin/node test/pages.ts\`; \`npm run check\` refuses a licence outside ${[...ALLOWED].join(', ')}.
[NOTICE](../NOTICE) lists what the runtime links in; the licence texts of those libraries are not in Bun's npm package.

| package | version | licence |
|---|---|---|
${rows.join('')}`;
}

function bundled(root: string): Package[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; dev?: boolean; optional?: boolean; license?: string }>;
  };
  const seen = new Map<string, Package>();
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (path === '' || entry.dev === true || entry.optional === true) continue;
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const version = entry.version ?? '';
    seen.set(`${name}@${version}`, { name, version, licence: entry.license ?? 'none stated' });
  }
  return [...seen.values()].sort(
    (a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version),
  );
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..');
  for (const [path, text] of Object.entries(generatedPages(root))) writeFileSync(join(root, path), text);
}
