/* Unit tests of parse() and what it needs; part of unit.c. */

/* ---- Packets ----------------------------------------------------------- */

enum { KINDS_OF_PACKETS = 14 };

/* Packets of every kind. Their addresses and numbers look like the length of a
 * TCP header to whoever looks for one in a wrong place. */
static size_t sample(uint8_t *b, unsigned kind) {
    struct spec s = { .proto = TCP,
                      .flags = 2,
                      .sport = 40000,
                      .dport = 7000,
                      .seq = 0x51525354,
                      .payload = 5 };
    unsigned all[] = { 0, 60, 43, 44, 60, 51, 135, 139, 140 };

    s.v6 = kind >= 7;
    s.src = addr_of(s.v6 ? "5051:5253:5455::5657:1" : "80.81.82.83");
    s.dst = addr_of(s.v6 ? "fd50:5152::5354:1" : "80.85.86.87");
    if (kind % 7 == 1 || kind % 7 == 3 || kind % 7 == 5) s.proto = UDP;
    if (!s.v6) {
        s.options = kind == 2 ? 10 : kind == 3 ? 1 : 0;
        s.tcp_options = kind == 4 ? 10 : kind == 2 ? 5 : 0;
        s.fragment = kind > 4 ? 0x2000 : 0x4000;
    } else {
        s.next = kind == 9 ? 1 : kind == 10 ? 2 : kind > 10 ? 8 : 0;
        for (unsigned i = 0; i < s.next; i++)
            s.ext[i] = (uint8_t)all[(i + kind) % 9];
        s.tcp_options = kind == 11 ? 10 : 0;
    }
    return build(b, &s);
}

/* Every length captured, every length on the wire. */
static void test_lengths(void) {
    uint8_t b[512];
    bool good;

    for (unsigned kind = 0; kind < KINDS_OF_PACKETS; kind++) {
        size_t n = sample(b, kind);
        unsigned accepted = 0;

        CHECK(parsed_alike(b, n, n, &good) && good, "kind %u", kind);
        for (size_t have = 0; have <= n + 20; have++) {
            memset(b + n, 0, 20);
            for (size_t wire = have; wire <= n + 40; wire++) {
                CHECK(parsed_alike(b, have, wire, &good),
                      "kind %u, %zu of %zu", kind, have, wire);
                CHECK(!good || wire >= n, "kind %u", kind);
                accepted += good;
            }
        }
        CHECK(accepted > 0);
    }
}

/* Every byte of a header takes every value: every length and version lies in
 * every way, every protocol follows every other. */
static void test_lies(void) {
    uint8_t b[512], c[512];
    unsigned accepted = 0, refused = 0;
    bool good;

    for (unsigned kind = 0; kind < KINDS_OF_PACKETS; kind++) {
        size_t n = sample(b, kind);

        for (size_t at = 0; at < n; at++)
            for (unsigned value = 0; value < 256; value++) {
                memcpy(c, b, n);
                c[at] = (uint8_t)value;
                CHECK(parsed_alike(c, n, n, &good), "kind %u, byte %zu is %u",
                      kind, at, value);
                *(good ? &accepted : &refused) += 1;
            }
        /* the lengths of 16 bits: IPv4 at 2, IPv6 at 4, UDP */
        for (unsigned value = 0; value < 65536; value++) {
            memcpy(c, b, n);
            put16(c + (kind < 7 ? 2 : 4), value);
            CHECK(parsed_alike(c, n, n, &good), "kind %u, %u", kind, value);
            CHECK(!good || value <= n);
            if (kind != 1 && kind != 8) continue;
            memcpy(c, b, n);
            put16(c + (kind < 7 ? 20 : 40) + 4, value);
            CHECK(parsed_alike(c, n, n, &good), "udp, %u", value);
            CHECK(good == (value >= 8 && value <= 13), "%u", value);
        }
    }
    CHECK(accepted > 10000 && refused > 10000);
}

/* Several bytes at once, and cut anywhere. */
static void test_mutations(void) {
    static const uint8_t likely[] = { 0, 1, 4, 6, 17, 43, 44, 51, 60, 255 };
    uint8_t b[512];
    unsigned accepted = 0;
    bool good;

    for (unsigned i = 0; i < times(500000, 20000000); i++) {
        size_t n = sample(b, rnd(KINDS_OF_PACKETS)), wire;

        for (unsigned k = rnd(6); k; k--)
            b[rnd((unsigned)n)] =
                one_in(2) ? likely[rnd(10)] : (uint8_t)rnd(256);
        wire = n + (one_in(4) ? rnd(40) : 0);
        if (one_in(3)) n = rnd((unsigned)n + 1);
        CHECK(parsed_alike(b, n, wire, &good), "packet %u", i);
        accepted += good;
    }
    CHECK(accepted > 1000);
}

/* An IPv6 packet from an IPv4 address, as ::ffff:a.b.c.d, is forged: the door of
 * that address is none of its. */
static void test_forged_sources(void) {
    struct spec s = { .v6 = true, .proto = TCP, .dport = 7000 };
    struct packet p;
    uint8_t b[512];
    size_t n;

    s.dst = addr_of("fd00::1");
    s.src = addr_of("::fffe:192.0.2.1");
    n = build(b, &s);
    CHECK(parse(b, n, n, &p));
    s.src = addr_of("192.0.2.1");
    n = build(b, &s);
    CHECK(!parse(b, n, n, &p));
}

