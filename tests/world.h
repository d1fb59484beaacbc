/*
 * A small random world for knockd's matcher and the oracle: a few doors that
 * share ports and beginnings, a few sources, and packets that often are the
 * next knock. Both get the same packets and must say the same.
 *
 * All choices come from draw(n), a number below n: chance or a fuzzer's bytes.
 */
#include "oracle.h"

enum { DOORS = 6, SOURCES = 5, STRAYS = 12, RECENT = 8 };

static unsigned (*draw)(unsigned n) = rnd;

static struct world {
    struct conf conf;
    struct door door[DOORS];
    struct net net[DOORS][3][2];
    struct o_door plain[DOORS]; /* the same for the oracle */
    struct sniffer *sniffer;
    struct addr source[SOURCES], target[4];
    struct o_knock stray[STRAYS];
    unsigned from, towards;        /* who knocks where */
    unsigned step[SOURCES][DOORS]; /* that would come next */
    struct o_hit recent[RECENT];   /* to be sent again */
    uint32_t seq[RECENT];
    unsigned sport[RECENT], nrecent;
    bool passed[RECENT]; /* the filter: only then a twin is known as one */
    unsigned sent;
    int64_t time;         /* ms */
    bool packets;         /* hits go as packets through the filter */
    uint32_t door_asked;  /* awaits its next sequence */
    char why[512];        /* the two disagree */
    struct oracle oracle; /* is cleared by itself */
} world;

static bool draw_one_in(unsigned n) { return draw(n) == 0; }

/* Any of them may belong to no door in a world, and is a stray there. */
enum { PORTS_ = 7 };
static const unsigned ports[PORTS_] = {
    7000, 7001, 8000, 9000, 53, 65535, 1
};

static struct o_knock draw_port(void) {
    return (struct o_knock){ ports[draw(PORTS_)], draw_one_in(5) };
}

static void draw_sequence(struct o_knock *seq, unsigned *n, unsigned least) {
    *n = least + draw(4);
    for (unsigned i = 0; i < *n; i++)
        seq[i] = i && draw_one_in(5) ? seq[i - 1] : draw_port();
}

static void give_sequence(struct sequence *to, const struct o_knock *seq,
                          unsigned n) {
    to->n = n;
    for (unsigned i = 0; i < n; i++)
        to->knock[i] = knock_on(seq[i].port, seq[i].udp);
}

/* Up to two networks, for both. */
static unsigned draw_nets(struct nets *to, struct net *room,
                          struct o_net *plain, const struct addr *from,
                          unsigned nfrom) {
    unsigned n = 1 + draw(2);

    for (unsigned i = 0; i < n; i++) {
        room[i].addr = from[draw(nfrom)];
        room[i].bits = 128 - draw(33);
        plain[i].bits = room[i].bits;
        memcpy(plain[i].addr, &room[i].addr, 16);
    }
    to->net = room;
    to->n = n;
    return n;
}

/* The knocks of another door in another order, or its last ones. */
static void draw_order(struct o_door *o, const struct o_door *other) {
    unsigned n = other->n, turn = draw(n), from = draw_one_in(3) ? turn : 0;
    bool back = draw_one_in(2);

    if (!n) return;
    o->n = n - from;
    for (unsigned k = 0; k < o->n; k++) {
        unsigned at = from ? from + k : (turn + k) % n;

        o->seq[k] = other->seq[back ? n - 1 - at : at];
    }
}

