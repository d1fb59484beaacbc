/*
 * A reference matcher: what knockd should do with each packet, straight from
 * the rules and by nothing but lists; knockd 0.8's rules, to compare with; and
 * a reference reader of packets. They share no line with knockd.c.
 *
 * A packet that another interface shows within 100 ms (a bridge and its port)
 * is one hit. A TCP packet with SYN and ACK answers an attempt to connect: it
 * knocks only where TCPFlags require ack, and as a stray it is like any other
 * packet with ACK. The rules, for each door by itself:
 *
 * 0. A door is there for a packet if the packet is to a local address (or to
 *    the door's Target), its source is in Allow and not in Deny, the door has a
 *    sequence and is not cooling down.
 * 1. The port is this door's, and TCP flags differ from TCPFlags: the door does
 *    not see the packet.
 * 2. Before any door looks: a TCP packet that began, advanced or renewed an
 *    attempt, or was ignored by rule 4, within 130 s: a retransmission, which is
 *    nothing. Not if it is made by hand: a SYN without TCP options, sequence
 *    number 0.
 * 3. The hit is what an attempt of this source waits for: the one furthest
 *    along, of equals the youngest, advances.
 * 4. It repeats the knock that an attempt accepted last: ignored. An attempt
 *    that has only the first knock is renewed.
 * 5. It is the door's first knock: a new attempt. Of more than four of a source
 *    the least advanced, of those the oldest, goes.
 * 6. The port is another one of this door: the source's attempts at this door
 *    are over. And when a packet advances an attempt, those at other doors that
 *    have accepted a packet which this one has too are over, unless the packet
 *    is the knock that they accepted last, or one that their door does not see.
 * 7. Otherwise it is a stray: more than Stray_Limit different ones end an
 *    attempt, unless the limit is 0. Packets with ACK and UDP are strays where
 *    the door can be knocked with them.
 * 8. First look the doors where the source has attempts. Those that are complete
 *    then open, the one begun earliest first, then in the order of the file. One
 *    that opens ends the source's other attempts at its door, and those at other
 *    doors that have accepted some of its packets, not all, and no others; also
 *    complete ones. Only if none has opened do attempts begin, at doors that
 *    have neither advanced nor ignored the packet; a door of one port opens.
 * 9. The sequence has its time from its first knock on.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { O_FIN = 1, O_SYN = 2, O_RST = 4, O_PSH = 8, O_ACK = 16, O_URG = 32 };
enum o_kind { O_STAGE, O_OPEN, O_TIMEOUT };
enum { O_PER_SOURCE = 4, O_KEEP = 130000, O_TWIN = 100 }; /* attempts, ms */

struct o_net {
    uint8_t addr[16];
    unsigned bits; /* of 128 */
};

struct o_knock {
    unsigned port;
    bool udp;
};

struct o_hit {
    int64_t time;             /* ms */
    uint8_t src[16], dst[16]; /* IPv4 as ::ffff:a.b.c.d */
    struct o_knock knock;
    unsigned flags;     /* of TCP */
    unsigned id;        /* the same for a true retransmission */
    unsigned interface; /* that shows it */
    bool local;         /* dst is an address of this host */
    bool by_hand;       /* made by hand: no TCP sends it again */
};

struct o_attempt {
    struct o_attempt *older;
    uint8_t src[16];
    unsigned door, stage, nstrays;
    int64_t begun;
    unsigned packet[32]; /* the packets accepted, all different */
    struct o_knock stray[64];
};

struct o_door {
    struct o_knock seq[32];
    unsigned n; /* 0: no sequence is left */
    unsigned want, forbid;
    struct o_net allow[4], deny[4], target[4];
    unsigned nallow, ndeny, ntarget;
    unsigned timeout, cooldown, limit; /* s, s, ports */
    bool one_time;
    int64_t deaf_until;
};

struct o_event {
    enum o_kind kind;
    unsigned door, stage;
    uint8_t src[16];
};

struct oracle {
    struct o_door *door;
    unsigned ndoors;
    struct o_attempt *youngest;
    struct o_hit seen[1024]; /* the hits that came last */
    unsigned nseen;
    struct o_hit used[4096]; /* the hits that did something */
    unsigned nused;
    unsigned packets;           /* up to now */
    struct o_event event[4096]; /* emptied by whoever reads them */
    unsigned nevents;
};

#define O_ROOM(array, n) \
    (n == sizeof(array) / sizeof(*(array)) ? abort() : (void)0)

