#!/usr/bin/env python3
"""A sealed knock without knock, with Python's own library. The format: docs/knock1.md.

    knock1.py [--close] [--for ADDRESS] HOST PORT KEYFILE

KEYFILE: one line DOOR:KEY, the key as 64 hex digits, readable by its owner alone.
--for: the address to open for; without it, the one that the knock comes from.
"""
import argparse
import hashlib
import hmac
import ipaddress
import os
import socket
import sys
import time


def seal(key, door, stamp, address=bytes(16), close=False):
    """The 56 bytes of a knock. stamp: ms since 1970; address: 16 bytes."""
    def mac(by, *parts):
        return hmac.new(by, b''.join(parts), hashlib.sha256).digest()

    sealer = mac(key, b'knock1 door', door.encode())
    ident = mac(mac(sealer, b'knock1 id'), (stamp >> 20).to_bytes(8, 'big'))[:8]
    plain = stamp.to_bytes(8, 'big') + address + bytes([close]) + bytes(7)
    tag = mac(sealer, b'knock1 tag', ident, plain)[:16]
    mask = mac(sealer, b'knock1 mask', tag)
    return ident + tag + bytes(a ^ b for a, b in zip(plain, mask))


def packed(text):
    """An address as 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return bytes(10) + b'\xff\xff' + address.packed
    return address.packed


def read_key(path):
    """Door and key of a file that only its owner may read."""
    with open(path, encoding='utf-8') as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            sys.exit(f'{path}: others can read the key: chmod 600 {path}')
        door, _, digits = file.readline().strip().rpartition(':')
    if not door or len(digits) != 64:
        sys.exit(f'{path}: not DOOR:KEY with a key of 64 hex digits')
    try:
        return door, bytes.fromhex(digits)
    except ValueError:
        sys.exit(f'{path}: the key has a character that is no hex digit')


def main():
    words = argparse.ArgumentParser(description='Sends a sealed knock.')
    words.add_argument('--close', action='store_true')
    words.add_argument('--for', dest='address', metavar='ADDRESS')
    words.add_argument('host')
    words.add_argument('port', type=int)
    words.add_argument('keyfile')
    given = words.parse_args()
    door, key = read_key(given.keyfile)
    address = packed(given.address) if given.address else bytes(16)
    knock = seal(key, door, time.time_ns() // 1_000_000, address, given.close)
    family, kind, _, _, where = socket.getaddrinfo(
        given.host, given.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as out:
        for _ in range(3):          # a datagram can be lost; a copy does no harm
            out.sendto(knock, where)
            time.sleep(0.05)


if __name__ == '__main__':
    main()
