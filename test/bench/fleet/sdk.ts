// Stand-in for the AWS SDK's client: the real commands, carried to the modelled EC2 on virtual time. Errors come in the SDK's
// shape; an answer may be lost, and a node may be killed while it waits.
import { AwsError } from '../../aws/index.ts';
import { currentLife } from './life.ts';
import { API_MS } from './region.ts';

export * from '@aws-sdk/client-ec2';

export class EC2Client {
  readonly config = { region: async () => 'eu-west-1' };

  async send(command: { constructor: { name: string }; input: object }): Promise<object> {
    const life = currentLife();
    const { region, node } = life;
    const action = command.constructor.name.replace(/Command$/, '');
    await life.clock.sleep(API_MS);
    const dies = life.killAt?.call === life.accepted + 1;
    if (dies && life.killAt?.carriedOut === false) return die();
    try {
      const answer = region.send(action, command.input, node.instanceId);
      life.accepted += 1;
      if (dies) return die();
      if (region.random() < region.lossRate) {
        throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
      }
      return answer;
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (error.code === 'RequestLimitExceeded') life.throttled += 1;
      const sdkError = Object.assign(new Error(error.message), {
        $metadata: { httpStatusCode: error.status },
      });
      sdkError.name = error.code;
      throw sdkError;
    }

    /** Ends this run: its promise never settles. */
    function die(): Promise<never> {
      life.dead = true;
      life.killed();
      return new Promise(() => {});
    }
  }
}
