/* Unit tests of the rules, the table of attempts, scans; part of unit.c. */

/* ---- The matcher ------------------------------------------------------- */

/* Random streams: knockd and the oracle must agree on every event. */
static void streams(unsigned n, bool packets) {
    uint64_t opens = 0, attempts = 0, cancelled = 0, hits = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t start = random_state;

        world_new(packets);
        CHECK(world_stream(100), "stream %u (%llx): %s", i,
              (unsigned long long)start, world.why);
        opens += world.sniffer->counters[OPENS];
        attempts += world.sniffer->counters[ATTEMPTS];
        cancelled += world.sniffer->counters[CANCELLED];
        hits += world.sent;
    }
    CHECK(opens > n && attempts > n && cancelled > n);
    note("oracle: %llu packets, %llu attempts, %llu cancelled, %llu opens",
         (unsigned long long)hits, (unsigned long long)attempts,
         (unsigned long long)cancelled, (unsigned long long)opens);
}

static void test_oracle(void) { streams(times(6000, 300000), false); }

/* The same as packets, through the filter: it loses nothing that counts. */
static void test_oracle_with_filter(void) {
    streams(times(1000, 100000), true);
}

static struct door one_door;
static struct conf one_conf = { .doors = &one_door, .ndoors = 1 };

/* A sniffer with a door of n ports, 1000 on, for SYN. */
static struct sniffer *simple(unsigned n) {
    struct sniffer *s;

    one_door = (struct door){
        .name = "d", .seq_timeout = 10, .stray_limit = 8, .tcp = { SYN, 0 }
    };
    one_door.seq.n = n;
    for (unsigned i = 0; i < n; i++) one_door.seq.knock[i] = 1000 + i;
    s = sniffer_new(&one_conf);
    s->locals->naddrs = 1;
    *s->locals->addr = addr_of("10.0.0.1");
    return s;
}

static uint32_t next_number = 1;

static struct packet syn_from(const struct addr *src, unsigned port) {
    struct packet p = { .knock = port,
                        .proto = TCP,
                        .flags = SYN,
                        .number = next_number++,
                        .may_return = true,
                        .src = *src,
                        .interface = 1 };

    p.dst = addr_of("10.0.0.1");
    return p;
}

static void knock_from(struct sniffer *s, const struct addr *src,
                       unsigned port) {
    struct packet p = syn_from(src, port);

    unlimited(s);
    match(s, &p);
}

/* The i-th of many addresses. */
static struct addr numbered(uint32_t i) {
    struct addr a = addr_of("2001:db8::");
    uint32_t big = htonl(i);

    memcpy(a.b + 12, &big, 4);
    return a;
}

/* How many events of a kind; all are forgotten. */
static unsigned said(unsigned kind) {
    unsigned n = 0;

    for (unsigned i = 0; i < heard; i++) n += events[i].kind == kind;
    heard = 0;
    return n;
}

/* The stage of an address' attempt; 0 if it has none. */
static unsigned stage_of(struct sniffer *s, const struct addr *src) {
    struct packet p = { .src = *src };
    const struct attempt *a = *attempts_of(s, bucket(s, hash(s, src)), &p);

    return a ? a->stage : 0;
}

/* Each ring holds what is at its stage, each bucket what belongs there, and
 * the sums are right. */
static bool sound(struct sniffer *s) {
    uint32_t of_stage[SEQUENCE_MAX + 1] = { 0 }, chained = 0, active = 0;
    const struct attempt *all = s->stages;

    for (uint32_t stage = 0; stage <= SEQUENCE_MAX; stage++) {
        for (const struct attempt *a = all[stage].newer; a != &all[stage];
             a = a->newer) {
            if (a->stage != stage || a->newer->older != a) return false;
            of_stage[stage]++;
        }
        active += stage ? of_stage[stage] : 0;
    }
    for (uint32_t b = 0; b < ATTEMPTS_MAX; b++)
        for (const struct attempt *a = s->buckets[b]; a;
             a = a->next, chained++)
            if (bucket(s, hash(s, &a->src)) != &s->buckets[b]) return false;
    return active == s->active && chained == active &&
           s->active - of_stage[1] == s->advanced &&
           of_stage[0] + active == s->used;
}

