// Converts a conflist of cni-ipvlan-vpc-k8s (the Lyft CNI, and kOps' `lyftvpc`) to an eniboot configuration. Pure. Source of
// its keys, types and defaults: https://github.com/lyft/cni-ipvlan-vpc-k8s, README.md and plugin/*/ at e227f2f (2021-10-29).
import { loadConfig } from './load.ts';
import { nearest } from './nearest.ts';
import { parseSource } from './parse.ts';
import { type ConfigProblem, type Finding, invalid, problemAt } from './problem.ts';
import { type Path, pathText, positionOf, type Tree, toValue, treeAt } from './tree.ts';

const plugins = {
  'cni-ipvlan-vpc-k8s-ipam': 'ipam',
  'cni-ipvlan-vpc-k8s-ipvlan': 'ipvlan',
  'cni-ipvlan-vpc-k8s-unnumbered-ptp': 'ptp',
} as const;

/** What became of a key: carried into the configuration, not needed, or without an equivalent. */
export interface Note {
  /** The key's path in the conflist: `plugins[0].reuseIPWait`. */
  path: string;
  kind: 'carried' | 'automatic';
  text: string;
}

export interface Imported {
  /** Text of config.yaml; `eniboot config check` accepts it. */
  yaml: string;
  config: Record<string, unknown>;
  notes: Note[];
  /** Keys without an equivalent, each with what to do. */
  warnings: ConfigProblem[];
}

/** What a conflist cannot say, and the operator must add. */
export interface ImportOptions {
  cluster: string;
  /** IDs of pod subnets, for a conflist without subnetTags. */
  subnets: string[];
}

type Outcome =
  | { kind: 'carried'; to: Path; value: unknown; text: string }
  | { kind: 'automatic'; text: string }
  | { kind: 'lost'; problem: string; remedy: string };

interface Key {
  is: (value: unknown) => boolean;
  /** The wanted type, as the end of "must be …". */
  type: string;
  /** What a value of that type becomes. */
  becomes: (value: any) => Outcome | undefined;
}

const texts = {
  type: 'a list of texts',
  is: (value: unknown) => Array.isArray(value) && value.every(isText),
};
const map = {
  type: 'a map of texts',
  is: (value: unknown) => isMap(value) && Object.values(value).every(isText),
};
const flag = { type: 'true or false', is: (value: unknown) => typeof value === 'boolean' };
const count = {
  type: 'a whole number, 0 or more',
  is: (value: unknown) => Number.isInteger(value) && Number(value) >= 0,
};
const text = { type: 'a text', is: isText };
const anything = { type: 'anything', is: () => true };

const automatic = (text: string): Outcome => ({ kind: 'automatic', text });
const lost = (problem: string, remedy: string): Outcome => ({ kind: 'lost', problem, remedy });
const asIs =
  (to: Path, text: string) =>
  (value: unknown): Outcome => ({ kind: 'carried', to, value, text });

