import { toJsonSchema } from '@valibot/to-json-schema';
import { configSchema } from './schema.ts';

/**
 * The schema as JSON Schema draft 7, which editors (yaml-language-server) and most validators take. It judges
 * each value and each key; what concerns several values at once is only known to `config check`.
 */
export function configJsonSchema(): object {
  const { $schema, ...schema } = toJsonSchema(configSchema, { typeMode: 'input', target: 'draft-07' });
  return { $schema, title: 'eniboot configuration', ...schema };
}
