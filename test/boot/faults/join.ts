// What a node joins its cluster with is not there, or not what the operator has named: no verdict but FAILED, and nothing written.
import { is, not } from 'uvu/assert';
import {
  CA,
  CA_HASH,
  joining,
  OTHER_CA,
  OTHER_CA_HASH,
  putToken,
  TOKEN,
  TOKEN_PARAMETER,
} from '../join-material.ts';
import type { Fault } from './fault.ts';

const refused = (code: 'JOIN_TOKEN_UNUSABLE' | 'JOIN_CA_UNUSABLE' | 'SSM_DENIED'): Fault['expect'] => ({
  ...{ verdict: 'failed', code, phase: 'identify', atOnce: true },
});

const provesNothingWritten: Fault['prove'] = ({ instance }, { result, status }) => {
  is(instance.read('/run/eniboot/join/bootstrap-kubeconfig'), undefined);
  // Its secret half alone: the log takes whole tokens out by their form.
  not.match(`${result.stdout}${result.stderr}${JSON.stringify(status)}`, TOKEN.slice(7));
};

/** The parameter is of this one node: others have it at the same time. */
const own = (name: string) => `${TOKEN_PARAMETER}-${name}`;

export const joinFaults: Fault[] = [
  {
    name: 'join: there is no such parameter',
    config: joining({ token: `ssm:${own('absent')}` }),
    expect: refused('JOIN_TOKEN_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the parameter is a plain String',
    config: joining({ token: `ssm:${own('plain')}` }),
    arrange: ({ cloud }) => cloud.ssm.put(own('plain'), TOKEN),
    expect: refused('JOIN_TOKEN_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the parameter holds something else, which is shown nowhere',
    config: joining({ token: `ssm:${own('other')}` }),
    arrange: ({ cloud }) =>
      cloud.ssm.send('PutParameter', {
        ...{ Name: own('other'), Value: `kubeadm join --token ${TOKEN}`, Type: 'SecureString' },
      }),
    expect: refused('JOIN_TOKEN_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the role may not read it',
    config: joining(),
    arrange: ({ cloud, instance }) =>
      cloud.faults.ssm.add({ action: '*', error: 'AccessDeniedException', instanceId: instance.id }),
    expect: refused('SSM_DENIED'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the file of the token does not exist',
    config: joining({ token: '/etc/eniboot/join-token' }),
    expect: refused('JOIN_TOKEN_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the file of the token is a folder',
    launch: { files: { '/etc/eniboot/join-token/x': '' } },
    config: joining({ token: '/etc/eniboot/join-token' }),
    expect: refused('JOIN_TOKEN_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the CA is another one than the digest names',
    config: joining({ ca: OTHER_CA }),
    arrange: ({ cloud }) => putToken(cloud),
    expect: refused('JOIN_CA_UNUSABLE'),
    prove: (bench, outcome) => {
      provesNothingWritten(bench, outcome);
      is(outcome.status?.failure?.facts['hash'], OTHER_CA_HASH);
    },
  },
  {
    name: 'join: beside the CA stands another CA without a digest in the configuration',
    launch: { files: { '/etc/eniboot/ca.crt': `${CA}${OTHER_CA}` } },
    config: joining({ ca: '/etc/eniboot/ca.crt', caCertHashes: [CA_HASH] }),
    arrange: ({ cloud }) => putToken(cloud),
    expect: refused('JOIN_CA_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the file of the CA holds no certificate',
    launch: { files: { '/etc/eniboot/ca.crt': 'not a certificate\n' } },
    config: joining({ ca: '/etc/eniboot/ca.crt' }),
    arrange: ({ cloud }) => putToken(cloud),
    expect: refused('JOIN_CA_UNUSABLE'),
    prove: provesNothingWritten,
  },
  {
    name: 'join: the file of the CA is damaged',
    launch: { files: { '/etc/eniboot/ca.crt': OTHER_CA.replace('MIIB', 'MIIC') } },
    config: joining({ ca: '/etc/eniboot/ca.crt' }),
    arrange: ({ cloud }) => putToken(cloud),
    expect: refused('JOIN_CA_UNUSABLE'),
    prove: provesNothingWritten,
  },
];
