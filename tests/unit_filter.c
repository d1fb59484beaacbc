/* Unit tests of the kernel's filters: packets (classic BPF) and system calls; part of unit.c. */

/* ---- The kernel filter ------------------------------------------------- */

static struct door many_doors[MANY];

/* Doors with random ports and flags; scattered: no two ports side by side. */
static void random_doors(struct conf *c, unsigned n, bool scattered) {
    static const struct flags flags[] = {
        { 0, 0 }, { 2, 0 }, { 2, 16 }, { 16, 0 }, { 18, 0 }
    };

    *c = (struct conf){ .doors = many_doors, .ndoors = n };
    for (unsigned i = 0; i < n; i++) {
        struct door *d = &many_doors[i];

        *d = (struct door){ .name = "d",
                            .seq_timeout = 10,
                            .stray_limit = 8,
                            .tcp = flags[rnd(5)] };
        d->seq.n = scattered ? 2 : 1 + rnd(6);
        for (unsigned k = 0; k < d->seq.n; k++) {
            unsigned port =
                scattered ? (i * 64 + k * 32) % 65536 : rnd(65535);

            d->seq.knock[k] =
                knock_on(port + 1, one_in(3) || (scattered && k));
        }
    }
}

/* Can a packet with ACK knock on the door? */
static bool takes_ack(const struct door *d) {
    bool syn = d->tcp.want & 2, ack = d->tcp.want & 16;

    return !(d->tcp.forbid & 16) && (!syn || ack);
}

/* Is a port one on which a bulk packet can be a knock, or as near to one as a
 * scan's strays that count, by the doors alone? */
static bool bulk_port(const struct conf *c, unsigned port, unsigned proto) {
    for (const struct door *d = c->doors; d < c->doors + c->ndoors; d++)
        for (unsigned k = 0; k < d->seq.n; k++)
            if (d->seq.knock[k] / TO_UDP == (proto == UDP) &&
                (unsigned)abs((int)(d->seq.knock[k] % TO_UDP) - (int)port) <=
                    (d->stray_limit ? d->stray_limit + 1 : 0) &&
                (proto == UDP || takes_ack(d)))
                return true;
    return false;
}

static void random_locals(struct sniffer *s, unsigned n,
                          unsigned interfaces) {
    struct locals *l = s->locals;

    *l = (struct locals){ .any = !interfaces,
                          .naddrs = n,
                          .ninterfaces = interfaces };
    for (unsigned i = 0; i < n; i++) {
        l->addr[i] = mapped;
        for (unsigned b = i % 2 ? 0 : 12; b < 16; b++)
            l->addr[i].b[b] = (uint8_t)(1 + rnd(200));
    }
    qsort(l->addr, n, sizeof(*l->addr), addr_cmp);
    for (unsigned i = 0; i < interfaces; i++) l->interface[i] = 2 + 3 * i;
}

/* A random packet: mostly to a local address, often to a port of a door. */
static size_t random_packet(const struct sniffer *s, uint8_t *b,
                            struct spec *spec, struct meta *m) {
    const struct locals *l = s->locals;
    const struct watch *d = &s->doors[rnd(s->ndoors)];
    static const uint8_t flags[] = { 2, 16, 18, 24, 0, 1, 41, 4 };
    static const uint8_t headers[] = { 0, 60, 43, 135 };

    memset(spec, 0, sizeof(*spec));
    spec->dst = l->naddrs ? l->addr[rnd(l->naddrs)] : addr_of("10.0.0.1");
    if (one_in(6)) spec->dst.b[15] ^= (uint8_t)rnd(256);
    spec->v6 = !is_v4(&spec->dst);
    spec->src = addr_of(spec->v6 ? "2001:db8::1" : "192.0.2.1");
    spec->src.b[15] = (uint8_t)(1 + rnd(20));
    spec->proto = one_in(2) ? TCP : UDP;
    spec->flags = flags[rnd(8)];
    spec->sport = 1 + rnd(65535);
    spec->seq = (uint32_t)rnd64();
    spec->dport = rnd(65536);
    if (one_in(2) && d->seq.n) {
        uint32_t k = d->seq.knock[rnd(d->seq.n)];

        spec->dport = k % TO_UDP;
        spec->proto = k & TO_UDP ? UDP : TCP;
    }
    spec->options = one_in(4) ? rnd(11) : 0;
    spec->next = spec->v6 && one_in(4) ? 1 + rnd(3) : 0;
    for (unsigned i = 0; i < spec->next; i++) spec->ext[i] = headers[rnd(4)];
    spec->payload = rnd(4);
    *m = (struct meta){ .protocol = spec->v6 ? 0x86dd : 0x0800,
                        .hatype = 1,
                        .ifindex = l->ninterfaces
                                       ? l->interface[rnd(l->ninterfaces)]
                                       : 7,
                        .pkttype = rnd(3) };
    return build(b, spec);
}

