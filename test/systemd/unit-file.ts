// Reads unit files and drop-ins as systemd does, as far as the assertions need: continuation lines, repeated keys.

/** Values by "Section.Key", in order; an empty value clears the earlier values, as in systemd. */
export type Unit = Map<string, string[]>;

/** Parses a unit and its drop-ins, in the order in which systemd reads them. */
export function parseUnit(...texts: string[]): Unit {
  const unit: Unit = new Map();
  for (const text of texts) {
    let section = '';
    for (const line of text.replace(/\\\n\s*/g, ' ').split('\n')) {
      const header = /^\[(\w+)\]$/.exec(line);
      if (header !== null) section = header[1] ?? '';
      const setting = /^(\w+)=(.*)$/.exec(line);
      if (setting === null) continue;
      const name = `${section}.${setting[1]}`;
      const given = (setting[2] ?? '').trim();
      unit.set(name, given === '' ? [] : [...(unit.get(name) ?? []), given]);
    }
  }
  return unit;
}

/** All words of a list setting such as After=. */
export function words(unit: Unit, name: string): string[] {
  return (unit.get(name) ?? []).flatMap((given) => given.split(/\s+/));
}

/** The last value of a setting, which counts. */
export function value(unit: Unit, name: string): string | undefined {
  return unit.get(name)?.at(-1);
}