/* The table: so many attempts, then the least advanced and oldest goes, and
 * nothing that has got to stage 2 goes for somebody who begins. */
static void test_table(void) {
    struct sniffer *s = simple(4);
    struct addr a, honest = addr_of("192.0.2.1");

    /* one place stays free: a hit makes room before it is looked at */
    for (uint32_t i = 1; i < ATTEMPTS_MAX; i++) {
        a = numbered(i - 1);
        knock_from(s, &a, 1000);
        heard = 0;
    }
    CHECK(s->active == ATTEMPTS_MAX - 1 && !s->counters[EVICTIONS]);
    CHECK(sound(s));
    a = numbered(0);
    CHECK(stage_of(s, &a) == 1);
    /* every second of the first thousand goes on to stage 2 */
    for (uint32_t i = 0; i < 1000; i += 2) {
        a = numbered(i);
        knock_from(s, &a, 1001);
    }
    CHECK(s->advanced == 500 && said(STAGE) == 500);
    /* newcomers: the thousand oldest of stage 1 go, not one of stage 2: of
	 * the first 1500 the 500 odd ones, then 1000 to 1499 */
    for (uint32_t i = 0; i < 1001; i++) {
        a = numbered(ATTEMPTS_MAX + i);
        knock_from(s, &a, 1000);
        heard = 0;
    }
    CHECK(s->counters[EVICTIONS] == 1000 && s->active == ATTEMPTS_MAX);
    for (uint32_t i = 0; i < 2000; i++) {
        unsigned want = i >= 1500 ? 1 : i < 1000 && i % 2 == 0 ? 2 : 0;

        a = numbered(i);
        CHECK(stage_of(s, &a) == want, "address %u at stage %u", i,
              stage_of(s, &a));
    }
    /* an honest knock in a full table, newcomers between its knocks */
    for (unsigned k = 0; k < 4; k++) {
        knock_from(s, &honest, 1000 + k);
        for (uint32_t i = 0; k < 3 && i < 100000; i++) {
            a = numbered(500000 + k * 100000 + i);
            knock_from(s, &a, 1000);
            heard = 0;
        }
    }
    CHECK(said(OPEN) == 1);
    CHECK(s->used == ATTEMPTS_MAX && sound(s));
    CHECK(s->active <= ATTEMPTS_MAX && s->active >= ATTEMPTS_MAX - 2);
}

/* A flood that knows the first two, or all but the last: half of the table
 * stays for stage 1. */
static void test_table_advanced(void) {
    struct sniffer *s = simple(4);
    struct addr a, honest = addr_of("192.0.2.1");

    for (uint32_t i = 0; i < 100000; i++) {
        a = numbered(i);
        for (unsigned k = 0; k < (i < 1000 ? 3 : 2); k++)
            knock_from(s, &a, 1000 + k);
        heard = 0;
    }
    CHECK(s->advanced == ATTEMPTS_MAX / 2 && sound(s));
    /* of stage 2 the oldest went, of stage 3 none */
    for (uint32_t i = 0; i < 100000; i += 100) {
        unsigned want = i < 1000                                 ? 3
                        : i < 100000 - (ATTEMPTS_MAX / 2 - 1000) ? 0
                                                                 : 2;

        a = numbered(i);
        CHECK(stage_of(s, &a) == want, "address %u at stage %u", i,
              stage_of(s, &a));
    }
    for (unsigned k = 0; k < 4; k++) {
        knock_from(s, &honest, 1000 + k);
        for (uint32_t i = 0; k < 3 && i < 20000; i++) {
            a = numbered(200000 + k * 100000 + i);
            knock_from(s, &a, 1000);
            knock_from(s, &a, 1001);
            heard = 0;
        }
    }
    CHECK(said(OPEN) == 1);
    CHECK(sound(s));
}

