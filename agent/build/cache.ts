import { homedir } from 'node:os';
import { join } from 'node:path';

/** A folder for what builds and tests fetch or make, kept between runs: below `$XDG_CACHE_HOME`, by default `~/.cache`. */
export function cacheFolder(...names: string[]): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'eniboot', ...names);
}
