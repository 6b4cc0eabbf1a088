// When a rollout may begin a step: the windows of a spec, in the spec's time zone. Pure.

export interface Window {
  days: readonly Day[];
  /** HH:MM. `to` is excluded; a `to` before `from` means that the window goes over midnight. */
  from: string;
  to: string;
}

export const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Day = (typeof DAYS)[number];

const MINUTE_MS = 60_000;

export interface When {
  timeZone: string;
  windows: readonly Window[];
}

/** Whether a step may begin at that moment; without windows always. */
export function isOpen(when: When | undefined, nowMs: number): boolean {
  if (when === undefined) return true;
  const { day, minutes } = localTime(when.timeZone, nowMs);
  return when.windows.some(({ days, from, to }) => {
    const [begin, end] = [minutesOf(from), minutesOf(to)];
    if (begin < end) return days.includes(day) && minutes >= begin && minutes < end;
    // A window over midnight has an evening, on its own day, and a morning, on the day after.
    const before = DAYS[(DAYS.indexOf(day) + DAYS.length - 1) % DAYS.length] ?? day;
    return (days.includes(day) && minutes >= begin) || (days.includes(before) && minutes < end);
  });
}

/** The times in which no step could begin, in order, cut to the given span; milliseconds since the epoch, to the minute. */
export function closedIn(
  when: When | undefined,
  fromMs: number,
  toMs: number,
): { fromMs: number; toMs: number }[] {
  const closed: { fromMs: number; toMs: number }[] = [];
  if (when === undefined) return closed;
  const edges = when.windows.flatMap(({ from, to }) => [minutesOf(from), minutesOf(to)]);
  for (let at = fromMs; at < toMs; ) {
    const next = Math.min(toMs, nextLook(when, edges, at));
    const last = closed.at(-1);
    if (!isOpen(when, at)) {
      if (last?.toMs === at) last.toMs = next;
      else closed.push({ fromMs: at, toMs: next });
    }
    at = next;
  }
  return closed;
}

/** The next moment at which isOpen may change: an edge of a window, midnight, or the next hour, since clocks are changed. */
function nextLook({ timeZone }: When, edges: readonly number[], atMs: number): number {
  const { minutes } = localTime(timeZone, atMs);
  const hour = (Math.floor(minutes / 60) + 1) * 60;
  const edge = Math.min(hour, ...edges.filter((one) => one > minutes));
  return Math.floor(atMs / MINUTE_MS) * MINUTE_MS + (edge - minutes) * MINUTE_MS;
}

/** Whether the runtime knows the time zone, for example Europe/Berlin. */
export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-GB', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

/** By time zone. To construct a formatter takes longer than all uses of it. */
const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known !== undefined) return known;
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  formats.set(timeZone, format);
  return format;
}

function localTime(timeZone: string, nowMs: number): { day: Day; minutes: number } {
  const parts = formatOf(timeZone).formatToParts(nowMs);
  const of = (type: string) => parts.find((part) => part.type === type)?.value ?? '';
  const day = DAYS.find((one) => one === of('weekday').toLowerCase()) ?? 'mon';
  return { day, minutes: Number(of('hour')) * 60 + Number(of('minute')) };
}

function minutesOf(text: string): number {
  const [hours, minutes] = text.split(':');
  return Number(hours) * 60 + Number(minutes);
}