/* What the matcher remembers: two sums alike say that a packet changed
 * nothing. */
static uint64_t memory_of(const struct sniffer *s) {
    uint64_t h = s->counters[OPENS] * 3 + s->counters[CANCELLED] * 7;

    for (uint32_t i = 0; i < s->used; i++) {
        const struct attempt *a = &s->attempts[i];

        if (a->stage)
            h = h * 31 + a->stage + a->strays * 977 +
                (uint64_t)a->deadline * 13 + i;
    }
    for (unsigned i = 0; i < s->ndoors && i < 100; i++)
        h = h * 31 + (uint64_t)s->doors[i].quiet_until;
    return h;
}

/* A packet for the matcher, as frame() would give it. */
static void give(struct sniffer *s, const uint8_t *b, size_t n) {
    struct packet p;

    if (!parse(b, n, n, &p)) return;
    p.interface = 7;
    unlimited(s);
    match(s, &p);
    heard = 0;
}

/*
 * Whatever changes anything for the matcher has passed the filter that was
 * attached when the packet came; what passes comes from where it may; of the
 * bulk nothing else passes than what can knock or belongs to a source whose
 * strays count.
 */
static void filter_round(unsigned doors, unsigned addresses,
                         unsigned interfaces, unsigned packets) {
    struct conf c;
    struct sniffer *s;
    unsigned steps, bulk = 0, bulk_passed = 0;

    random_doors(&c, doors, false);
    s = sniffer_new(&c);
    random_locals(s, addresses, interfaces);
    filter_attach(s);
    CHECK(!bpf_fault(), "%s", bpf_fault());
    for (unsigned i = 0; i < packets; i++) {
        uint8_t b[512];
        struct spec spec;
        struct meta m;
        size_t n = random_packet(s, b, &spec, &m);
        bool passed = bpf_run(b, n, &m, &steps), plain, known, listed;
        uint64_t before = memory_of(s);

        s->now += rnd(40);
        plain = spec.proto == UDP || spec.flags & 16;
        known = bulk_port(&c, spec.dport, spec.proto);
        listed = s->nwide;
        give(s, b, n);
        CHECK(passed || memory_of(s) == before,
              "%u doors, port %u/%u, "
              "flags %u",
              doors, spec.dport, spec.proto, spec.flags);
        if (plain && !known && !listed && !spec.next) {
            bulk++;
            bulk_passed += passed;
        }
        expire_now(s);
        CHECK(!bpf_fault(), "%s", bpf_fault());
    }
    /* of few doors nothing is taken for granted: not one too many */
    CHECK(doors > 100 || !bulk_passed, "%u of %u", bulk_passed, bulk);
}

static void test_filter(void) {
    static const unsigned doors[] = { 1,   1,   2,    3,    10,  50,
                                      100, 400, 1000, 3000, MANY };

    for (unsigned i = 0; i < times(120, 3000); i++)
        filter_round(doors[i % 11], rnd(8), one_in(2) ? rnd(4) : 0,
                     doors[i % 11] > 1000 ? 100 : 400);
    filter_round(20, 64, 64, 400);
    filter_round(20, 65, 3, 400);
    filter_round(20, 1000, 0, 400);
}

