// npm run test:packer: the AMI's template with the real Packer and its real Amazon plugin: its form, every variable file, and wrong
// values of every variable. No call to AWS is made: validation only reads the template.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBundles } from './bundles.ts';
import { ensurePackerTools, packerTools } from './fetch.ts';
import { runPacker, TEMPLATE, templateChecks } from './template.ts';
import { wrongTogether, wrongValues } from './wrong-values.ts';

if (process.argv.includes('--help')) {
  process.stdout.write(`Usage: npm run test:packer

packer fmt -check and packer validate by the real Packer, for every variable file of packer/, and wrong values of every
variable, each of which must be refused with the allowed values. Packer and its plugin are built from the Go module proxy
once (about ten minutes on two cores). Exit codes: 0 all checks passed; 1 a check failed.
`);
  process.exit(0);
}
if (packerTools() === undefined)
  process.stdout.write('building Packer and its Amazon plugin (once, some minutes)\n');
const tools = ensurePackerTools();
ensureBundles((line) => process.stdout.write(`${line}\n`));

const work = mkdtempSync(join(tmpdir(), 'eniboot-packer-'));
const example = JSON.parse(readFileSync(join(TEMPLATE, 'lock.example.pkrvars.json'), 'utf8')) as object;
let passed = 0;
const failures: string[] = [];
try {
  for (const [what, problem] of templateChecks(tools)) note(what, problem);
  const declared = [
    ...readFileSync(join(TEMPLATE, 'variables.pkr.hcl'), 'utf8').matchAll(/^variable "(\w+)"/gm),
  ];
  for (const [, name = ''] of declared) {
    const wrong = wrongValues[name];
    if (wrong === undefined) {
      note(`${name} has wrong values to try`, 'test/packer/wrong-values.ts has none');
      continue;
    }
    for (const [value, says] of wrong)
      note(`${name} = ${JSON.stringify(value)} is refused`, problemWith({ [name]: value }, says));
  }
  for (const [values, says] of wrongTogether)
    note(
      `${JSON.stringify(values)} is ${says === undefined ? 'taken' : 'refused'}`,
      problemWith(values, says),
    );
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.stdout.write(
  `${failures.map((one) => `FAILED ${one}\n`).join('')}${passed} passed, ${failures.length} failed\n`,
);
process.exit(failures.length === 0 ? 0 : 1);

/** `says`: the message of the refusal; undefined: the values must be accepted. */
function problemWith(values: object, says: RegExp | undefined): string | undefined {
  const file = join(work, 'tried.pkrvars.json');
  writeFileSync(file, JSON.stringify({ ...example, ...values }));
  const { status, said } = runPacker(tools, ['validate', `-var-file=${file}`, TEMPLATE]);
  const text = said.replace(/[│╵╷\s]+/g, ' ');
  if (says === undefined) return status === 0 ? undefined : `it says: ${text}`;
  return status === 0 ? 'it was accepted' : says.test(text) ? undefined : `it says: ${text}`;
}

function note(what: string, problem: string | undefined): void {
  if (problem === undefined) passed += 1;
  else failures.push(`${what}: ${problem.trim().slice(0, 2_000)}`);
}
