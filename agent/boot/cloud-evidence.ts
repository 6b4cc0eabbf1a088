// What IMDS and EC2 say about this instance, for whoever helps from afar. No credentials, no token, and of the user
// data only its size.
import { listMacs, readEni, readIdentity, readLifecycleTarget } from '../aws/metadata.ts';
import { loadConfig } from '../config/load.ts';
import { readConfigSources } from '../config/sources.ts';
import { isFailure } from '../messages/failure.ts';
import { looking } from './look.ts';
import { readNodeConfig } from './node-config.ts';

/** Every entry holds what was found, or under `failure` why it was not. Takes 20 s at most. */
export async function cloudEvidence(): Promise<Record<string, unknown>> {
  return looking(async (session) => {
    const { imds } = session;
    const identity = await found(() => readIdentity(imds));
    const userData = await found(async () => ({ bytes: (await imds.readBytes('user-data'))?.length ?? 0 }));
    const lifecycleTarget = await found(() => readLifecycleTarget(imds));
    const enis = await found(async () =>
      Promise.all((await listMacs(imds)).map(async (mac) => (await readEni(imds, mac, true)) ?? { mac })),
    );
    const ec2 = await found(async () => {
      const { region, instanceId } = await readIdentity(imds);
      session.config = (await readNodeConfig(imds, region, session.log)).config;
      return (await session.ec2(region)).describeAttachedEnis(instanceId);
    });
    return { identity, userData, lifecycleTarget, enis, ec2 };
  });
}

/** The configuration as written, references to parameters unresolved, and where each value comes from. */
export async function configEvidence(): Promise<unknown> {
  return found(async () => {
    const userData = await looking((session) => session.imds.readBytes('user-data')).catch(() => undefined);
    const { config, origins, warnings } = loadConfig(
      readConfigSources(userData === undefined ? {} : { userData }),
    );
    return { config, origins: Object.fromEntries(origins), warnings };
  });
}

async function found(look: () => Promise<unknown>): Promise<unknown> {
  try {
    return await look();
  } catch (error) {
    if (!isFailure(error)) return { failure: { message: String(error) } };
    const { code, message, facts } = error;
    return { failure: { code, message, facts } };
  }
}