/* From a million addresses: no more memory, and after the time all is over. */
static void test_table_flood(void) {
    struct sniffer *s = simple(3);
    struct addr a;
    unsigned timeouts = 0;

    for (uint32_t i = 0; i < times(300000, 5000000); i++) {
        a = numbered(rnd(1000000));
        s->now += one_in(100);
        knock_from(s, &a, 1000 + rnd(3));
        expire(s);
        heard = 0;
    }
    CHECK(s->used <= ATTEMPTS_MAX && sound(s));
    s->now += 10000;
    for (unsigned i = 0; s->active && i < 20000; i++) {
        unlimited(s);
        expire_now(s);
        timeouts += heard + s->suppressed;
        heard = s->suppressed = 0;
    }
    CHECK(!s->active && !s->advanced && timeouts > (quick ? 500 : 10000) &&
          sound(s));
    s->now += EXPIRE_MS;
    expire(s);
    CHECK(s->look == INT64_MAX);
}

/* Thousands of doors with one first knock, hit when the table is nearly full. */
static void test_table_many_doors(void) {
    struct conf c = { .doors = many_doors, .ndoors = MANY };
    struct sniffer *s;
    struct addr a;

    for (unsigned i = 0; i < MANY; i++) {
        many_doors[i] = (struct door){ .name = "d",
                                       .seq_timeout = 10,
                                       .tcp = { SYN, 0 },
                                       .seq = { { 1000, 2000 + i, 9 }, 3 } };
    }
    s = sniffer_new(&c);
    s->locals->naddrs = 1;
    *s->locals->addr = addr_of("10.0.0.1");
    for (uint32_t i = 0; i < 40; i++) {
        a = numbered(i);
        knock_from(s, &a, 1000);
        heard = 0;
        CHECK(s->active < ATTEMPTS_MAX + MANY);
        if (i % 8 == 7) knock_from(s, &a, 2000 + rnd(MANY));
        CHECK(s->advanced < ATTEMPTS_MAX / 2 + MANY);
        heard = 0;
    }
    CHECK(sound(s) && s->counters[EVICTIONS] > 0);
    CHECK(s->used < ATTEMPTS_MAX + MANY);
}

/* The hash of addresses: on average over the keys as even as chance, also for
 * addresses that differ little; two keys have nothing to do with each other. */
static void test_hash(void) {
    enum { N = 16384, KEYS = 40 };
    static struct attempt *none[ATTEMPTS_MAX];
    static uint32_t load[ATTEMPTS_MAX];
    static struct sniffer s = { .buckets = none };
    unsigned alike = 0;

    for (unsigned form = 0; form < 6; form++) {
        uint64_t squares = 0;

        for (unsigned round = 0; round < KEYS; round++) {
            memset(load, 0, sizeof(load));
            for (int i = 0; i < 5; i++) s.key[i] = rnd64();
            for (uint32_t i = 0; i < N; i++) {
                uint32_t big = htonl(i << (form == 1 ? 8 : 0));
                struct addr a = form < 2 ? addr_v4(&big) : numbered(0);

                if (form > 1) memcpy(a.b + (form - 2) * 4, &big, 4);
                squares += 2 * load[bucket(&s, hash(&s, &a)) - none]++ + 1;
            }
        }
        /* by chance: 1 + N / ATTEMPTS_MAX for each */
        CHECK(squares < 3ull * N * KEYS, "form %u: %.1f", form,
              (double)squares / N / KEYS);
    }
    for (unsigned i = 0; i < 20000; i++) {
        struct addr a = numbered(rnd(1000)), b = numbered(rnd(1000));

        for (int k = 0; k < 5; k++) s.key[k] = rnd64();
        alike += addr_cmp(&a, &b) &&
                 bucket(&s, hash(&s, &a)) == bucket(&s, hash(&s, &b));
    }
    CHECK(alike < 10, "%u", alike);
}

