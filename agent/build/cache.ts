import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where what builds and tests fetch or make is kept between runs: below `$XDG_CACHE_HOME`, by default `~/.cache`. */
export function cacheFolder(...names: string[]): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'eniboot', ...names);
}