static void o_tell(struct oracle *o, enum o_kind kind, unsigned door,
                   unsigned stage, const uint8_t *src) {
    struct o_event *e = &o->event[o->nevents];

    O_ROOM(o->event, o->nevents);
    o->nevents++;
    *e = (struct o_event){ kind, door, stage, { 0 } };
    memcpy(e->src, src, 16);
}

static void o_remove(struct oracle *o, struct o_attempt *a) {
    struct o_attempt **p = &o->youngest;

    while (*p != a) p = &(*p)->older;
    *p = a->older;
    free(a);
}

static void o_clear(struct oracle *o) {
    while (o->youngest) o_remove(o, o->youngest);
    o->nevents = o->nseen = o->nused = o->packets = 0;
}

static bool o_in(const struct o_net *nets, unsigned n, const uint8_t *addr) {
    unsigned bit;

    for (; n; n--, nets++) {
        for (bit = 0; bit < nets->bits; bit++)
            if ((nets->addr[bit / 8] ^ addr[bit / 8]) & 0x80 >> bit % 8)
                break;
        if (bit == nets->bits) return true;
    }
    return false;
}

static bool o_same(struct o_knock a, struct o_knock b) {
    return a.port == b.port && a.udp == b.udp;
}

static bool o_same_hit(const struct o_hit *a, const struct o_hit *b) {
    return a->id == b->id && o_same(a->knock, b->knock) &&
           !memcmp(a->src, b->src, 16);
}

static bool o_has(const struct o_door *d, struct o_knock knock) {
    for (unsigned k = 0; k < d->n; k++)
        if (o_same(d->seq[k], knock)) return true;
    return false;
}

/* Can TCP packets with these flags knock on the door? */
static bool o_fits(const struct o_door *d, unsigned flags) {
    if (flags & O_SYN && flags & O_ACK && !(d->want & O_ACK)) return false;
    return (flags & d->want) == d->want && !(flags & d->forbid);
}

/* Is it of the bulk that flows over established connections? */
static bool o_bulk(const struct o_hit *h) {
    return h->knock.udp || h->flags & O_ACK;
}

/* Could a bulk packet be a knock at this door? */
static bool o_takes_bulk(const struct o_door *d) {
    for (unsigned i = 0; i < d->n; i++)
        if (d->seq[i].udp) return true;
    for (unsigned flags = O_ACK; flags < 64; flags++)
        if (flags & O_ACK && o_fits(d, flags)) return true;
    return false;
}

/* Rules 0 and 1. */
static bool o_sees(const struct o_door *d, const struct o_hit *h) {
    if (!d->n || h->time < d->deaf_until) return false;
    if (d->ntarget && !o_in(d->target, d->ntarget, h->dst)) return false;
    if (!d->ntarget && !h->local) return false;
    if (d->nallow && !o_in(d->allow, d->nallow, h->src)) return false;
    if (o_in(d->deny, d->ndeny, h->src)) return false;
    return h->knock.udp || !o_has(d, h->knock) || o_fits(d, h->flags);
}

/* Is the port one of any door? */
static bool o_known(const struct oracle *o, struct o_knock knock) {
    for (unsigned i = 0; i < o->ndoors; i++)
        if (o_has(&o->door[i], knock)) return true;
    return false;
}

/* The next one of a source's attempts, from the youngest on, at a door or (door
 * is O_ANY) at all of them. */
enum { O_ANY = 1u << 30 };

static struct o_attempt *o_next(struct o_attempt *a, const struct o_hit *h,
                                unsigned door) {
    while (a && ((door != O_ANY && a->door != door) ||
                 memcmp(a->src, h->src, 16) != 0))
        a = a->older;
    return a;
}

