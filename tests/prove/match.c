/* match(): every small world of three kinds, run one after another: two doors, three
 * or four packets in any order. match() says what the oracle says, opens no door
 * without its sequence, and leaves the lists and sums of the table intact.
 *
 *   order    sequences of 1 to 3 of two TCP ports and a UDP port; one source; 4
 *            packets to these or to a stray port, each 0 or 1 s after the one
 *            before; Seq_Timeout 2 s; no Stray_Limit, or 1
 *   flags    sequences of 1 or 2; each of six TCPFlags at each door; 3 packets with
 *            each combination of SYN and ACK
 *   sources  sequences of 1 or 2 of the TCP ports; Seq_Cooldown, one-time sequences
 *            or neither; 3 packets of two sources, each new or sent again, 0 or 1 s
 *            after the one before
 *
 * run:
 * small: ATTEMPTS_MAX 16
 * small: RECENT_MAX 1
 * small: MARK_SETS 1
 * small: FILTER_EDGES_MAX 9
 * small: FILTER_MAX 64
 * small: SEALED_MAX 1
 * small: ADDRESSES_MAX 1
 * with: s/TO_UDP = 1 << 16, KNOCKS = 2 << 16/TO_UDP = 4, KNOCKS = 8/
 * with: s/noted\[UINT16_MAX + 1\]/noted[8]/
 * plant: s/if (due && (!next ||/if ((!next ||/
 * plant: s/a->stage < c->stage \&\& noted/noted/
 * plant: s/noted_packets(s, a) == a->stage;/noted_packets(s, a) > 9;/
 * plant: s/else if (p->known) begin_all/if (p->known) begin_all/
 * plant: s|if (a->deadline <= s->now)|if (a->deadline < s->now)|
 * plant: s|if (answer && .*return false;||
 * plant: s|    a->newer->older = a->older;||
 * plant: s/if (wrong \&\& sees/if (0 \&\& sees/
 * plant: s/if (p->use \&\& p->may_return) mark_keep/if (0) mark_keep/
 */
#define main knockd_main
#include "knockd.c"
#undef main
#include "../oracle.h"

enum { HITS_MAX = 4, SPARE = 4, DOORS_ = 2 };

/* The knocks that there are; the last one is a stray, of no door. */
static const struct o_knock knock_of[] = {
    { 1, false }, { 2, false }, { 1, true }, { 3, false }
};
static struct sniffer s;
static struct attempt attempts[ATTEMPTS_MAX + SPARE],
    stages[SEQUENCE_MAX + 1];
static struct attempt *buckets[ATTEMPTS_MAX];
static uint64_t marks[2 * MARK_SETS][MARKS_IN_SET];
static struct port ports[KNOCKS];
static struct locals locals = { .full = true };
static struct watch doors[DOORS_];
static struct o_door plan[DOORS_], plain[DOORS_]; /* the latter change */
static struct oracle oracle = { .door = plain, .ndoors = DOORS_ };
static struct o_hit hit[HITS_MAX];
static unsigned nhits, streams, opened;

static void show(void) {
    for (unsigned i = 0; i < DOORS_; i++) {
        const struct o_door *d = &plan[i];
        printf("door %u:", i);
        for (unsigned k = 0; k < d->n; k++)
            printf(" %u%s", d->seq[k].port, d->seq[k].udp ? ":udp" : "");
        printf(", flags %u not %u, limit %u, cooldown %u, one-time %d\n",
               d->want, d->forbid, d->limit, d->cooldown, d->one_time);
    }
    for (unsigned i = 0; i < nhits; i++)
        printf("%d ms: packet %u of source %u, to %u%s, flags %u\n",
               (int)hit[i].time, hit[i].id, hit[i].src[15], hit[i].knock.port,
               hit[i].knock.udp ? ":udp" : "", hit[i].flags);
}

#define MUST(good, what) \
    ((good) ? (void)0 : (printf("FAILURE: %s\n", what), show(), exit(1)))

