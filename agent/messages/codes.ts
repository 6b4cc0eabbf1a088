// Every way eniboot can fail, in one table: docs/failures.md is generated from it, and a test fails when a
// code has no remedy or no test that provokes it.

interface FailureText {
  /** What it means, one sentence. */
  title: string;
  /** What to do, in the imperative. */
  remedy: string;
  /** True when trying again inside the deadline can help. */
  transient: boolean;
}

export const failureCodes = {
  CONFIG_INVALID: {
    title: 'The configuration was refused.',
    remedy:
      'Correct the value at the path named in the message; `eniboot config check FILE` says the same on a laptop.',
    transient: false,
  },
  CONFIG_MISSING: {
    title: 'No configuration was found in files or user data.',
    remedy: 'Put at least `cluster` and `pods.subnets` into /etc/eniboot/config.yaml or the user data.',
    transient: false,
  },
  NOT_ROOT: {
    title: 'This command changes the machine and needs root.',
    remedy: 'Run it with sudo, or let its systemd unit run it.',
    transient: false,
  },
  INSTANCE_TYPE_UNKNOWN: {
    title: 'The ENI and address limits of this instance type are not known.',
    remedy:
      'Allow ec2:DescribeInstanceTypes in the node role, or use a newer eniboot; `eniboot capacity TYPE` shows what the table knows.',
    transient: false,
  },
  NO_POD_CAPACITY: {
    title: 'This instance type cannot hold an ENI for pods.',
    remedy:
      'Use an instance type with at least 2 ENIs on its default network card; `eniboot capacity TYPE` tells.',
    transient: false,
  },
  PREFIXES_UNSUPPORTED: {
    title: 'Prefixes are demanded of an instance type that cannot have them.',
    remedy: 'Set `pods.addressing` to auto or addresses, or use a Nitro instance type.',
    transient: false,
  },
  KUBELET_UNSUPPORTED: {
    title: 'This version of kubelet is not one eniboot can configure.',
    remedy:
      'Install a kubelet whose minor version is in the range the message names, or an eniboot that knows this one.',
    transient: false,
  },
  INTERNAL: {
    title: 'eniboot met an error it has no name for.',
    remedy: 'Keep `eniboot support-bundle` and report it with the message.',
    transient: false,
  },
} as const satisfies Record<string, FailureText>;