static void draw_door(unsigned i) {
    static const unsigned flags[][2] = {
        { 0, 0 },     { O_SYN, 0 },     { O_SYN, O_ACK },
        { O_ACK, 0 }, { O_FIN, O_ACK }, { O_SYN | O_ACK, 0 },
        { 0, O_ACK }, { 0, O_RST }
    };
    struct door *d = &world.door[i];
    struct o_door *o = &world.plain[i];
    unsigned f = draw_one_in(2) ? 1 : draw(8), shared = draw(4);

    *o = (struct o_door){ .want = flags[f][0],
                          .forbid = flags[f][1],
                          .timeout = 1 + draw(4),
                          .limit = draw_one_in(3) ? 8 : draw(4),
                          .cooldown = draw_one_in(5) ? 1 + draw(3) : 0,
                          .one_time = draw_one_in(8) };
    draw_sequence(o->seq, &o->n, draw_one_in(4) ? 1 : 2);
    if (i && draw_one_in(2)) /* begins as another one does */
        memcpy(o->seq, world.plain[draw(i)].seq, shared * sizeof(*o->seq));
    for (unsigned k = 0; k < o->n; k++)
        if (!o->seq[k].port) o->seq[k] = draw_port();
    if (i && draw_one_in(2)) draw_order(o, &world.plain[draw(i)]);
    *d = (struct door){ .name = "door",
                        .tcp = { o->want, o->forbid },
                        .seq_timeout = o->timeout,
                        .stray_limit = o->limit,
                        .cooldown = o->cooldown,
                        .one_time = o->one_time ? "-" : NULL };
    give_sequence(&d->seq, o->seq, o->n);
    if (draw_one_in(6))
        o->nallow = draw_nets(&d->allow, world.net[i][0], o->allow,
                              world.source, SOURCES);
    if (draw_one_in(6))
        o->ndeny = draw_nets(&d->deny, world.net[i][2], o->deny, world.source,
                             SOURCES);
    if (draw_one_in(6))
        o->ntarget = draw_nets(&d->target, world.net[i][1], o->target,
                               world.target, 4);
}

/* Ports that no door ever has, all strays with a bit of their own, for the
 * oracle counts them one by one; false if the key does not allow it. */
static bool choose_strays(const struct sniffer *s) {
    uint64_t taken = 0, bit;

    for (unsigned i = 0; i < 2 * PORTS_; i++, taken |= bit) {
        bit = stray_bit(s, knock_on(ports[i / 2], i & 1));
        if (taken & bit) return false;
    }
    for (unsigned n = 0, i = 0; n < STRAYS; i++) {
        struct o_knock k = { 30 + i / 2 * 3, i & 1 };

        bit = stray_bit(s, knock_on(k.port, k.udp));
        if (taken & bit) continue;
        taken |= bit;
        world.stray[n++] = k;
    }
    return true;
}

/* Makes a new world. */
static void world_new(bool packets) {
    static const char *const sources[] = { "192.0.2.1", "192.0.2.2",
                                           "198.51.100.7", "2001:db8::1",
                                           "2001:db8::2" };
    static const char *const targets[] = { "10.0.0.1", "fd00::1", "10.9.9.9",
                                           "fd00:9::9" };
    unsigned n = 1 + draw(DOORS);

    o_clear(&world.oracle);
    memset(&world, 0, offsetof(struct world, oracle));
    for (unsigned i = 0; i < SOURCES; i++)
        world.source[i] = addr_of(sources[i]);
    for (unsigned i = 0; i < 4; i++) world.target[i] = addr_of(targets[i]);
    for (unsigned i = 0; i < n; i++) draw_door(i);
    world.packets = packets;
    world.conf.doors = world.door;
    world.conf.ndoors = n;
    world.oracle.door = world.plain;
    world.oracle.ndoors = n;
    world.door_asked = UINT32_MAX;
    world.time = 1000000;
    world.sniffer = sniffer_new(&world.conf);
    world.sniffer->locals->naddrs = 2;
    memcpy(world.sniffer->locals->addr, world.target,
           2 * sizeof(*world.target));
    qsort(world.sniffer->locals->addr, 2, sizeof(struct addr), addr_cmp);
    while (!choose_strays(world.sniffer))
        for (int i = 0; i < 5; i++) world.sniffer->key[i] = rnd64();
    world.sniffer->nwide = packets ? 0 : FILTER_SOURCES_MAX + 1;
    if (packets) filter_attach(world.sniffer);
}

