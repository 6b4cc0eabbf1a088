import { isVersion } from '../aws/release.ts';
import { Failure } from '../messages/failure.ts';
import { requireRoot } from '../port/runtime.ts';
import { formed, parse } from './arguments.ts';
import type { Command } from './command.ts';

const help = `Usage: eniboot update --version V --digests SHA256[,SHA256] [--action update|rollback|follow|check]
                      [--halt PARAMETER]
                      [--seconds N] [--rollout ID] [--wanted PARAMETER] [--until SECONDS] [--json]

Changes the version of this node in place: stages the published version beside the running one, verifies its digests,
restores its labels, switches by one rename, and runs the health checks of the new version. When they fail it goes
back by itself. Keeps the version before. Never touches the network of a running pod; kubelet is not restarted. Safe to run
again at any point. \`eniboot rollout\` runs it on every node, through the SSM document eniboot-update.

  --version V         the version to update to, or with --action rollback or follow the one to leave
  --digests LIST      SHA-256 of the archives of that version, separated by commas: this machine's must be among them
  --action ACTION     update (default); rollback: to the version kept on this node; follow: to the version that the zone's
                      parameter names, as a boot would; check: only report version and health, and what went wrong since
                      that rollout switched the node
  --halt PARAMETER    parameter of the halt flag; default that of this node's cluster. While it is up nothing is changed
  --seconds N         time for all of it, including the way back, 60 to 9999; default 600
  --rollout ID        the rollout that asks: a second call of the same rollout gets \`updated\`, not \`already\`; a rollback
                      goes to the version before that rollout, and leaves a version that another rollout has brought
  --wanted PARAMETER  parameter that names the wanted rollout and its direction: a call of any other changes nothing
  --until SECONDS     since the epoch: no step begins after that, and a step that has begun ends by then
  --json              one line: { "eniboot": "update", "node", "result", "version", "sha256", "from", "healthy", … }

Exit codes: 0 updated, or updated before; 1 not, and the node is as before unless the line says otherwise; 2 wrong usage.
`;

export const updateCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('update', args, {
      version: { type: 'string' },
      digests: { type: 'string' },
      action: { type: 'string' },
      halt: { type: 'string' },
      seconds: { type: 'string' },
      rollout: { type: 'string' },
      wanted: { type: 'string' },
      until: { type: 'string' },
      json: { type: 'boolean' },
    });
    const name = (option: '--halt' | '--wanted', value: string | undefined) =>
      formed('update', option, value, /^\/[\w./-]+$/, 'the name of a parameter, with a slash in front');
    const request = {
      action: checked(
        '--action',
        values.action ?? 'update',
        /^(update|rollback|follow|check)$/,
        'update, rollback, follow or check',
      ) as 'update' | 'rollback' | 'follow' | 'check',
      version: checked('--version', values.version, /./, 'a version'),
      digests: checked('--digests', values.digests, DIGESTS, 'a SHA-256, or two with a comma').split(','),
      haltParameter: name('--halt', values.halt),
      wantedParameter: name('--wanted', values.wanted),
      untilMs:
        values.until === undefined
          ? undefined
          : Number(checked('--until', values.until, /^\d{10}$/, 'seconds since the epoch')) * 1000,
      seconds: Number(
        checked('--seconds', values.seconds ?? '600', /^([6-9]\d|[1-9]\d{2,3})$/, 'a number from 60 to 9999'),
      ),
    };
    const rollout = formed('update', '--rollout', values.rollout, /^[\w-]{1,64}$/, 'the ID of a rollout');
    if (request.wantedParameter !== undefined && rollout === undefined)
      throw new Failure('USAGE', 'eniboot update: --wanted needs --rollout');
    if (!isVersion(request.version))
      throw new Failure('USAGE', `eniboot update: --version ${request.version} is not a version`);
    requireRoot('update');
    const { updateNode } = await import('../boot/version/update.ts');
    const { createLog } = await import('../port/log.ts');
    const { reportLine } = await import('../rollout/node-report.ts');
    const started = performance.now();
    const outcome = await updateNode({ ...request, rollout }, createLog({ level: 'error', form: 'text' }));
    const { result, version, sha256, from, health, counters, failure } = outcome;
    const good = (result === 'updated' || result === 'already') && health.healthy;
    if (values.json === true) {
      const line = reportLine({
        eniboot: 'update',
        schema: 1,
        node: outcome.instanceId,
        result,
        version,
        ...(sha256 === undefined ? {} : { sha256 }),
        from,
        ...health,
        ...(counters === undefined ? {} : { counters }),
        ...(failure === undefined ? {} : { code: failure.code, message: failure.message }),
        seconds: Math.round((performance.now() - started) / 100) / 10,
      });
      io.stdout(`${line}\n`);
      return good ? 0 : 1;
    }
    if (failure !== undefined) throw failure;
    const state = health.healthy ? 'healthy' : `not healthy: ${health.failing.join(', ')}`;
    io.stdout(`${result}: ${version} runs (before: ${from}), ${state}\n`);
    return good ? 0 : 1;
  },
};

/** Digests for one CPU, or for both. */
const DIGESTS = /^[0-9a-f]{64}(,[0-9a-f]{64})?$/;

function checked(option: string, value: string | undefined, form: RegExp, what: string): string {
  if (value === undefined) throw new Failure('USAGE', `eniboot update: ${option} is missing`);
  return formed('update', option, value, form, what);
}
