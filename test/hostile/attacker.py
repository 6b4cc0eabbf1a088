#!/usr/bin/env python3
# A hostile process in a pod, and the witnesses of what it does. It uses only the standard library, because it runs in VMs as well.
#
#   attacker.py attack <BATCH       carries attempts out; prints a JSON line for each, and one with its capabilities
#   attacker.py watch FILE [PEER…]  writes a JSON line to FILE for each sign of an attempt; talks to each PEER all the time
#   attacker.py answer ADDRESS PORT [ADDRESS PORT…]  answers UDP and TCP, as the link-local services that a pod may use
#
# A witness knows an attempt by the text hostile#NNNN in a packet, or by its source port, 20000 + NNNN, together with a
# traffic class made of that number: source NAT gives any connection any port.
import ctypes
import errno
import json
import mmap
import os
import re
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time

PORT = 7777  # witnesses answer on this port
CLIENT_PORT = 7778  # and talk to their peers from this port
CHATTER = b"between neighbours"
MARK = re.compile(rb"hostile#(\d{4})")
# linux/if_packet.h, linux/in.h, linux/in6.h: constants that Python has no names for.
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
IP_FREEBIND, IP_TRANSPARENT, IP_MTU_DISCOVER, IP_MTU, IP_PMTUDISC_DO = 15, 19, 10, 14, 2
IPV6_HDRINCL, IPV6_FREEBIND, IPV6_TRANSPARENT, IPV6_MTU_DISCOVER, IPV6_MTU = 36, 78, 75, 23, 24


def class_of(port):
    """The same as in frames.ts."""
    return (1 + (port - 20000) % 63) << 2


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# ---- the attacker

def configured(kind, attempt, protocol=0):
    """A socket with the attempt's options: device, mark, a source that is not its own."""
    s = socket.socket(family_of(attempt["to"]), kind, protocol)
    six = s.family == socket.AF_INET6
    s.settimeout(WAIT)
    if "dev" in attempt:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, attempt["dev"].encode())
    if "mark" in attempt:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", attempt["mark"]))
    if attempt.get("free"):
        s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_FREEBIND) if six else (socket.IPPROTO_IP, IP_FREEBIND)), 1)
    if attempt.get("transparent"):
        s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if six else (socket.IPPROTO_IP, IP_TRANSPARENT)), 1)
    if kind != socket.SOCK_RAW:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = 20000 + attempt["n"]
        s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six else (socket.IPPROTO_IP, socket.IP_TOS)), class_of(port))
        s.bind((attempt.get("from", "::" if six else "0.0.0.0"), port))
    return s


def udp(attempt):
    with configured(socket.SOCK_DGRAM, attempt) as s:
        s.sendto(text_of(attempt), (attempt["to"], attempt["port"]))
        return s.recv(500).decode()


def tcp(attempt):
    with configured(socket.SOCK_STREAM, attempt) as s:
        s.connect((attempt["to"], attempt["port"]))
        s.sendall(text_of(attempt) + b"\n")
        return s.recv(500).decode().strip()


