// Plays faults on nodes: draws them by a seed, strikes, judges, and brings the node back to rest.
import { failureCodes } from '../../agent/messages/codes.ts';
import { seeded } from '../boot/kill.ts';
import { type Fault, type Point, pointsOf, prepare, struckBy, struckLine, textOf } from './inject.ts';
import { createNode, createWorld, type FaultNode, type Ran, type World } from './node.ts';
import { type Operation, operations } from './operations.ts';

export interface Played {
  /** `--case` takes it. */
  text: string;
  /** The system call as strace shows it; undefined when the run never came there. */
  line: string | undefined;
  /** What became of the run that was struck. */
  ended: string;
  ms: number;
  problems: string[];
  /** The node is as it was before. */
  atRest: boolean;
}

/** One start in so many of a program hangs: each costs the product's time-out. */
const HANGS = 8;

/** Cases that did strike, `count` of them, or the one that `only` names. */
export async function playFaults(
  {
    count,
    seed,
    only,
  }: { count: number; seed: number; only: { operation: string; fault: Fault } | undefined },
  onPlayed: (played: Played) => void,
): Promise<void> {
  const world = await createWorld();
  const random = seeded(seed);
  const known = new Map<string, Point[]>();
  let node = await restedNode(world);
  let serial = 0;
  for (let struck = 0; struck < count; ) {
    serial += 1;
    const name = only?.operation ?? draw(random);
    const operation = operations[name];
    if (operation === undefined) throw new Error(`no operation ${name}`);
    let fault = only?.fault;
    if (fault === undefined) {
      let points = known.get(name);
      if (points === undefined) {
        points = await pointsFor(node, operation, serial);
        serial += 2;
        known.set(name, points);
      }
      fault = drawFault(points, random);
    }
    const played = await playOne(node, name, operation, fault, serial);
    onPlayed(played);
    if (played.line !== undefined || only !== undefined) struck += 1;
    // A node that is not at rest any more would be held against the cases after it.
    if (!played.atRest) {
      await node.end();
      node = await restedNode(world);
    }
  }
  await node.end();
  const leaks = world.cloud.leakReport().map((leak) => JSON.stringify(leak));
  if (leaks.length > 0)
    onPlayed({
      text: 'all instances are gone',
      line: undefined,
      ended: '',
      ms: 0,
      problems: leaks,
      atRest: true,
    });
  await world.stop();
}

/** Every operation has run on it once: what the first of its kind makes for good is there. */
async function restedNode(world: World): Promise<FaultNode> {
  const node = await createNode(world);
  let serial = 1_000_000;
  for (const operation of Object.values(operations)) {
    serial += 1;
    const call = await operation.arrange(node, serial);
    await node.call(call);
    await operation.end(node, call, serial);
  }
  await node.wait(100);
  await node.rested();
  return node;
}

async function pointsFor(node: FaultNode, operation: Operation, serial: number): Promise<Point[]> {
  const call = await operation.arrange(node, serial);
  const points = pointsOf(await node.trace(call), 'main');
  const wrong = [...(await operation.end(node, call, serial)), ...(await node.differences())];
  if (wrong.length > 0) throw new Error(`without any fault: ${wrong.join('\n')}`);
  const second = await operation.arrange(node, serial + 1);
  for (const [who, text] of await node.programs(second)) {
    points.push({ who, call: 'start', nth: 1, errors: [] }, ...pointsOf(text, who));
  }
  await operation.end(node, second, serial + 1);
  return points;
}

function draw(random: () => number): string {
  const all = Object.entries(operations);
  let at = random() * all.reduce((sum, [, { weight }]) => sum + weight, 0);
  return all.find(([, { weight }]) => (at -= weight) < 0)?.[0] ?? 'add';
}

