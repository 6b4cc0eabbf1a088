// One conversation: client, server, the address that the server saw, and the devices that the packets passed in both directions.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { Cloud } from '../aws/index.ts';
import type { Place, PodNode, Seen } from './node.ts';

export interface Flow {
  what: string;
  client: [PodNode, Place] | 'internet';
  /** ADDRESS:PORT of the server. */
  to: string;
  /** The address that the server must see. */
  sees: string;
}

/** A flow that met its conditions, for the evidence. */
export interface FlowFact {
  what: string;
  from: string;
  to: string;
  seen: string;
  /** For each place, the devices of the connection's first packet: `one/node: ens6 Out`. The answer passed the same devices. */
  path: string[];
}

/** Lets a client ask, and asserts the address that the server saw and that the answer passed the same devices as the request. */
export async function follow(nodes: PodNode[], cloud: Cloud, flow: Flow): Promise<FlowFact> {
  const seen = await asked(cloud, flow);
  const ways: Way[] = [];
  // tcpdump's lines come a little later than the packets, more so on a busy machine.
  for (let looks = 0; looks < 5 && (ways.length === 0 || ways.some(isOneWay)); looks += 1) {
    for (const node of nodes) note(ways, node.name, await node.captured());
  }
  const path = ways.map(({ place, there }) => `${place}: ${there.join(', ')}`);
  assert.equal(seen, flow.sees, `${flow.what}: the server saw another address; the way: ${path.join('; ')}`);
  const problems = ways
    .filter(isOneWay)
    .map(({ place, there, back }) => `${place}: there by ${there.join(', ')}, back by ${back.join(', ')}`);
  assert.deepEqual(problems, [], `${flow.what}: asymmetric`);
  assert.notEqual(path.length, 0, `${flow.what}: no capture saw it`);
  return { what: flow.what, from: fromOf(flow), to: flow.to, seen, path };
}

/** The devices that a connection's first packet and its answer passed at one place, in order. */
interface Way {
  place: string;
  there: string[];
  back: string[];
}

/** A packet that was sent again, after its neighbour was looked up, counts once. */
function note(ways: Way[], node: string, packets: Seen[]): void {
  for (const { place: pod, device, direction, reply } of packets) {
    const place = `${node}/${pod}`;
    let way = ways.find((one) => one.place === place);
    if (way === undefined) {
      way = { place, there: [], back: [] };
      ways.push(way);
    }
    const steps = reply ? way.back : way.there;
    const step = `${device} ${direction}`;
    if (!steps.includes(step)) steps.push(step);
  }
}

function isOneWay({ there, back }: Way): boolean {
  return back.join() !== [...there].reverse().map(turned).join();
}

function turned(step: string): string {
  const [device, direction] = step.split(' ');
  return `${device} ${direction === 'In' ? 'Out' : 'In'}`;
}

async function asked(cloud: Cloud, { client, to }: Flow): Promise<string> {
  return client === 'internet' ? askFromInternet(cloud, to) : client[0].ask(client[1], to);
}

/** The answer of a server at ADDRESS:PORT to a client in the Internet; empty when there is none. */
export function askFromInternet(cloud: Cloud, to: string): string {
  const net = `--net=/proc/${cloud.internet.pid}/ns/net`;
  const result = spawnSync('nsenter', [net, 'socat', '-u', `TCP4:${to},connect-timeout=10`, '-'], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  return result.stdout.trim();
}

function fromOf({ client }: Flow): string {
  return client === 'internet' ? client : `${client[0].name}/${client[1] === '' ? 'node' : client[1]}`;
}