/* Packets that are not for this host, or not fit to be read. */
static void test_filter_rejects(void) {
    struct conf c;
    struct sniffer *s;
    struct spec spec;
    struct meta m;
    uint8_t b[512];
    unsigned steps;
    size_t n;

    random_doors(&c, 3, false);
    for (unsigned i = 0; i < 3; i++)
        many_doors[i].tcp = (struct flags){ 2, 0 };
    s = sniffer_new(&c);
    random_locals(s, 4, 2);
    filter_attach(s);
    for (unsigned i = 0; i < 2000; i++) {
        n = random_packet(s, b, &spec, &m);
        memcpy(&spec.dst, &s->locals->addr[i % 4], 16);
        spec.v6 = !is_v4(&spec.dst);
        spec.src = addr_of(spec.v6 ? "2001:db8::1" : "192.0.2.1");
        m.protocol = spec.v6 ? 0x86dd : 0x0800;
        spec.next = spec.v6 ? spec.next : 0;
        spec.proto = TCP;
        spec.flags = 2;
        n = build(b, &spec);
        CHECK(bpf_run(b, n, &m, &steps));
        m.vlan_present = 1; /* a priority tag */
        m.vlan_tag = 0xe000;
        CHECK(bpf_run(b, n, &m, &steps));
        m.vlan_tag = 0xe001; /* another LAN's */
        CHECK(!bpf_run(b, n, &m, &steps));
        m.vlan_present = 0;
        m.pkttype = 3; /* for another host; 4: sent by us */
        CHECK(!bpf_run(b, n, &m, &steps));
        m.pkttype = 4;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.pkttype = 0;
        m.ifindex++;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.ifindex--;
        m.protocol = 0x0806;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.protocol = spec.v6 ? 0x86dd : 0x0800;
        spec.proto = spec.v6 ? 58 : 1;
        n = build(b, &spec);
        CHECK(spec.next || !bpf_run(b, n, &m, &steps));
        spec.proto = TCP;
        spec.fragment = 1 + rnd(0x1fff);
        n = build(b, &spec);
        CHECK(spec.v6 || !bpf_run(b, n, &m, &steps));
        spec.fragment = 0x4000;
        spec.flags = 16; /* of a connection */
        n = build(b, &spec);
        CHECK(spec.next || !bpf_run(b, n, &m, &steps));
        for (size_t cut = 0; cut < 20; cut++) /* no bytes, no crash */
            CHECK(!bpf_run(b, cut, &m, &steps));
    }
    settings.only_ipv4 = true;
    filter_attach(s);
    for (unsigned i = 0; i < 200; i++) {
        n = random_packet(s, b, &spec, &m);
        CHECK(!spec.v6 || !bpf_run(b, n, &m, &steps));
    }
    settings.only_ipv4 = false;
    random_locals(s, 2, 0);
    filter_attach(s);
    n = random_packet(s, b, &spec, &m);
    m.hatype = 772; /* any is not the loopback */
    CHECK(!bpf_run(b, n, &m, &steps));
    random_locals(s, 2, 1);
    s->locals->any = true; /* nor one that is not in the list beside it */
    s->locals->interface[0] = m.ifindex + 1;
    filter_attach(s);
    CHECK(!bpf_run(b, n, &m, &steps));
    s->locals->interface[0] = m.ifindex;
    for (unsigned passed = 0; passed < 20;) {
        n = random_packet(s, b, &spec, &m);
        filter_attach(s);
        bool as_other = bpf_run(b, n, &m, &steps);

        m.hatype = 772;
        CHECK(as_other == !!bpf_run(b, n, &m, &steps));
        passed += as_other;
    }
    random_locals(s, 0, 0); /* no address, no knock */
    filter_attach(s);
    for (unsigned i = 0; i < 200; i++) {
        n = random_packet(s, b, &spec, &m);
        CHECK(!bpf_run(b, n, &m, &steps));
    }
}

/* Does the kernel of this machine take the program? Any socket will do. */
static bool kernel_takes_filter(void) {
    struct {
        unsigned short n;
        void *code;
    } prog = { (unsigned short)filter_length, filter };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), result;

    if (fd < 0) return true; /* nobody to ask */
    result =
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
    close(fd);
    return result == 0 || errno != EINVAL;
}