/* Writes a hit as a frame of the ring; the IP packet is at *ip. */
static size_t frame_of(uint8_t *slot, const struct o_hit *h, uint32_t seq,
                       unsigned sport, uint8_t **ip) {
    static const uint8_t headers[] = { 0, 60, 43, 135 };
    struct spec s = { .proto = h->knock.udp ? UDP : TCP,
                      .seq = seq,
                      .flags = (uint8_t)h->flags,
                      .sport = sport,
                      .dport = h->knock.port,
                      .tcp_options = !h->by_hand || !seq };
    struct tpacket2_ t = { .net = 80 };
    struct sockaddr_ll from = { .sll_family = AF_PACKET,
                                .sll_hatype = 1,
                                .sll_ifindex = (int)h->interface };

    memcpy(&s.src, h->src, 16);
    memcpy(&s.dst, h->dst, 16);
    s.v6 = !is_v4(&s.src);
    s.options = s.v6 ? 0 : seq % 3;
    s.next = s.v6 ? seq % 3 : 0;
    for (unsigned i = 0; i < s.next; i++)
        s.ext[i] = headers[(seq / 4 + i) % 4];
    *ip = slot + t.net;
    t.len = t.captured = (uint32_t)build(*ip, &s);
    memcpy(slot, &t, sizeof(t));
    memcpy(slot + 32, &from, sizeof(from));
    return t.len;
}

/* The same hit as a packet: what the filter takes goes to knockd. */
static bool send_packet(const struct o_hit *h, uint32_t seq, unsigned sport) {
    union slot slot = { .bytes = { 0 } };
    unsigned steps;
    uint8_t *ip;
    size_t n = frame_of(slot.bytes, h, seq, sport, &ip);
    struct meta meta = { .hatype = 1,
                         .ifindex = h->interface,
                         .protocol = ip[0] >> 4 == 4 ? 0x0800 : 0x86dd };

    struct packet p;

    if (!bpf_run(ip, n, &meta, &steps)) return false;
    if (frame(world.sniffer, &slot, &p)) match(world.sniffer, &p);
    return true;
}

/* A packet as the parser would give it. */
static struct packet packet_of(const struct o_hit *h, uint32_t seq,
                               unsigned sport) {
    struct packet p = { .sport = (uint16_t)sport,
                        .number = seq,
                        .knock = knock_on(h->knock.port, h->knock.udp),
                        .proto = h->knock.udp ? UDP : TCP,
                        .flags = h->knock.udp ? 0 : (uint8_t)h->flags,
                        .bulk = o_bulk(h),
                        .may_return = o_may_return(h),
                        .interface = h->interface };

    memcpy(&p.src, h->src, 16);
    memcpy(&p.dst, h->dst, 16);
    return p;
}

/* A sequence number and a source port with which the packet has a place in the
 * table of recent ones that no packet just before has. The number is 0 if it
 * is made by hand and not by its lack of options. */
static void draw_identity(const struct o_hit *h, uint32_t *seq,
                          unsigned *sport) {
    bool zero = h->by_hand && !(h->flags & O_SYN && draw_one_in(2));
    uint8_t slot[FRAME_BYTES], *ip;
    struct packet p;

    *seq = zero ? 0 : 1 + draw(65535) * 65536u + draw(65536);
    *sport = 1024 + draw(60000);
    for (unsigned i = 0; i < 100000; i++) {
        p = packet_of(h, *seq, *sport);
        if (world.packets) {
            size_t n = frame_of(slot, h, *seq, *sport, &ip);

            if (!parse(ip, n, n, &p)) break;
        }
        uint64_t mark =
            mark_of(world.sniffer, &p, hash(world.sniffer, &p.src));
        if (mark % RECENT_MAX == world.sent % RECENT_MAX) return;
        *sport = *sport % 65535 + 1;
    }
    abort();
}

static void send_hit(const struct o_hit *h, uint32_t seq, unsigned sport) {
    struct packet p = packet_of(h, seq, sport);

    world.sniffer->now = h->time;
    unlimited(world.sniffer);
    bool passed = !world.packets || send_packet(h, seq, sport);

    for (unsigned i = 0; i < RECENT; i++)
        if (world.recent[i].id == h->id) world.passed[i] = passed;
    if (!world.packets) match(world.sniffer, &p);
    if (!world.packets) { /* nobody needs a new filter */
        world.sniffer->nwide = FILTER_SOURCES_MAX + 1;
        world.sniffer->look = INT64_MAX;
    }
    expire_now(world.sniffer);
    o_match(&world.oracle, h);
    world.sent++;
}

static int event_cmp(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct o_event));
}

/* What knockd said, as the oracle says it; timeouts, whose order is left open,
 * come first and sorted. Returns how many. */
