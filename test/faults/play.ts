// Plays faults on nodes: draws them by a seed, makes them, judges the runs, and brings the nodes back to rest.
import { failureCodes } from '../../agent/messages/codes.ts';
import type { FailureCode } from '../../agent/messages/failure.ts';
import { seeded } from '../boot/kill.ts';
import { pointsOfFirstBoot, strikeFirstBoot } from './first-boot.ts';
import {
  type Fault,
  type Point,
  parseFault,
  pointsOf,
  pointsOfPrograms,
  prepare,
  struckBy,
  struckLine,
  textOf,
} from './inject.ts';
import { createNode, createWorld, type FaultNode, type Ran, type World } from './node.ts';
import { type Operation, operations, type Struck } from './operations.ts';

/** Runs on an instance of its own; the other operations share a node. */
const FIRST_BOOT = 'first-boot';
const FIRST_BOOT_WEIGHT = 7;

export interface Played {
  /** The text that `--case` accepts. */
  text: string;
  /** The system call as strace shows it; undefined when the run did not reach it. */
  line: string | undefined;
  /** The outcome of the struck run. */
  ended: string;
  ms: number;
  problems: string[];
  /** True: the node is as it was before. */
  atRest: boolean;
}

/** Milliseconds: longer than the time-out of any program, and than a run without a fault. */
const TRIES_MS = 30_000;
/** In one of so many drawn faults a program hangs: each costs the product's time-out. */
const HANGS = 8;

/** Plays so many cases that strike, drawn by the seed; or the given cases, whether they strike or not. */
export async function playFaults(
  cases: { count: number; seed: number } | string[],
  onPlayed: (played: Played) => void,
): Promise<void> {
  const world = await createWorld();
  const given = Array.isArray(cases) ? cases.map(parseCase) : undefined;
  const random = seeded(Array.isArray(cases) ? 0 : cases.seed);
  const count = Array.isArray(cases) ? cases.length : cases.count;
  const known = new Map<string, Point[]>();
  const needed = new Set(given?.map(({ name }) => name) ?? Object.keys(operations));
  let node: FaultNode | undefined;
  let serial = 0;
  for (let struck = 0, tries = 0; struck < count; tries += 1) {
    if (tries > 2 * count + 20) throw new Error('most calls are never reached');
    serial += 10;
    const name = given?.[struck]?.name ?? drawName(random);
    if (name !== FIRST_BOOT) node ??= await restedNode(world, needed);
    let fault = given?.[struck]?.fault;
    if (fault === undefined) {
      let points = known.get(name);
      if (points === undefined) {
        points =
          node === undefined || name === FIRST_BOOT
            ? await pointsOfFirstBoot(world)
            : await pointsFor(node, name, serial);
        known.set(name, points);
      }
      fault = drawFault(points, random);
    }
    const played = await playOne(world, node, name, fault, serial);
    onPlayed(played);
    if (played.line !== undefined || given !== undefined) struck += 1;
    // After a node that is not at rest, later cases would fail for its differences.
    if (name !== FIRST_BOOT && !played.atRest) {
      await node?.end();
      node = undefined;
    }
  }
  await node?.end();
  await world.cloud.settled();
  const leaks = world.cloud.leakReport().map((leak) => JSON.stringify(leak));
  const none = { line: undefined, ended: '', ms: 0, atRest: true };
  if (leaks.length > 0) onPlayed({ ...none, text: 'all instances are gone', problems: leaks });
  await world.stop();
}

function parseCase(text: string): { name: string; fault: Fault } {
  const [, name = '', fault = ''] = /^(\S+) (.*)$/.exec(text) ?? [];
  return { name, fault: parseFault(fault) };
}

/** A node on which each of these operations has run once: the permanent effects of the first run are there. */
async function restedNode(world: World, names: Set<string>): Promise<FaultNode> {
  const node = await createNode(world);
  let serial = 1_000_000;
  for (const name of names) {
    if (name === FIRST_BOOT) continue;
    serial += 1;
    const operation = operationOf(name);
    const call = await operation.arrange(node, serial);
    await node.call(call);
    await operation.end(node, call, serial);
  }
  await node.wait(100);
  await node.rested();
  return node;
}

function operationOf(name: string): Operation {
  const operation = operations[name];
  if (operation === undefined)
    throw new Error(`no operation ${name}; there are ${[FIRST_BOOT, ...Object.keys(operations)].join(', ')}`);
  return operation;
}

async function pointsFor(node: FaultNode, name: string, serial: number): Promise<Point[]> {
  const operation = operationOf(name);
  const call = await operation.arrange(node, serial);
  const points = pointsOf(await node.trace(call), 'main');
  const wrong = [...(await operation.end(node, call, serial)), ...(await node.differences())];
  if (wrong.length > 0) throw new Error(`${name} without any fault: ${wrong.join('\n')}`);
  const second = await operation.arrange(node, serial + 1);
  points.push(...pointsOfPrograms(await node.tracePrograms(second)));
  await operation.end(node, second, serial + 1);
  return points;
}