/* Time: the whole sequence within its time, told when it is over. */
static void test_timeout(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");
    int64_t start = s->now;

    knock_from(s, &a, 1000);
    s->now = start + 9999;
    knock_from(s, &a, 1001);
    CHECK(said(STAGE) == 2);
    s->now = start + 10000;
    knock_from(s, &a, 1002); /* a hit finds its own attempt over */
    CHECK(heard == 1 && events->kind == TIMEOUT && events->stage == 2);
    heard = 0;
    knock_from(s, &b, 1000);
    start = s->now;
    CHECK(s->look <= start + 10000);
    s->now = start + 5000; /* the first one again: its time anew */
    knock_from(s, &b, 1000);
    heard = 0;
    s->now = start + 14999;
    s->look = s->now;
    expire(s);
    CHECK(!heard && s->look == start + 15199); /* not soon once more */
    s->now = start + 15198;
    expire(s);
    CHECK(!heard);
    s->now = start + 15199;
    expire(s);
    CHECK(said(TIMEOUT) == 1 && !s->active);
    s->now += 1000000;
    knock_from(s, &a, 1000); /* not stopped by anything from before */
    knock_from(s, &a, 1001);
    knock_from(s, &a, 1002);
    CHECK(said(OPEN) == 1);
}

/* A hit that is sent again, shown twice or repeated, at doors of one port and
 * of more. */
static void test_twins(void) {
    struct sniffer *s = simple(1);
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");
    struct packet p = syn_from(&a, 1000), q;

    match(s, &p);
    CHECK(said(OPEN) == 1);
    match(s, &p); /* sent again by TCP */
    s->now += 60000;
    match(s, &p);
    s->now += 60000;
    p.interface = 2;
    match(s, &p);
    CHECK(!heard);
    s->now += 20000; /* that is no retransmission any more */
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p.src = b;
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p = syn_from(&a, 1000);
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p = syn_from(&a, 1000);
    p.may_return = false; /* made by hand, or UDP */
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p.interface = 2;
    s->now += 99;
    match(s, &p); /* seen on the bridge and on its port */
    CHECK(!heard);
    s->now++;
    match(s, &p);
    match(s, &p);
    CHECK(said(OPEN) == 2);
    s = simple(3);
    one_door.seq.knock[1] = 1000; /* 1000,1000,1002 */
    watch(s, &one_conf);
    p = syn_from(&a, 1000);
    match(s, &p);
    match(s, &p);
    p.interface = 2;
    match(s, &p);
    CHECK(said(STAGE) == 1);
    q = syn_from(&a, 1000);
    match(s, &q);
    CHECK(said(STAGE) == 1);
    match(s, &p);
    match(s, &q);
    knock_from(s, &a, 1002);
    CHECK(said(OPEN) == 1);
}

/* Attempts at a wide door that time out leave the filter as it was before. */
static void test_filter_narrow_again(void) {
    struct sniffer *s = simple(2);
    char text[32];

    one_door.seq.knock[0] |= TO_UDP;
    one_door.seq.knock[1] |= TO_UDP;
    watch(s, &one_conf);
    for (unsigned i = 1; i <= 10; i++) {
        snprintf(text, sizeof(text), "192.0.2.%u", i);
        struct addr a = addr_of(text);
        struct packet p = syn_from(&a, 1000);

        p.knock |= TO_UDP;
        p.proto = UDP;
        p.bulk = true;
        match(s, &p);
    }
    CHECK(s->active == 10 && s->nwide > FILTER_SOURCES_MAX);
    s->now += 10000;
    expire(s);
    s->now += EXPIRE_MS;
    expire(s);
    CHECK(!s->active && !s->nwide && s->look == INT64_MAX);
}

/* At most four attempts of one source at a door. */
static void test_attempts_of_source(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1");

    for (unsigned i = 0; i < 10; i++) {
        knock_from(s, &a, 1000);
        knock_from(s, &a, 1001);
    }
    CHECK(s->active == 4 && s->advanced == 4 && sound(s));
    heard = 0;
    for (unsigned i = 0; i < 10; i++)
        knock_from(s, &a, 1002);          /* each another packet */
    CHECK(said(OPEN) == 1 && !s->active); /* the others are used up */
}