/* ---- A world --------------------------------------------------------------- */

/* The doors as planned, and nothing of before, for both. */
static void world_new(void) {
    static const struct port none;
    for (unsigned i = 0; i < s.used; i++)
        *bucket(&s, hash(&s, &attempts[i].src)) = NULL;
    memset(attempts, 0, s.used * sizeof *attempts);
    memset(marks, 0, sizeof marks);
    memset(s.counters, 0, sizeof s.counters);
    s.used = s.active = s.advanced = s.unsent = s.serial = 0;
    s.indexed = true;
    for (unsigned i = 0; i < KNOCKS; i++) ports[i] = none;
    for (unsigned i = 0; i <= SEQUENCE_MAX; i++)
        stages[i].older = stages[i].newer = &stages[i];
    for (unsigned i = 0; i < DOORS_; i++) {
        const struct o_door *from = &plan[i];
        plain[i] = *from;
        doors[i] = (struct watch){ .seq.n = from->n,
                                   .tcp = { from->want, from->forbid },
                                   .seq_timeout = from->timeout,
                                   .cooldown = from->cooldown,
                                   .one_time = from->one_time,
                                   .stray_limit = from->limit };
        for (unsigned k = 0; k < from->n; k++)
            doors[i].seq.knock[k] =
                from->seq[k].port | (from->seq[k].udp ? TO_UDP : 0);
    }
    index_doors(&s);
    s.nwide = FILTER_SOURCES_MAX + 1; /* there is no filter to change */
    s.look = INT64_MAX;
    o_clear(&oracle);
    nhits = 0;
    streams++;
}

static struct packet packet_of(const struct o_hit *h) {
    struct packet p = { .knock = h->knock.port | (h->knock.udp ? TO_UDP : 0),
                        .proto = h->knock.udp ? UDP : TCP,
                        .flags = (uint8_t)h->flags,
                        .number = h->id,
                        .bulk = o_bulk(h),
                        .may_return = o_may_return(h),
                        .to_host = true,
                        .interface = 1 };
    memcpy(&p.src, h->src, 16);
    return p;
}

/* ---- What must be so ------------------------------------------------------- */

/* Does the i-th packet end the first n knocks of the door, and did its source send
 * the others before, in order, the first of them less than Seq_Timeout ago? */
static bool has_knocks(const struct o_door *d, unsigned n, unsigned i) {
    const struct o_hit *h = &hit[i], *last = &hit[nhits - 1];
    bool right = o_same(h->knock, d->seq[n - 1]) &&
                 !memcmp(h->src, last->src, 16) &&
                 (h->knock.udp || o_fits(d, h->flags)) &&
                 last->time - h->time < d->timeout * INT64_C(1000);
    while (right && n > 1 && i--)
        if (has_knocks(d, n - 1, i)) return true;
    return right && n == 1;
}

/* Each ring holds what is at its stage, each bucket what belongs there, sorted,
 * and the sums are right. */
static bool is_sound(void) {
    unsigned of_stage[SEQUENCE_MAX + 1] = { 0 }, active = 0, chained = 0;
    for (unsigned i = 0; i <= SEQUENCE_MAX; i++) {
        const struct attempt *head = &stages[i], *a = head;
        while ((a = a->newer) != head) {
            if (a->stage != i || a->newer->older != a) return false;
            if (a->older->newer != a || ++of_stage[i] > s.used) return false;
        }
        if (i) active += of_stage[i];
    }
    for (unsigned i = 0; i < ATTEMPTS_MAX; i++)
        for (const struct attempt *a = buckets[i]; a; a = a->next) {
            const struct attempt *b = a->next;
            if (!a->stage || bucket(&s, hash(&s, &a->src)) != &buckets[i])
                return false;
            if (b && is_from(b, &a->src) && b->door < a->door) return false;
            if (++chained > s.used) return false;
        }
    return active == s.active && chained == active &&
           s.active - of_stage[1] == s.advanced &&
           of_stage[0] + active == s.used;
}

