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
  INTERNAL: {
    title: 'eniboot met an error it has no name for.',
    remedy: 'Keep `eniboot support-bundle` and report it with the message.',
    transient: false,
  },
} as const satisfies Record<string, FailureText>;
