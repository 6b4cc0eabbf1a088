// Checks a request before anything is looked up, against AWS's own models and against the rules of its documentation.
import { AwsError } from '../ec2/errors.ts';
import type { ServiceName } from '../fetch.ts';
import { documentedRules, type Loose } from './documented.ts';
import { modelProblem, type Problem } from './model.ts';
import { noteRefused } from './refused.ts';

/**
 * AWS's codes. Source: EC2 API reference, "Error codes for the Amazon EC2 API"; SSM API reference, "Common Errors";
 * CloudWatch API reference, "Common Error Types".
 */
const codes: Record<ServiceName, Record<Problem['kind'], string>> = {
  ec2: {
    unknown: 'UnknownParameter',
    missing: 'MissingParameter',
    type: 'InvalidParameterValue',
    value: 'InvalidParameterValue',
  },
  ssm: {
    unknown: 'ValidationException',
    missing: 'ValidationException',
    type: 'SerializationException',
    value: 'ValidationException',
  },
  cloudwatch: {
    unknown: 'ValidationError',
    missing: 'MissingParameter',
    type: 'InvalidParameterValue',
    value: 'ValidationError',
  },
};

const rulesOf = Map.groupBy(documentedRules, (rule) => rule.service);

/** Throws AwsError. @param request in the shapes of the SDK */
export function checkRequest(service: ServiceName, action: string, request: object, nowMs: number): void {
  const problem = modelProblem(service, action, request);
  if (problem !== undefined) throw refusal(service, action, codes[service][problem.kind], wording(problem));
  for (const rule of rulesOf.get(service) ?? []) {
    const why = rule.problem(request as Loose, action, nowMs);
    if (why !== undefined) throw refusal(service, action, rule.code, why);
  }
}

export function refusal(service: ServiceName, action: string, code: string, message: string): AwsError {
  return noteRefused(service, action, new AwsError(code, message));
}

function wording({ kind, at, why }: Problem): string {
  if (kind === 'unknown') return `The parameter ${at} ${why}`;
  return `1 validation error detected: Value at '${at}' failed to satisfy constraint: ${why}`;
}
