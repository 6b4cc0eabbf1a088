"""The calls of cni-measure.ts, made inside the node. Python, because wait4(2) tells what one child and its own children
cost, which Node does not say. In: the plan as JSON, first argument. Out: samples as JSON, on standard output."""
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


def environment(command, pod):
    return {
        'PATH': SEARCH,
        'CNI_COMMAND': command,
        'CNI_CONTAINERID': pod,
        'CNI_NETNS': f'/run/netns/{pod}',
        'CNI_IFNAME': 'eth0',
        'CNI_PATH': plan['path'],
    }


def start(file, command, pod, conf, traced=()):
    """Starts one call, its input ready in a pipe. Returns its process ID and the file its output goes to."""
    reader, writer = os.pipe()
    os.write(writer, json.dumps(conf).encode())
    os.close(writer)
    output = os.memfd_create('output')
    arguments = [*traced, file]
    pid = os.posix_spawnp(
        arguments[0],
        arguments,
        environment(command, pod),
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, output, 1)],
    )
    os.close(reader)
    return pid, output


def ended(file, command, status, output):
    """What the call has answered."""
    said = os.pread(output, 65536, 0).decode()
    os.close(output)
    if status != 0:
        sys.exit(f'{file} {command}: status {status}: {said}')
    return said


def after(conf, said):
    """The configuration that a CHECK gets once ADD has answered."""
    return {**conf, 'prevResult': json.loads(said)}


def call(what, file, command, pod, conf):
    began = time.perf_counter()
    pid, output = start(file, command, pod, conf)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    book(what, wall, used)
    return ended(file, command, status, output)


def book(what, wall, used):
    samples[what].append({'ms': wall * 1e3, 'cpu': (used.ru_utime + used.ru_stime) * 1e3, 'rss': used.ru_maxrss * 1024})


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env={'PATH': SEARCH})


def floor_of_lyft():
    """Only what its ADD surely starts: three Go plugins and 16 times iptables, one of these a dump of the nat table.
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


def burst(count):
    for name, file, conf in callers():
        pods = [f'{name}-{count}-{at}' for at in range(count)]
        for pod in pods:
            run('ip', 'netns', 'add', pod)
        at_once(f'{name} x{count}', file, 'ADD', pods, conf)
        at_once(f'{name} x{count}', file, 'DEL', pods, conf)
        for pod in pods:
            run('ip', 'netns', 'del', pod)


def callers():
    yield 'own', plan['own'], OWN
    if plan.get('before'):
        yield 'before', plan['before'], OWN
    if plan['go']:
        yield 'go', plan['go'] + '/ptp', GO


# Moments of a call that a system call marks, in order: the name of what ends there, and how its line begins.
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
    """Children started, threads left out. A call that is interrupted by another thread is two lines."""
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
    burst(count)
json.dump(samples, sys.stdout)
