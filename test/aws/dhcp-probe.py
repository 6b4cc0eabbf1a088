"""Stands in for a VM on a tap: one DHCPDISCOVER from the given MAC, the offer printed as JSON."""
import fcntl, json, os, select, struct, sys

tap, mac = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
fd = os.open("/dev/net/tun", os.O_RDWR)
IFF_TAP, IFF_NO_PI, TUNSETIFF = 0x0002, 0x1000, 0x400454CA
fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


bootp = struct.pack("!4BIHH16s16s64s128s", 1, 1, 6, 0, 0x1234, 0, 0, b"", mac, b"", b"")
bootp += bytes.fromhex("63825363 350101 3705 01 03 06 1a 0c ff".replace(" ", ""))
udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
discover = b"\xff" * 6 + mac + b"\x08\x00" + ip + udp

# The bridge takes up to a second to notice that the tap has a carrier, so the probe asks again, as every client does.
for _ in range(50):
    os.write(fd, discover)
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    frame = os.read(fd, 65535)
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != b"\x00\x44":
        continue
    reply = frame[42:]
    options, at = {}, 240
    while reply[at] != 255:
        options[reply[at]] = reply[at + 2 : at + 2 + reply[at + 1]]
        at += 2 + reply[at + 1]
    dotted = lambda raw: ".".join(map(str, raw[:4]))
    offer = {"address": dotted(reply[16:20]), "router": dotted(options[3]), "dns": dotted(options[6])}
    print(json.dumps({**offer, "mask": dotted(options[1]), "mtu": int.from_bytes(options[26], "big")}))
    break
