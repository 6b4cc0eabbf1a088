// The agent's only log: winston; JSON lines on standard error for the journal, a short text line on a terminal. Messages are
// constant texts; what varies is in fields.
import { createLogger, format, type Logger, transports } from 'winston';
import { redactValue } from '../messages/redact.ts';

export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error';
  /** JSON for machines (the journal), text for people. */
  form: 'json' | 'text';
}

export function createLog(options: LogOptions): Log {
  return createLogger({
    level: options.level,
    format:
      options.form === 'json'
        ? format.combine(withoutSecrets(), format.timestamp(), format.json())
        : format.combine(
            withoutSecrets(),
            format.printf(
              ({ level, message, ...fields }) => `${level}: ${String(message)}${showFields(fields)}`,
            ),
          ),
    transports: [new transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
}

/** Fields hold output of programs and of EC2, which may contain secrets. winston keeps its own data under symbols. */
const withoutSecrets = format((info) => Object.assign(info, redactValue({ ...info }) as object));

function showFields(fields: Record<string, unknown>): string {
  const shown = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return shown.length === 0 ? '' : `  ${shown.join(' ')}`;
}
