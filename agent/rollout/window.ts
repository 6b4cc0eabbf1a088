// When a rollout may begin something: the windows of a spec, in a time zone of its own. Pure.

export interface Window {
  days: readonly Day[];
  /** HH:MM; `to` is excluded, and before `from` where the window goes over midnight. */
  from: string;
  to: string;
}

export const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Day = (typeof DAYS)[number];

export interface When {
  timeZone: string;
  windows: readonly Window[];
}

/** Whether something may begin at that moment; without windows always. */
export function isOpen(when: When | undefined, nowMs: number): boolean {
  if (when === undefined) return true;
  const { day, minutes } = localTime(when.timeZone, nowMs);
  return when.windows.some(({ days, from, to }) => {
    const [begin, end] = [minutesOf(from), minutesOf(to)];
    if (begin < end) return days.includes(day) && minutes >= begin && minutes < end;
    // Over midnight: its evening, or the morning after.
    const before = DAYS[(DAYS.indexOf(day) + DAYS.length - 1) % DAYS.length] ?? day;
    return (days.includes(day) && minutes >= begin) || (days.includes(before) && minutes < end);
  });
}

/** Whether the runtime knows the time zone, such as Europe/Berlin. */
export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-GB', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

function localTime(timeZone: string, nowMs: number): { day: Day; minutes: number } {
  const parts = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  }).formatToParts(nowMs);
  const of = (type: string) => parts.find((part) => part.type === type)?.value ?? '';
  const day = DAYS.find((one) => one === of('weekday').toLowerCase()) ?? 'mon';
  return { day, minutes: Number(of('hour')) * 60 + Number(of('minute')) };
}

function minutesOf(text: string): number {
  const [hours, minutes] = text.split(':');
  return Number(hours) * 60 + Number(minutes);
}