/* At the extremes: 64 addresses and 8 sources of IPv6, 64 interfaces and the
 * worst scattered ports for both protocols. */
static void test_filter_extremes(void) {
    unsigned longest = 0, steps, most = 0;
    struct spec spec;
    struct meta m;
    struct conf c;
    uint8_t b[512];
    size_t n;

    for (unsigned doors = 1; doors <= 2048; doors += 1 + doors / 8) {
        struct sniffer *s;

        random_doors(&c, doors, true);
        for (unsigned i = 0; i < doors; i++) {
            many_doors[i].tcp = (struct flags){ 0, 0 };
            /* scattered over all of the range */
            for (unsigned k = 0; k < 2; k++)
                many_doors[i].seq.knock[k] =
                    knock_on(1 + i * (65534 / doors) + k, k);
        }
        c.ndoors = 2 * doors; /* and as many with keys, elsewhere */
        for (unsigned i = 0; i < doors; i++) {
            unsigned port = 30 + i * (65500 / doors);

            many_doors[doors + i] = (struct door){ .name = "k", .keys = "k" };
            many_doors[doors + i].seq.knock[0] = knock_on(port, true);
            many_doors[doors + i].seq.n = 1;
        }
        s = sniffer_new(&c);
        random_locals(s, 64, 64);
        for (unsigned i = 0; i < 64; i++) { /* all IPv6 */
            memset(&s->locals->addr[i], 0x20, 16);
            s->locals->addr[i].b[14] = (uint8_t)i;
        }
        for (unsigned i = 0; i < 8; i++) {
            struct packet p = { .knock = *many_doors[0].seq.knock,
                                .proto = TCP,
                                .flags = 2,
                                .dst = s->locals->addr[0],
                                .number = i };

            p.src = addr_of("2001:db8:1:2:3:4:5:6");
            p.src.b[15] = (uint8_t)i;
            unlimited(s);
            match(s, &p);
        }
        CHECK(s->nwide == 8);
        CHECK(!bpf_fault(), "%u doors: %s", doors, bpf_fault());
        CHECK(kernel_takes_filter(), "%u doors", doors);
        longest = filter_length > longest ? filter_length : longest;
        for (unsigned i = 0; i < 300; i++) {
            n = random_packet(s, b, &spec, &m);
            spec.dst = s->locals->addr[rnd(64)];
            spec.next = spec.options = 0;
            spec.v6 = true;
            m.protocol = 0x86dd;
            if (i % 2) spec.src = s->wide[i % 8];
            else spec.src = addr_of("2001:db8::77");
            n = build(b, &spec);
            bool passed = bpf_run(b, n, &m, &steps);
            bool probe = spec.proto == TCP && !(spec.flags & 16);
            bool needed =
                i % 2 || probe ||
                s->ports[knock_on(spec.dport, spec.proto == UDP)].bulk;

            CHECK(passed || !needed, "%u doors, port %u", doors, spec.dport);
            CHECK(needed || 4 * doors >= FILTER_EDGES_MAX || !passed,
                  "%u doors, port %u", doors, spec.dport);
            most = steps > most ? steps : most;
        }
        heard = 0;
    }
    CHECK(longest <= 4096, "%u", longest);
    note("filter: %u instructions at most, %u of them run for a packet",
         longest, most);
}

/* Bulk passes at a port that it can knock on, and at so many ports beside it that
 * a scan which passes is seen in time; never at those of the other protocol. */
static void test_filter_around(void) {
    static const struct {
        unsigned port, limit, first, last;
    } cases[] = {
        { 5000, 8, 4991, 5009 },    { 5000, 0, 5000, 5000 },
        { 5000, 1, 4998, 5002 },    { 3, 8, 0, 12 },
        { 65530, 8, 65521, 65535 },
    };

    for (unsigned udp = 0; udp < 2; udp++)
        for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
            struct door d = { .name = "d",
                              .stray_limit = cases[i].limit,
                              .seq_timeout = 1 };
            struct conf c = { .doors = &d, .ndoors = 1 };

            d.seq.n = 1;
            d.seq.knock[0] = knock_on(cases[i].port, udp);
            struct sniffer *s = sniffer_new(&c);
            for (unsigned port = 0; port < 65536; port++) {
                bool near = port >= cases[i].first && port <= cases[i].last;

                CHECK(s->ports[knock_on(port, udp)].bulk == near &&
                          !s->ports[knock_on(port, !udp)].bulk,
                      "%u: %u", i, port);
            }
        }
}