/* Rule 8: nothing is left at a door that has opened, and nowhere an attempt that
 * has begun with the packet that opened it. */
static void check_used_up(const struct o_hit *h, unsigned door,
                          bool one_port) {
    for (const struct attempt *a = attempts; a < attempts + s.used; a++) {
        if (!a->stage || memcmp(&a->src, h->src, 16)) continue;
        MUST(a->door != door || one_port,
             "an attempt is left at an open door");
        bool begun =
            a->stage == 1 && a->packet[0] == (uint16_t)(s.serial - 1);
        MUST(!begun || one_port,
             "a packet opens one door and begins another");
    }
}

/* The same events in the same order; but of timeouts, which match() looks for at
 * the packet's source alone. */
static void check_events(const struct o_hit *h) {
    unsigned k = 0;
    for (unsigned i = 0; i < s.unsent; i++) {
        const struct event *e = &s.events[i];
        const struct o_event *o = &oracle.event[k];
        if (e->kind == TIMEOUT) continue;
        while (k < oracle.nevents && o->kind == O_TIMEOUT)
            o = &oracle.event[++k];
        MUST(k < oracle.nevents, "more than the oracle says");
        MUST((e->kind == OPEN) == (o->kind == O_OPEN) && e->door == o->door &&
                 e->stage == o->stage && !memcmp(&e->src, o->src, 16),
             "not what the oracle says");
        k++;
        if (e->kind != OPEN) continue;
        opened++;
        unsigned n = plan[e->door].n;
        MUST(!memcmp(&e->src, h->src, 16) &&
                 has_knocks(&plan[e->door], n, nhits - 1),
             "a door opens without its sequence");
        check_used_up(h, e->door, n == 1);
    }
    while (k < oracle.nevents && oracle.event[k].kind == O_TIMEOUT) k++;
    MUST(k == oracle.nevents, "less than the oracle says");
    s.unsent = oracle.nevents = 0;
}

/* The next packet, for both. */
static void send_hit(const struct o_hit *h) {
    struct packet p = packet_of(h);
    hit[nhits++] = *h;
    s.now = h->time;
    match(&s, &p);
    o_match(&oracle, h);
    MUST(is_sound(), "a list or a sum of the table is wrong");
    check_events(h);
}

/* ---- All worlds ------------------------------------------------------------- */

/* The number-th of all sequences of 1 to `most` of the first n knocks; false if
 * there is none. */
static bool sequence_at(struct o_door *d, unsigned number, unsigned n,
                        unsigned most) {
    unsigned many = n;
    for (d->n = 1; number >= many; many *= n, d->n++) number -= many;
    for (unsigned i = 0; i < d->n && d->n <= most; i++, number /= n)
        d->seq[i] = knock_of[number % n];
    return d->n <= most;
}

/* Takes a digit off a number: one of n choices. */
static unsigned choose(unsigned *number, unsigned n) {
    unsigned choice = *number % n;
    *number /= n;
    return choice;
}

/* The i-th packet of a stream: a SYN, if it is of TCP. */
static struct o_hit hit_at(unsigned i, int64_t time, unsigned knock) {
    return (struct o_hit){ .time = time,
                           .knock = knock_of[knock],
                           .flags = knock_of[knock].udp ? 0 : O_SYN,
                           .id = i + 1,
                           .interface = 1,
                           .local = true,
                           .src = { [10] = 255, 255, 192, 0, 2, 1 } };
}

static void order_stream(unsigned number) {
    int64_t time = 1000000;
    world_new();
    for (unsigned i = 0; i < 4; i++) {
        time += i ? 1000 * choose(&number, 2) : 0;
        struct o_hit h = hit_at(i, time, choose(&number, 4));
        send_hit(&h);
    }
}

