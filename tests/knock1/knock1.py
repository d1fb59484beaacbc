#!/usr/bin/env python3
"""knock1: one authenticated UDP packet of 56 bytes that looks like noise.
The reference (standard library only): makes packets, judges them, and writes
golden vectors, vectors.inc.

  H(k, m)  HMAC-SHA256
  K        32 random bytes that one client and one server share
  D        H(K, "knock1 door" | name of the door)         the door's key
  I        H(D, "knock1 id")                              of its packets' ids

  P        32 bytes: stamp 8 | address 16 | request 1 | zero 7
             stamp    the client's clock, ms since 1970, big-endian
             address  to open for (IPv4 as ::ffff:a.b.c.d), or zero: the source
             request  0 open, 1 close
  packet   56 bytes: id 8 | tag 16 | P xor mask 32
             id       H(I, stamp >> 20 as 8 bytes, big-endian), first 8
             tag      H(D, "knock1 tag" | id | P), first 16
             mask     H(D, "knock1 mask" | tag)
"""
import hashlib, hmac, ipaddress, struct, sys

SKEW = 600_000          # ms: how wrong a client's clock may be
OPEN, CLOSE = 0, 1
LOOK = 90               # periods each way (26 h) whose ids are known

def H(key, *parts):
    return hmac.new(key, b''.join(parts), hashlib.sha256).digest()

def xor(a, b): return bytes(x ^ y for x, y in zip(a, b))
def be64(n): return struct.pack('>Q', n)

def ip16(text):
    a = ipaddress.ip_address(text)
    return a.packed if a.version == 6 else b'\0' * 10 + b'\xff\xff' + a.packed

def ip_text(b):
    v4 = b[:12] == b'\0' * 10 + b'\xff\xff'
    return str(ipaddress.ip_address(b[12:] if v4 else b))

def door_key(key, name): return H(key, b'knock1 door', name.encode())
def ident(d, period): return H(H(d, b'knock1 id'), be64(period))[:8]

def seal(d, pid, p):
    tag = H(d, b'knock1 tag', pid, p)[:16]
    return pid + tag + xor(p, H(d, b'knock1 mask', tag))

def make(key, door, stamp, address=None, request=OPEN, zero=bytes(7)):
    d = door_key(key, door)
    p = be64(stamp) + (ip16(address) if address else bytes(16)) + \
        bytes([request]) + zero
    return seal(d, ident(d, stamp >> 20), p)

def usable(b, given):
    """May an address be opened?  A given one is not this host or this link."""
    v4 = b[:12] == b'\0' * 10 + b'\xff\xff'
    if v4: return 0 < b[12] < 224 and not (given and b[12] in (127,)) and \
                  not (given and b[12:14] == b'\xa9\xfe')
    if given and (b[:12] == bytes(12) or b[0] == 0xfe and b[1] & 0xc0 == 0x80):
        return False                        # ::/96 (::1, too), fe80::/10
    return b[0] != 0xff and b != bytes(16)

class Server:
    """What a server keeps: when it started and, for each key at each door, D, the
    floor (the last stamp accepted) and the last 8 stamps refused as future."""
    def __init__(self, doors, now):         # doors: [(key, name)]
        self.doors = [[door_key(k, n), n, 0, []] for k, n in doors]
        self.started = now                  # by a clock that never steps

    def judge(self, packet, source, now, elapsed=None):
        """-> 'open ADDR', 'close ADDR', or why not.  now: the wall clock, ms;
        elapsed: ms, by a clock that never steps, since the latest of: the
        start, the reading of this key, a step of the wall clock, a resume."""
        if elapsed is None: elapsed = now - self.started
        if len(packet) != 56: return 'no: length'
        for door in self.doors:
            d = door[0]
            if packet[:8] not in self.ids(d, now >> 20): continue
            tag = packet[8:24]
            p = xor(packet[24:], H(d, b'knock1 mask', tag))
            if not hmac.compare_digest(tag, H(d, b'knock1 tag', packet[:8],
                                              p)[:16]): continue
            stamp = int.from_bytes(p[:8], 'big')
            if p[24] > 1 or any(p[25:]): return 'no: request'
            if stamp > now + SKEW:          # burnt too: never good later
                burn(door[3], stamp)
                return 'no: future'
            if any(lo <= stamp <= hi for lo, hi in door[3]): return 'no: replay'
            if stamp < now - SKEW: return 'no: past'
            if stamp <= door[2]: return 'no: replay'
            if stamp <= now - elapsed: return 'no: before the start'
            door[2] = stamp                 # burnt, whatever comes now
            given = any(p[8:24])
            address = p[8:24] if given else ip16(source)
            if not usable(address, given): return 'no: address'
            return ('close ' if p[24] else 'open ') + ip_text(address)
        return 'no: unknown'

    cache = {}
    def ids(self, d, period):
        if (d, period) not in self.cache:
            self.cache[d, period] = {ident(d, (period + i) % 2**64) for i in range(-LOOK, LOOK + 1)}
        return self.cache[d, period]

