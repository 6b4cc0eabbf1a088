// Requests that AWS refuses whatever the state of the account: only a fault in the program sends one. The run of every test in
// which one was sent fails at its end, unless the test has taken it from here.
import { AwsError } from '../ec2/errors.ts';

export interface Refused {
  service: string;
  action: string;
  error: AwsError;
}

const refused: Refused[] = [];
let watched = false;

/** Notes it, and gives it back to be thrown. */
export function noteRefused(service: string, action: string, error: AwsError): AwsError {
  if (!watched) process.once('exit', failForRefused);
  watched = true;
  refused.push({ service, action, error });
  return error;
}

/** Those since the last call: by this a test says that it has expected them. */
export function takeRefused(): Refused[] {
  return refused.splice(0);
}

function failForRefused(): void {
  if (refused.length === 0) return;
  process.exitCode = 1;
  for (const { service, action, error } of refused)
    process.stderr.write(
      `a request that AWS refuses: ${service} ${action}: ${error.code}: ${error.message}\n`,
    );
}