/** Every key that each plugin reads. */
const keys: Record<'ipam' | 'ipvlan' | 'ptp', Record<string, Key>> = {
  ipam: {
    secGroupIds: {
      ...texts,
      becomes: asIs(
        ['pods', 'securityGroups', 'ids'],
        'on every pod ENI, also on those that are there already',
      ),
    },
    subnetTags: {
      ...map,
      becomes: (value: object) =>
        Object.keys(value).length === 0
          ? undefined
          : asIs(
              ['pods', 'subnets', 'tags'],
              'tags a subnet must have, all of them; `Name` counts as well',
            )(value),
    },
    interfaceIndex: {
      ...count,
      becomes: (value: number) =>
        value === 0
          ? lost(
              "let pods have the boot ENI's addresses",
              'Nothing: the boot ENI is reserved for the node; see the new capacity with `eniboot capacity TYPE`.',
            )
          : automatic(
              "the boot ENI is never used for pods, and ENIs that are not tagged as eniboot's are left alone",
            ),
    },
    skipDeallocation: {
      ...flag,
      becomes: () => automatic('addresses stay on the node; only a surplus goes back (pool.surplus)'),
    },
    routeToVpcPeers: {
      ...flag,
      becomes: (value: boolean) =>
        value
          ? lost(
              'looked up the CIDRs of peered VPCs in EC2',
              'List these CIDRs in pods.routes: `aws ec2 describe-vpc-peering-connections` shows them.',
            )
          : automatic('no peers: pods.routes lists what pods reach beyond the VPC'),
    },
    routeToCidrs: {
      ...texts,
      becomes: (value: string[]) =>
        value.length === 0
          ? undefined
          : asIs(['pods', 'routes'], "reached by the pod's own ENI, without NAT")(value),
    },
    reuseIPWait: {
      ...count,
      becomes: asIs(['pool', 'restSeconds'], 'counted on the boot clock, from the end of the pod before'),
    },
    ipBatchSize: {
      ...count,
      becomes: () =>
        automatic('addresses are there before pods ask: prefixes of 16, kept above pool.lowWater'),
    },
  },
  ipvlan: {
    master: {
      ...text,
      becomes: (value: string) =>
        automatic(
          `the pod ENI of the address, found by its MAC${value === '' ? '' : `, not by the name ${value}`}`,
        ),
    },
    mode: {
      ...text,
      becomes: (value: string) =>
        value === '' || value === 'l2'
          ? automatic('always l2')
          : lost('is a mode eniboot does not have', 'Nothing, if pods work in mode l2, which eniboot uses.'),
    },
    mtu: { ...count, becomes: fixedMtu },
    ipam: {
      ...anything,
      becomes: () =>
        lost('names an address manager of its own', 'Nothing: addresses come from the pool of the node.'),
    },
  },
  ptp: {
    hostInterface: { ...text, becomes: () => automatic('the boot ENI, found by its MAC') },
    containerInterface: {
      ...text,
      becomes: (value: string) =>
        value === 'veth0'
          ? automatic('veth0')
          : lost(
              "names the pod's second interface",
              'It is veth0 with eniboot: change what looks for the other name.',
            ),
    },
    ipMasq: {
      ...flag,
      becomes: (value: boolean) =>
        value
          ? automatic("what leaves by the boot ENI has the node's address; egress.table says what does not")
          : lost(
              'turned source NAT off',
              "Nothing, as a rule: EC2 drops what leaves the boot ENI with a pod's address. For CIDRs that know the way to pods, add rows with `action: route` to egress.table.",
            ),
    },
    mtu: { ...count, becomes: fixedMtu },
    routeTableStart: {
      ...count,
      becomes: () => automatic("a pod's routing table is numbered by its address"),
    },
    nodePorts: {
      ...text,
      becomes: () =>
        automatic('every connection that enters by the boot ENI is answered there, whatever its port'),
    },
    nodePortMark: {
      ...count,
      becomes: (value: number) =>
        value === 0x2000
          ? automatic('its own bit 0x1000, masked, since 0x2000 is that of portmap')
          : lost(
              "is another mark than eniboot's",
              'eniboot uses the bits 0x1000 and 0x40, masked: keep them free in other software.',
            ),
    },
  },
};

/** Keys that any plugin of a list may have (CNI specification), and the keys of the list itself. */
const STANDARD = [
  'cniVersion',
  'cniVersions',
  'name',
  'type',
  'args',
  'capabilities',
  'runtimeConfig',
  'prevResult',
  'dns',
];
const OF_LIST = [
  'cniVersion',
  'cniVersions',
  'name',
  'plugins',
  'disableCheck',
  'disableGC',
  'loadOnlyInlinedPlugins',
];

function fixedMtu(value: number): Outcome {
  return value === 0
    ? automatic('that of the ENI')
    : lost(
        'sets an MTU',
        'Nothing: a pod has the MTU of its ENI, as EC2 gives it (9001), and MSS is clamped on the way out.',
      );
}

