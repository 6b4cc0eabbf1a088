// Checks that the schema cannot make: values that are well formed and still wrong, alone or together. References to parameters
// are skipped; the same checks run again once the references are resolved.
import ipaddr from 'ipaddr.js';
import { nodeLabelProblem } from './node-labels.ts';
import type { Finding } from './problem.ts';
import type { Config } from './schema.ts';
import type { Path } from './tree.ts';

export interface CrossFinding {
  /** A warning is shown and does not stop the boot. */
  level: 'error' | 'warning';
  path: Path;
  value: unknown;
  finding: Finding;
}

interface Cidr {
  path: Path;
  text: string;
  first: number;
  last: number;
  length: number;
}

export function crossCheck(config: Config): CrossFinding[] {
  return [
    ...checkCidrs(config),
    ...checkServices(config),
    ...checkIpv6(config),
    ...checkEgress(config),
    ...checkNumbers(config),
    ...checkNames(config),
    ...checkLabels(config),
    ...checkPolicy(config),
    ...checkJoin(config),
  ];
}

function cidrsAt(path: Path, texts: readonly string[]): Cidr[] {
  return texts.flatMap((text, index) => parseCidr([...path, index], text) ?? []);
}

function parseCidr(path: Path, text: string): Cidr | undefined {
  if (text.startsWith('ssm:') || isIpv6(text)) return undefined;
  const [address, length] = ipaddr.IPv4.parseCIDR(text);
  const size = 2 ** (32 - length);
  const first = Math.floor(toNumber(address) / size) * size;
  return { path, text, first, last: first + size - 1, length };
}

function toNumber(address: ipaddr.IPv4): number {
  return address.octets.reduce((sum, octet) => sum * 256 + octet, 0);
}

function overlap(a: Cidr, b: Cidr): boolean {
  return a.first <= b.last && b.first <= a.last;
}

function inside(inner: Cidr, outer: Cidr): boolean {
  return inner.first >= outer.first && inner.last <= outer.last;
}

function checkCidrs(config: Config): CrossFinding[] {
  const services = cidrsAt(['kubernetes', 'serviceCidrs'], config.kubernetes.serviceCidrs);
  const routes = cidrsAt(['pods', 'routes'], config.pods.routes);
  const rows = egressRows(config);
  const found: CrossFinding[] = [];
  for (const cidr of [...services, ...routes, ...rows]) {
    const network = ipaddr.IPv4.networkAddressFromCIDR(cidr.text).toString();
    if (!cidr.text.startsWith(`${network}/`)) {
      found.push({
        level: 'error',
        path: cidr.path,
        value: cidr.text,
        finding: {
          problem: 'has host bits set',
          remedy: 'Write the network address itself, or /32 for one address.',
          suggestion: `${network}/${cidr.length}`,
        },
      });
    }
  }
  // RFC 1122 (this host, loopback), RFC 3927 (link-local: on EC2 metadata, DNS and time), RFC 5771 (multicast).
  const special = [
    { cidr: parseCidr([], '169.254.0.0/16'), what: 'link-local: EC2 answers metadata, DNS and time there' },
    { cidr: parseCidr([], '127.0.0.0/8'), what: 'the loopback network' },
    { cidr: parseCidr([], '224.0.0.0/4'), what: 'multicast' },
  ];
  for (const cidr of [...services, ...routes, ...rows]) {
    const hit = special.find((range) => range.cidr !== undefined && inside(cidr, range.cidr));
    if (hit === undefined) continue;
    found.push({
      level: 'error',
      path: cidr.path,
      value: cidr.text,
      finding: {
        problem: `is ${hit.what}`,
        remedy: 'Remove it; to let pods reach instance metadata there is `pods.allowImds`.',
      },
    });
  }
  for (const list of [services, routes, rows]) {
    list.forEach((cidr, index) => {
      const twin = list
        .slice(0, index)
        .find((earlier) => earlier.first === cidr.first && earlier.length === cidr.length);
      if (twin === undefined) return;
      found.push({
        level: 'error',
        path: cidr.path,
        value: cidr.text,
        finding: { problem: 'names a CIDR twice', remedy: 'Keep one of the two.' },
      });
    });
  }
  return found;
}