function drawName(random: () => number): string {
  const all = [
    [FIRST_BOOT, FIRST_BOOT_WEIGHT] as const,
    ...Object.entries(operations).map(([name, { weight }]) => [name, weight] as const),
  ];
  let at = random() * all.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [name, weight] of all) {
    at -= weight;
    if (at < 0) return name;
  }
  return FIRST_BOOT;
}

/** Draws the kind of caller first, then its call, then its number: rare calls are drawn as often as frequent ones. */
function drawFault(points: Point[], random: () => number): Fault {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const kindOf = ({ who }: Point) => (who === 'main' || who === 'any' ? who : 'program');
  // Most of the product runs in the executable's own thread.
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
  world: World,
  node: FaultNode | undefined,
  name: string,
  fault: Fault,
  serial: number,
): Promise<Played> {
  const played: Played = {
    text: `${name} ${textOf(fault)}`,
    line: undefined,
    ended: '',
    ms: 0,
    problems: [],
    atRest: false,
  };
  try {
    const { answers, ran, line, wrong, end } =
      node === undefined || name === FIRST_BOOT
        ? await strikeFirstBoot(world, fault)
        : await strike(node, operationOf(name), fault, serial);
    Object.assign(played, { line, ended: describe(ran), ms: Math.round(ran.ms) });
    if (line !== undefined) {
      played.problems.push(...outcomeOf(answers, ran, { fault, line }));
      if (played.problems.length === 0) played.problems.push(...(await wrong()));
    }
    const left = await end();
    played.problems.push(...left);
    played.atRest = left.length === 0;
  } catch (error) {
    played.problems.push(error instanceof Error ? error.message : String(error));
  }
  return played;
}

async function strike(node: FaultNode, operation: Operation, fault: Fault, serial: number): Promise<Struck> {
  const call = await operation.arrange(node, serial);
  await node.sh(prepare(fault));
  const ran = await node.call(call, struckBy(fault), operation.boundMs);
  const line = struckLine(await node.struck());
  return {
    answers: operation,
    ran,
    line,
    async wrong() {
      if (ran.exit === 0) return operation.wrong(node, ran, serial);
      // With several faults at once, one may strike the removal of what another has left.
      const single = fault.who !== 'any' && ran.exit !== null && ran.exit !== 137 && !isAnswer(line ?? '');
      return single ? ((await operation.wrongAfterFailure?.(node, serial)) ?? []) : [];
    },
    end: async () => {
      if (ran.late) return ['the hanging run holds the locks: the node cannot be used any more'];
      return [...(await operation.end(node, call, serial)), ...(await node.differences())];
    },
  };
}

function wasKilled({ exit }: Ran, { what }: Fault): boolean {
  return what === 'KILL' && (exit === null || exit === 137);
}

function describe({ exit, stdout, late, ms }: Ran): string {
  if (late) return `had not ended after ${Math.round(ms / 1000)} s`;
  return exit === 0 ? 'exit 0' : `exit ${exit ?? 'by a signal'} ${codesIn(stdout).join(' ')}`.trim();
}

/** What is wrong with the end of a run. */
function outcomeOf(
  { lies, answers }: Pick<Operation, 'lies' | 'answers'>,
  ran: Ran,
  struck: { fault: Fault; line: string },
): string[] {
  const { exit, stdout, stderr, late, ms } = ran;
  if (late) return [`hangs: had not ended after ${Math.round(ms / 1000)} s`];
  if (exit === 0) return [];
  if (wasKilled(ran, struck.fault)) return [];
  const said = `${stdout.slice(0, 1_500)}${stderr.slice(0, 1_500)}`;
  // The thread is in the pod's namespace and cannot leave it: any further action there would be wrong.
  if (exit === null && struck.fault.call === 'setns') return [];
  if (exit === null) return [`a signal ended it: ${said}`];
  // The fault struck the output: no answer could be written.
  if (isAnswer(struck.line)) return [];
  const found = codesIn(stdout);
  if (found.length === 0) return [`exit ${exit} without a code: ${said}`];
  return found
    .filter((code) => code !== answers)
    .flatMap((code) => {
      if (code === 'INTERNAL' || !(code in failureCodes)) return [`failed with ${code}: ${said}`];
      if (lies.some((lie) => lie === code)) return [`reports a wrong code, ${code}: ${said}`];
      // The fault strikes once, so another try would succeed.
      const triedInVain = ms > TRIES_MS && failureCodes[code as FailureCode].transient;
      return triedInVain ? [`tried for ${Math.round(ms / 1000)} s in vain: ${said}`] : [];
    });
}

function isAnswer(line: string): boolean {
  return /^(?:\d+ +)?write\([12]</.test(line);
}

/** The code of every failure in an answer, of any program. */
function codesIn(stdout: string): string[] {
  const codes = new Set<string>();
  for (const [, code] of stdout.matchAll(/"code":"([A-Z0-9_]+)"/g)) if (code !== undefined) codes.add(code);
  for (const [, code] of stdout.matchAll(/"msg":"eniboot: ([A-Z0-9_]+):/g))
    if (code !== undefined) codes.add(code);
  return [...codes];
}