/** @throws CONFIG_INVALID with every problem in its facts. */
export function importLyft(source: string, content: string, options: ImportOptions): Imported {
  const tree = parseJson(source, content);
  const problems: ConfigProblem[] = [];
  const notes: Note[] = [];
  const warnings: ConfigProblem[] = [];
  const found = { config: {} as Record<string, unknown>, origins: new Map<string, Path>() };
  const at = (path: Path, finding: Finding, value?: unknown) =>
    problemAt(positionOf(tree, path), path, value, finding);

  for (const key of mapKeys(tree))
    if (!OF_LIST.includes(key))
      problems.push(at([key], unknownKey(key, OF_LIST), toValue(treeAt(tree, [key]) ?? tree)));
  const seen = new Set<string>();
  itemsOf(treeAt(tree, ['plugins'])).forEach((plugin, index) => {
    const path: Path = ['plugins', index];
    const type = scalarOf(treeAt(plugin, ['type']));
    const kind =
      typeof type === 'string' && Object.hasOwn(plugins, type)
        ? plugins[type as keyof typeof plugins]
        : undefined;
    if (kind === undefined) {
      const remedy =
        'eniboot writes a conflist of its own; to chain this plugin, give the runtime a conflist that has it after `eniboot`.';
      warnings.push(at([...path, 'type'], { problem: 'is another plugin of the chain', remedy }, type));
      return;
    }
    seen.add(kind);
    for (const key of mapKeys(plugin)) {
      const where = [...path, key];
      const value = toValue(treeAt(plugin, [key]) ?? plugin);
      const known = keys[kind][key];
      if (known === undefined) {
        if (!STANDARD.includes(key))
          problems.push(at(where, unknownKey(key, Object.keys(keys[kind])), value));
        continue;
      }
      if (!known.is(value)) {
        problems.push(
          at(
            where,
            { problem: `must be ${known.type}`, remedy: 'Correct it, or remove it for the default.' },
            value,
          ),
        );
        continue;
      }
      const outcome = known.becomes(value);
      if (outcome === undefined) continue;
      if (outcome.kind === 'lost') warnings.push(at(where, outcome, value));
      else notes.push({ path: pathText(where), kind: outcome.kind, text: outcome.text });
      if (outcome.kind === 'carried') {
        put(found.config, outcome.to, outcome.value);
        found.origins.set(pathText(outcome.to), where);
      }
    }
    // The original's default is a trap (README: "use 1").
    if (kind === 'ipam' && treeAt(plugin, ['interfaceIndex']) === undefined)
      warnings.push(
        at(path, {
          ...lostFinding(keys.ipam['interfaceIndex']?.becomes(0)),
          problem: "has no interfaceIndex, so pods had the boot ENI's addresses",
        }),
      );
  });
  if (seen.size === 0)
    problems.push(
      at(['plugins'], {
        problem: `holds no plugin of the Lyft CNI (${Object.keys(plugins).join(', ')})`,
        remedy: 'Give its conflist: /etc/cni/net.d/10-cni-ipvlan-vpc-k8s.conflist on most nodes.',
      }),
    );
  addSubnets(found.config, options, problems, at);
  if (problems.length > 0) throw invalid(problems);

  const config = { cluster: options.cluster, ...ordered(found.config) };
  const yaml = render(source, config, notes, warnings);
  // When eniboot's own schema refuses a value, the problem names the key of the conflist that the value came from.
  try {
    loadConfig([{ name: 'config.yaml', content: yaml }]);
  } catch (error) {
    const refused = (error as { facts?: { problems?: ConfigProblem[] } }).facts?.problems;
    if (refused === undefined) throw error;
    throw invalid(refused.map((problem) => broughtBack(problem, found.origins, tree)));
  }
  return { yaml, config, notes, warnings };
}

/** Accepts only JSON. It is read with the YAML parser, which knows the position of each value. */
function parseJson(source: string, content: string): Tree {
  const refuse = (finding: Finding) =>
    invalid([problemAt({ source, line: 1, column: 1 }, [], undefined, finding)]);
  try {
    JSON.parse(content);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw refuse({
      problem: `is not JSON: ${reason}`,
      remedy: 'Give the conflist as it is in /etc/cni/net.d.',
    });
  }
  const { tree, problems } = parseSource(source, content);
  if (tree === undefined || problems.length > 0) throw invalid(problems);
  if (treeAt(tree, ['plugins'])?.kind === 'list') return tree;
  throw refuse({
    problem: 'has no list `plugins`',
    remedy: 'Give a conflist (a chain of plugins), not the configuration of a single plugin.',
  });
}

