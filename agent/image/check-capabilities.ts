// The capabilities of containers that ask for none: NET_RAW and NET_ADMIN are the ones that docs/security.md leaves open.
import { parse } from 'smol-toml';
import { type Check, fail, pass } from '../boot/phase.ts';
import { type Machine, namesIn, textOf } from './machine.ts';

const DANGEROUS = ['NET_RAW', 'NET_ADMIN'];
const CRIO_FOLDER = '/etc/crio/crio.conf.d';
const CONTAINERD = '/etc/containerd/config.toml';

/**
 * cri-o gives neither of them unless its configuration says so (crio.conf(5), default_capabilities). containerd gives NET_RAW
 * unless each runtime has a base_runtime_spec without it (containerd, docs/cri/config.md).
 */
export function checkCapabilities(machine: Machine): Check {
  const given = [...givenByCrio(machine), ...givenByContainerd(machine)];
  return given.length === 0
    ? pass('capabilities', 'a container that asks for none gets neither NET_RAW nor NET_ADMIN')
    : fail(
        'capabilities',
        'IMAGE_UNFIT',
        `${given.join('; ')}: a pod could forge frames (docs/security.md)`,
        {
          given,
        },
      );
}

/** The last file that sets default_capabilities counts. */
function givenByCrio(machine: Machine): string[] {
  const files = [
    '/etc/crio/crio.conf',
    ...namesIn(machine, CRIO_FOLDER)
      .filter((name) => name.endsWith('.conf'))
      .map((name) => `${CRIO_FOLDER}/${name}`),
  ];
  const named = files.flatMap((path) => {
    const list = at(tomlOf(machine, path), 'crio', 'runtime', 'default_capabilities');
    return Array.isArray(list) ? [{ path, list }] : [];
  });
  const last = named.at(-1);
  return last === undefined ? [] : dangerousIn(last.list, last.path);
}

function givenByContainerd(machine: Machine): string[] {
  if (!['/usr/bin', '/usr/local/bin'].some((folder) => namesIn(machine, folder).includes('containerd')))
    return [];
  const plugins = at(tomlOf(machine, CONTAINERD), 'plugins');
  const cri = ['io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri'].map((name) =>
    at(plugins, name, 'containerd', 'runtimes'),
  );
  const runtimes = cri.flatMap((one) => Object.entries((one ?? {}) as Record<string, unknown>));
  if (runtimes.length === 0)
    return [`${CONTAINERD} gives no runtime a base_runtime_spec: containers get NET_RAW`];
  return runtimes.flatMap(([name, runtime]) => {
    const path = at(runtime, 'base_runtime_spec');
    if (typeof path !== 'string' || path === '')
      return [`${CONTAINERD}: runtime ${name} has no base_runtime_spec: containers get NET_RAW`];
    const text = textOf(machine, path);
    if (text === undefined) return [`${CONTAINERD}: runtime ${name}: ${path} is not there`];
    const capabilities = at(jsonOf(text), 'process', 'capabilities');
    const sets = Object.values((capabilities ?? {}) as Record<string, unknown>);
    return [...new Set(sets.flatMap((set) => (Array.isArray(set) ? dangerousIn(set, path) : [])))];
  });
}

function dangerousIn(list: unknown[], path: string): string[] {
  const names = list.map((one) => String(one).replace(/^CAP_/, ''));
  const found = DANGEROUS.filter((name) => names.includes(name));
  return found.length === 0 ? [] : [`${path} gives ${found.join(' and ')}`];
}

/** undefined for text that is no TOML: the runtime itself refuses it. */
function tomlOf(machine: Machine, path: string): unknown {
  try {
    return parse(textOf(machine, path) ?? '');
  } catch {
    return {};
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

function at(value: unknown, ...path: string[]): unknown {
  let found = value;
  for (const key of path) found = (found as Record<string, unknown> | null | undefined)?.[key];
  return found;
}
