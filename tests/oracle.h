/*
 * A reference matcher: what knockd should do with each packet, straight from
 * the rules and by nothing but lists; and a reference reader of packets. They
 * share no line with knockd.c.
 *
 * A packet that another interface shows within 100 ms (a bridge and its port)
 * is one hit. The rules, for each door by itself:
 *
 * 0. A door is there for a packet if the packet is to a local address (or to
 *    the door's Target), its source is in Allow, the door has a sequence and
 *    is not cooling down.
 * 1. TCP flags differ from TCPFlags: the door does not see the hit.
 * 2. The hit is what an attempt of this source waits for: the one furthest
 *    along, of equals the youngest, advances. The last knock opens the door.
 * 3. It repeats the knock that an attempt accepted last: ignored. So is, and
 *    this is looked at before rule 2, the very same TCP packet as any knock
 *    that an attempt accepted.
 * 4. It is the door's first knock: a new attempt. Of more than four of a source
 *    the least advanced, of those the oldest, goes.
 * 5. The port is of any door: the source's attempts at this door are over.
 * 6. Otherwise it is a stray: more than Stray_Limit different ones end an
 *    attempt, unless the limit is 0. Every TCP packet but one with ACK and
 *    without SYN is one; these and UDP are where the door can be knocked with
 *    them.
 * 7. The sequence has its time from its first knock on.
 *
 * A door of one port has no attempts: it opens at each hit, but not for a TCP
 * packet that is sent again within 25 s.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { O_FIN = 1, O_SYN = 2, O_RST = 4, O_PSH = 8, O_ACK = 16, O_URG = 32 };
enum o_kind { O_STAGE, O_OPEN, O_TIMEOUT };

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
};

struct o_attempt {
    struct o_attempt *older;
    uint8_t src[16];
    unsigned door, stage, nstrays;
    int64_t deadline;
    unsigned id[32];
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
    struct o_event event[4096]; /* emptied by whoever reads them */
    unsigned nevents;
};

static void o_tell(struct oracle *o, enum o_kind kind, unsigned door,
                   unsigned stage, const uint8_t *src) {
    struct o_event *e = &o->event[o->nevents++];

    if (o->nevents == sizeof(o->event) / sizeof(*o->event)) abort();
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
    o->nevents = o->nseen = 0;
}

static bool o_in(const struct o_net *nets, unsigned n, const uint8_t *addr) {
    unsigned bit;

    for (; n; n--, nets++) {
        for (bit = 0; bit < nets->bits; bit++)
            if ((nets->addr[bit / 8] ^ addr[bit / 8]) & 0x80 >> bit % 8) break;
        if (bit == nets->bits) return true;
    }
    return false;
}

static bool o_same(struct o_knock a, struct o_knock b) {
    return a.port == b.port && a.udp == b.udp;
}

static bool o_fits(const struct o_door *d, unsigned flags) {
    return (flags & d->want) == d->want && !(flags & d->forbid);
}

/* Is it of the bulk that flows over established connections? */
static bool o_bulk(const struct o_hit *h) {
    return h->knock.udp || (h->flags & (O_ACK | O_SYN)) == O_ACK;
}

/* Could a bulk packet be a knock at this door? */
static bool o_takes_bulk(const struct o_door *d) {
    bool ack = !(d->want & O_SYN) && !(d->forbid & O_ACK);

    for (unsigned i = 0; i < d->n; i++)
        if (d->seq[i].udp || ack) return true;
    return false;
}

static bool o_there(const struct o_door *d, const struct o_hit *h) {
    return d->n && h->time >= d->deaf_until &&
           (d->ntarget ? o_in(d->target, d->ntarget, h->dst) : h->local) &&
           (!d->nallow || o_in(d->allow, d->nallow, h->src)) &&
           !o_in(d->deny, d->ndeny, h->src);
}

/* Is the port one of any door? */
static bool o_known(const struct oracle *o, struct o_knock knock) {
    for (unsigned i = 0; i < o->ndoors; i++)
        for (unsigned k = 0; k < o->door[i].n; k++)
            if (o_same(o->door[i].seq[k], knock)) return true;
    return false;
}

/* The next one of a source's attempts at a door, from the youngest on. */
static struct o_attempt *o_next(struct o_attempt *a, const struct o_hit *h,
                                unsigned door) {
    while (a && (a->door != door || memcmp(a->src, h->src, 16))) a = a->older;
    return a;
}

