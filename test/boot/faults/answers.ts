// Answers from outside that have no end, that another server sent, or that are well formed with impossible values. None of
// them takes much memory. None is reported as a defect of eniboot, a damaged file or a refusal: the boot tries again.
import { is, ok } from 'uvu/assert';
import type { FailureCode } from '../../../agent/messages/failure.ts';
import type { Ec2Fault, ImdsFault } from '../../aws/faults.ts';
import type { Bench, Expectation, Fault } from './fault.ts';

// The shortest that may be configured, in which a boot makes several tries; the failure of the last one is the verdict.
const DEAD = { deadlineSeconds: 10 } as const;
const podEni = { podEnis: [{ prefixes: 7, tags: { 'eniboot:role': 'pods' } }] };
const PAGE = '<html><body>You have to log in first.</body></html>';
const ENI_ITEM = `<item><networkInterfaceId>eni-1</networkInterfaceId>${'<a>'.repeat(20)}</item>`;

function onImds(rule: ImdsFault): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.imds.add({ ...rule, instanceId: instance.id });
  };
}

function onEc2(rule: Ec2Fault & { times?: number; skip?: number }): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.ec2.add({ ...rule, instanceId: instance.id });
  };
}

function failed(code: FailureCode, phase: Expectation['phase']): Expectation {
  return { verdict: 'failed', code, ...(phase === undefined ? {} : { phase }), withinSeconds: 30 };
}

/** IMDS answers so at a path, always. */
function imds(name: string, path: RegExp, lie: Partial<ImdsFault>, more: Partial<Fault> = {}): Fault {
  return {
    name: `IMDS: ${name}`,
    ...DEAD,
    arrange: onImds({ ...lie, path }),
    expect: failed('IMDS_ERROR', 'identify'),
    // Tried again until the deadline, which gave the verdict.
    prove: (_bench, { status }) =>
      ok((status?.failure?.message ?? '').includes('IMDS'), 'the message names IMDS'),
    ...more,
  };
}

const says = (text: string): Partial<ImdsFault> => ({ edit: () => text });

/** EC2 answers so to each call of a kind: a node without pod ENIs fails, a node with pod ENIs is READY. */
function ec2(name: string, rule: Ec2Fault, phase: Expectation['phase'] = 'attach'): Fault[] {
  const arrange = onEc2(rule);
  return [
    { name: `EC2: ${name}`, ...DEAD, arrange, expect: failed('EC2_UNAVAILABLE', phase) },
    {
      name: `EC2: ${name}, with ENIs in place`,
      deadlineSeconds: 30,
      launch: podEni,
      arrange,
      expect: { verdict: 'degraded', withinSeconds: 40 },
      prove: (bench) => is(bench.instance.enis.length, 2, 'no second pod ENI'),
    },
  ];
}

interface Eni {
  NetworkInterfaceId?: unknown;
  MacAddress?: unknown;
  PrivateIpAddress?: unknown;
  Attachment?: Record<string, unknown> | undefined;
  Ipv4Prefixes?: unknown[];
}

/** Changes every ENI in the answers of DescribeNetworkInterfaces. */
function enis(edit: (all: Eni[]) => Eni[]): Ec2Fault {
  return {
    action: 'DescribeNetworkInterfaces',
    edit: ((answer: { NetworkInterfaces?: Eni[] }) => ({
      ...answer,
      NetworkInterfaces: edit(answer.NetworkInterfaces ?? []),
    })) as never,
  };
}

const describe = (rule: Omit<Ec2Fault, 'action'>): Ec2Fault => ({
  ...rule,
  action: 'DescribeNetworkInterfaces',
});
const each = (change: (eni: Eni) => object) => enis((all) => all.map((eni) => ({ ...eni, ...change(eni) })));

const attachment = (change: object) => each((eni) => ({ Attachment: { ...eni.Attachment, ...change } }));

/** Changes the pod ENI in the answer, and not the boot ENI. */
function secondEni(name: string, change: (eni: Eni) => object): Fault {
  return {
    name: `EC2: ${name}`,
    deadlineSeconds: 30,
    launch: podEni,
    arrange: onEc2(
      enis((all) =>
        all.map((eni) => (eni.Attachment?.['DeviceIndex'] === 1 ? { ...eni, ...change(eni) } : eni)),
      ),
    ),
    expect: { verdict: 'degraded', withinSeconds: 40 },
    prove: (bench) => is(bench.instance.enis.length, 2, 'no second pod ENI'),
  };
}

function subnets(name: string, change: object): Fault {
  return {
    name: `EC2: ${name}`,
    ...DEAD,
    arrange: onEc2({
      action: 'DescribeSubnets',
      edit: ((answer: { Subnets?: object[] }) => ({
        Subnets: answer.Subnets?.map((subnet) => ({ ...subnet, ...change })),
      })) as never,
    }),
    expect: failed('EC2_UNAVAILABLE', 'attach'),
  };
}

const CLUSTER = { cluster: 'ssm:/eniboot/cluster' };