static unsigned knockd_said(struct o_event *said) {
    unsigned n = 0, timeouts = 0;

    memset(said, 0, (heard + 1) * sizeof(*said));
    for (int late = 0; late < 2; late++) {
        for (unsigned i = 0; i < heard; i++) {
            const struct event *e = &events[i];

            if ((e->kind != TIMEOUT) != late) continue;
            said[n].kind = e->kind == TIMEOUT ? O_TIMEOUT
                           : e->kind == OPEN  ? O_OPEN
                                              : O_STAGE;
            said[n].door = e->door;
            said[n].stage = e->stage;
            memcpy(said[n++].src, &e->src, 16);
        }
        if (!late) timeouts = n;
    }
    qsort(said, timeouts, sizeof(*said), event_cmp);
    heard = 0;
    return n;
}

/* Do both say the same? If not, why is in world.why. */
static bool agree(const struct o_hit *h) {
    static const char *const kinds[] = { "STAGE", "OPEN", "TIMEOUT" };
    static struct o_event mine[4096], theirs[4096];
    unsigned n = knockd_said(mine), m = world.oracle.nevents, t = 0, i = 0;

    memset(theirs, 0, (m + 1) * sizeof(*theirs));
    for (unsigned k = 0; k < m; k++) {
        theirs[k].kind = world.oracle.event[k].kind;
        theirs[k].door = world.oracle.event[k].door;
        theirs[k].stage = world.oracle.event[k].stage;
        memcpy(theirs[k].src, world.oracle.event[k].src, 16);
        t += theirs[k].kind == O_TIMEOUT && t == k;
    }
    world.oracle.nevents = 0;
    qsort(theirs, t, sizeof(*theirs), event_cmp);
    while (i < n && i < m && !event_cmp(&mine[i], &theirs[i])) i++;
    if (i == n && i == m) return true;
    if (world.sniffer->suppressed) { /* too many to compare one by one */
        n += world.sniffer->suppressed;
        world.sniffer->suppressed = 0;
        if (n == m) return true;
    }
    snprintf(world.why, sizeof(world.why),
             "hit %u, to %u/%s: knockd says "
             "%s (door %u, stage %u), the oracle %s (door %u, stage %u)",
             world.sent, h->knock.port, h->knock.udp ? "udp" : "tcp",
             i < n ? kinds[mine[i].kind] : "nothing", mine[i].door,
             mine[i].stage, i < m ? kinds[theirs[i].kind] : "nothing",
             theirs[i].door, theirs[i].stage);
    return false;
}

/* A door that has used its sequence up gets another one, as an order. */
static void renew_sequences(void) {
    struct order order = { .kind = NEW_SEQUENCE };
    struct sniffer *s = world.sniffer;
    struct o_knock seq[8];
    unsigned n;
    int ends[2];

    for (unsigned i = 0; i < world.conf.ndoors; i++) {
        if (world.plain[i].n) continue;
        draw_sequence(seq, &n, 2);
        if (draw_one_in(4)) n = 0;
        order.door = i;
        give_sequence(&order.seq, seq, n);
        if (pipe(ends) || write(ends[1], &order, sizeof(order)) < 0) abort();
        s->channel = ends[0];
        obey(s);
        s->channel = CHANNEL;
        close(ends[0]);
        close(ends[1]);
        o_new_sequence(&world.oracle, i, seq, n);
        world.plain[i].one_time = n;
    }
}

/* Something that a source might send: the next knock at a door, a packet sent
 * again, the last port again, a stray, or anything. */
static struct o_hit draw_hit(int64_t time, uint32_t *seq, unsigned *sport) {
    static const uint8_t flags[] = { 2, 2, 2, 16, 18, 1, 0, 41, 4, 24 };
    if (draw_one_in(6)) {
        world.from = draw(SOURCES);
        world.towards = draw(world.conf.ndoors);
    }
    unsigned from = world.from, door = world.towards, what = draw(16);
    unsigned again = draw(RECENT), *step = &world.step[from][door];
    const struct o_door *d = &world.plain[door];
    struct o_hit h = { .flags = flags[draw(10)], .interface = 1 };
    bool v6 = from > 2;

