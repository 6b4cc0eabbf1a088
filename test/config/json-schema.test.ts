// `config schema`, read by an independent validator: Python's jsonschema, from Debian.
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { configJsonSchema } from '../../agent/config/json-schema.ts';
import { badConfigs, goodText } from './bad-configs.ts';
import { validDocument } from './valid-config.ts';

const program = `
import json, sys
from jsonschema import Draft7Validator
asked = json.load(sys.stdin)
Draft7Validator.check_schema(asked["schema"])
validator = Draft7Validator(asked["schema"])
print(json.dumps([[error.json_path + ": " + error.message for error in validator.iter_errors(document)]
                  for document in asked["documents"]]))
`;

/** The validator's errors for each document. */
function judge(documents: unknown[]): string[][] {
  const input = JSON.stringify({ schema: configJsonSchema(), documents });
  const result = spawnSync('/usr/bin/python3', ['-c', program], { input, encoding: 'utf8', timeout: 30_000 });
  assert.is(result.status, 0, result.stderr);
  return JSON.parse(result.stdout) as string[][];
}

test('the schema names its draft and describes every key', () => {
  const schema = configJsonSchema() as { $schema: string };
  assert.is(schema.$schema, 'http://json-schema.org/draft-07/schema#');
  const bare: string[] = [];
  const visit = (node: unknown, path: string): void => {
    if (typeof node !== 'object' || node === null) return;
    if ('properties' in node) {
      for (const [key, inner] of Object.entries(node.properties as Record<string, object>)) {
        if (!('description' in inner)) bare.push(`${path}.${key}`);
      }
    }
    for (const [key, inner] of Object.entries(node)) visit(inner, `${path}.${key}`);
  };
  visit(schema, '');
  assert.equal(bare, []);
});

test('the schema accepts every valid configuration', () => {
  const documents = [parse(goodText), ...fc.sample(validDocument, { numRuns: 200, seed: 7 })];
  assert.equal(judge(documents).flat(), []);
});

test('the validator refuses the cases of kind `schema`, and accepts those that only eniboot can refuse', () => {
  // JSON has no infinity.
  const cases = badConfigs.filter((bad) => bad.kind !== 'text' && !String(bad.text).includes('.inf'));
  const verdicts = judge(cases.map((bad) => parse(String(bad.text))));
  for (const [index, bad] of cases.entries()) {
    const complaints = verdicts[index] ?? [];
    assert.is(complaints.length > 0, bad.kind === 'schema', `${bad.name}: ${complaints.join('; ')}`);
  }
});

test.run();
