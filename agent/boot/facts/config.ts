// The node's configuration: files of the image, drop-ins, user data, and values in Parameter Store.
import type { Imds } from '../../aws/imds.ts';
import { type HeldConfig, loadConfig } from '../../config/load.ts';
import { parameterReferences, resolveParameters } from '../../config/parameters.ts';
import { type ConfigProblem, problemLine } from '../../config/problem.ts';
import type { Config } from '../../config/schema.ts';
import { readConfigSources } from '../../config/sources.ts';
import { Failure, isFailure } from '../../messages/failure.ts';
import { readIfPresent } from '../../port/fs.ts';
import type { Log } from '../../port/log.ts';
import { BOOTED_CONFIG, notBooted } from './booted.ts';

/** Where a configuration comes from. */
export interface Provenance {
  /** Files, parts of the user data and `default`; for each, the keys in effect that come from it. */
  sources: HeldConfig[];
  /** What was accepted but is most likely a mistake, a line each. */
  warnings: string[];
}

/** @throws Failure CONFIG_MISSING, CONFIG_INVALID with every problem in its facts, or why IMDS or SSM failed. */
export async function readNodeConfig(
  imds: Imds,
  region: string,
  log: Log,
): Promise<{ config: Config; provenance: Provenance }> {
  const userData = await imds.readBytes('user-data');
  const { config, held, warnings } = loadConfig(
    readConfigSources(userData === undefined ? {} : { userData }),
  );
  const provenance = { sources: held, warnings: warnings.map(problemLine) };
  for (const warning of warnings) {
    const problem = problemLine(warning);
    log.warn('configuration is most likely not meant', { problem, remedy: warning.remedy });
  }
  const names = parameterReferences(config);
  if (names.length === 0) return { config, provenance };
  const { readParameters } = await import('../../aws/ssm.ts');
  const values = await readParameters(names, { region, endpoint: config.aws.endpoints.ssm, imds });
  return { config: resolveParameters(config, values), provenance };
}

/**
 * The booted configuration. A file that was edited since, or a Parameter Store that does not answer, changes nothing on a
 * running node before an operator runs boot.
 *
 * @throws Failure NOT_BOOTED, BOOTED_CONFIG_DAMAGED.
 */
export function readBootedConfig(): Config {
  const content = readIfPresent(BOOTED_CONFIG);
  if (content === undefined) throw notBooted('it has no configuration');
  // Checked like any other source, since another version may have written it.
  try {
    return loadConfig([{ name: BOOTED_CONFIG, content: Buffer.from(content) }]).config;
  } catch (error) {
    if (!isFailure(error, 'CONFIG_INVALID')) throw error;
    // Boot writes this file, so the failure does not ask an operator to correct it. Its problems and its content stay in the cause.
    const [first] = error.facts['problems'] as ConfigProblem[];
    const why = `${BOOTED_CONFIG} cannot be used: ${first === undefined ? error.message : problemLine(first)}`;
    throw new Failure('BOOTED_CONFIG_DAMAGED', why, { path: BOOTED_CONFIG }, error);
  }
}

/** The text of that file. */
export function bootedConfigText(config: Config): string {
  return `${JSON.stringify(config, null, 2)}\n`;
}

/**
 * The configuration as far as the files alone give it, for the `boot` section; undefined when they are not a whole
 * configuration.
 */
export function configOfFiles(): Config | undefined {
  try {
    return loadConfig(readConfigSources()).config;
  } catch {
    // identify reports the problems when it reads the files together with the user data.
    return undefined;
  }
}
