"""Datagrams from this network namespace to an address, as fast as they go. Prints the nanoseconds of processor time that one
takes in the kernel, from the call to the other end's socket: what crosses network namespaces without a wire is the sender's.

policy-send.py ADDRESS PORT COUNT
"""
import resource
import socket
import sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect((address, port))


def send(count):
    call = one.send
    for _ in range(count):
        try:
            call(b"?")
        except OSError:
            pass


send(1000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
send(count)
print((resource.getrusage(resource.RUSAGE_SELF).ru_stime - before) * 1e9 / count)