function ssm(name: string, rule: Omit<Ec2Fault, 'action'>): Fault {
  return {
    name: `SSM: ${name}`,
    ...DEAD,
    config: CLUSTER,
    arrange: ({ cloud, instance }) => {
      cloud.faults.ssm.add({ ...rule, action: '*', instanceId: instance.id });
    },
    expect: failed('SSM_FAILED', 'identify'),
  };
}

const parameters = (edit: (names: string[]) => object): Omit<Ec2Fault, 'action'> => ({
  edit: ((answer: { InvalidParameters?: string[] }) => edit(answer.InvalidParameters ?? [])) as never,
});

const vpcCidr = (CidrBlock: string): Ec2Fault => ({
  action: 'DescribeVpcs',
  edit: (() => ({
    Vpcs: [{ CidrBlockAssociationSet: [{ CidrBlock, CidrBlockState: { State: 'associated' } }] }],
  })) as never,
});

export const answerFaults: Fault[] = [
  imds('a list of interfaces without end', /\/macs\/$/, { endless: '02:00:00:00:00:01/\n' }),
  imds('400,000 interfaces', /\/macs\/$/, says('02:00:00:00:00:01/\n'.repeat(400_000))),
  imds('3,000 interfaces', /\/macs\/$/, {
    edit: (text) =>
      [
        text,
        ...Array.from({ length: 3000 }, (_, at) => `02:00:00:00:${hex(at >> 8)}:${hex(at & 255)}/`),
      ].join('\n'),
  }),
  imds('user data without end', /\/user-data$/, { endless: '# more\n' }, { launch: userData() }),
  imds('a token without end', /\/token$/, { method: 'PUT', endless: 'abcdefgh' }),
  imds('an identity document without end', /\/document$/, { endless: ' ' }),
  imds('an identity document that is a list', /\/document$/, says('[]')),
  imds('an identity document cut off', /\/document$/, { edit: (text) => text.slice(0, 40) }),
  imds('a malformed region', /\/document$/, {
    edit: (text) => text.replace(/"region": "[^"]*"/, '"region": "evil.example.com/"'),
  }),
  imds('a malformed instance ID', /\/document$/, {
    edit: (text) => text.replace(/"instanceId": "[^"]*"/, '"instanceId": "../../etc"'),
  }),
  imds('an instance ID that is a number', /\/document$/, {
    edit: (text) => text.replace(/"instanceId": "[^"]*"/, '"instanceId": 7'),
  }),
  imds('a malformed MAC', /\/meta-data\/mac$/, says('02:00')),
  imds('an interface whose name is not a MAC', /\/macs\/$/, { edit: (text) => `../../../\n${text}` }),
  imds('a page in place of a value', /\/interface-id$/, says(PAGE)),
  imds('a malformed device number', /\/device-number$/, says('zero')),
  imds('a negative device number', /\/device-number$/, says('-1')),
  imds('a malformed CIDR of the subnet', /\/subnet-ipv4-cidr-block$/, says('10.0.0.0/99')),
  imds('a malformed address', /\/local-ipv4s$/, says('10.0.0.999')),
  imds('an address outside of the subnet', /\/local-ipv4s$/, says('192.168.7.7')),
  imds('a malformed CIDR of the VPC', /\/vpc-ipv4-cidr-blocks$/, says('10.0.0.0/16\n10.1.0.0/x')),
  imds('the whole Internet as a CIDR of the VPC', /\/vpc-ipv4-cidr-blocks$/, says('0.0.0.0/0')),
  imds('a malformed public address', /\/public-ipv4s$/, says('none'), { launch: { publicIp: true } }),
  imds('a malformed prefix', /\/ipv4-prefix$/, says('10.0.64.0/28\n10.0.64.16/8'), { launch: podEni }),
  {
    name: 'IMDS: each interface is listed twice',
    launch: podEni,
    arrange: onImds({ path: /\/macs\/$/, edit: (text) => `${text}\n${text}` }),
    expect: { verdict: 'ready' },
  },
  ...[says('{"Code":"Success"}'), { edit: withExpiration('soon') }, says(PAGE), { endless: ' ' }].map(
    (lie, at): Fault =>
      imds(
        `credentials: ${['without a key', 'that expire soon', 'that are a page', 'without end'][at]}`,
        /security-credentials\/./,
        lie,
        { expect: failed(at === 0 ? 'IMDS_INCOMPLETE' : 'IMDS_ERROR', 'attach') },
      ),
  ),

  ...ec2('an answer without end', describe({ endless: ENI_ITEM })),
  ...ec2('an answer cut off', describe({ rewrite: (text) => text.slice(0, text.length / 2) })),
  ...ec2('the page of another server', describe({ rewrite: () => PAGE })),
  ...ec2('an empty answer', describe({ rewrite: () => '' })),
  ...ec2('200,000 nested elements', describe({ rewrite: () => '<a>'.repeat(200_000) })),
  ...ec2('a malformed date', {
    action: 'DescribeNetworkInterfaces',
    rewrite: (text) =>
      text.replace(/<attachTime>[^<]*|<attachment>/g, '<attachment><attachTime>soon</attachTime>'),
  }),
  ...ec2(
    'ENIs without an ID',
    each(() => ({ NetworkInterfaceId: undefined })),
  ),
  ...ec2(
    'a malformed ENI ID',
    each(() => ({ NetworkInterfaceId: '../../etc' })),
  ),
  ...ec2(
    'ENIs without a MAC',
    each(() => ({ MacAddress: undefined })),
  ),
  ...ec2(
    'a malformed address',
    each(() => ({ PrivateIpAddress: '10.0.0' })),
  ),
  ...ec2('a device index below zero', attachment({ DeviceIndex: -5 })),
  ...ec2('a huge device index', attachment({ DeviceIndex: 1e300 })),
  ...ec2(
    'a device index that is not a number',
    describe({
      rewrite: (text) => text.replaceAll(/<deviceIndex>\d+/g, '<deviceIndex>one'),
    }),
  ),
  ...ec2('an attachment without an ID', attachment({ AttachmentId: undefined })),
  ...ec2('pages without end', {
    action: 'DescribeNetworkInterfaces',
    edit: ((answer: object) => ({
      ...answer,
      NextToken: Buffer.from('page:0').toString('base64url'),
    })) as never,
  }),
  secondEni('a malformed prefix', () => ({ Ipv4Prefixes: [{ Ipv4Prefix: '10.0.64.0/99' }] })),
  secondEni('a prefix of /8, larger than EC2 assigns', () => ({
    Ipv4Prefixes: [{ Ipv4Prefix: '10.0.0.0/8' }],
  })),
  secondEni('10,000 prefixes', () => ({
    Ipv4Prefixes: Array.from({ length: 10_000 }, () => ({ Ipv4Prefix: '10.0.64.0/28' })),
  })),
  {
    name: 'EC2: every ENI is listed twice',
    launch: podEni,
    arrange: onEc2(enis((all) => [...all, ...all])),
    expect: { verdict: 'ready' },
    prove: (bench) => is(bench.instance.enis.length, 2, 'no second pod ENI'),
  },
  {
    name: 'EC2: two ENIs with the same prefixes',
    deadlineSeconds: 30,
    launch: podEni,
    arrange: onEc2(
      enis((all) => {
        const prefixes = all.flatMap((eni) => eni.Ipv4Prefixes ?? []);
        return all.map((eni) => ({ ...eni, Ipv4Prefixes: prefixes }));
      }),
    ),
    expect: { verdict: 'degraded', withinSeconds: 40 },
  },
  ...['10.0.0.0/99', '10.0.0.0', '0.0.0.0/0', '10.0.0.7/16', 'fd00::/64', ''].map(
    (cidr): Fault => ({
      name: `EC2: ${JSON.stringify(cidr)} as the VPC's CIDR: the CIDRs of IMDS are used`,
      deadlineSeconds: 30,
      arrange: onEc2(vpcCidr(cidr)),
      expect: { verdict: 'degraded', withinSeconds: 40 },
    }),
  ),
  subnets('a subnet without an ID', { SubnetId: undefined }),
  subnets('a subnet with -5 free addresses', { AvailableIpAddressCount: -5 }),
  subnets('a malformed CIDR of a subnet', { CidrBlock: '10.0.64.0/77' }),
  {
    name: 'EC2: CreateNetworkInterface answers once without the ID of the new ENI',
    arrange: onEc2({
      action: 'CreateNetworkInterface',
      times: 1,
      edit: ((answer: { NetworkInterface: object }) => ({
        NetworkInterface: { ...answer.NetworkInterface, NetworkInterfaceId: undefined },
      })) as never,
    }),
    expect: { verdict: 'ready' },
    prove: (bench) => is(bench.instance.enis.length, 2, 'one pod ENI'),
  },

  ssm('an answer without end', { endless: '{"Parameters":[' }),
  ssm('an answer cut off', { rewrite: (text) => text.slice(0, text.length / 2) }),
  ssm('the page of another server', { rewrite: () => PAGE }),
  ssm('an empty object', { rewrite: () => '{}' }),
  ssm('a list', { rewrite: () => '[]' }),
  ssm(
    'a value that is a number',
    parameters(([Name]) => ({ Parameters: [{ Name, Value: 7, Version: 1 }] })),
  ),
  ssm(
    'a parameter without a value',
    parameters(([Name]) => ({ Parameters: [{ Name, Version: 1 }] })),
  ),
  ssm(
    'parameters that are not a list',
    parameters(() => ({ Parameters: 'none' })),
  ),
];

function userData() {
  return { userData: '#eniboot-config\npods: { max: 20 }\n' };
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

function withExpiration(text: string): (credentials: string) => string {
  return (credentials) => credentials.replace(/"Expiration": "[^"]*"/, `"Expiration": "${text}"`);
}
