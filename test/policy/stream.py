"""Sends datagrams without pause, in the network namespace in which it is started: reads a line of JSON, answers with a line.

{"receive": ["10.0.0.1", 7000]}               counts what arrives there from now on
{"send": ["10.0.0.2", "10.0.0.1", 7000]}      one from the first to the second every 5 ms, until {"pause": true}; the same again: goes on
{"counts": true}                              {"sent": {to: N}, "received": {from: N}}
"""
import json
import select
import socket
import sys
import time

EVERY = 0.005
receiving = []
sending = {}
counts = {"sent": {}, "received": {}}
running = False
next_time = 0.0
commands = sys.stdin.fileno()
rest = b""


def take(call):
    global running
    if "receive" in call:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        one.bind(tuple(call["receive"]))
        one.setblocking(False)
        receiving.append(one)
    elif "send" in call:
        source, target, port = call["send"]
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((source, 0))
        sending[target] = (one, port)
        running = True
    elif "pause" in call:
        running = not call["pause"]
    return counts


def send():
    for target, (one, port) in sending.items():
        counts["sent"][target] = counts["sent"].get(target, 0) + 1
        try:
            one.sendto(b"?", (target, port))
        except OSError:
            pass  # rejected here, or an earlier rejection is reported


def receive(one):
    while True:
        try:
            _, (source, _) = one.recvfrom(16)
        except BlockingIOError:
            return
        counts["received"][source] = counts["received"].get(source, 0) + 1


while True:
    wait = max(0.0, next_time - time.monotonic()) if running else None
    ready, _, _ = select.select([commands, *receiving], [], [], wait)
    for one in receiving:
        if one in ready:
            receive(one)
    if running and time.monotonic() >= next_time:
        send()
        next_time = time.monotonic() + EVERY
    if commands in ready:
        chunk = sys.stdin.buffer.raw.read(65536)
        if not chunk:
            break
        rest += chunk
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            print(json.dumps(take(json.loads(line))), flush=True)
