// One conversation: who asks whom, whom the server saw, and which way the packets took, in both directions.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { Cloud } from '../aws/index.ts';
import type { Place, PodNode, Seen } from './node.ts';

export interface Flow {
  what: string;
  client: [PodNode, Place] | 'internet';
  /** ADDRESS:PORT that the client asks. */
  to: string;
  /** The address that the server must see. */
  sees: string;
}

/** A flow that went as it must, for the evidence. */
export interface FlowFact {
  what: string;
  from: string;
  to: string;
  seen: string;
  /** By place, the devices that the connection's first packet passed: `one/node: ens6 Out`. The answer came back by them all. */
  path: string[];
}

/** Lets a client ask, and holds what came of it against what must: the address seen, and a way back that is the way there. */
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

/** The devices that a connection's first packet and its answer passed in one place, in order. */
interface Way {
  place: string;
  there: string[];
  back: string[];
}

/** A packet that was sent again, because an address had to be looked up, counts once. */
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

/** What a server of ADDRESS:PORT answers to a client in the Internet; empty when nothing comes. */
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