static void order(void) {
    for (unsigned i = 0; sequence_at(&plan[0], i, 3, 3); i++)
        for (unsigned k = 0; sequence_at(&plan[1], k, 3, 3); k++)
            for (unsigned limit = 0; limit < 2; limit++) {
                plan[0].limit = plan[1].limit = limit;
                for (unsigned n = 0; n < 4 * 8 * 8 * 8; n++) order_stream(n);
            }
}

static void flags_stream(unsigned number) {
    static const unsigned of_packet[] = { 0, O_SYN, O_ACK, O_SYN | O_ACK };
    static const unsigned of_tcp[] = { 0, 1, 3 };
    world_new();
    for (unsigned i = 0; i < 3; i++) {
        unsigned choice = choose(&number, 13); /* 12: UDP */
        struct o_hit h =
            hit_at(i, 1000000 + i, choice < 12 ? of_tcp[choice / 4] : 2);
        if (choice < 12) h.flags = of_packet[choice % 4];
        send_hit(&h);
    }
}

static void flags_of(struct o_door *d, unsigned number) {
    static const unsigned of_door[][2] = {
        { 0, 0 },     { O_SYN, 0 }, { O_SYN, O_ACK },
        { O_ACK, 0 }, { 0, O_SYN }, { O_SYN | O_ACK, 0 }
    };
    d->want = of_door[number][0];
    d->forbid = of_door[number][1];
}

static void flags_all(void) {
    for (unsigned i = 0; sequence_at(&plan[0], i, 3, 2); i++)
        for (unsigned k = 0; sequence_at(&plan[1], k, 3, 2); k++)
            for (unsigned f = 0; f < 36; f++) {
                flags_of(&plan[0], f % 6);
                flags_of(&plan[1], f / 6);
                for (unsigned n = 0; n < 13 * 13 * 13; n++) flags_stream(n);
            }
}

/* A packet sent again: the one before with the same knock and source. */
static void again(struct o_hit *h) {
    for (unsigned i = nhits; i--;)
        if (o_same(hit[i].knock, h->knock) &&
            !memcmp(hit[i].src, h->src, 16)) {
            h->id = hit[i].id;
            return;
        }
}

static void sources_stream(unsigned number) {
    int64_t time = 1000000;
    world_new();
    for (unsigned i = 0; i < 4; i++) {
        time += i ? 1000 * choose(&number, 2) : 0;
        struct o_hit h = hit_at(i, time, choose(&number, 2));
        h.src[15] = (uint8_t)(i ? choose(&number, 2) : 0);
        if (i && choose(&number, 2)) again(&h);
        send_hit(&h);
    }
}

static void sources(void) {
    for (unsigned i = 0; sequence_at(&plan[0], i, 2, 2); i++)
        for (unsigned k = 0; sequence_at(&plan[1], k, 2, 2); k++)
            for (unsigned f = 0; f < 9; f++) {
                plan[0].cooldown = f % 3 == 1;
                plan[0].one_time = f % 3 == 2;
                plan[1].cooldown = f / 3 == 1;
                plan[1].one_time = f / 3 == 2;
                for (unsigned n = 0; n < 2 * 16 * 16 * 16; n++)
                    sources_stream(n);
            }
}

static void kind(const char *name, void (*all)(void)) {
    for (unsigned i = 0; i < DOORS_; i++)
        plan[i] = (struct o_door){ .want = O_SYN, .timeout = 2 };
    all();
    printf("%s: %u streams, %u openings\n", name, streams, opened);
}

int main(void) {
    s.attempts = attempts;
    s.stages = stages;
    s.buckets = buckets;
    s.marks = marks;
    s.ports = ports;
    s.locals = &locals;
    s.doors = doors;
    s.ndoors = DOORS_;
    for (unsigned i = 0; i < 7; i++) s.key[i] = spread(i + 1);
    kind("order", order);
    kind("flags", flags_all);
    kind("sources", sources);
    printf("all: %u worlds\n", streams);
    return 0;
}