/* At most eight extension headers. */
static void test_extension_headers(void) {
    struct spec s = { .v6 = true,
                      .proto = TCP,
                      .dport = 7000,
                      .src = addr_of("2001:db8::1"),
                      .dst = addr_of("fd00::1") };
    struct packet p;
    uint8_t b[512];
    size_t n;

    memset(s.ext, 60, sizeof(s.ext));
    for (s.next = 0; s.next <= 12; s.next++) {
        n = build(b, &s);
        CHECK(parse(b, n, n, &p) == (s.next <= 8), "%u", s.next);
    }
    s.next = 1;
    s.ext[0] = 43;
    n = build(b, &s);
    CHECK(parse(b, n, n, &p));
    b[40 + 3] = 1; /* a segment left: it is on its way to somewhere else */
    CHECK(!parse(b, n, n, &p));
    s.ext[0] = 44;
    n = build(b, &s);
    b[40 + 3] = 1; /* more fragments */
    CHECK(parse(b, n, n, &p) && p.part);
    b[40 + 2] = 1; /* a later one */
    CHECK(!parse(b, n, n, &p));
}

/* The mark: the same for a retransmission, another one for another packet. */
static void test_marks(void) {
    unsigned same = 0, rounds = times(100000, 1000000), ones[48] = { 0 };
    static struct sniffer sniffer;
    struct packet p, q;
    uint8_t b[512];

    for (int i = 0; i < 7; i++) sniffer.key[i] = rnd64();

    for (unsigned i = 0; i < rounds; i++) {
        struct spec s = { .v6 = one_in(2),
                          .proto = one_in(2) ? TCP : UDP,
                          .flags = 2,
                          .sport = 1 + rnd(65535),
                          .dport = 7000,
                          .seq = (uint32_t)rnd64() };
        size_t n;

        s.src = addr_of(s.v6 ? "2001:db8::1" : "192.0.2.1");
        s.dst = addr_of(s.v6 ? "fd00::1" : "10.0.0.1");
        n = build(b, &s);
        CHECK(parse(b, n, n, &p));
        if (!s.v6) b[8]--; /* another way here */
        if (s.proto == TCP && !s.v6)
            put16(b + 4, rnd(65536)); /* sent again: new packet */
        CHECK(parse(b, n, n, &q));
        CHECK(mark_of(&sniffer, &p, hash(&sniffer, &p.src)) ==
              mark_of(&sniffer, &q, hash(&sniffer, &q.src)));
        uint64_t mark = mark_of(&sniffer, &p, hash(&sniffer, &p.src));
        for (unsigned bit = 0; bit < 48; bit++) ones[bit] += mark >> bit & 1;
        CHECK(mark >> 48 == 0);
        if (one_in(2)) s.seq += 1 + rnd(60000);
        else s.sport = s.sport % 65535 + 1;
        n = build(b, &s);
        CHECK(parse(b, n, n, &q));
        same += mark_of(&sniffer, &p, hash(&sniffer, &p.src)) ==
                mark_of(&sniffer, &q, hash(&sniffer, &q.src));
    }
    CHECK(!same, "%u of %u", same, rounds); /* by chance one in 2^48 */
    for (unsigned bit = 0; bit < 48; bit++) /* each is as often 0 as 1 */
        CHECK(ones[bit] > rounds / 20 * 9 && ones[bit] < rounds / 20 * 11,
              "%u: %u", bit, ones[bit]);
    /* of UDP without a checksum, each bit of the identification counts */
    struct spec s = { .proto = UDP, .sport = 5, .dport = 7000 };
    s.src = addr_of("192.0.2.1");
    s.dst = addr_of("10.0.0.1");
    size_t n = build(b, &s);
    CHECK(parse(b, n, n, &p));
    for (unsigned bit = 0; bit < 16; bit++) {
        put16(b + 4, 1u << bit);
        CHECK(parse(b, n, n, &q));
        CHECK(mark_of(&sniffer, &p, hash(&sniffer, &p.src)) !=
              mark_of(&sniffer, &q, hash(&sniffer, &q.src)));
        p = q;
    }
}

static void test_addresses(void) {
    static const struct {
        const char *text;
        bool usable, loopback;
    } cases[] = {
        { "0.0.0.0", false, false },
        { "0.1.2.3", false, false },
        { "1.0.0.0", true, false },
        { "127.0.0.1", true, true },
        { "127.255.1.1", true, true },
        { "128.0.0.1", true, false },
        { "223.255.255.255", true, false },
        { "224.0.0.1", false, false },
        { "255.255.255.255", false, false },
        { "::", false, false },
        { "::1", true, true },
        { "::2", true, false },
        { "fe80::1", true, false },
        { "feff::1", true, false },
        { "ff02::1", false, false },
        { "ffff::", false, false },
    };
    char buf[ADDR_TEXT];

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct addr a = addr_of(cases[i].text);

        CHECK(addr_usable(&a) == cases[i].usable, "%s", cases[i].text);
        CHECK(addr_loopback(&a) == cases[i].loopback, "%s", cases[i].text);
        CHECK(!strcmp(addr_text(&a, buf), cases[i].text), "%s", buf);
        CHECK(is_v4(&a) == !strchr(cases[i].text, ':'));
    }
}