/* Allow, Target, a cool-down, a used-up one-time sequence: no door. */
static void test_doors_that_are_not_there(void) {
    struct sniffer *s = simple(2);
    struct addr a = addr_of("192.0.2.1"), other = addr_of("10.9.9.9");
    struct net net = { addr_of("198.51.100.0"), 96 + 24 };
    struct packet p;

    one_door.allow = (struct nets){ &net, 1 };
    watch(s, &one_conf);
    knock_from(s, &a, 1000);
    CHECK(!heard && !s->active);
    one_door.allow.n = 0;
    net = (struct net){ a, 128 };
    one_door.deny = (struct nets){ &net, 1 };
    watch(s, &one_conf);
    knock_from(s, &a, 1000);
    CHECK(!heard && !s->active);
    one_door.deny.n = 0;
    net = (struct net){ other, 128 };
    one_door.target = (struct nets){ &net, 1 };
    watch(s, &one_conf);
    knock_from(s, &a, 1000);
    CHECK(!heard);
    p = syn_from(&a, 1000);
    p.dst = other;
    match(s, &p);
    CHECK(said(STAGE) == 1);
    one_door.target.n = 0;
    s = simple(2);
    one_door.cooldown = 5;
    watch(s, &one_conf);
    knock_from(s, &a, 1000);
    knock_from(s, &a, 1001);
    CHECK(said(OPEN) == 1);
    s->now += 4999;
    knock_from(s, &a, 1000);
    CHECK(!heard);
    s->now++;
    knock_from(s, &a, 1000);
    CHECK(said(STAGE) == 1);
    s = simple(2);
    one_door.one_time = "once";
    watch(s, &one_conf);
    knock_from(s, &a, 1000);
    knock_from(s, &a, 1001);
    CHECK(said(OPEN) == 1);
    knock_from(s, &a, 1000);
    CHECK(!heard && !s->active);
}

/* SYNs from n addresses to a port; returns how many openings that makes. */
static unsigned crowd(struct sniffer *s, unsigned n, unsigned port) {
    for (uint32_t i = 0; i < n; i++) {
        struct addr a = numbered(i);
        struct packet p = syn_from(&a, port);

        match(s, &p);
    }
    return said(OPEN);
}

/* Each door has 20 lines of its own a second for each kind, and 1,000
 * openings, whatever happens at the others. */
static void test_lines_of_doors(void) {
    struct conf c = { .doors = many_doors, .ndoors = 3 };
    struct sniffer *s;

    for (unsigned i = 0; i < 3; i++) {
        many_doors[i] = (struct door){ .name = "d",
                                       .seq_timeout = 10,
                                       .tcp = { SYN, 0 } };
        many_doors[i].seq.n = 1 + i % 2;
        for (unsigned k = 0; k < many_doors[i].seq.n; k++)
            many_doors[i].seq.knock[k] = 1000 * (i + 1) + k;
    }
    s = sniffer_new(&c);
    s->locals->naddrs = 1;
    *s->locals->addr = addr_of("10.0.0.1");
    s->now = s->second = 5000;
    CHECK(crowd(s, 1500, 1000) == 1000);
    CHECK(s->suppressed == 500 + 1480);
    CHECK(crowd(s, 100, 3000) == 100);
    for (uint32_t i = 0; i < 100; i++) {
        struct addr a = numbered(i);
        struct packet p = syn_from(&a, 2000);

        match(s, &p);
    }
    CHECK(said(STAGE) == 20);
    CHECK(crowd(s, 30, 2001) == 30);
    s->now += 10000;
    expire_now(s);
    CHECK(said(TIMEOUT) == 20);
    limit(s);
    CHECK(crowd(s, 1500, 1000) == 1000);
}

/* With more local addresses than are known: what the kernel takes for us. */
static void test_too_many_addresses(void) {
    struct sniffer *s = simple(1);
    struct addr a = addr_of("192.0.2.1"), six = addr_of("2001:db8::1");
    struct packet p;

    for (unsigned i = 0; i < 8; i++) {
        p = syn_from(i & 1 ? &a : &six, 1000);
        p.dst = addr_of(i & 1 ? "10.99.0.1" : "fd99::1");
        p.to_host = i & 2;
        s->locals->full = i & 4;
        match(s, &p);
        CHECK(said(OPEN) == (i >= 6), "%u", i);
    }
    s->locals->full = false;
}