function checkPolicy({ policy, apiServer }: Config): CrossFinding[] {
  if (policy === undefined) return [];
  const wrong = (path: Path, value: unknown, problem: string, remedy: string): CrossFinding => ({
    level: 'error',
    path,
    value,
    finding: { problem, remedy },
  });
  const { token, certificate, key } = policy.identity;
  const found: CrossFinding[] = [];
  if (apiServer === undefined)
    found.push(
      wrong(
        ['policy'],
        policy,
        'has no API server to ask',
        'Set `apiServer.endpoint` to its https:// address.',
      ),
    );
  const complete =
    token === undefined ? certificate !== undefined && key !== undefined : !certificate && !key;
  if (!complete)
    found.push(
      wrong(
        ['policy', 'identity'],
        policy.identity,
        'is neither a token nor a certificate with its key',
        'Give `token`, or `certificate` and `key`.',
      ),
    );
  return found;
}

function checkJoin({ join, apiServer, pods }: Config): CrossFinding[] {
  if (join === undefined) return [];
  const found: CrossFinding[] = [];
  if (apiServer === undefined) {
    const problem = 'has no API server to join';
    const remedy = 'Set `apiServer.endpoint` to its https:// address.';
    found.push({ level: 'error', path: ['join'], value: undefined, finding: { problem, remedy } });
  }
  if (pods.allowImds && join.token.startsWith('ssm:')) {
    const problem =
      "can be read by every pod: `pods.allowImds` gives pods the node's role, which may read it";
    const remedy = 'Set `pods.allowImds: false`, or give the token in a file.';
    found.push({ level: 'warning', path: ['join', 'token'], value: undefined, finding: { problem, remedy } });
  }
  return found;
}

function checkServices(config: Config): CrossFinding[] {
  const services = cidrsAt(['kubernetes', 'serviceCidrs'], config.kubernetes.serviceCidrs);
  const routes = cidrsAt(['pods', 'routes'], config.pods.routes);
  const found: CrossFinding[] = [];
  services.forEach((cidr, index) => {
    const other = services
      .slice(0, index)
      .find((earlier) => overlap(earlier, cidr) && earlier.length !== cidr.length);
    if (other !== undefined) {
      found.push({
        level: 'error',
        path: cidr.path,
        value: cidr.text,
        finding: {
          problem: `overlaps ${other.text}, another Service CIDR`,
          remedy: "Write the API server's --service-cluster-ip-range, each range once.",
        },
      });
    }
    // kube-apiserver refuses Service ranges of more than 20 host bits.
    if (cidr.length < 12) {
      found.push({
        level: 'error',
        path: cidr.path,
        value: cidr.text,
        finding: {
          problem: 'is wider than the /12 that kube-apiserver allows for Services',
          remedy: "Write the API server's own --service-cluster-ip-range.",
        },
      });
    }
    const route = routes.find((candidate) => overlap(candidate, cidr) && candidate.length >= cidr.length);
    if (route !== undefined) {
      found.push({
        level: 'error',
        path: route.path,
        value: route.text,
        finding: {
          problem: `lies in ${cidr.text}, a Service CIDR`,
          remedy: 'Remove it: Service addresses exist only on nodes, nothing in the VPC answers them.',
        },
      });
    }
  });
  config.kubernetes.clusterDns.forEach((text, index) => {
    if (text.startsWith('ssm:') || isIpv6(text) || services.length === 0) return;
    const path = ['kubernetes', 'clusterDns', index];
    const dns = parseCidr(path, `${text}/32`);
    // NodeLocal DNSCache listens on a link-local address.
    if (dns === undefined || text.startsWith('169.254.')) return;
    const home = services.find((cidr) => inside(dns, cidr));
    if (home === undefined) {
      const allKnown = config.kubernetes.serviceCidrs.every((one) => !one.startsWith('ssm:'));
      if (!allKnown) return;
      found.push({
        level: 'warning',
        path,
        value: text,
        finding: {
          problem: 'is in no Service CIDR',
          remedy:
            'Check it against `kubectl -n kube-system get service kube-dns`; a DNS server outside the cluster is fine.',
        },
      });
    } else if (dns.first === home.first + 1) {
      found.push({
        level: 'warning',
        path,
        value: text,
        finding: {
          problem: "is the first address of a Service CIDR, which is the API server's own Service",
          remedy: 'Check it against `kubectl -n kube-system get service kube-dns`.',
        },
      });
    }
  });
  const host = endpointHost(config);
  const api =
    host === undefined || !ipaddr.IPv4.isValidFourPartDecimal(host) ? undefined : parseCidr([], `${host}/32`);
  const around = api === undefined ? undefined : services.find((cidr) => inside(api, cidr));
  if (around !== undefined) {
    found.push({
      level: 'error',
      path: ['apiServer', 'endpoint'],
      value: config.apiServer?.endpoint,
      finding: {
        problem: `is a Service address (in ${around.text}), which works only after kubelet and kube-proxy have started`,
        remedy: 'Write the address of the load balancer or of the API server itself.',
      },
    });
  }
  return found;
}

