// The executable as an operator runs it: outside a node, in the test's own namespace.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Cloud } from '../aws/index.ts';

export const EXECUTABLE = join(
  import.meta.dirname,
  '../../dist',
  process.arch === 'arm64' ? 'arm64' : 'x64',
  'eniboot',
);

export interface Ended {
  code: number | null;
  signal: string | null;
  out: string;
  err: string;
  ms: number;
}

export interface CallOptions {
  /** Default 60 s. */
  timeoutMs?: number;
  env?: Record<string, string>;
  /** Called at each piece of output with all output so far; it may send signals. */
  watch?: (out: string, kill: (signal: NodeJS.Signals) => void) => void;
  /** The same for standard error. */
  watchErr?: (err: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs `eniboot ARGS` with only PATH of this process's environment. Killed after timeoutMs. */
export function eniboot(args: string[], options: CallOptions = {}): Promise<Ended> {
  const started = performance.now();
  const child = spawn(EXECUTABLE, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 180_000,
    killSignal: 'SIGKILL',
    env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', ...options.env },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (piece: Buffer) => {
    out += piece.toString();
    options.watch?.(out, (signal) => child.kill(signal));
  });
  child.stderr.on('data', (piece: Buffer) => {
    err += piece.toString();
    options.watchErr?.(err, (signal) => child.kill(signal));
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, out, err, ms: performance.now() - started }));
  });
}

/** The environment of an operator who may do everything in the simulated region. */
export function operatorEnvironment(cloud: Cloud): Record<string, string> {
  return {
    AWS_ACCESS_KEY_ID: cloud.operator.accessKeyId,
    AWS_SECRET_ACCESS_KEY: cloud.operator.secretAccessKey,
    AWS_REGION: cloud.region,
    AWS_ENDPOINT_URL: cloud.endpoints.ec2,
  };
}
