import { haltParameter } from '../aws/halt-flag.ts';
import {
  type Allowed,
  imagePolicy,
  type NodeNeeds,
  nodePolicy,
  rolloutPolicy,
  type Scope,
  sweepPolicy,
} from '../aws/iam.ts';
import { RELEASES } from '../aws/release.ts';
import { wantedParameter } from '../aws/wanted.ts';
import type { Config } from '../config/schema.ts';
import { Failure } from '../messages/failure.ts';
import { formed, parse } from './arguments.ts';
import type { Command } from './command.ts';

const help = `Usage: eniboot iam-policy [node] [--config FILE] [--cluster NAME] [--account ID] [--region REGION] [--json]
       eniboot iam-policy sweep [--cluster NAME] [--account ID] [--region REGION] [--json]
       eniboot iam-policy rollout [--alarm] [--parameter PATH]... [--cluster NAME] [--account ID] [--region REGION] [--json]
       eniboot iam-policy image [--kms-key ARN]... [--account ID] [--region REGION] [--json]

Prints an IAM policy document with the calls that eniboot makes and no others. docs/iam.md explains each statement. Needs
neither AWS nor root.

node    (default) for the role in the instance profile of nodes: create, attach and fill pod ENIs of its own cluster,
        tag itself and, if so configured, terminate itself, but no other instance.
sweep   for the role that runs \`eniboot eni sweep\`: mark and delete unattached pod ENIs. Not for nodes.
rollout for operators of rollouts: the record, the zones' parameters, one SSM document, and sending it to nodes.
image   for operators who test and publish images: a test instance, its verdict on the image, the zones' image parameters.
        Add iam:PassRole for the nodes' role yourself.

  --config FILE     the nodes' configuration: limits the policy to its cluster, subnets and security groups, and adds what it
                    asks for (boot.onFailure: terminate, egress.publicAddress: request, values and a token from ssm:/…, bundle)
  --alarm           rollout: specs have \`alarm\`, which is part of commands: Run Command reads it by a role that it may
                    have to create. \`alarms\` need no further rights
  --parameter PATH  rollout: what.bundle.parameter and what.image.parameter of the specs, with {zone-id}; may be given several
                    times. Default: all in /eniboot/bundle/NAME/ and /eniboot/image/NAME/, where NAME is the cluster, or
                    without --cluster every cluster. With --cluster the parameters that specs and nodes use by
                    default (/eniboot/bundle/{zone-id}) are not included, since new nodes of any cluster may follow them:
                    if only this cluster uses them, give them here
  --kms-key ARN     image: your own KMS key that encrypts images (or volumes, by the account's default);
                    may be given several times
  --cluster NAME    only ENIs of this cluster; default: the one in FILE, else every cluster
  --account ID      only in this account, 12 digits
  --region REGION   only in this region; also selects the partition (aws, aws-cn, aws-us-gov, …)
  --json            on one line

  eniboot iam-policy --config node.yaml --account 123456789012 --region eu-central-1 > node-policy.json
  aws iam put-role-policy --role-name node --policy-name eniboot --policy-document file://node-policy.json

Exit codes: 0 printed; 1 the configuration was refused, with a code; 2 wrong usage.
`;