def burn(ranges, stamp):                    # at most 8; a ninth joins the closest two
    if any(lo <= stamp <= hi for lo, hi in ranges): return
    ranges.append((stamp, stamp)); ranges.sort()
    if len(ranges) > 8:
        i = min(range(8), key=lambda i: ranges[i + 1][0] - ranges[i][1])
        ranges[i:i + 2] = [(ranges[i][0], ranges[i + 1][1])]

# ---- golden vectors --------------------------------------------------------

def vectors():
    k = bytes(range(32))
    k2 = hashlib.sha256(b'another server').digest()
    t = 1764244800000                       # 2025-11-27 12:00 UTC
    edge = ((t >> 20) + 1) << 20            # a period begins
    good = make(k, 'ssh', t)
    out = {'format': 'knock1', 'K': k.hex(), 'door': 'ssh',
           'D': door_key(k, 'ssh').hex(),
           'I': H(door_key(k, 'ssh'), b'knock1 id').hex(),
           'skew_ms': SKEW, 'packets': [], 'judged': []}
    def pk(name, **a):
        b = make(k, a.get('door', 'ssh'), a['stamp'], a.get('address'),
                 a.get('request', 0))
        out['packets'].append(dict(name=name, door=a.get('door', 'ssh'),
            stamp=a['stamp'], address=a.get('address', ''),
            request=a.get('request', 0), packet=b.hex()))
        return b
    pk('plain', stamp=t)
    pk('for an IPv4 address', stamp=t, address='192.0.2.7')
    pk('for an IPv6 address', stamp=t, address='2001:db8::7')
    pk('close', stamp=t, request=1)
    pk('last ms of a period', stamp=edge - 1)
    pk('first ms of a period', stamp=edge)
    pk('another door', stamp=t, door='web')
    pk('door with a blank and UTF-8', stamp=t, door='my dör')
    pk('stamp of 2106', stamp=1 << 42)
    # Each case: a server that started at `start`, then packets in turn.
    def case(name, steps, doors=((k, 'ssh'),), start=t - 10 * SKEW):
        s = Server(doors, start)
        rows = []
        for st in steps:
            b, now, src = st[0], st[1], st[2] if len(st) > 2 else '198.51.100.1'
            el = st[3] if len(st) > 3 else now - start
            rows.append(dict(packet=b.hex(), now=now, elapsed=el, source=src,
                             verdict=s.judge(b, src, now, el)))
        out['judged'].append(dict(name=name, doors=[dict(K=x.hex(), name=n)
                                  for x, n in doors], steps=rows))
    case('good', [(good, t)])
    case('good from an IPv6 source', [(good, t, '2001:db8::99')])
    case('the same again', [(good, t), (good, t + 1), (good, t + 5000, '192.0.2.66')])
    case('one ms later', [(good, t), (make(k, 'ssh', t + 1), t + 2)])
    case('out of order', [(make(k, 'ssh', t + 1), t + 2), (good, t + 3)])
    case('address given', [(make(k, 'ssh', t, '192.0.2.7'), t)])
    case('IPv6 address given, IPv4 source', [(make(k, 'ssh', t, '2001:db8::7'), t)])
    case('close', [(make(k, 'ssh', t, request=1), t)])
    case('request 2', [(make(k, 'ssh', t, request=2), t)])
    case('reserved byte set', [(make(k, 'ssh', t, zero=b'\0\0\0\0\0\0\1'), t)])
    for a in ('127.0.0.1', '169.254.1.1', '::1', 'fe80::1', '::1.2.3.4', '0.0.0.0', '224.0.0.1', '255.255.255.255', 'ff02::1'):
        case('address %s given' % a, [(make(k, 'ssh', t, a), t)])
    case('wrong door name', [(make(k, 'Ssh', t), t)])
    case('another server (its own key)', [(good, t)], doors=((k2, 'ssh'),))
    case('second door of the same key', [(make(k, 'web', t), t)],
         doors=((k, 'ssh'), (k, 'web')))
    case('second key of the same door', [(make(k, 'ssh', t), t)],
         doors=((k2, 'ssh'), (k, 'ssh')))
    case('a replay at the other door is none', [(make(k, 'ssh', t), t),
         (make(k, 'web', t), t)], doors=((k, 'ssh'), (k, 'web')))
    for d in (-SKEW - 1, -SKEW, -1, 0, 1, SKEW, SKEW + 1):
        case('clock off by %d ms' % d, [(make(k, 'ssh', t + d), t)])
    case('a day old', [(make(k, 'ssh', t - 86400000), t)])
    case('stamp 0', [(make(k, 'ssh', 0), t)])
    case('stamp 2^64-1', [(make(k, 'ssh', 2**64 - 1), t)])
    case('future, then later by somebody else', [(make(k, 'ssh', t + SKEW + 2000), t),
         (make(k, 'ssh', t + SKEW + 2000), t + 3000, '192.0.2.66'),
         (make(k, 'ssh', t + 3001), t + 3002)])
    case('burnt by a refused address', [(make(k, 'ssh', t, 'ff02::1'), t),
         (good, t + 1), (make(k, 'ssh', t + 2), t + 2)])
    case('a source that can not be answered', [(good, t, '0.0.0.0'), (good, t + 1)])
    case('slower than the last one, after the start', [(make(k, 'ssh', t), t),
         (make(k, 'ssh', t - 1), t + 1)])
    case('a client that is behind, with a floor on record', [(make(k, 'ssh', t - 5000),
         t, '198.51.100.1', 6000), (make(k, 'ssh', t - 4000), t + 1000,
         '198.51.100.1', 1)])
    case('an hour ahead, then later by somebody else', [(make(k, 'ssh', t + 3600000), t),
         (make(k, 'ssh', t + 60000), t + 60000),
         (make(k, 'ssh', t + 3600000), t + 3600000, '192.0.2.66')])
    case('nine future stamps, the middle one later', [(make(k, 'ssh', t + 700000 + i * 1000), t)
         for i in range(9)] + [(make(k, 'ssh', t + 704000), t + 704000, '192.0.2.66')])
    case('27 hours ahead: the id is not known', [(make(k, 'ssh', t + 97200000), t)])
    case('the clock was stepped since: elapsed is counted from there',
         [(make(k, 'ssh', t), t), (make(k, 'ssh', t + 500), t + 1000, '198.51.100.1', 200),
          (make(k, 'ssh', t + 900), t + 1000, '198.51.100.1', 200)])
    case('same stamp, other request', [(good, t), (make(k, 'ssh', t, request=1), t + 1)])
    case('stamp 2^63', [(make(k, 'ssh', 1 << 63), t)])
    case('a clock near 1970', [(make(k, 'ssh', 1000), 1001, '198.51.100.1', 900),
         (make(k, 'ssh', 50), 1002, '198.51.100.1', 901)], start=0)
    case('door with a colon', [(make(k, 'a:b', t), t)], doors=((k, 'a:b'),))
    case('door of 127 bytes', [(make(k, 'x' * 127, t), t)], doors=((k, 'x' * 127),))
    case('from before the start', [(make(k, 'ssh', t - 2), t)], start=t - 1)
    case('of the ms of the start', [(make(k, 'ssh', t - 1), t)], start=t - 1)
    case('of the ms after it', [(make(k, 'ssh', t), t)], start=t - 1)
    case('clock stepped on since the start (no RTC)',
         [(make(k, 'ssh', t - 2000), t, '198.51.100.1', 1000),
          (make(k, 'ssh', t - 500), t, '198.51.100.1', 1000)], start=0)
    case('at the edge of a period', [(make(k, 'ssh', edge - 1), edge),
         (make(k, 'ssh', edge), edge + 1), (make(k, 'ssh', edge + 2), edge - 1)])
    d = door_key(k, 'ssh')
    p = be64(t) + bytes(24)
    other = ident(d, (t >> 20) + 1)
    case("id exchanged for another period's", [(other + good[8:], t)])
    case('sealed with the id of the next period', [(seal(d, other, p), t)])
    for n in (0, 8, 55, 57, 64):
        case('%d bytes' % n, [((good + bytes(64))[:n], t)])
    case('zeros', [(bytes(56), t)])
    case('ones', [(b'\xff' * 56, t)])
    s = [good[:i // 8] + bytes([good[i // 8] ^ 1 << i % 8]) + good[i // 8 + 1:]
         for i in range(448)]
    case('each of 448 bits flipped, then the good one', [(x, t) for x in s] + [(good, t)])
    return out

if __name__ == '__main__':
    if len(sys.argv) > 1 and sys.argv[1] == 'make':     # KEYHEX DOOR STAMP [ADDR [REQ]]
        print(make(bytes.fromhex(sys.argv[2]), sys.argv[3], int(sys.argv[4]),
                   sys.argv[5] if len(sys.argv) > 5 and sys.argv[5] else None,
                   int(sys.argv[6]) if len(sys.argv) > 6 else 0).hex())
    else:
        v = vectors()
        with open('vectors.inc', 'w') as f:     # lines of tests/unit_sealed.c
            def line(*words):
                f.write('"%s",\n' % '\\t'.join(str(w) for w in words))
            for x in v['packets']:
                line('packet', v['K'], x['door'], x['stamp'],
                     x['address'] or '-', x['request'], x['packet'])
            for c in v['judged']:
                line('case', c['name'])
                for d in c['doors']: line('door', d['K'], d['name'])
                for st in c['steps']:
                    line('step', st['packet'] or '-', st['now'], st['elapsed'],
                         st['source'], st['verdict'])
        n = sum(len(c['steps']) for c in v['judged'])
        print(len(v['packets']), 'packets,', len(v['judged']), 'cases,', n, 'steps')
        for c in v['judged']:
            w = [s['verdict'] for s in c['steps']]
            print('  %-45s %s' % (c['name'], '; '.join(w) if len(w) < 5 else
                  '%d x %s, %s' % (len(w) - 1, set(w[:-1]), w[-1])))