/* Lines that a stranger can cause: 20 of each kind a second, then a number. */
static void test_lines_a_second(void) {
    struct sniffer *s = simple(2);
    struct addr a;

    s->now = s->second = 5000;
    for (uint32_t i = 0; i < 100; i++) {
        a = numbered(i);
        struct packet p = syn_from(&a, 1000);

        match(s, &p);
    }
    CHECK(heard == 20 && s->suppressed == 80);
    for (uint32_t i = 0; i < 30; i++) {
        a = numbered(i);
        struct packet p = syn_from(&a, 1001);

        match(s, &p);
    }
    CHECK(said(OPEN) == 30); /* never left out */
    limit(s);
    CHECK(!heard);
    s->now = 5999;
    limit(s);
    CHECK(!heard);
    s->now = 6000;
    limit(s);
    CHECK(heard == 1 && events->kind == SUPPRESSED && events->value == 110);
    heard = 0;
    s->now = 9000;
    limit(s);
    CHECK(!heard && !s->suppressed);
    t_drops = 7;
    s->resting = true; /* else the kernel is not asked */
    s->now = 11000;
    limit(s);
    CHECK(heard == 1 && events->kind == DROPS && events->value == 7 &&
          s->counters[LOST] == 7);
    heard = 0;
    s->resting = false;
    a = numbered(0);
    knock_from(s, &a, 1000);
    CHECK(said(STAGE) == 1);
}

/* ---- Scans ------------------------------------------------------------- */

/* The chance that a scan of all ports in random order opens a door of n ports:
 * the n ports in their order with k others among them, in one of C(k+n-2, n-2)
 * ways, times the chance that k ports have at most 8 of 64 bits. */
static double chance(unsigned n) {
    double bits[80] = { 1 }, sum = 0, scan = 1;

    for (unsigned k = 0; k < 70; k++) {
        double ways = 1, fits = 0;

        for (unsigned i = 1; i <= n - 2; i++) ways *= (double)(k + i) / i;
        for (unsigned b = 0; b <= STRAY_LIMIT; b++) fits += bits[b];
        sum += ways * fits;
        for (unsigned b = 64; b > 0; b--) /* one stray more */
            bits[b] = bits[b] * b / 64 + bits[b - 1] * (65 - b) / 64;
        bits[0] = 0;
    }
    for (unsigned i = 1; i < n; i++) scan *= 65535.0 - i;
    return sum / scan;
}

/* A scan from one address: a SYN to each of these ports. */
static unsigned scan(struct sniffer *s, const uint16_t *order, unsigned n) {
    struct addr a = addr_of("192.0.2.1");
    struct packet p = syn_from(&a, 1);
    uint64_t before = s->counters[OPENS];

    for (unsigned i = 0; i < n; i++) {
        p.knock = order[i];
        p.number = i;
        match(s, &p);
    }
    heard = 0;
    unlimited(s);
    return (unsigned)(s->counters[OPENS] - before);
}

static void random_sequence(struct sniffer *s, unsigned n) {
    uint32_t *k = one_door.seq.knock;

    one_door.seq.n = n;
    for (unsigned i = 0; i < n; i++) {
        k[i] = 1 + rnd(65535);
        for (unsigned j = 0; j < i; j++)
            if (k[j] == k[i]) i = j = n; /* once more */
        if (i == n) i = UINT_MAX;
    }
    watch(s, &one_conf);
}

static void test_random_scans(void) {
    static uint16_t order[65535];
    unsigned scans = times(1000, 1000000), opens[2] = { 0 };

    for (unsigned i = 0; i < 65535; i++) order[i] = (uint16_t)(i + 1);
    for (unsigned k = 0; k < scans; k++) {
        struct sniffer *s = simple(3 + k % 2);

        random_sequence(s, 3 + k % 2);
        for (unsigned i = 65534; i > 0; i--) {
            unsigned j = rnd(i + 1);
            uint16_t port = order[i];

            order[i] = order[j];
            order[j] = port;
        }
        opens[k % 2] += scan(s, order, 65535);
    }
    CHECK(!opens[0] && !opens[1], "%u, %u", opens[0], opens[1]);
    note("random scans of all ports: %u, opens: %u with 3 ports, %u with 4; "
         "by arithmetic 1 in %.3g, 1 in %.3g",
         scans, opens[0], opens[1], 1 / chance(3), 1 / chance(4));
}

