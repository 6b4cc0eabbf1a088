import { toJsonSchema } from '@valibot/to-json-schema';
import { configSchema } from './schema.ts';

/**
 * The schema as JSON Schema draft 7, which editors (yaml-language-server) and most validators accept. It checks each value and
 * each key. Rules across several values are checked only by `config check`.
 */
export function configJsonSchema(): object {
  const { $schema, ...schema } = toJsonSchema(configSchema, { typeMode: 'input', target: 'draft-07' });
  return { $schema, title: 'eniboot configuration', ...schema };
}
