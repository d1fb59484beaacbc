/*
 * Fuzz targets of knockd.c, one a build:
 *
 *	clang -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -I. \
 *		-fsanitize=fuzzer,address,undefined -DTARGET=packet \
 *		-o build/fuzz-packet tests/fuzz.c
 *
 * TARGET: packet (parse and match), config, onetime, state, event. What a
 * target promises is tested by abort(), not only by the sanitizers.
 */
#define main knockd_main
#include "../knockd.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(what) do { if (!(what)) abort(); } while (0)

/* A file that holds the input, and a path to it. */
__attribute__((unused))
static const char *input_file(const uint8_t *data, size_t size) {
    static char path[64];
    static int fd = -1;
    if (fd < 0) fd = memfd_create("input", 0);
    REQUIRE(ftruncate(fd, 0) == 0);
    REQUIRE(pwrite(fd, data, size, 0) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

__attribute__((unused))
static void quiet(void) {
    out.started = out.detached = true;
}

static const char doors[] =
    "[a]\nsequence=7000,8000,9000\ntcpflags=syn\n"
    "[b]\nsequence=7000,7000,8000:udp\nseq_timeout=3\n"
    "[c]\nsequence=53:udp\nseq_cooldown=1\n"
    "[d]\nsequence=9000,8000,7000\nallow=10.0.0.0/8,fd00::/8\n";

/* A sniffer without a socket. Its events go into a pipe that is read. */
static struct sniffer *sniffer_made(void) {
    static struct conf c;
    static struct sniffer s = { .packets = -1 };
    int ends[2];
    quiet();
    REQUIRE(config_load(&c, AT_FDCWD, input_file((const uint8_t *)doors,
                                                 sizeof doors - 1), false));
    REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
    s.conf = &c;
    s.channel = ends[1];
    s.packets = ends[0];            /* only to be read from below */
    s.locals.naddrs = 2;
    REQUIRE(addr_parse("10.0.0.1", &s.locals.addr[0]));
    REQUIRE(addr_parse("fd00::1", &s.locals.addr[1]));
    qsort(s.locals.addr, 2, sizeof *s.locals.addr, addr_cmp);
    s.attempts = calloc(SEQUENCE_MAX + ATTEMPTS_MAX + 1, sizeof *s.attempts);
    s.buckets = calloc(ATTEMPTS_MAX, sizeof *s.buckets);
    s.firsts = calloc(c.ndoors + 1, sizeof *s.firsts);
    for (s.used = 0; s.used <= SEQUENCE_MAX; s.used++)
        s.attempts[s.used].older = s.attempts[s.used].newer = s.used;
    s.used--;
    s.now = 1;
    s.next_expiry = INT64_MAX;
    index_doors(&s);
    return &s;
}

/* Every event must be one that the monitor takes. */
static void events_check(struct sniffer *s) {
    static struct monitor m;
    struct event e;
    m.conf = *s->conf;
    while (recv(s->packets, &e, sizeof e, MSG_DONTWAIT) > 0) {
        m.records = 0;
        REQUIRE(!fault(&m, &e, sizeof e));
        REQUIRE(e.kind != OPEN || addr_usable(&e.src));
    }
}

/* Packets, each with a length of two bytes and a time step of one before it. */
__attribute__((unused))
static int packet(const uint8_t *data, size_t size) {
    static struct sniffer *s;
    if (!s) s = sniffer_made();
    while (size > 3) {
        size_t wire = (size_t)data[0] << 8 | data[1], n = size - 3;
        struct packet p;
        s->now += data[2];
        data += 3;
        if (n > wire) n = wire;
        uint8_t *exact = malloc(n + !n);        /* to see a byte too far */
        memcpy(exact, data, n);
        if (parse(exact, n, wire, &p)) {
            p.interface = 1;
            REQUIRE(p.proto == TCP || p.proto == UDP);
            match(s, &p);
        }
        free(exact);
        data += n;
        size -= n + 3;
        limit(s);
        expire(s);
        events_check(s);
    }
    return 0;
}

/* What -t prints of a good file is a good file that prints the same. */
__attribute__((unused))
static int config(const uint8_t *data, size_t size) {
    struct conf c;
    quiet();
    config_load(&c, AT_FDCWD, input_file(data, size), false);
    for (unsigned i = 0; !c.errors && i < c.ndoors; i++) {
        const struct door *d = &c.doors[i];
        REQUIRE(d->one_time || (d->seq.n >= 1 && d->seq.n <= SEQUENCE_MAX));
        for (unsigned k = 0; k < d->seq.n; k++) REQUIRE(d->seq.knock[k].port);
        REQUIRE(d->seq_timeout <= SECONDS_MAX && d->cmd_timeout <= SECONDS_MAX);
        REQUIRE(d->stray_limit <= STRAY_LIMIT_MAX);
    }
    config_free(&c);
    return 0;
}

/* A sequence that was used is not the next one, and not the one after that. */
__attribute__((unused))
static int onetime(const uint8_t *data, size_t size) {
    struct conf c = { .path = "conf" };
    struct door d = { .name = "d", .one_time = input_file(data, size) };
    quiet();
    int left = one_time(&c, &d, AT_FDCWD, false);
    REQUIRE(left >= 0 && (left > 0) == (d.seq.n > 0));
    if (left > 0) REQUIRE(one_time(&c, &d, AT_FDCWD, true) == left - 1);
    return 0;
}

/* Nothing is taken from a file whose checksum is wrong; a good one is found
 * good however its lines look. */
__attribute__((unused))
static int state(const uint8_t *data, size_t size) {
    static struct monitor m;
    char *text = malloc(size + 64);
    quiet();
    memcpy(text, data, size);
    text[size] = '\0';
    size_t n = size;
    if (size && data[0] & 1)        /* half of them with a checksum */
        n += (size_t)sprintf(text + size, "sum %016llx\n",
                             (unsigned long long)checksum(data, size));
    state_parse(&m, text, n);
    while (m.openings) {
        REQUIRE(m.openings->stop && strlen(m.openings->door) <= DOOR_NAME_MAX);
        opening_free(&m, m.openings);
    }
    REQUIRE(m.count == 0);
    free(text);
    return 0;
}

/* A record that passes has a door, a stage and an address that make sense. */
__attribute__((unused))
static int event(const uint8_t *data, size_t size) {
    static struct monitor m;
    struct event e = { 0 };
    if (!m.conf.ndoors) m.conf = *sniffer_made()->conf;
    memcpy(&e, data, size < sizeof e ? size : sizeof e);
    m.records = 0;
    if (!fault(&m, &e, (ssize_t)size) && e.kind == OPEN) {
        REQUIRE(size == sizeof e && e.door < m.conf.ndoors);
        REQUIRE(e.stage == m.conf.doors[e.door].seq.n && addr_usable(&e.src));
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return TARGET(data, size);
}
