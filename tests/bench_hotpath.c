/*
 * bench_hotpath - what one packet costs the sniffer, for callgrind to count
 *
 *	cc -std=c11 -Os -I. -o build/hotpath tests/bench_hotpath.c
 *
 *	hotpath			the names of the cases, one a line
 *	hotpath CASE COUNT	does it that often
 *
 * The difference of two counts leaves out what comes before. A packet is parsed
 * and matched as it is by the daemon; the ring and the filter are the kernel's.
 */
#include "harness.h"

/* The monitor's side is not run here. */
static pid_t spawn_note(const char *path, char *const *argv,
                        char *const *env) {
    (void)path, (void)argv, (void)env;
    return -1;
}

static void kill_note(pid_t pid, int number) { (void)pid, (void)number; }

static struct sniffer *sniffer;
static uint32_t next_source = 1;

static bool has_options; /* as a real TCP has them in its SYNs */

/* A SYN from a source, 0 is 10.0.0.0, to a port of this host. */
static void syn(uint32_t source, unsigned port) {
    static uint8_t b[44] = {
        0x45, [8] = 64, [9] = 6, [16] = 10, 77, 0, 1, [20] = 0x80, [33] = 2,
    };
    static uint32_t seq;
    static struct packet p;

    source += 10u << 24;
    put16(b + 12, source >> 16);
    put16(b + 14, source & 0xffff);
    put16(b + 22, port);
    put16(b + 24, seq++ & 0xffff);
    size_t n = has_options ? 44 : 40;

    b[3] = (uint8_t)n;
    b[32] = (uint8_t)((n - 20) / 4 << 4);
    if (parse(b, n, n, &p)) match(sniffer, &p);
}

static void nothing(void) {}

static void a_real_tcp(void) { has_options = true; }

static void one_attempt(void) { syn(0, 7000); }

static void many_attempts(void) {
    while (next_source < 3 * ATTEMPTS_MAX) syn(next_source++, 7000);
}

static void noise(void) { syn(next_source++, 30000); }

static void stray(void) { syn(0, 30000); }

static void first_knock(void) { syn(next_source++, 7000); }

static void whole_knock(void) {
    syn(next_source, 7000);
    syn(next_source, 8000);
    syn(next_source++, 9000);
}

/* The sniffer has the ids of so many clients. */
static void clients(uint32_t n) {
    struct key *keys = calloc(n, sizeof *keys);

    for (uint32_t i = 0; i < n; i++) memcpy(keys[i].of_ids, &i, sizeof i);
    readers_init(sniffer, keys, n);
    ids_make(sniffer);
    free(keys);
}

static void a_client(void) { clients(1); }

static void thousands_of_clients(void) { clients(10000); }

/* A datagram of random bytes, as long as a sealed knock; their making counts as
 * well. */
static void garbage(void) {
    static struct packet p;
    static uint64_t random = 88172645463325252, bytes[7];

    for (unsigned i = 0; i < 7; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bytes[i] = random;
    }
    p.sealed = (uint8_t *)bytes;
    if (sealed_take(sniffer, &p)) abort();
}

static const struct {
    const char *name;
    void (*before)(void), (*once)(void);
} cases[] = {
    { "noise", nothing, noise },
    { "noise-with-an-attempt-elsewhere", one_attempt, noise },
    { "stray-port-of-an-attempt", one_attempt, stray },
    { "first-knock", nothing, first_knock },
    { "first-knock-into-a-full-table", many_attempts, first_knock },
    { "three-knocks-that-open", nothing, whole_knock },
    { "first-knock-of-a-real-tcp", a_real_tcp, first_knock },
    { "three-knocks-of-a-real-tcp", a_real_tcp, whole_knock },
    { "garbage-for-one-client", a_client, garbage },
    { "garbage-for-10000-clients", thousands_of_clients, garbage },
};

/* One door, as in the example. */
static void load_doors(void) {
    static const char text[] = "[openSSH]\nsequence = 7000,8000,9000\n"
                               "seq_timeout = 300\ntcpflags = syn\n";
    static struct conf conf;
    char path[] = "/tmp/hotpath.XXXXXX";
    int fd = mkstemp(path);

    if (fd < 0 || write(fd, text, sizeof(text) - 1) < 0 ||
        !config_load(&conf, path))
        abort();
    close(fd);
    unlink(path);
    sniffer = sniffer_new(&conf);
    sniffer->locals->naddrs = 1;
    sniffer->locals->addr[0] = addr_of("10.77.0.1");
}

int main(int argc, char **argv) {
    size_t n = sizeof(cases) / sizeof(*cases);

    for (size_t i = 0; i < n; i++) {
        if (argc != 3) {
            puts(cases[i].name);
        } else if (!strcmp(argv[1], cases[i].name)) {
            load_doors();
            cases[i].before();
            for (int count = atoi(argv[2]); count > 0; count--)
                cases[i].once();
        }
    }
    return 0;
}
