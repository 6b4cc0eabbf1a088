"""The calls of cni-measure.ts, made inside the node. Python, because wait4(2) tells the cost of one child with its own
children, and Node does not have it. In: the plan as JSON, first argument. Out: samples as JSON, on standard output."""
import collections
import json
import os
import re
import subprocess
import sys
import time

plan = json.loads(sys.argv[1])
SEARCH = '/usr/sbin:/usr/bin:/sbin:/bin'
OWN = {**plan['conf']}
GO = {
    'cniVersion': '1.0.0',
    'name': 'go',
    'type': 'ptp',
    'ipam': {'type': 'host-local', 'subnet': '10.99.0.0/16', 'dataDir': '/run/host-local'},
}
samples = collections.defaultdict(list)


def environment(command, pod, arguments=None):
    return {
        **({'CNI_ARGS': arguments} if arguments else {}),
        'PATH': SEARCH,
        'CNI_COMMAND': command,
        'CNI_CONTAINERID': pod,
        'CNI_NETNS': f'/run/netns/{pod}',
        'CNI_IFNAME': 'eth0',
        'CNI_PATH': plan['path'],
    }


def start(file, command, pod, conf, traced=(), named=None):
    """Starts one call, its input ready in a pipe. Returns its process ID and the file of its output."""
    reader, writer = os.pipe()
    os.write(writer, json.dumps(conf).encode())
    os.close(writer)
    output = os.memfd_create('output')
    arguments = [*traced, file]
    pid = os.posix_spawnp(
        arguments[0],
        arguments,
        environment(command, pod, named),
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, output, 1)],
    )
    os.close(reader)
    return pid, output


def ended(file, command, status, output):
    """The call's answer."""
    said = os.pread(output, 65536, 0).decode()
    os.close(output)
    if status != 0:
        sys.exit(f'{file} {command}: status {status}: {said}')
    return said


def after(conf, said):
    """The configuration of a CHECK, after ADD has answered."""
    return {**conf, 'prevResult': json.loads(said)}


def call(what, file, command, pod, conf, named=None):
    # The kernel takes down what the DEL before has removed, under locks that an ADD needs.
    time.sleep(0.03)
    began = time.perf_counter()
    pid, output = start(file, command, pod, conf, named=named)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    book(what, wall, used)
    return ended(file, command, status, output)


def book(what, wall, used):
    samples[what].append({'ms': wall * 1e3, 'cpu': (used.ru_utime + used.ru_stime) * 1e3, 'rss': used.ru_maxrss * 1024})


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env={'PATH': SEARCH})


def floor_of_lyft():
    """The programs that its ADD always starts: three Go plugins and 16 times iptables, one of them a dump of the nat table.
    Its IMDS requests, its netlink calls and its wait for the lock are left out."""
    began = time.perf_counter()
    cpu = 0
    calls = [[plan['go'] + '/ptp']] * 3 + [['iptables', '--wait', '-t', 'nat', '-C', 'OUTPUT', '-j', 'RETURN']] * 15
    calls.append(['iptables', '--wait', '-t', 'nat', '-S'])
    for arguments in calls:
        null = os.open(os.devnull, os.O_RDWR)
        pid = os.posix_spawnp(
            arguments[0],
            arguments,
            environment('VERSION', 'x'),
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)],
        )
        _, _, used = os.wait4(pid, 0)
        os.close(null)
        cpu += used.ru_utime + used.ru_stime
    samples['lyft floor'].append({'ms': (time.perf_counter() - began) * 1e3, 'cpu': cpu * 1e3, 'rss': 0})


def at_once(what, file, command, pods, conf):
    began = time.perf_counter()
    running = {}
    for pod in pods:
        pid, output = start(file, command, pod, conf)
        running[pid] = output
    while running:
        pid, status, used = os.wait4(-1, 0)
        if pid in running:
            wall = time.perf_counter() - began
            ended(file, command, status, running.pop(pid))
            book(f'{what} {command}', wall, used)