/** IPv6 is configured in two lists only; in all other places it follows from the pods' own addresses. */
function checkIpv6(config: Config): CrossFinding[] {
  const { serviceCidrs, clusterDns } = config.kubernetes;
  const dualStack = config.pods.ipFamily === 'dual-stack';
  const found: CrossFinding[] = [];
  const refuse = (path: Path, value: string, finding: Finding) =>
    found.push({ level: 'error', path, value, finding });
  const seen = new Set<string>();
  serviceCidrs.forEach((text, index) => {
    if (text.startsWith('ssm:') || !isIpv6(text)) return;
    const path = ['kubernetes', 'serviceCidrs', index];
    if (!ipaddr.IPv6.isValidCIDR(text)) {
      refuse(path, text, { problem: 'is not an IPv6 CIDR', remedy: 'Write it like fd00:10:96::/108.' });
      return;
    }
    const length = Number(text.split('/')[1]);
    const network = ipaddr.IPv6.networkAddressFromCIDR(text);
    const canonical = `${network.toRFC5952String()}/${length}`;
    const given = ipaddr.IPv6.parse(text.slice(0, text.indexOf('/')));
    if (given.toNormalizedString() !== network.toNormalizedString()) {
      refuse(path, text, {
        problem: 'has host bits set',
        remedy: 'Write the network address itself, or /128 for one address.',
        suggestion: canonical,
      });
    } else if (network.range() !== 'uniqueLocal' && network.range() !== 'unicast') {
      refuse(path, text, {
        problem: `is ${network.range()}: no Service can have an address of it`,
        remedy: "Write the API server's own --service-cluster-ip-range.",
      });
    } else if (network.match(ipaddr.IPv6.parse('fd00:ec2::'), 32)) {
      refuse(path, text, {
        problem: 'lies in fd00:ec2::/32, where EC2 answers metadata, DNS and time',
        remedy: 'Choose another range of fd00::/8 for Services.',
      });
    } else if (length < 64) {
      refuse(path, text, {
        problem: 'is wider than the /64 that kube-apiserver allows for Services',
        remedy: "Write the API server's own --service-cluster-ip-range.",
      });
    }
    if (seen.has(canonical))
      refuse(path, text, { problem: 'names a CIDR twice', remedy: 'Keep one of the two.' });
    seen.add(canonical);
    if (!dualStack) refuse(path, text, ipv6WithoutDualStack);
  });
  clusterDns.forEach((text, index) => {
    if (text.startsWith('ssm:') || !isIpv6(text)) return;
    const path = ['kubernetes', 'clusterDns', index];
    if (!ipaddr.IPv6.isValid(text))
      refuse(path, text, { problem: 'is not an IPv6 address', remedy: 'Write it like fd00:10:96::a.' });
    else if (!dualStack) refuse(path, text, ipv6WithoutDualStack);
  });
  const unknown = serviceCidrs.some((text) => text.startsWith('ssm:'));
  if (dualStack && seen.size === 0 && !unknown) {
    found.push({
      level: 'warning',
      path: ['kubernetes', 'serviceCidrs'],
      value: serviceCidrs,
      finding: {
        problem: 'has no IPv6 CIDR while pods are dual-stack: they would look for IPv6 Services in the VPC',
        remedy: "Add the IPv6 range of the API server's --service-cluster-ip-range, if it has one.",
      },
    });
  }
  return found;
}

const ipv6WithoutDualStack: Finding = {
  problem: 'is IPv6, and pods have IPv4 alone',
  remedy: 'Set `pods.ipFamily: dual-stack`, or remove it.',
};

function isIpv6(text: string): boolean {
  return text.includes(':');
}

function egressRows(config: Config): Cidr[] {
  return config.egress.table.flatMap(
    (row, index) => parseCidr(['egress', 'table', index, 'cidr'], row.cidr) ?? [],
  );
}

function checkEgress(config: Config): CrossFinding[] {
  const found: CrossFinding[] = [];
  const services = cidrsAt(['kubernetes', 'serviceCidrs'], config.kubernetes.serviceCidrs);
  config.egress.table.forEach((row, index) => {
    const cidr = parseCidr(['egress', 'table', index, 'cidr'], row.cidr);
    if (cidr === undefined) return;
    if (row.action !== 'route' && config.pods.routes.includes(row.cidr)) {
      found.push({
        level: 'error',
        path: ['egress', 'table', index, 'action'],
        value: row.action,
        finding: {
          problem: `contradicts \`pods.routes\`, which lists ${row.cidr} for routing without NAT`,
          remedy: 'Keep it in one of the two places.',
        },
      });
    }
    const around = services.find((service) => inside(cidr, service));
    if (around !== undefined) {
      found.push({
        level: 'warning',
        path: cidr.path,
        value: cidr.text,
        finding: {
          problem: `never matches: it lies in ${around.text}, a Service CIDR, and kube-proxy replaces Service addresses before`,
          remedy: 'Remove it.',
        },
      });
    }
  });
  return found;
}