function addSubnets(
  config: Record<string, unknown>,
  { subnets }: ImportOptions,
  problems: ConfigProblem[],
  at: (path: Path, finding: Finding) => ConfigProblem,
): void {
  const hasTags = typeof (config['pods'] as { subnets?: unknown } | undefined)?.subnets === 'object';
  if (subnets.length > 0 && !hasTags) put(config, ['pods', 'subnets', 'ids'], subnets);
  else if (subnets.length > 0)
    problems.push(at(['plugins'], { problem: 'has subnetTags already', remedy: 'Leave out --subnets.' }));
  else if (!hasTags)
    problems.push(
      at(['plugins'], {
        problem:
          'has no subnetTags: any subnet of the zone was taken, and eniboot takes none that is not named',
        remedy: 'Name the pod subnets of all zones: --subnets subnet-…,subnet-….',
      }),
    );
}

function unknownKey(key: string, known: string[]): Finding {
  const suggestion = nearest(key, known);
  const remedy =
    suggestion === undefined
      ? `Remove it. Known here: ${known.join(', ')}.`
      : `Write \`${suggestion}\` instead.`;
  return { problem: 'is an unknown key', remedy, ...(suggestion === undefined ? {} : { suggestion }) };
}

function lostFinding(outcome: Outcome | undefined): Finding {
  return outcome?.kind === 'lost' ? outcome : { problem: '', remedy: '' };
}

function broughtBack(problem: ConfigProblem, origins: Map<string, Path>, tree: Tree): ConfigProblem {
  for (const [to, from] of origins) {
    if (!problem.path.startsWith(to)) continue;
    const path = `${pathText(from)}${problem.path.slice(to.length)}`;
    return { ...problem, path, ...positionOf(tree, from) };
  }
  const option = problem.path.startsWith('pods.subnets') ? '--subnets' : `--${problem.path}`;
  return { ...problem, source: option, path: '', line: 0, column: 0 };
}

/** The keys in the order of README.md. */
function ordered(config: Record<string, unknown>): Record<string, unknown> {
  const pods = config['pods'] as Record<string, unknown> | undefined;
  const names = ['subnets', 'securityGroups', 'routes'].filter((name) => pods?.[name] !== undefined);
  return {
    pods: Object.fromEntries(names.map((name) => [name, pods?.[name]])),
    ...(config['pool'] === undefined ? {} : { pool: config['pool'] }),
  };
}

function put(config: Record<string, unknown>, path: Path, value: unknown): void {
  const [head = '', ...rest] = path.map(String);
  if (rest.length === 0) config[head] = value;
  else {
    const inner = (config[head] ??= {}) as Record<string, unknown>;
    put(inner, rest, value);
  }
}

/** YAML with comments. Lists and maps are written as JSON, which YAML accepts, so that no text can get another meaning. */
function render(
  source: string,
  config: Record<string, unknown>,
  notes: Note[],
  warnings: ConfigProblem[],
): string {
  const section = (title: string, lines: string[]) =>
    lines.length === 0 ? [] : ['#', `# ${title}`, ...lines.map((line) => `#   ${comment(line)}`)];
  const of = (kind: Note['kind']) =>
    notes.filter((note) => note.kind === kind).map((note) => `${note.path}: ${note.text}`);
  return [
    `# Made from ${comment(source)} by \`eniboot config import\`.`,
    ...section('Carried over:', of('carried')),
    ...section('Automatic with eniboot, so without a key:', of('automatic')),
    ...section(
      'WITHOUT AN EQUIVALENT:',
      warnings.map((warning) => `${warning.path} ${warning.problem}. ${warning.remedy}`),
    ),
    '',
    ...yamlLines(config, ''),
    '',
  ].join('\n');
}

/** On one line, since a YAML comment ends with its line. */
function comment(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f\u0085\u2028\u2029]+/g, ' ');
}

function yamlLines(value: Record<string, unknown>, indent: string): string[] {
  return Object.entries(value).flatMap(([key, inner]) =>
    isMap(inner) && !Object.values(inner).every(isText)
      ? [`${indent}${key}:`, ...yamlLines(inner, `${indent}  `)]
      : [`${indent}${key}: ${JSON.stringify(inner)}`],
  );
}

function itemsOf(tree: Tree | undefined): Tree[] {
  return tree?.kind === 'list' ? tree.items : [];
}

function mapKeys(tree: Tree): string[] {
  return tree.kind === 'map' ? [...tree.entries.keys()] : [];
}

function scalarOf(tree: Tree | undefined): unknown {
  return tree?.kind === 'scalar' ? tree.value : undefined;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
