"""One TCP path: `serve PORT` answers, `measure ADDRESS PORT` prints latency and throughput as JSON."""
import json
import socket
import statistics
import sys
import threading
import time

PINGS = 300
BYTES = 16 * 1024 * 1024


def answer(connection):
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connection.recv(1) == b'p':
            while connection.recv(1):
                connection.sendall(b'.')
            return
        left = BYTES
        while left > 0:
            left -= len(connection.recv(1 << 16)) or left
        connection.sendall(b'.')


def serve(port):
    with socket.create_server(('', port), backlog=16) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=[connection], daemon=True).start()


def connect(address, port, what):
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = socket.create_connection((address, port), timeout=30)
            break
        except ConnectionRefusedError:
            # The server is still starting.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(what)
    return connection


def measure(address, port):
    times = []
    with connect(address, port, b'p') as connection:
        for _ in range(PINGS):
            began = time.perf_counter()
            connection.sendall(b'.')
            connection.recv(1)
            times.append(time.perf_counter() - began)
    block = bytes(1 << 16)
    with connect(address, port, b't') as connection:
        began = time.perf_counter()
        for _ in range(BYTES // len(block)):
            connection.sendall(block)
        connection.recv(1)
        seconds = time.perf_counter() - began
    print(json.dumps({'us': round(statistics.median(times) * 1e6, 1), 'mbit': round(BYTES * 8 / seconds / 1e6, 1)}))


if sys.argv[1] == 'serve':
    serve(int(sys.argv[2]))
else:
    measure(sys.argv[2], int(sys.argv[3]))