def imds(attempt):
    """IMDSv2 up to the name of the node's role: with that name a client can get the credentials."""
    with configured(socket.SOCK_STREAM, attempt) as s:
        s.connect((attempt["to"], attempt["port"]))
        token = http(s, "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
        return http(s, "GET /latest/meta-data/iam/security-credentials/", "X-aws-ec2-metadata-token: " + token[4:])


def http(s, request, header):
    s.sendall(f"{request} HTTP/1.1\r\nHost: imds\r\n{header}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(4000)
        if not more:
            return "closed"
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
    while len(body) < length:
        body += s.recv(4000)
    return head[9:12].decode() + " " + body.decode()


def packet_socket(attempt):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    s.bind((attempt["dev"], 3))
    if "mark" in attempt:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", attempt["mark"]))
    if attempt.get("bypass"):
        s.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    return s


def frames(attempt):
    """Sends frames unchanged; the answer is the first frame that contains `hear`."""
    if attempt.get("xdp"):
        return send_by_xdp(attempt["dev"], [bytes.fromhex(frame) for frame in attempt["frames"]])
    with packet_socket(attempt) as s:
        for frame in attempt["frames"]:
            s.send(bytes.fromhex(frame))
        return hear(s, attempt["hear"]) if "hear" in attempt else ""


def send_by_xdp(device, packets):
    """Through a ring of AF_XDP, in copy mode (Documentation/networking/af_xdp.rst, linux/if_xdp.h)."""
    af_xdp, sol_xdp, copy, size, count = 44, 283, 2, 2048, 8
    mmap_offsets, tx_ring, umem, fill_ring, completion_ring = 1, 3, 4, 5, 6
    with socket.socket(af_xdp, socket.SOCK_RAW, 0) as s:
        area = mmap.mmap(-1, size * count)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        s.setsockopt(sol_xdp, umem, struct.pack("=QQIIII", start, size * count, size, 0, 0, 0))
        for ring in (fill_ring, completion_ring, tx_ring):
            s.setsockopt(sol_xdp, ring, count)
        # The second of four rings is for sending: offsets of its producer, consumer, descriptors and flags.
        producer, consumer, descriptors, _ = struct.unpack("=16Q", s.getsockopt(sol_xdp, mmap_offsets, 128))[4:8]
        ring = mmap.mmap(s.fileno(), descriptors + count * 16, mmap.MAP_SHARED, offset=0x80000000)
        where = struct.pack("=HHIII", af_xdp, copy, socket.if_nametoindex(device), 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        # A device's queue has one such socket at a time, and is free a little after the last one was closed.
        end = time.monotonic() + 10
        while libc.bind(s.fileno(), where, len(where)) != 0:
            if ctypes.get_errno() == errno.EBUSY and time.monotonic() < end:
                time.sleep(0.1)
                continue
            raise OSError(ctypes.get_errno(), "AF_XDP: bind: " + os.strerror(ctypes.get_errno()))
        for at, packet in enumerate(packets):
            area[at * size : at * size + len(packet)] = packet
            ring[descriptors + at * 16 : descriptors + at * 16 + 16] = struct.pack("=QII", at * size, len(packet), 0)
        ring[producer : producer + 4] = struct.pack("=I", len(packets))
        # A busy device leaves the frames in the ring.
        end = time.monotonic() + 10
        while ring[consumer : consumer + 4] != ring[producer : producer + 4] and time.monotonic() < end:
            libc.sendto(s.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0)
            time.sleep(0.1)
    return ""


def hear(s, wanted):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        s.settimeout(max(0.01, end - time.monotonic()))
        data, where = s.recvfrom(2000)
        if where[2] != PACKET_OUTGOING and bytes.fromhex(wanted) in data:
            return "heard it on " + where[0]
    return ""


def raw(attempt):
    """Whole IP packets through a raw socket."""
    with configured(socket.SOCK_RAW, attempt, socket.IPPROTO_RAW) as s:
        if s.family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        for packet in attempt["packets"]:
            s.sendto(bytes.fromhex(packet), (attempt["to"], 0))
    return ""


def imds_by_frames(attempt):
    """A TCP connection that the attacker makes itself, unknown to its kernel. IPv4."""
    ends = socket.inet_aton(attempt["from"]), socket.inet_aton(attempt["to"])
    port = 20000 + attempt["n"]

    def segment(flags, sequence, acknowledged, data=b""):
        tcp = struct.pack("!HHIIBBHHH", port, 80, sequence, acknowledged, 0x50, flags, 64000, 0, 0) + data
        check = checksum(ends[0] + ends[1] + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, class_of(port), 20 + len(tcp), 1, 0x4000, 64, 6, 0, *ends)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        s.send(bytes.fromhex(attempt["ether"]) + head + tcp)

    def answer(with_data):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            s.settimeout(max(0.01, end - time.monotonic()))
            data, where = s.recvfrom(4000)
            if where[2] == PACKET_OUTGOING or data[26:30] != ends[1] or data[34:38] != struct.pack("!HH", 80, port):
                continue
            body = data[34 + (data[46] >> 4) * 4 : 14 + struct.unpack("!H", data[16:18])[0]]
            if bool(body) == with_data:
                return struct.unpack("!I", data[38:42])[0], body
        raise TimeoutError

    with packet_socket(attempt) as s:
        segment(0x02, 1000, 0)
        theirs, _ = answer(False)
        ask = b"PUT /latest/api/token HTTP/1.1\r\nHost: i\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
        segment(0x18, 1001, theirs + 1, ask)
        return answer(True)[1].split(b"\r\n")[0].decode()


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(attempt):
    six = ":" in attempt["to"]
    protocol = socket.getprotobyname("ipv6-icmp") if six else socket.IPPROTO_ICMP
    with configured(socket.SOCK_RAW, attempt, protocol) as s:
        body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, attempt["n"], 1) + text_of(attempt)
        s.sendto(body[:2] + struct.pack("!H", checksum(body)) + body[4:], (attempt["to"], 0))
        while True:
            data, sender = s.recvfrom(500)
            data = data if six else data[20:]
            if data[0] == (129 if six else 0) and text_of(attempt) in data:
                return "answer from " + sender[0]


def path_mtu(attempt):
    """The path MTU to a host, after a larger packet was refused on its way."""
    with configured(socket.SOCK_DGRAM, attempt) as s:
        six = s.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        s.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        s.connect((attempt["to"], attempt["port"]))
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            try:
                s.send(text_of(attempt).ljust(attempt["size"]))
            except OSError:
                pass
            mtu = s.getsockopt(level, IPV6_MTU if six else IP_MTU)
            if mtu < attempt["size"]:
                return f"mtu {mtu}"
            time.sleep(0.1)
        return ""


def listen(attempt):
    with packet_socket(attempt) as s:
        return hear(s, attempt["hear"])


def nothing(_attempt):
    return ""


OPERATIONS = {f.__name__: f for f in (udp, tcp, imds, frames, raw, imds_by_frames, ping, path_mtu, listen, nothing)}


def text_of(attempt):
    return b"hostile#%04d" % attempt["n"]


def carry_out(attempt):
    said = [line for line in map(command, attempt.get("before", [])) if line]
    try:
        answer = OPERATIONS[attempt["op"]](attempt)
    except OSError as error:
        answer = ""
        said.append(f"{type(error).__name__}: {error}")
    said += [line for line in map(command, attempt.get("after", [])) if line]
    say({"n": attempt["n"], "answer": answer, "said": "; ".join(said)})


def command(text):
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else f"{text}: {done.stderr.strip() or done.returncode}"


SAYING = threading.Lock()


def say(what):
    with SAYING:
        print(json.dumps(what), flush=True)


def attack():
    global WAIT
    batch = json.load(sys.stdin)
    WAIT = batch["wait"]
    with open("/proc/self/status", encoding="ascii") as status:
        say({"as": batch["as"], "capabilities": re.search(r"CapEff:\s*(\w+)", status.read()).group(1)})
    # Attempts that change the pod run alone, in order. All others run at once, because each waits for an answer that should not come.
    alone = [one for one in batch["attempts"] if "before" in one]
    others = [threading.Thread(target=carry_out, args=(one,)) for one in batch["attempts"] if "before" not in one]
    for at in range(0, len(others), 40):
        for thread in others[at : at + 40]:
            thread.start()
        for thread in others[at : at + 40]:
            thread.join()
    for one in alone:
        carry_out(one)


# ---- the witness

def watch(path, peers):
    out = open(path, "a", encoding="ascii", buffering=1)
    loop = selectors.DefaultSelector()

    def note(n, **facts):
        out.write(json.dumps({"n": int(n), **facts}) + "\n")

    def on_datagram(s):
        data, sender = s.recvfrom(10000)
        found = MARK.search(data)
        if found:
            note(found.group(1), how="heard", sender=plain(sender[0]))
        if s is not client:
            s.sendto(b"seen " + plain(sender[0]).encode(), sender)

    def on_connection(s):
        peer, sender = s.accept()
        threading.Thread(target=serve, args=(peer, plain(sender[0])), daemon=True).start()

    def serve(peer, sender):
        with peer:
            peer.settimeout(10)
            try:
                found = MARK.search(peer.recv(500))
                peer.sendall(b"seen " + sender.encode() + b"\n")
            except OSError:
                return
        if found:
            note(found.group(1), how="heard", sender=sender)

    def on_frame(s):
        data, (device, _, kind, _, _) = s.recvfrom(10000)
        n, facts = dissect(data)
        if n is not None:
            note(n, how="left" if kind == PACKET_OUTGOING else "frame", device=device, **facts)

    def on_neighbour(pipe):
        for line in os.read(pipe.fileno(), 65536).decode().splitlines():
            # Addresses that attackers invent have the number of the attempt in their last two bytes.
            found = re.search(r"lladdr 02:de:ad:00:(\w\w):(\w\w)", line)
            if found and not line.startswith("Deleted"):
                note(int("".join(found.groups()), 16), how="neighbour", entry=line)

    server, client = (dual(socket.SOCK_DGRAM, port) for port in (PORT, CLIENT_PORT))
    listener = dual(socket.SOCK_STREAM, PORT)
    listener.listen(100)
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    monitor = subprocess.Popen(["ip", "monitor", "neigh"], stdout=subprocess.PIPE)
    for source, handler in (
        (server, on_datagram),
        (client, on_datagram),
        (listener, on_connection),
        (tap, on_frame),
        (monitor.stdout, on_neighbour),
    ):
        loop.register(source, selectors.EVENT_READ, handler)
    note(0, how="up")
    due = 0
    while True:
        for key, _ in loop.select(0.2):
            try:
                key.data(key.fileobj)
            except OSError:
                pass  # an error from a forged packet does not matter to the witness
        if time.monotonic() > due:
            due = time.monotonic() + 0.5
            for peer in peers:
                try:
                    client.sendto(CHATTER, (peer if ":" in peer or client.family == socket.AF_INET else "::ffff:" + peer, PORT))
                except OSError:
                    pass


def dual(kind, port):
    """A socket for both families, when the namespace has both."""
    try:
        s = socket.socket(socket.AF_INET6, kind)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        where = "::"
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((where, port))
    except OSError:
        s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
    return s


def plain(address):
    return address.removeprefix("::ffff:")


def dissect(data):
    """Number of the attempt, if the packet belongs to one, with source and destination."""
    kind = struct.unpack("!H", data[12:14])[0] if len(data) > 13 else 0
    facts = {"mac": data[6:12].hex(":"), "type": f"{kind:04x}"}
    port, traffic_class = 0, 0
    if kind == 0x0800 and len(data) >= 38:
        facts |= {"src": socket.inet_ntoa(data[26:30]), "dst": socket.inet_ntoa(data[30:34])}
        at = 14 + (data[14] & 15) * 4
        traffic_class = data[15]
        if data[23] in (6, 17) and len(data) >= at + 2:
            port = struct.unpack("!H", data[at : at + 2])[0]
    elif kind == 0x86DD and len(data) >= 58:
        facts |= {"src": socket.inet_ntop(socket.AF_INET6, data[22:38]), "dst": socket.inet_ntop(socket.AF_INET6, data[38:54])}
        traffic_class = struct.unpack("!H", data[14:16])[0] >> 4 & 0xFF
        if data[20] in (6, 17):
            port = struct.unpack("!H", data[54:56])[0]
    elif kind == 0x0806 and len(data) >= 42:
        facts |= {"src": socket.inet_ntoa(data[28:32]), "dst": socket.inet_ntoa(data[38:42])}
    if is_error(data, kind):
        return None, facts
    found = MARK.search(data)
    if found:
        return int(found.group(1)), facts
    ours = 20000 <= port < 30000 and traffic_class == class_of(port)
    return (port - 20000, facts) if ours else (None, facts)


def is_error(data, kind):
    """An ICMP error quotes a packet: the error itself is no packet of an attempt."""
    if kind == 0x0800 and len(data) > 34 and data[23] == 1:
        return data[14 + (data[14] & 15) * 4] in (3, 11, 12)
    return kind == 0x86DD and len(data) > 54 and data[20] == 58 and data[54] < 128


def answer(places):
    threads = []
    for address, port in zip(places[::2], map(int, places[1::2])):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            s = socket.socket(family_of(address), kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            threads.append(threading.Thread(target=answer_on, args=(s, kind)))
    for thread in threads:
        thread.start()
    print("up", flush=True)


def answer_on(s, kind):
    if kind == socket.SOCK_STREAM:
        s.listen(20)
    while True:
        if kind == socket.SOCK_STREAM:
            peer, sender = s.accept()
            with peer:
                peer.sendall(b"seen " + sender[0].encode() + b"\n")
        else:
            _, sender = s.recvfrom(2000)
            s.sendto(b"seen " + sender[0].encode(), sender)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "attack":
        attack()
    elif what == "watch":
        watch(rest[0], rest[1:])
    else:
        answer(rest)