/* Scans in order, up and down and in steps, whatever the key: against the
 * shipped doors and against any whose ports have 25 others between them. */
static void test_ordered_scans(void) {
    static uint16_t order[65535];
    unsigned opens = 0, scans = times(20000, 1000000);

    for (unsigned k = 0; k < scans; k++) {
        static const int steps[] = { 1, -1, 2, -2, 3, 7 };
        struct sniffer *s = simple(3);
        int step = steps[rnd(6)], gap = k % 2 ? 1000 : 25 + (int)rnd(500);
        int at = k % 2 ? 7000 : 1 + (int)rnd(65535), n = 0;

        if (at + (2 * gap + 5) * step < 1 || at - 5 * step < 1 ||
            at + (2 * gap + 5) * step > 65535 || at - 5 * step > 65535)
            continue;
        for (int i = 0; i < 3; i++)
            one_door.seq.knock[i] = (uint32_t)(at + i * gap * step);
        watch(s, &one_conf);
        for (int i = -5; i <= 2 * gap + 5; i++)
            order[n++] = (uint16_t)(at + i * step);
        opens += scan(s, order, (unsigned)n);
    }
    CHECK(!opens, "%u of %u scans opened", opens, scans);
}

/* The 64 bits of strays: whatever the key, 12 or more ports, as they follow
 * each other in a scan, take more than 8 of them (but for bad luck). */
static void test_stray_bits(void) {
    static const unsigned steps[] = { 1, 2, 3, 4, 5, 7, 8, 16, 100, 256 };
    unsigned few = 0, rounds = times(20000, 1000000);
    static struct sniffer s;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned step = steps[rnd(10)], port = rnd(65536);
        uint64_t bits = 0;

        s.key[0] = rnd64();
        for (unsigned k = 0; k < 40; k++, port += step)
            bits |= stray_bit(&s, port % 65536);
        few += __builtin_popcountll(bits) <= STRAY_LIMIT;
    }
    CHECK(!few, "for %u keys of %u 40 ports take 8 bits or less", few,
          rounds);
}

/* FIN, NULL, Xmas, ACK and UDP scans, two scanners at one address. */
static void test_other_scans(void) {
    static const struct {
        struct flags door;
        uint8_t flags;
    } kinds[] = { { { 0, 0 }, 1 },  { { 1, 0 }, 1 },   { { 0, 0 }, 0 },
                  { { 0, 16 }, 0 }, { { 0, 0 }, 41 },  { { 41, 0 }, 41 },
                  { { 0, 0 }, 16 }, { { 16, 0 }, 16 }, { { 18, 0 }, 18 },
                  { { 0, 0 }, 2 },  { { 2, 0 }, 2 },   { { 16, 0 }, 0xff } };
    unsigned opens = 0, scans = 0;

    for (unsigned k = 0; k < 26; k++) {
        bool udp = k >= 24, pair = k >= 12 && !udp;
        struct sniffer *s = simple(3);
        struct addr a = addr_of("192.0.2.1");
        struct packet p = syn_from(&a, 1);

        p.flags = udp ? 0 : kinds[k % 12].flags;
        p.proto = udp ? UDP : TCP;
        p.bulk = udp || p.flags & 16;
        one_door.tcp = kinds[k % 12].door;
        for (unsigned i = 0; i < 3; i++)
            one_door.seq.knock[i] = knock_on(7000 + 1000 * i, udp);
        watch(s, &one_conf);
        for (unsigned i = 1; i < 65536; i++) {
            p.knock = knock_on(i, udp);
            p.number = i;
            match(s, &p);
            if (pair) {
                p.knock = (uint16_t)(i * 7);
                p.number ^= 0x80000000;
                match(s, &p);
            }
            heard = 0;
        }
        opens += (unsigned)s->counters[OPENS];
        scans++;
        CHECK(s->counters[ATTEMPTS] > 0, "%u", k);
    }
    CHECK(!opens, "%u of %u", opens, scans);
}
