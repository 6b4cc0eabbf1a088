// Requests that AWS refuses in any state of the account: only a fault in the program sends one. The run of a test that sent
// one fails at its end, unless the test takes the request from here.
import { AwsError } from '../ec2/errors.ts';

export interface Refused {
  service: string;
  action: string;
  error: AwsError;
}

const refused: Refused[] = [];
let watched = false;

/** Notes the error and returns it for the caller to throw. */
export function noteRefused(service: string, action: string, error: AwsError): AwsError {
  if (!watched) process.once('exit', failForRefused);
  watched = true;
  refused.push({ service, action, error });
  return error;
}

/** The refused requests since the last call. A test that expects them takes them. */
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