/** The kind of caller first, then its call, then which of them: rare calls come as often as frequent ones. */
function drawFault(points: Point[], random: () => number): Fault {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const kindOf = ({ who }: Point) => (who === 'main' || who === 'any' ? who : 'program');
  // The executable's own thread is where most of the product is.
  const kinds = [...new Set(points.map(kindOf))];
  const kind = pick(kinds.includes('main') ? [...kinds, 'main', 'main'] : kinds);
  const ofKind = points.filter((point) => kindOf(point) === kind);
  const call = pick([...new Set(ofKind.map((point) => point.call))]);
  const point = pick(ofKind.filter((one) => one.call === call));
  const what =
    point.call === 'start'
      ? random() < 1 / HANGS
        ? 'HANG'
        : 'KILL'
      : random() < 0.35
        ? 'KILL'
        : pick(point.errors);
  return { who: point.who, call: point.call, nth: point.nth, what };
}

async function playOne(
  node: FaultNode,
  name: string,
  operation: Operation,
  fault: Fault,
  serial: number,
): Promise<Played> {
  const text = `${name} ${textOf(fault)}`;
  const problems: string[] = [];
  let line: string | undefined;
  let ended = '';
  let ms = 0;
  let atRest = false;
  try {
    const call = await operation.arrange(node, serial);
    await node.sh(prepare(fault));
    const ran = await node.call(call, struckBy(fault), operation.boundMs);
    ms = Math.round(ran.ms);
    line = struckLine(await node.struck());
    ended = describe(ran);
    if (line !== undefined) {
      problems.push(...outcomeOf(operation, ran, { fault, line }));
      const killed = fault.what === 'KILL' && ran.exit === null;
      if (ran.exit === 0) problems.push(...(await operation.wrong(node, ran, serial)));
      else if (!killed && fault.who !== 'any' && !isAnswer(line) && problems.length === 0)
        problems.push(...((await operation.wrongAfterFailure?.(node, serial)) ?? []));
    }
    const left = [...(await operation.end(node, call, serial)), ...(await node.differences())];
    problems.push(...left);
    atRest = left.length === 0;
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  return { text, line, ended, ms, problems, atRest };
}

function describe({ exit, stdout, late, ms }: Ran): string {
  if (late) return `had not ended after ${Math.round(ms / 1000)} s`;
  return exit === 0 ? 'exit 0' : `exit ${exit ?? 'by a signal'} ${codesIn(stdout).join(' ')}`.trim();
}

/** What is wrong with how a run ended. */
function outcomeOf(
  operation: Operation,
  ran: Ran,
  struck: { fault: Fault; line: string } | undefined,
): string[] {
  const { exit, stdout, stderr, late, ms } = ran;
  if (late) return [`hangs: had not ended after ${Math.round(ms / 1000)} s`];
  if (exit === 0) return [];
  if (struck?.fault.what === 'KILL' && (exit === null || exit === 137)) return [];
  const said = `${stdout.slice(0, 1_500)}${stderr.slice(0, 1_500)}`;
  // The thread is in the pod's namespace and cannot leave it: nothing it could do from there is right.
  if (exit === null && struck?.fault.call === 'setns') return [];
  if (exit === null) return [`a signal ended it: ${said}`];
  // A result that nobody could be told.
  if (struck !== undefined && isAnswer(struck.line)) return [];
  const found = codesIn(stdout);
  if (found.length === 0) return [`exit ${exit} without a code: ${said}`];
  const allowed = (code: string) => code === operation.answers;
  return found
    .filter((code) => !allowed(code))
    .flatMap((code) => {
      if (code === 'INTERNAL' || !(code in failureCodes)) return [`failed with ${code}: ${said}`];
      if (struck === undefined) return [`failed with ${code} though nothing struck it: ${said}`];
      return operation.lies.some((lie) => lie === code) ? [`says what is not so, ${code}: ${said}`] : [];
    });
}

function isAnswer(line: string): boolean {
  return /^(?:\d+ +)?write\([12]</.test(line);
}

/** Every failure's code in an answer, whichever program gave it. */
function codesIn(stdout: string): string[] {
  const codes = new Set<string>();
  for (const [, code] of stdout.matchAll(/"code":"([A-Z0-9_]+)"/g)) if (code !== undefined) codes.add(code);
  for (const [, code] of stdout.matchAll(/"msg":"eniboot: ([A-Z0-9_]+):/g))
    if (code !== undefined) codes.add(code);
  return [...codes];
}
