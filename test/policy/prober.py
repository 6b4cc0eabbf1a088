"""One end of connections, in the network namespace in which it is started: reads a line of JSON, answers with a line.

{"listen": {"ports": [80], "addresses": ["10.0.0.1"]}}       answers TCP and UDP on these from now on
{"reach": [["TCP", "10.0.0.2", "10.0.0.1", 80], ...], "ms": N}   from, to: tries all at once; answers [true, false, ...] after N ms
"""
import json
import select
import socket
import sys
import time

listening = []


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(ports, addresses):
    for address in addresses:
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                one = socket.socket(family(address), kind)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((address, port))
                one.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    one.listen(512)
                listening.append(one)


def serve(ready):
    for one in ready:
        try:
            if one.type == socket.SOCK_STREAM:
                one.accept()[0].close()
            else:
                data, peer = one.recvfrom(16)
                one.sendto(data, peer)
        except OSError:
            pass


def reach(wanted, ms):
    tried = []
    for protocol, source, target, port in wanted:
        stream = protocol == "TCP"
        one = socket.socket(family(target), socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        one.setblocking(False)
        one.bind((source, 0))
        error = one.connect_ex((target, port))
        if not stream and error == 0:
            try:
                one.send(b"?")
            except OSError:
                pass
        tried.append((one, stream))
    done = {}
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end and len(done) < len(tried):
        poll = select.poll()
        by_fd = {}
        for at, (one, stream) in enumerate(tried):
            if at in done:
                continue
            by_fd[one.fileno()] = at
            poll.register(one, select.POLLOUT if stream else select.POLLIN)
        # Probers that try to reach this one meanwhile get answers too.
        here = {one.fileno(): one for one in listening}
        for fd in here:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(20):
            if fd in here:
                serve([here[fd]])
                continue
            at = by_fd[fd]
            one, stream = tried[at]
            if stream:
                done[at] = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            else:
                try:
                    done[at] = len(one.recv(16)) > 0
                except OSError:
                    done[at] = False
    for one, _ in tried:
        one.close()
    return [done.get(at, False) for at in range(len(tried))]


commands = sys.stdin.fileno()
rest = b""
while True:
    ready, _, _ = select.select([commands, *listening], [], [])
    if commands in ready:
        chunk = sys.stdin.buffer.raw.read(65536)
        if not chunk:
            break
        rest += chunk
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            call = json.loads(line)
            if "listen" in call:
                listen(**call["listen"])
                answer = True
            else:
                answer = reach(call["reach"], call["ms"])
            print(json.dumps(answer), flush=True)
        ready.remove(commands)
    serve(ready)