#define O_EACH(a, o, h, door)                                         \
    for (struct o_attempt *a = o_next((o)->youngest, h, door), *a##_; \
         a && (a##_ = a->older, true); a = o_next(a##_, h, door))

static void o_reached(struct oracle *o, unsigned door, unsigned stage,
                      const struct o_hit *h) {
    struct o_door *d = &o->door[door];

    o_tell(o, O_STAGE, door, stage, h->src);
    if (stage < d->n) return;
    o_tell(o, O_OPEN, door, stage, h->src);
    d->deaf_until = h->time + (int64_t)d->cooldown * 1000;
    if (d->one_time) d->n = 0;
}

static void o_begin(struct oracle *o, unsigned door, const struct o_hit *h) {
    struct o_attempt *weakest = NULL, *new = calloc(1, sizeof(*new));
    const struct o_door *d = &o->door[door];
    unsigned n = 0;

    if (!new) abort();
    O_EACH(a, o, h, door) {
        n++;
        if (!weakest || a->stage <= weakest->stage) weakest = a;
    }
    if (n == 4) o_remove(o, weakest);
    new->door = door;
    new->stage = 1;
    new->deadline = h->time + (int64_t)d->timeout * 1000;
    new->id[0] = h->id;
    memcpy(new->src, h->src, 16);
    new->older = o->youngest;
    o->youngest = new;
    o_reached(o, door, 1, h);
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

/* Is the hit on another interface what it was on the first? If not, again says
 * whether it has come before, by TCP and lately. */
static bool o_twin(struct oracle *o, const struct o_hit *h, bool *again) {
    struct o_hit *old = NULL;

    for (unsigned i = 0; i < o->nseen; i++)
        if (o->seen[i].id == h->id && o_same(o->seen[i].knock, h->knock) &&
            !memcmp(o->seen[i].src, h->src, 16))
            old = &o->seen[i];
    if (old && old->interface != h->interface && h->time < old->time + 100)
        return true;
    *again = old && !h->knock.udp && h->time < old->time + 25000;
    if (!old && o->nseen == sizeof(o->seen) / sizeof(*o->seen)) abort();
    if (!old) old = &o->seen[o->nseen++];
    *old = *h;
    return false;
}

/* Rules 2 to 5, of a hit that the door sees. */
static void o_door_hit(struct oracle *o, unsigned door, const struct o_hit *h,
                       bool again) {
    struct o_door *d = &o->door[door];
    struct o_attempt *furthest = NULL;
    bool repeated = false;

    if (d->n == 1) {
        if (o_same(d->seq[0], h->knock) && !again) o_reached(o, door, 1, h);
        return;
    }
    O_EACH(a, o, h, door)
    for (unsigned i = 0; i < a->stage; i++)
        if (a->id[i] == h->id && !h->knock.udp && o_same(d->seq[i], h->knock))
            return;
    O_EACH(a, o, h, door)
    if (o_same(d->seq[a->stage], h->knock) &&
        (!furthest || a->stage > furthest->stage))
        furthest = a;
    if (furthest) {
        unsigned stage = ++furthest->stage;

        furthest->id[stage - 1] = h->id;
        if (stage == d->n) o_remove(o, furthest);
        o_reached(o, door, stage, h);
        return;
    }
    O_EACH(a, o, h, door)
    if (a->stage == 1 && o_same(d->seq[0], h->knock)) {
        a->deadline = h->time + (int64_t)d->timeout * 1000;
        a->nstrays = 0;
        a->id[0] = h->id;
        return;
    }
    O_EACH(a, o, h, door)
    if (o_same(d->seq[a->stage - 1], h->knock)) repeated = true;
    if (repeated) return;
    if (o_same(d->seq[0], h->knock)) {
        o_begin(o, door, h);
        return;
    }
    O_EACH(a, o, h, door)
    o_remove(o, a);
}

/* Rule 7: what has no time left at a time is over. */
static void o_expire(struct oracle *o, int64_t now) {
    struct o_attempt *next;

    for (struct o_attempt *a = o->youngest; a; a = next) {
        next = a->older;
        if (a->deadline > now) continue;
        o_tell(o, O_TIMEOUT, a->door, a->stage, a->src);
        o_remove(o, a);
    }
}

static void o_match(struct oracle *o, const struct o_hit *h) {
    bool known = o_known(o, h->knock), again = false;

    o_expire(o, h->time);
    if (known && o_twin(o, h, &again)) return;
    for (unsigned i = 0; i < o->ndoors; i++) {
        struct o_door *d = &o->door[i];

        if (!o_there(d, h)) continue;
        if (!known) o_stray(o, i, h);
        else if (h->knock.udp || o_fits(d, h->flags))
            o_door_hit(o, i, h, again);
    }
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

/* ---- Packets ---------------------------------------------------------------- */

/*
 * What a packet says, read once more, from the RFCs: 791 (IPv4), 8200 (IPv6),
 * 9293 (TCP), 768 (UDP). False if anything in it is not as it must be.
 */
struct reading {
    uint8_t src[16], dst[16];
    unsigned proto, sport, dport, flags;
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
    } else if (r->proto == 6) {
        if (at + 20 > n || b[at + 12] / 16 < 5) return false;
        if (at + b[at + 12] / 16 * 4u > end) return false;
        r->flags = b[at + 13];
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
