// Explains a refused value: what it was most likely meant to be, and how to write it.
import ipaddr from 'ipaddr.js';
import * as v from 'valibot';
import { nearest } from './nearest.ts';
import type { Finding } from './problem.ts';
import type { Path } from './tree.ts';

type Issue = v.BaseIssue<unknown>;

/**
 * Turns valibot's issue with a single value into a sentence, a remedy and, if one is likely, the value that was meant.
 * `written`: the text in the document, when YAML read it as a number or a boolean. No suggestion is made from the number: 1.10
 * and 0123 would lose a digit.
 */
export function explainValue(issue: Issue, schema: v.GenericSchema, path: Path, written?: string): Finding {
  const value = issue.input;
  if (value === null) {
    return {
      problem: 'has no value',
      remedy: 'Write a value after the colon, or remove the key.',
    };
  }
  if (issue.type === 'picklist') return explainChoice(value, choices(schema));
  if (issue.type === 'boolean') return explainBoolean(value);
  if (issue.type === 'number') return explainNumber(value, schema, path);
  if (issue.type === 'string') return explainText(value, written);
  return explainForm(issue, schema, value);
}

function explainChoice(value: unknown, options: readonly string[]): Finding {
  if (options.includes('dual-stack') && typeof value === 'string' && /^ipv6/i.test(value)) {
    return {
      problem: 'cannot be IPv6 alone: a pod always has an IPv4 address, and its IPv6 one is made of it',
      remedy: 'Write dual-stack: pods then have both.',
      suggestion: 'dual-stack',
    };
  }
  const suggestion = typeof value === 'string' ? nearest(value, options) : undefined;
  return {
    problem: `must be one of ${options.join(', ')}`,
    remedy: suggestion === undefined ? `Write one of ${options.join(', ')}.` : `Write ${suggestion}.`,
    ...(suggestion === undefined ? {} : { suggestion }),
  };
}

function explainBoolean(value: unknown): Finding {
  const word = String(value).toLowerCase();
  const meant = ['yes', 'on', 'true', '1', 'y'].includes(word)
    ? 'true'
    : ['no', 'off', 'false', '0', 'n'].includes(word)
      ? 'false'
      : undefined;
  return {
    problem: 'must be true or false',
    remedy: `Write ${meant ?? 'true or false'}, without quotes; YAML 1.2 takes yes, no, on and off for text.`,
    ...(meant === undefined ? {} : { suggestion: meant }),
  };
}

const unitSeconds: Record<string, number> = { s: 1, m: 60, min: 60, h: 3600 };

function explainNumber(value: unknown, schema: v.GenericSchema, path: Path): Finding {
  const problem = messageOf(schema) ?? 'must be a whole number';
  const text = typeof value === 'string' ? value.trim() : '';
  if (/^\d{1,6}$/.test(text)) {
    return text === String(Number(text))
      ? { problem, remedy: 'Remove the quotes.', suggestion: text }
      : {
          problem,
          remedy: 'Write the decimal number that is meant, without quotes and without zeros before it.',
        };
  }
  const duration = /^([1-9]\d{0,4}|0) ?(s|m|min|h)$/.exec(text);
  const unit = duration === null ? undefined : unitSeconds[duration[2] ?? ''];
  if (duration !== null && unit !== undefined && String(path.at(-1)).endsWith('Seconds')) {
    return {
      problem,
      remedy: 'Write the seconds alone, without a unit.',
      suggestion: String(Number(duration[1]) * unit),
    };
  }
  if (text.startsWith('ssm:')) {
    return { problem, remedy: 'Write the number itself; only text can come from a parameter.' };
  }
  return { problem, remedy: 'Write a whole number, in digits only.' };
}

function explainText(value: unknown, written = String(value)): Finding {
  if (typeof value === 'number' || typeof value === 'boolean') {
    return {
      problem: 'must be text',
      remedy: 'Put it in quotes, else YAML reads a number or a boolean.',
      suggestion: JSON.stringify(written),
    };
  }
  return { problem: 'must be text', remedy: 'Write one value, not a list or a map.' };
}

function explainForm(issue: Issue, schema: v.GenericSchema, value: unknown): Finding {
  const example = (v.getExamples(schema) as readonly unknown[])[0];
  const like = example === undefined ? 'Correct it.' : `Write it like ${String(example)}.`;
  if (Array.isArray(value) || typeof value === 'object') {
    return { problem: issue.message, remedy: 'Give it at least one entry, or remove the key.' };
  }
  if (typeof value !== 'string') return { problem: issue.message, remedy: 'Choose a value in that range.' };
  if (/[<>{}$]|x{4,}|^(changeme|replace|todo)/i.test(value)) {
    return { problem: `${issue.message}; it looks like a placeholder`, remedy: `Replace it. ${like}` };
  }
  if (/^ssm:\/[\w./-]+$/.test(value)) {
    return {
      problem: 'cannot come from a parameter',
      remedy: `Write the value itself${example === undefined ? '' : `, like ${String(example)}`}.`,
    };
  }
  if (value.startsWith('ssm:')) {
    return {
      problem: 'is not a reference to a parameter',
      remedy:
        'Write ssm:/ and the path of the parameter, in letters, digits, dots, dashes, underscores and slashes.',
    };
  }
  if (value !== value.trim()) {
    return {
      problem: `${issue.message}: it has blanks around it`,
      remedy: 'Remove them.',
      suggestion: value.trim(),
    };
  }
  if (issue.message.endsWith(' CIDR')) return explainCidr(issue.message, value, like);
  if (issue.message.startsWith('is not https://') && /^https:\/\/[^/]+\/$/.test(value)) {
    return { problem: issue.message, remedy: 'Remove the slash at its end.', suggestion: value.slice(0, -1) };
  }
  if (value.toLowerCase() !== value && v.is(schema, value.toLowerCase())) {
    return { problem: issue.message, remedy: 'Write it in lower case.', suggestion: value.toLowerCase() };
  }
  return { problem: issue.message, remedy: like };
}

function explainCidr(problem: string, value: string, like: string): Finding {
  const takesIpv6 = problem.includes('IPv6');
  if (takesIpv6 && ipaddr.IPv6.isValid(value)) {
    return { problem: `${problem}: it lacks the prefix length`, remedy: like, suggestion: `${value}/128` };
  }
  if (!takesIpv6 && (ipaddr.IPv6.isValid(value) || ipaddr.IPv6.isValidCIDR(value))) {
    return { problem: `${problem} but IPv6`, remedy: `IPv6 cannot be given here. ${like}` };
  }
  if (ipaddr.IPv4.isValidFourPartDecimal(value)) {
    return { problem: `${problem}: it lacks the prefix length`, remedy: like, suggestion: `${value}/32` };
  }
  return { problem, remedy: like };
}

function choices(schema: v.GenericSchema): readonly string[] {
  return 'options' in schema && Array.isArray(schema.options) ? schema.options.map(String) : [];
}

/** The range text in the message of the schema's own checks. */
function messageOf(schema: v.GenericSchema): string | undefined {
  const failing = v.safeParse(schema, Number.NaN);
  const range = v.safeParse(schema, 0.5);
  if (failing.success || range.success) return undefined;
  return range.issues[0].message;
}