/* No room for the old filter beside the new one: all passes for a moment. */
static void test_filter_no_room(void) {
    struct conf c;
    struct sniffer *s;
    unsigned before;

    random_doors(&c, 3, false);
    s = sniffer_new(&c);
    random_locals(s, 2, 0);
    filter_attach(s);
    before = filter_length;
    filters = filter_length = 0;
    fail(FAULT_attach, 1, ENOMEM);
    filter_attach(s);
    CHECK(filters == 2 && filter_length == before && !bpf_fault());
}

/* The cost of a port grows with the logarithm of how many there are. */
static void test_filter_cost(void) {
    unsigned cost[3], i = 0, steps;
    struct spec spec;
    struct meta m;
    struct conf c;
    uint8_t b[512];

    for (unsigned doors = 10; doors <= 1000; doors *= 10, i++) {
        struct sniffer *s;

        random_doors(&c, doors, true);
        s = sniffer_new(&c);
        random_locals(s, 2, 0);
        filter_attach(s);
        cost[i] = 0;
        for (unsigned k = 0; k < 2000; k++) {
            size_t n = random_packet(s, b, &spec, &m);

            bpf_run(b, n, &m, &steps);
            cost[i] += steps;
        }
    }
    CHECK(cost[2] < cost[0] * 2, "%u, %u, %u", cost[0], cost[1], cost[2]);
    note("filter: %u, %u, %u instructions a packet for 10, 100, 1000 doors",
         cost[0] / 2000, cost[1] / 2000, cost[2] / 2000);
}

/* The seccomp filter allows the few calls that it should, and no other. */
static void test_seccomp(void) {
    static const int calls[] = {
        SYS_read,
        SYS_write,
        SYS_ppoll,
        SYS_clock_gettime,
        SYS_getsockopt,
        SYS_exit_group,
        SYS_restart_syscall,
        SYS_setsockopt,
#ifdef SYS_poll
        SYS_poll,
#endif
#ifdef SYS_clock_gettime64
        SYS_clock_gettime64,
        SYS_ppoll_time64, /* 32-bit */
#endif
    };
    static const struct meta none;
    uint8_t data[64] = { 0 };
    unsigned steps;

    if (!SECCOMP_ARCH) return;
    CHECK(seccomp());
    CHECK(!bpf_fault(), "%s", bpf_fault());
    for (unsigned number = 0; number < 1000; number++) {
        bool listed = false, allowed_one;

        for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++)
            listed |= (unsigned)calls[i] == number;
        put16(data + 2, number);
        put16(data + 4, SECCOMP_ARCH >> 16);
        put16(data + 6, SECCOMP_ARCH & 0xffff);
        put16(data + SECCOMP_ARG(0) + 2, 1);
        put16(data + SECCOMP_ARG(1) + 2, SOL_SOCKET);
        put16(data + SECCOMP_ARG(2) + 2, SO_ATTACH_FILTER);
        allowed_one = bpf_run(data, 64, &none, &steps) == 0x7fff0000;
        CHECK(allowed_one == listed, "call %u", number);
        /* setsockopt() of another descriptor, level or option */
        for (int i = 0; i < 3; i++) {
            size_t at = (size_t)SECCOMP_ARG(i) + 3;

            data[at] ^= 2;
            allowed_one = bpf_run(data, 64, &none, &steps) == 0x7fff0000;
            CHECK(allowed_one == (listed && number != SYS_setsockopt),
                  "call %u", number);
            data[at] ^= 2;
        }
        put16(data + 6, 1); /* another architecture's calls */
        CHECK(bpf_run(data, 64, &none, &steps) == 0x80000000);
    }
}
