// What IMDS and EC2 say about this instance, for a support engineer without access to the node. Contains no credentials and no
// token, and only the size of the user data.
import { listMacs, readEni, readIdentity, readLifecycleTarget } from '../../aws/metadata.ts';
import { loadConfig } from '../../config/load.ts';
import { readConfigSources } from '../../config/sources.ts';
import { isFailure } from '../../messages/failure.ts';
import { readNodeConfig } from '../facts/config.ts';
import { patientContext } from '../look.ts';

/** Every entry holds what was found; or, under `failure`, why it was not found. Takes at most 20 s. */
export async function cloudEvidence(): Promise<Record<string, unknown>> {
  const context = patientContext('look', false);
  const { imds, known, log } = context;
  const identity = await found(() => readIdentity(imds));
  const userData = await found(async () => ({ bytes: (await imds.readBytes('user-data'))?.length ?? 0 }));
  const lifecycleTarget = await found(() => readLifecycleTarget(imds));
  const enis = await found(async () =>
    Promise.all((await listMacs(imds)).map(async (mac) => (await readEni(imds, mac, true)) ?? { mac })),
  );
  const ec2 = await found(async () => {
    const { region, instanceId } = await readIdentity(imds);
    known.config = (await readNodeConfig(imds, region, log)).config;
    return (await context.ec2(region)).describeAttachedEnis(instanceId);
  });
  return { identity, userData, lifecycleTarget, enis, ec2 };
}

/** The configuration as written, with references to parameters unresolved, and the source of each value. */
export async function configEvidence(): Promise<unknown> {
  return found(async () => {
    const userData = await patientContext('look', false)
      .imds.readBytes('user-data')
      .catch(() => undefined);
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
