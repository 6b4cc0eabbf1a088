import { INTERRUPTED } from '../../port/runtime.ts';
import { verbOf } from '../arguments.ts';
import type { Command } from '../command.ts';
import { base } from './base.ts';
import { testBoot } from './boot-test.ts';
import { check } from './check.ts';
import { list } from './list.ts';
import { deprecate, promote, publish, rollback } from './release.ts';

const help = `Usage: eniboot image check [--booted] [--root FOLDER] [--expect PACKAGE=VERSION]...
                           [--allow PATH]... [--report FILE] [--json]
       eniboot image boot-test AMI --subnet ID (--pod-subnet ID | --user-data FILE) [options]
       eniboot image publish AMI --zone ID...       makes it the candidate of these zones
       eniboot image promote AMI --zone ID...       makes the candidate the image that these zones launch
       eniboot image rollback --arch ARCH --zone ID...   these zones launch their previous image again
       eniboot image list                           images, their boot tests, and the zones that launch them
       eniboot image base --fedora N --lock FILE [--no-copy]   Fedora's newest images, copied, for the next build
       eniboot image deprecate AMI --at DATE        no zone may launch it, or go back to it

check      whether this machine is fit to become an AMI, or whether an instance of an AMI is as it should be: kernel modules,
           unit graph, SELinux, swap, listening ports, sysctls, capabilities, digests, versions, disk, NetworkManager,
           and remains of the build. Loads the modules and makes a pair of devices for a moment; changes nothing
           else. Needs root.
boot-test  launches the image, waits for the node's own verdict (instance tag, or console), tags the image with it, and
           always terminates the instance, also on Ctrl-C. If SSM reaches the node, the report has its status
           JSON, and check --booted runs there and must not fail.
base       looks up Fedora's newest AMI of a release for x86_64 and arm64 (account 125523088429), makes encrypted
           copies in this account, and writes them to a variables file of packer/. Existing copies are reused. With
           --no-copy it writes Fedora's own IDs, for an account that may not copy them.
publish    writes a version of /eniboot/image/ARCH/ZONE, of type aws:ec2:image. Refuses an image whose boot test has not passed.
promote    moves the label stable to the image, and previous to the image that was stable. Launch templates resolve
           resolve:ssm:/eniboot/image/ARCH/ZONE:stable.

  --booted         check: for an instance of the finished image: checks the boot's verdict, jobs, denials and failed units
  --root FOLDER    check: a mounted image instead of this machine; checks that need a running one are skipped
  --expect PACKAGE=VERSION  check: this RPM must have this version; may be given several times
  --allow PATH     check: a file below /etc, /root or /var/lib that your build adds without a package; * is any text
                   within a name, ** also any folders; may be given several times
  --fedora N       base: the release, the one before Fedora's newest
  --lock FILE      base: the variables file, which gets both copies; written when both can be launched, else unchanged
  --no-copy        base: the variables file names Fedora's own images
  --report FILE    check: writes what --json prints to FILE, whatever the outcome
  --subnet ID      boot-test: subnet of the boot ENI
  --pod-subnet ID  boot-test: subnet of pod ENIs, same zone; the configuration is then cluster boot-test and this subnet
  --user-data FILE boot-test: the node's configuration instead
  --profile NAME   boot-test: instance profile with the policy of \`eniboot iam-policy node\`
  --security-group ID  boot-test: security group of the boot ENI; default: the VPC's own
  --instance-type TYPE boot-test: default m6i.large, m6g.large for arm64
  --timeout SECONDS    boot-test: from launch to verdict, 60 to 3600; default 600
  --zone ID        a zone's ID, such as euw1-az1; several are done in the order given
  --arch ARCH      x86_64 or arm64
  --at DATE        2027-01-31, or with time, UTC
  --region REGION  default: AWS_REGION or the profile's
  --json           one object; for check { "fit": true, "checks": [ { "id", "result", "summary", "evidence", "code"? } ] }

The policy for all this: \`eniboot iam-policy image\`. docs/images.md explains each.

Exit codes: 0 fit, or done; 1 not, with a code; 2 wrong usage; ${INTERRUPTED} interrupted, the instance is terminated.
`;

const actions = { check, 'boot-test': testBoot, publish, promote, rollback, list, deprecate, base };
const verbs = Object.keys(actions) as (keyof typeof actions)[];

export const imageCommand: Command = {
  help,
  async run(args, io) {
    const [verb, ...rest] = args;
    return actions[verbOf('image', verb, verbs)](rest, io);
  },
};
