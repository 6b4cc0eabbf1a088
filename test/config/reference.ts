// Makes the table of all keys in docs/configuration.md from the schema. Run as a program it writes the table into the page;
// docs.test.ts fails when the two differ.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configJsonSchema } from '../../agent/config/json-schema.ts';

interface Node {
  type?: string;
  properties?: Record<string, Node>;
  required?: string[];
  anyOf?: Node[];
  items?: Node;
  enum?: string[];
  description?: string;
  default?: unknown;
  minimum?: number;
  maximum?: number;
  examples?: string[];
}

export const page = join(import.meta.dirname, '../../docs/configuration.md');
const begin = '<!-- keys: begin -->';
const end = '<!-- keys: end -->';

/** The page with its table replaced by the schema's. */
export function withTable(text: string): string {
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from === -1 || to === -1) throw new Error(`${page} lacks ${begin} or ${end}`);
  const rows = rowsOf(configJsonSchema() as Node, '');
  const table = ['| key | value | default | meaning |', '|---|---|---|---|', ...rows].join('\n');
  return `${text.slice(0, from)}${begin}\n${table}\n${text.slice(to)}`;
}

function rowsOf(node: Node, path: string): string[] {
  const parts = node.anyOf ?? [node];
  return parts.flatMap((part) =>
    Object.entries(part.properties ?? {}).flatMap(([key, inner]) => {
      const name = path === '' ? key : `${path}.${key}`;
      const item = inner.items?.properties === undefined ? [] : rowsOf(inner.items, `${name}[]`);
      const mandatory = (part.required ?? []).includes(key) && node.anyOf === undefined;
      return [row(name, inner, mandatory), ...rowsOf(inner, name), ...item];
    }),
  );
}

function row(name: string, node: Node, mandatory: boolean): string {
  const standard =
    node.default === undefined || node.properties !== undefined ? '' : `\`${JSON.stringify(node.default)}\``;
  return `| \`${name}\` | ${valueText(node)} | ${mandatory ? 'required' : standard} | ${node.description ?? ''} |`;
}

function valueText(node: Node): string {
  if (node.enum !== undefined) return node.enum.map((value) => `\`${value}\``).join(', ');
  if (node.anyOf !== undefined) return 'one of the two keys below';
  if (node.properties !== undefined) return 'map';
  if (node.type === 'array')
    return node.items?.properties === undefined
      ? `list like \`[${node.items?.examples?.[0]}]\``
      : 'list of maps';
  if (node.type === 'object') return 'map of text to text';
  if (node.type === 'integer' || node.type === 'number') return `${node.minimum} to ${node.maximum}`;
  if (node.type === 'boolean') return '`true`, `false`';
  return `text like \`${node.examples?.[0]}\``;
}

if (process.argv[1] === import.meta.filename) writeFileSync(page, withTable(readFileSync(page, 'utf8')));