export const iamPolicyCommand: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = parse(
      'iam-policy',
      args,
      {
        config: { type: 'string' },
        cluster: { type: 'string' },
        account: { type: 'string' },
        region: { type: 'string' },
        alarm: { type: 'boolean' },
        parameter: { type: 'string', multiple: true },
        'kms-key': { type: 'string', multiple: true },
        json: { type: 'boolean' },
      },
      1,
    );
    const whose = positionals[0] ?? 'node';
    if (whose !== 'node' && whose !== 'sweep' && whose !== 'rollout' && whose !== 'image') {
      throw new Failure(
        'USAGE',
        `eniboot iam-policy: no policy ${whose}; there are node, sweep, rollout and image`,
      );
    }
    if (whose !== 'node' && values.config !== undefined) {
      throw new Failure('USAGE', `eniboot iam-policy: --config is for nodes; a ${whose} reads none`);
    }
    if (whose !== 'rollout' && values.alarm !== undefined)
      throw new Failure('USAGE', `eniboot iam-policy: --alarm is for rollout, not for ${whose}`);
    const zones = values.parameter ?? [];
    if (whose !== 'rollout' && zones.length > 0)
      throw new Failure('USAGE', `eniboot iam-policy: --parameter is for rollout, not for ${whose}`);
    // No `*`: in IAM it also matches slashes, and so more than it seems to.
    for (const name of zones)
      formed(
        'iam-policy',
        '--parameter',
        name,
        /^\/(?:[\w./-]|\{zone-id\})+$/,
        'the path of a parameter, such as /eniboot/bundle/production/{zone-id}',
      );
    const kmsKeys = values['kms-key'] ?? [];
    if (whose !== 'image' && kmsKeys.length > 0)
      throw new Failure('USAGE', `eniboot iam-policy: --kms-key is for image, not for ${whose}`);
    // A policy cannot name a key by its alias. Source: KMS developer guide, "Specifying KMS keys in IAM policy statements".
    for (const key of kmsKeys)
      formed(
        'iam-policy',
        '--kms-key',
        key,
        /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key\/[A-Za-z0-9-]+$/,
        "a key's ARN, such as arn:aws:kms:eu-central-1:123456789012:key/ID",
      );
    const config = values.config === undefined ? undefined : await readConfig(values.config);
    const scope: Scope = {
      cluster:
        formed('iam-policy', '--cluster', values.cluster, /^[\w.-]{1,63}$/, 'the name of a cluster') ??
        literal(config?.cluster),
      account: formed('iam-policy', '--account', values.account, /^\d{12}$/, '12 digits'),
      region: formed(
        'iam-policy',
        '--region',
        values.region,
        /^[a-z]{2,4}(-[a-z]+)+-\d$/,
        'a region, such as eu-central-1',
      ),
    };
    const policy =
      whose === 'node'
        ? nodePolicy(scope, await needsOf(config))
        : whose === 'sweep'
          ? sweepPolicy(scope)
          : whose === 'rollout'
            ? rolloutPolicy(scope, { alarm: values.alarm === true, zones })
            : imagePolicy(scope, kmsKeys);
    io.stdout(`${JSON.stringify(policy, null, values.json === true ? undefined : 2)}\n`);
    return 0;
  },
};

async function readConfig(path: string): Promise<Config> {
  const { loadConfig } = await import('../config/load.ts');
  const { readFileSources } = await import('../config/sources.ts');
  return loadConfig(readFileSources(path)).config;
}

/** Without a configuration: the needs of every configuration. */
async function needsOf(config: Config | undefined): Promise<NodeNeeds> {
  if (config === undefined) {
    return {
      subnets: 'any',
      securityGroups: 'any',
      parameters: [],
      ipv6: false,
      publicAddress: false,
      terminate: false,
    };
  }
  const { parameterReferences, secretReferences } = await import('../config/parameters.ts');
  return {
    subnets: allowed(config.pods.subnets),
    securityGroups: allowed(config.pods.securityGroups),
    parameters: [...parameterReferences(config), ...secretReferences(config), ...bundleParameters(config)],
    ipv6: config.pods.ipFamily === 'dual-stack',
    publicAddress: config.egress.publicAddress === 'request',
    terminate: config.boot.onFailure === 'terminate',
  };
}

/**
 * The parameters of the zone's bundle, of releases and of the halt flag. A node reads the bundle of its own zone, and the
 * policy does not know that zone. A rollout makes the node read the other parameters.
 */
function bundleParameters({ bundle, cluster }: Config): string[] {
  if (bundle === undefined) return [];
  return [
    bundle.parameter.replaceAll('{zone-id}', '*'),
    `${RELEASES}/*`,
    haltParameter(literal(cluster) ?? '*'),
    wantedParameter(literal(cluster) ?? '*'),
  ];
}

/**
 * Values in Parameter Store are not known here. Without a choice in the configuration, security groups are those of the boot
 * ENI.
 */
function allowed(choice: Config['pods']['securityGroups']): Allowed {
  if (choice === undefined) return 'any';
  const values = 'ids' in choice ? choice.ids : Object.values(choice.tags);
  return values.some((value) => literal(value) === undefined) ? 'any' : choice;
}

function literal(value: string | undefined): string | undefined {
  return value?.startsWith('ssm:/') === true ? undefined : value;
}