#define O_EACH(a, o, h, door)                                         \
    for (struct o_attempt *a = o_next((o)->youngest, h, door), *a##_; \
         a && (a##_ = a->older, true); a = o_next(a##_, h, door))

static bool o_complete(const struct oracle *o, const struct o_attempt *a) {
    return a->stage == o->door[a->door].n;
}

/* Is the hit the knock that an attempt accepted last? */
static bool o_repeats(const struct oracle *o, const struct o_attempt *a,
                      const struct o_hit *h) {
    return o_same(o->door[a->door].seq[a->stage - 1], h->knock);
}

/* How many of a's packets has b accepted too? */
static unsigned o_common(const struct o_attempt *a,
                         const struct o_attempt *b) {
    unsigned n = 0;

    for (unsigned i = 0; i < a->stage; i++)
        for (unsigned k = 0; k < b->stage; k++)
            if (a->packet[i] == b->packet[k]) n++;
    return n;
}

static void o_open(struct oracle *o, unsigned door, const struct o_hit *h) {
    struct o_door *d = &o->door[door];

    o_tell(o, O_STAGE, door, d->n, h->src);
    o_tell(o, O_OPEN, door, d->n, h->src);
    d->deaf_until = h->time + (int64_t)d->cooldown * 1000;
    if (d->one_time) d->n = 0;
}

static void o_stray(struct oracle *o, unsigned door, const struct o_hit *h) {
    const struct o_door *d = &o->door[door];

    if (!d->limit || (o_bulk(h) && !o_takes_bulk(d))) return;
    O_EACH(a, o, h, door) {
        unsigned i = 0;

        while (i < a->nstrays && !o_same(a->stray[i], h->knock)) i++;
        a->stray[i] = h->knock;
        if (i == a->nstrays && ++a->nstrays > d->limit) o_remove(o, a);
    }
}

/* Rules 3 to 7 for a door where the source has attempts. Says whether the hit
 * was of use. */
static bool o_look(struct oracle *o, unsigned door, const struct o_hit *h) {
    const struct o_door *d = &o->door[door];
    struct o_attempt *furthest = NULL;
    bool repeated = false;

    O_EACH(a, o, h, door)
    if (o_same(d->seq[a->stage], h->knock) &&
        (!furthest || a->stage > furthest->stage))
        furthest = a;
    if (furthest) {
        furthest->packet[furthest->stage++] = o->packets;
        if (!o_complete(o, furthest))
            o_tell(o, O_STAGE, door, furthest->stage, h->src);
        return true;
    }
    O_EACH(a, o, h, door)
    if (o_repeats(o, a, h)) {
        repeated = true;
        if (a->stage > 1) continue;
        a->packet[0] = o->packets;
        a->begun = h->time;
        a->nstrays = 0;
    }
    if (repeated) return true;
    if (o_same(d->seq[0], h->knock)) return false; /* rule 5 comes later */
    if (!o_has(d, h->knock)) {
        o_stray(o, door, h);
        return false;
    }
    O_EACH(a, o, h, door)
    o_remove(o, a);
    return false;
}

static bool o_moved(const struct oracle *o, const struct o_attempt *a) {
    return a->stage > 1 && a->packet[a->stage - 1] == o->packets;
}

/* Rule 6, its second half: which attempts were wrong guesses. */
static void o_guesses(struct oracle *o, const struct o_hit *h) {
    O_EACH(b, o, h, O_ANY) {
        bool wrong = false;

        O_EACH(a, o, h, O_ANY)
        if (o_moved(o, a) && a->door != b->door && o_common(a, b))
            wrong = true;
        if (!wrong || o_moved(o, b) || o_repeats(o, b, h)) continue;
        if (o_sees(&o->door[b->door], h)) o_remove(o, b);
    }
}

/* The complete attempt whose turn it is to open. */
static struct o_attempt *o_first_complete(struct oracle *o,
                                          const struct o_hit *h) {
    struct o_attempt *best = NULL;

    O_EACH(a, o, h, O_ANY) {
        if (!o_complete(o, a)) continue;
        if (!best || a->packet[0] < best->packet[0] ||
            (a->packet[0] == best->packet[0] && a->door < best->door))
            best = a;
    }
    return best;
}

/* Rule 8: opens what is complete. Says whether any has opened. */
static bool o_open_complete(struct oracle *o, const struct o_hit *h) {
    struct o_attempt *c;
    bool any = false;

    while ((c = o_first_complete(o, h))) {
        any = true;
        o_open(o, c->door, h);
        O_EACH(a, o, h, O_ANY) {
            bool part = a->stage < c->stage && o_common(a, c) == a->stage;

            if (a != c && (a->door == c->door || part)) {
                o_remove(o, a);
            }
        }
        o_remove(o, c);
    }
    return any;
}

/* Rule 5 for a door whose first knock the hit is. */
static void o_begin(struct oracle *o, unsigned door, const struct o_hit *h) {
    struct o_attempt *weakest = NULL, *new;
    unsigned n = 0;

    if (o->door[door].n == 1) {
        o_open(o, door, h);
        return;
    }
    new = calloc(1, sizeof(*new));
    if (!new) abort();
    O_EACH(a, o, h, door) {
        n++;
        if (!weakest || a->stage <= weakest->stage) weakest = a;
    }
    if (n == O_PER_SOURCE) o_remove(o, weakest);
    new->door = door;
    new->stage = 1;
    new->begun = h->time;
    new->packet[0] = o->packets;
    memcpy(new->src, h->src, 16);
    new->older = o->youngest;
    o->youngest = new;
    o_tell(o, O_STAGE, door, 1, h->src);
}

/* Is the hit on another interface what it was on the first? */
static bool o_twin(struct oracle *o, const struct o_hit *h) {
    struct o_hit *old = NULL;

    for (unsigned i = 0; i < o->nseen; i++)
        if (o_same_hit(&o->seen[i], h)) old = &o->seen[i];
    if (old && old->interface != h->interface && h->time < old->time + O_TWIN)
        return true;
    if (!old) {
        O_ROOM(o->seen, o->nseen);
        old = &o->seen[o->nseen++];
    }
    *old = *h;
    return false;
}

static bool o_may_return(const struct o_hit *h) {
    return !h->knock.udp && !h->by_hand;
}

/* Rule 2. */
static bool o_returns(const struct oracle *o, const struct o_hit *h) {
    for (unsigned i = 0; i < o->nused; i++)
        if (o_may_return(h) && o_same_hit(&o->used[i], h) &&
            h->time <= o->used[i].time + O_KEEP)
            return true;
    return false;
}

/* Rule 9: what has no time left at a time is over. */
static void o_expire(struct oracle *o, int64_t now) {
    struct o_attempt *next;

    for (struct o_attempt *a = o->youngest; a; a = next) {
        next = a->older;
        if (now < a->begun + (int64_t)o->door[a->door].timeout * 1000)
            continue;
        o_tell(o, O_TIMEOUT, a->door, a->stage, a->src);
        o_remove(o, a);
    }
}

static void o_match(struct oracle *o, const struct o_hit *h) {
    bool known = o_known(o, h->knock), used = false, busy[1024] = { false };

    o_expire(o, h->time);
    if (known && (o_twin(o, h) || o_returns(o, h))) return;
    if (o->ndoors > sizeof(busy) / sizeof(*busy)) abort();
    o->packets++;
    for (unsigned i = 0; i < o->ndoors; i++)
        if (o_next(o->youngest, h, i) && o_sees(&o->door[i], h))
            busy[i] = o_look(o, i, h);
    o_guesses(o, h);
    bool opened = o_open_complete(o, h);
    for (unsigned i = 0; i < o->ndoors; i++) {
        const struct o_door *d = &o->door[i];

        used |= busy[i];
        if (opened || busy[i] || !o_sees(d, h)) continue;
        if (!o_same(d->seq[0], h->knock)) continue;
        o_begin(o, i, h);
        used = true;
    }
    if (!used || !o_may_return(h)) return;
    O_ROOM(o->used, o->nused);
    o->used[o->nused++] = *h;
}

/* A door with one-time sequences gets its next one; n = 0: there is none. */
static void o_new_sequence(struct oracle *o, unsigned door,
                           const struct o_knock *seq, unsigned n) {
    struct o_attempt *next;

    for (struct o_attempt *a = o->youngest; a; a = next) {
        next = a->older;
        if (a->door == door) o_remove(o, a);
    }
    memcpy(o->door[door].seq, seq, n * sizeof(*seq));
    o->door[door].n = n;
}

/* ---- knockd 0.8 ------------------------------------------------------------ */

/*
 * The rules of 0.8 for one source and doors without flags, but for its mistake
 * that one attempt's end is everybody's: what it opens, knockd has to open.
 */
struct o_old {
    const struct o_door *door;
    unsigned ndoors, n;
    struct {
        unsigned door, stage;
        int64_t begun;
    } attempt[64];
};

/* Bit i of what is returned: door i opens. */
static unsigned o_old_hit(struct o_old *o, int64_t time,
                          struct o_knock knock) {
    unsigned opened = 0, left = 0, before;
    bool known = false;

    for (unsigned i = 0; i < o->n; i++) /* timed out */
        if (time - o->attempt[i].begun <
            (int64_t)o->door[o->attempt[i].door].timeout * 1000)
            o->attempt[left++] = o->attempt[i];
    o->n = before = left;
    for (unsigned i = 0; i < o->ndoors; i++)
        known |= o_has(&o->door[i], knock);
    if (!known) return 0;
    left = 0;
    for (unsigned i = 0; i < before; i++) {
        const struct o_door *d = &o->door[o->attempt[i].door];

        if (!o_same(d->seq[o->attempt[i].stage], knock)) continue;
        if (++o->attempt[i].stage == d->n) opened |= 1u << o->attempt[i].door;
        else o->attempt[left++] = o->attempt[i];
    }
    for (unsigned i = 0; !before && i < o->ndoors; i++) {
        if (!o_same(o->door[i].seq[0], knock)) continue;
        if (o->door[i].n == 1) opened |= 1u << i;
        else {
            o->attempt[left].door = i;
            o->attempt[left].stage = 1;
            o->attempt[left++].begun = time;
        }
    }
    o->n = left;
    return opened;
}

/* ---- Packets ---------------------------------------------------------------- */

/*
 * What a packet says, read once more, from the RFCs: 791 (IPv4), 8200 (IPv6),
 * 9293 (TCP), 768 (UDP). False if anything in it is not as it must be.
 */
struct reading {
    uint8_t src[16], dst[16];
    unsigned proto, sport, dport, flags;
    bool may_return; /* sent by a real TCP */
};

static unsigned word(const uint8_t *b, size_t at) {
    return b[at] * 256u + b[at + 1];
}

/* A source that can be answered. */
static bool good_source(const uint8_t *a, bool v6) {
    static const uint8_t zero[16], before[12] = { [10] = 255, [11] = 255 };

    if (v6)
        return a[0] != 255 && memcmp(a, zero, 16) != 0 &&
               memcmp(a, before, 12) != 0;
    return a[12] != 0 && a[12] < 224;
}

/* The header at b[at], of a packet that ends at end, n bytes of it captured. */
static bool read_ports(const uint8_t *b, size_t at, size_t n, size_t end,
                       bool more, struct reading *r) {
    if (n > end) n = end;
    if (r->proto == 17) {
        if (at + 8 > n || word(b, at + 4) < 8) return false;
        if (!more && at + word(b, at + 4) > end) return false;
        r->flags = 0;
        r->may_return = false;
    } else if (r->proto == 6) {
        if (at + 20 > n || b[at + 12] / 16 < 5) return false;
        if (at + b[at + 12] / 16 * 4u > end) return false;
        r->flags = b[at + 13];
        r->may_return = (word(b, at + 4) || word(b, at + 6)) &&
                        (!(r->flags & 2) || b[at + 12] / 16 > 5);
    } else {
        return false;
    }
    r->sport = word(b, at);
    r->dport = word(b, at + 2);
    return true;
}

static bool read_v4(const uint8_t *b, size_t n, size_t wire,
                    struct reading *r) {
    size_t header, end;

    if (n < 20) return false;
    header = (b[0] % 16) * 4u;
    end = word(b, 2);
    if (header < 20 || end < header || end > wire || n < header) return false;
    if (word(b, 6) & 0x1fff) return false;
    memset(r->src, 0, 10);
    r->src[10] = r->src[11] = 255;
    memcpy(r->dst, r->src, 12);
    memcpy(r->src + 12, b + 12, 4);
    memcpy(r->dst + 12, b + 16, 4);
    r->proto = b[9];
    return good_source(r->src, false) &&
           read_ports(b, header, n, end, b[6] & 0x20, r);
}

static bool read_v6(const uint8_t *b, size_t n, size_t wire,
                    struct reading *r) {
    size_t at = 40, end;
    unsigned headers = 0;
    bool more = false;

    if (n < 40) return false;
    end = 40 + word(b, 4);
    if (end > wire) return false;
    memcpy(r->src, b + 8, 16);
    memcpy(r->dst, b + 24, 16);
    r->proto = b[6];
    while (r->proto != 6 && r->proto != 17) {
        size_t length;

        if (++headers > 8 || at + 8 > n || at + 8 > end) return false;
        length = (b[at + 1] + 1) * 8u;
        if (r->proto == 44) {
            if (word(b, at + 2) / 8) return false;
            more = b[at + 3] & 1;
            length = 8;
        } else if (r->proto == 51) {
            length = (b[at + 1] + 2) * 4u;
        } else if (r->proto == 43) {
            if (b[at + 3]) return false;
        } else if (r->proto != 0 && r->proto != 60 && r->proto != 135 &&
                   r->proto != 139 && r->proto != 140) {
            return false;
        }
        r->proto = b[at];
        at += length;
    }
    return good_source(r->src, true) && read_ports(b, at, n, end, more, r);
}

static bool read_packet(const uint8_t *b, size_t n, size_t wire,
                        struct reading *r) {
    if (!n || (b[0] / 16 != 4 && b[0] / 16 != 6)) return false;
    return b[0] / 16 == 4 ? read_v4(b, n, wire, r) : read_v6(b, n, wire, r);
}