    int64_t age = time - world.recent[again].time;
    bool edge = age > O_KEEP - 600 && age < O_KEEP + 600;
    if (what < 2 && again < world.nrecent && !edge) {
        h = world.recent[again];
        if (draw_one_in(3) && world.passed[again]) h.interface = 2;
        h.time = time;
        *seq = world.seq[again];
        *sport = world.sport[again];
        return h;
    }
    h.time = time;
    memcpy(h.src, &world.source[from], 16);
    memcpy(h.dst, &world.target[v6], 16);
    if (draw_one_in(12) || (d->ntarget && !draw_one_in(4)))
        memcpy(h.dst, &world.target[2 * draw(2) + v6], 16);
    h.local = !memcmp(h.dst, &world.target[v6], 16);
    if (what < 10 && d->n) {
        *step %= d->n;
        h.knock = d->seq[*step];
        if (!draw_one_in(8)) h.flags = d->want;
        if (!draw_one_in(8)) ++*step;
    } else if (what < 13) {
        h.knock = world.stray[draw(STRAYS)];
    } else {
        h.knock = draw_port();
    }
    h.id = 1 + world.sent % 65535;
    again = world.sent % RECENT;
    h.by_hand = !h.knock.udp && draw_one_in(6);
    draw_identity(&h, seq, sport);
    world.recent[again] = h;
    world.seq[again] = *seq;
    world.sport[again] = *sport;
    if (world.nrecent < RECENT) world.nrecent++;
    return h;
}

/* A stream of n hits; false if the two disagree at one. */
static bool world_stream(unsigned n) {
    static const unsigned steps[] = { 0,  0,   0,   0,   0,    1,    5,    20,
                                      90, 100, 250, 500, 1000, 3000, 60000 };
    uint32_t seq;
    unsigned sport;

    while (n--) {
        world.time += steps[draw(draw_one_in(4) ? 15 : 14)];
        struct o_hit h = draw_hit(world.time, &seq, &sport);

        send_hit(&h, seq, sport);
        if (!agree(&h)) return false;
        renew_sequences();
    }
    return true;
}

/* Do parse() and the above say the same of n bytes of a packet? The bytes get
 * a place of their own at the end of an array, so that no sanitizer misses a byte
 * read beyond. */
static bool parsed_alike(const uint8_t *b, size_t n, size_t wire,
                         bool *good) {
    static uint8_t room[65536];
    uint8_t *exact = room + sizeof(room) - n;
    struct packet p;
    struct reading r;

    if (n > sizeof(room)) abort();
    memset(&p, 0xa5, sizeof(p));
    memset(&r, 0, sizeof(r));
    memcpy(exact, b, n);
    *good = parse(exact, n, wire, &p);
    if (*good != read_packet(b, n, wire, &r)) return false;
    if (!*good) return true;
    return !memcmp(&p.src, r.src, 16) && !memcmp(&p.dst, r.dst, 16) &&
           p.proto == r.proto && p.sport == r.sport &&
           p.knock == knock_on(r.dport, r.proto == UDP) &&
           p.flags == r.flags && p.bulk == (r.proto == 17 || r.flags & 16) &&
           p.may_return == r.may_return;
}

/* Which records are right, said once more. */
static bool right_record(const struct monitor *m, const struct event *e,
                         size_t n) {
    const struct door *d;

    if (n != sizeof(*e) || e->kind > 8) return false;
    if (e->kind == 8) {
        bool v6 = memcmp(e->src.b, mapped.b, 12) != 0;

        return e->door < m->conf.nclients && good_source(e->src.b, v6) &&
               !(settings.only_ipv4 && v6);
    }
    if (e->kind == 7) return e->stage < 7; /* a counter */
    if (e->kind == 0 || e->kind > 3) return true;
    if (e->door >= m->conf.ndoors || e->stage < 1 || e->stage > 32)
        return false;
    d = &m->conf.doors[e->door];
    if (d->keys) return false;
    if (e->kind == 2 && e->stage != d->seq.n) return false;
    if (settings.only_ipv4 && memcmp(e->src.b, mapped.b, 12) != 0)
        return false;
    return good_source(e->src.b, memcmp(e->src.b, mapped.b, 12) != 0) &&
           allowed(&d->allow, &d->deny, &e->src);
}