function checkNumbers(config: Config): CrossFinding[] {
  const found: CrossFinding[] = [];
  if (config.pool.target !== undefined && config.pool.target > config.pods.max) {
    found.push({
      level: 'error',
      path: ['pool', 'target'],
      value: config.pool.target,
      finding: {
        problem: `is larger than pods.max (${config.pods.max})`,
        remedy: 'Lower it, or raise `pods.max`; more addresses than pods are never used.',
      },
    });
  }
  if (config.pool.restSeconds === 0) {
    found.push({
      level: 'warning',
      path: ['pool', 'restSeconds'],
      value: 0,
      finding: {
        problem: 'gives an address to a new pod at once, while peers may still send to the old one',
        remedy: 'Leave it at 60 seconds unless addresses are very scarce.',
      },
    });
  }
  if (config.boot.onFailure === 'terminate' && config.boot.deadlineSeconds < 60) {
    found.push({
      level: 'warning',
      path: ['boot', 'deadlineSeconds'],
      value: config.boot.deadlineSeconds,
      finding: {
        problem:
          'is under a minute while `boot.onFailure` terminates the instance: one slow EC2 answer ends it',
        remedy: 'Allow at least 60 seconds.',
      },
    });
  }
  return found;
}

function checkNames(config: Config): CrossFinding[] {
  const found: CrossFinding[] = [];
  for (const [name, choice] of [
    ['subnets', config.pods.subnets],
    ['securityGroups', config.pods.securityGroups],
  ] as const) {
    if (choice === undefined || !('ids' in choice)) continue;
    choice.ids.forEach((id, index) => {
      if (choice.ids.indexOf(id) === index) return;
      found.push({
        level: 'error',
        path: ['pods', name, 'ids', index],
        value: id,
        finding: { problem: 'is listed twice', remedy: 'Keep one of the two.' },
      });
    });
  }
  for (const [key, value] of Object.entries(config.aws.tags)) {
    const owner = /^aws:/i.test(key) ? 'AWS' : /^eniboot:/i.test(key) ? 'eniboot' : undefined;
    if (owner === undefined) continue;
    found.push({
      level: 'error',
      path: ['aws', 'tags', key],
      value,
      finding: {
        problem: `is a tag key reserved for ${owner} itself`,
        remedy: 'Choose a key with another prefix.',
      },
    });
  }
  const port = config.apiServer === undefined ? undefined : /:(\d+)$/.exec(config.apiServer.endpoint)?.[1];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) {
    found.push({
      level: 'error',
      path: ['apiServer', 'endpoint'],
      value: config.apiServer?.endpoint,
      finding: {
        problem: `has a port (${port}) outside 1 to 65535`,
        remedy: 'Write the port of the API server, usually 443 or 6443.',
      },
    });
  }
  if (config.bundle !== undefined && !config.bundle.parameter.includes('{zone-id}')) {
    found.push({
      level: 'warning',
      path: ['bundle', 'parameter'],
      value: config.bundle.parameter,
      finding: {
        problem: 'lacks {zone-id}, so that a new version reaches every zone at once',
        remedy: 'Use one parameter for each zone: put {zone-id} into the path.',
      },
    });
  }
  if (config.bundle?.lowest !== undefined && config.bundle.keys.length === 0) {
    found.push({
      level: 'warning',
      path: ['bundle', 'lowest'],
      value: config.bundle.lowest,
      finding: {
        problem: 'means little without bundle.keys: an unsigned archive may call itself any version',
        remedy: 'Sign versions and set bundle.keys.',
      },
    });
  }
  return found;
}

function endpointHost(config: Config): string | undefined {
  const endpoint = config.apiServer?.endpoint;
  if (endpoint === undefined || endpoint.startsWith('ssm:')) return undefined;
  return /^https:\/\/([^/:]+)/.exec(endpoint)?.[1];
}

function checkLabels(config: Config): CrossFinding[] {
  return Object.entries(config.kubernetes.labels).flatMap(([key, value]): CrossFinding[] => {
    const problem = nodeLabelProblem(key, value);
    if (problem === undefined) return [];
    const remedy = 'Choose another key, or set it from outside with `kubectl label node`.';
    return [{ level: 'error', path: ['kubernetes', 'labels', key], value, finding: { problem, remedy } }];
  });
}