def burst(count, turn):
    """Each caller goes first once: the first one finds the kernel busy with what was before."""
    order = list(callers())
    first = turn % len(order)
    for name, file, conf in order[first:] + order[:first]:
        pods = [f'{name}-{count}-{turn}-{at}' for at in range(count)]
        for pod in pods:
            run('ip', 'netns', 'add', pod)
        at_once(f'{name} x{count}', file, 'ADD', pods, conf)
        at_once(f'{name} x{count}', file, 'DEL', pods, conf)
        for pod in pods:
            run('ip', 'netns', 'del', pod)


def policy(turn):
    """A pod that Kubernetes names is closed, since nothing is known of policies here; others are none of the policy's."""
    for way in ('closed', 'chained'):
        pod = f'{way}{turn}'
        named = f'K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}'
        run('ip', 'netns', 'add', pod)
        if way == 'closed':
            call('closed ADD', plan['own'], 'ADD', pod, OWN, named)
            call('closed DEL', plan['own'], 'DEL', pod, OWN, named)
        else:
            said = call('unchained ADD', plan['own'], 'ADD', pod, OWN)
            chained = {**after(OWN, said), 'type': 'eniboot-policy'}
            call('chained ADD', '/opt/cni/bin/eniboot-policy', 'ADD', pod, chained, named)
            call('unchained DEL', plan['own'], 'DEL', pod, OWN)
        run('ip', 'netns', 'del', pod)


def callers():
    yield 'own', plan['own'], OWN
    if plan.get('before'):
        yield 'before', plan['before'], OWN
    if plan['go']:
        yield 'go', plan['go'] + '/ptp', GO


# Moments of a call that a system call marks, in order: the name of the part that ends there, and the beginning of its line.
MARKS = [
    ('start of the runtime', r'read\(0, '),
    ('call, node and address', r'rename(at2?)?\('),
    ('messages', r'setns\('),
    ('kernel', r'setns\('),
    ('result', r'write\(1, '),
    ('end', r'exit_group\('),
]
TRACE = ['strace', '-f', '--seccomp-bpf', '-qq', '-ttt', '-o', '/run/trace', '-e']


def traced(pod, command, conf=OWN):
    calls = 'trace=execve,clone,clone3,fork,vfork,read,rename,renameat,renameat2,setns,write,exit_group'
    pid, output = start(plan['own'], command, pod, conf, [*TRACE, calls])
    _, status = os.waitpid(pid, 0)
    said = ended('strace', command, status, output)
    with open('/run/trace', encoding='utf8', errors='replace') as file:
        return said, [re.match(r'(\d+) +([\d.]+) (.*)', line).groups() for line in file if line[0].isdigit()]


def processes(lines):
    """Children started, threads left out. A call that another thread interrupts is two lines."""
    begun = [text for _, _, text in lines if re.match(r'(clone3?|v?fork)\(', text)]
    return sum('CLONE_THREAD' not in text for text in begun)


def phases(lines):
    first = lines[0][0]
    own = [(float(at), text) for pid, at, text in lines if pid == first]
    before, rest, found = own[0][0], iter(own), {}
    for name, pattern in MARKS:
        at = next((at for at, text in rest if re.match(pattern, text)), None)
        if at is None:
            return
        found[name] = (at - before) * 1e3
        before = at
    samples['phases'].append(found)


for turn in range(plan['rounds']):
    for name, file, conf in callers():
        call(f'{name} VERSION', file, 'VERSION', 'x', conf)
        pod = f'{name}{turn}'
        run('ip', 'netns', 'add', pod)
        said = call(f'{name} ADD', file, 'ADD', pod, conf)
        call(f'{name} CHECK', file, 'CHECK', pod, after(conf, said))
        call(f'{name} DEL', file, 'DEL', pod, conf)
        run('ip', 'netns', 'del', pod)
    policy(turn)
    if plan['go'] and plan['iptables']:
        floor_of_lyft()

for turn in range(plan['traces']):
    pod = f't{turn}'
    run('ip', 'netns', 'add', pod)
    said, lines = traced(pod, 'ADD')
    phases(lines)
    samples['spawns ADD'].append(processes(lines))
    samples['spawns CHECK'].append(processes(traced(pod, 'CHECK', after(OWN, said))[1]))
    samples['spawns DEL'].append(processes(traced(pod, 'DEL')[1]))
    run('ip', 'netns', 'del', pod)

for count in plan['bursts']:
    for turn in range(len(list(callers()))):
        burst(count, turn)
json.dump(samples, sys.stdout)
