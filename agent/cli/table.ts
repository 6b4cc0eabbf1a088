// Text for terminals: aligned columns, and colour only on a terminal.

const codes = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;

export function paint(style: keyof typeof codes, text: string, colour: boolean): string {
  return colour ? `\u001b[${codes[style]}m${text}\u001b[0m` : text;
}

/** Rows as aligned columns, two spaces apart; the last column is not padded. */
export function table(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => {
      widths[at] = Math.max(widths[at] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      row
        .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/**
 * Lines that replace the `before` lines written in the same way. A line wider than the terminal is cut: a line that wraps takes
 * two rows, and the next picture would begin too low.
 */
export function redrawn(
  lines: readonly string[],
  before: number,
  columns = Number.POSITIVE_INFINITY,
): string {
  const up = before === 0 ? '' : `\u001b[${before}F`;
  return `${up}${lines.map((line) => `\u001b[K${cut(line, columns)}\n`).join('')}\u001b[J`;
}

/** Cuts a line after so many visible characters; codes for colours do not count. */
function cut(line: string, columns: number): string {
  let seen = 0;
  let text = '';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: codes for colours begin with one.
  for (const [piece] of line.matchAll(/\u001b\[\d+m|./gsu)) {
    if (piece.startsWith('\u001b')) text += piece;
    else if (++seen <= columns) text += piece;
  }
  return text;
}
