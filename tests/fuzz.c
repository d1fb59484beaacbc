/*
 * Fuzz targets, one a build. For libFuzzer, and with afl-clang-fast for AFL++:
 *
 *	clang -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -O1 -I. \
 *		-fsanitize=fuzzer,address,undefined \
 *		-DTARGET_PACKET -o build/fuzz-packet tests/fuzz.c
 *
 * -DSTANDALONE, without -fsanitize=fuzzer: runs the files that are named.
 *
 * TARGET_PACKET	many packets an input, read (twice) and matched
 * TARGET_WORLD		doors and what happens to them, against the oracle
 * TARGET_CONFIG	a configuration; what -t prints of it means the same
 * TARGET_STATE		a state file; what it opens is closed
 * TARGET_ONETIME	a file of one-time sequences; none is good twice
 * TARGET_EVENT		the sniffer's records, as the monitor takes them
 * TARGET_KEYS		a file of keys, against a second reader
 * TARGET_SEALED	sealed knocks, clocks, reloads and restarts, against a
 *			second judge
 * TARGET_KNOCK		the arguments and the profile of knock
 */
#ifdef TARGET_KNOCK
/*
 * knock's arguments and profile, with a network that answers as the input says.
 * Input: lines; the first ones are the arguments, up to an empty line; what
 * follows is the file of profiles.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* knock finds its options by a function of the daemon's. */
#define main knockd_main
#define status knockd_status
#include "../knockd.c"
#undef main
#undef status
#undef G

#define REQUIRE(good)                                                      \
    do {                                                                   \
        if (!(good)) {                                                     \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #good); \
            abort();                                                       \
        }                                                                  \
    } while (0)

static jmp_buf end;
static int status;
static const char *profile; /* the file's text, or NULL */
static size_t profile_size, profile_at;
static uint64_t luck; /* what the network does, bit by bit */
static unsigned sockets, messages, open_now;
static bool resolved;
static struct sockaddr_in answer = { .sin_family = AF_INET };
static struct addrinfo result = { .ai_family = AF_INET,
                                  .ai_addr = (struct sockaddr *)&answer,
                                  .ai_addrlen = sizeof(answer) };

static bool lucky(void) {
    luck = luck * 6364136223846793005u + 1442695040888963407u;
    return luck >> 60 < 12;
}

__attribute__((noreturn)) static void t_end(int value) {
    status = value;
    longjmp(end, 1);
}

__attribute__((format(printf, 1, 2))) static void t_message(const char *fmt,
                                                            ...) {
    static char text[1 << 16];
    va_list ap;

    if (!fmt) return;
    va_start(ap, fmt);
    REQUIRE(vsnprintf(text, sizeof(text), fmt, ap) >= 0);
    va_end(ap);
    messages++;
}

static int t_socket(void) {
    if (!lucky()) return errno = EMFILE, -1;
    sockets++;
    open_now++;
    return 1000;
}

static int t_connect(const struct sockaddr *address) {
    const struct sockaddr_in *in =
        (const struct sockaddr_in *)(const void *)address;

    REQUIRE(in->sin_port);
    return lucky() ? 0 : (errno = lucky() ? EINPROGRESS : ECONNREFUSED, -1);
}

static int t_getaddrinfo(const char *name, const struct addrinfo *hints,
                         struct addrinfo **to) {
    REQUIRE(name);
    if (hints->ai_flags & AI_NUMERICHOST && *name > '9') return EAI_NONAME;
    if (!lucky()) return EAI_AGAIN;
    resolved = true;
    *to = &result;
    return 0;
}

static int t_open(void) {
    profile_at = 0;
    return profile ? 2000 : (errno = ENOENT, -1);
}

static int t_close(int fd) {
    open_now -= fd == 1000;
    return 0;
}

static ssize_t t_read(int fd, void *to, size_t n) {
    if (fd != 2000) return lucky() ? (ssize_t)(n < 10 ? n : 10) : 0;
    if (n > profile_size - profile_at) n = profile_size - profile_at;
    memcpy(to, profile + profile_at, n);
    profile_at += n;
    return (ssize_t)n;
}

static int t_poll(struct pollfd *fds, nfds_t n) {
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = lucky() ? fds[i].events : 0;
    return lucky();
}

static struct servent *t_service(const char *name) {
    static struct servent ssh;

    ssh.s_port = htons(22);
    return strcmp(name, "ssh") ? NULL : &ssh;
}

static int t_nothing(int value) { return value; }

/* knock frees nothing; all of a run is freed before the next. */
static void *pieces[4096];
static size_t npieces;

static void *t_calloc(size_t size) {
    if (npieces == sizeof(pieces) / sizeof(*pieces) || !lucky())
        return errno = ENOMEM, NULL;
    return pieces[npieces++] = calloc(1, size);
}

#define dprintf(fd, ...) ((void)(fd), t_message(__VA_ARGS__), 0)
#define vdprintf(fd, fmt, ap) t_message("%.0s", fmt)
#define exit(value) t_end(value)
#define calloc(n, size) t_calloc((n) * (size))
#define socket(d, t, p) ((void)(d), (void)(t), t_socket())
#define connect(fd, a, n) ((void)(fd), (void)(n), t_connect(a))
#define bind(fd, a, n) t_nothing(((void)(fd), (void)(a), lucky() - 1))
#define setsockopt(fd, l, o, v, n) t_nothing(((void)(v), lucky() - 1))
#define getsockopt(fd, l, o, v, n) \
    ((void)(n), *(v) = lucky() ? 0 : ECONNREFUSED)
#define send(fd, p, n, f) (lucky() ? (ssize_t)(n) : (errno = EPERM, -1))
#define getaddrinfo(h, s, i, to) ((void)(s), t_getaddrinfo(h, i, to))
#define getservbyname(name, proto) t_service(name)
#define open(path, flags) ((void)(path), t_open())
#define fstat(fd, st) (memset(st, 0, sizeof(*(st))), t_nothing(fd) * 0)
#define read(fd, to, n) t_read(fd, to, n)
#define write(fd, from, n) (lucky() ? (ssize_t)(n) : (errno = EPIPE, -1))
#define shutdown(fd, how) t_nothing((fd)*0)
#define close(fd) t_close(fd)
#define poll(fds, n, ms) ((fds) ? t_poll(fds, n) : t_nothing((int)(ms)*0))
#define getenv(name) "/home"
#define signal(number, action) t_nothing(number)
#include "../knock.c"
#undef exit
#undef calloc
#undef dprintf
#undef read
#undef open
#undef close

/* As it is before main(). */
static void fresh(void) {
    while (npieces) free(pieces[--npieces]);
    nknocks = npeers = 0;
    given = (struct given){ .delay = 10, .timeout = 10 };
    where[0] = searched[0] = '\0';
    own = NULL;
    peer = peers;
    optind = 0;
    opterr = 0;
    sockets = messages = open_now = 0;
    resolved = false;
    status = -1;
}

static void one_input(const uint8_t *data, size_t n) {
    static char text[1 << 16], program[] = "knock", *argv[64];
    static char *line, *rest_of;
    static int argc;

    if (n >= sizeof(text)) return;
    memcpy(text, data, n);
    text[n] = '\0';
    luck = n * 0x9e3779b9u + (n ? data[n - 1] : 0);
    fresh();
    rest_of = text;
    argv[0] = program;
    for (argc = 1; argc < 60 && (line = strsep(&rest_of, "\n")) && *line;)
        argv[argc++] = line;
    argv[argc] = NULL;
    profile = rest_of;
    profile_size = rest_of ? n - (size_t)(rest_of - text) : 0;
    if (setjmp(end) == 0) status = knock_main(argc, argv);
    REQUIRE(status == 0 || status == 1);
    REQUIRE(status == 0 || messages); /* says why */
    REQUIRE(!sockets || resolved);
}

#else
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef TARGET_SEALED
#include "../config.h"

/* Most of the time is spent in the two hashes: they are not looked into here. */
#define BARE __attribute__((no_sanitize("coverage", "address", "undefined")))
static void compress(uint32_t state[8], const uint8_t block[64]) BARE;
static uint32_t turn_right(uint32_t x, int n) BARE;
static void j_sha256(const uint8_t *text, size_t n, uint8_t hash[32]) BARE;
static uint32_t j_rotate(uint32_t x, unsigned n) BARE;
#endif
#include "harness.h"
#include "world.h"

#define REQUIRE(good)                                                  \
    do {                                                               \
        if (!(good)) {                                                 \
            fprintf(stderr, "%s:%d: not %s\n%s\n", __FILE__, __LINE__, \
                    #good, kept);                                      \
            abort();                                                   \
        }                                                              \
    } while (0)

static unsigned nspawned;
static char spawned[256];

static pid_t spawn_note(const char *path, char *const *argv,
                        char *const *env) {
    (void)env;
    snprintf(spawned, sizeof(spawned), "%s %s", path, argv[0]);
    return (pid_t)(1000 + nspawned++);
}

static void kill_note(pid_t pid, int number) {
    (void)pid;
    (void)number;
}

/* The input as a file, the only one that there is. */
static const char *input_file(const uint8_t *data, size_t n) {
    static char path[64];
    static int fd = -1;

    if (fd < 0) fd = memfd_create("input", 0);
    REQUIRE(fd >= 0 && !ftruncate(fd, 0) && !fchmod(fd, 0600));
    REQUIRE(pwrite(fd, data, n, 0) == (ssize_t)n);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    t_only_path = path;
    forget();
    return path;
}

/* Every byte that was printed is text. */
static void check_text(void) {
    for (size_t i = 0; i < kept_length; i++)
        REQUIRE((uint8_t)kept[i] >= ' ' || kept[i] == '\n' ||
                kept[i] == '\t');
}
#endif

#ifdef TARGET_PACKET

/*
 * Input: what happens to one packet, byte by byte. It is sent after each byte of
 * the first three kinds, so that an input is many packets:
 *
 *	0x00 - 0x7f	the next byte is put there
 *	0x80 - 0x9f	time passes, up to 16 minutes
 *	0xa0 - 0xbf	becomes one of those below
 *	0xc0 - 0xdf	is from another interface, or a loopback one
 *	0xe0 - 0xef	the next byte is how much of it is captured, and so are
 *			the bytes behind it
 *	0xf0 - 0xff	its length on the wire is this and the next byte
 *
 * All is made once and cleaned behind each input: no system call, no memory of
 * its own, which makes it fast.
 */
enum { PACKET_MAX = 256 };

static unsigned long packets; /* in all inputs */

static struct sniffer *one_sniffer(void) {
    static struct net near = { { { [10] = 255, [11] = 255, [12] = 192 } },
                               104 };
    static struct net here = { { { [10] = 255, [11] = 255, [12] = 10 } },
                               104 };
    static struct door door[] = {
        { .seq = { { 7000, 8000, 9000 }, 3 }, .tcp = { 2, 16 } },
        { .seq = { { 7000, 8000 | TO_UDP }, 2 }, .stray_limit = 3 },
        { .seq = { { 9000 | TO_UDP }, 1 }, .allow = { &near, 1 } },
        { .seq = { { 8000, 8000, 7000 }, 3 }, .deny = { &near, 1 } },
        { .seq = { { 9000, 7000 }, 2 }, .target = { &here, 1 } },
        { .seq = { { 9000, 8000 }, 2 }, .cooldown = 2 },
    };
    static struct conf conf = { .doors = door };
    struct sniffer *s;

    conf.ndoors = sizeof(door) / sizeof(*door);
    for (unsigned i = 0; i < conf.ndoors; i++) {
        door[i].name = "door";
        door[i].seq_timeout = 5 + i;
    }
    s = sniffer_new(&conf);
    s->locals->naddrs = 1;
    s->locals->addr[0] = addr_of("10.0.0.1");
    s->look = INT64_MAX;
    s->nwide = FILTER_SOURCES_MAX + 1; /* no filter is looked at here */
    return s;
}

/* One of 32 packets that are right: two sources, each port, TCP and UDP. */
static size_t right_packet(uint8_t *to, unsigned n) {
    static const unsigned port[] = { 7000, 8000, 9000, 53 };
    struct spec p = { .v6 = n & 1,
                      .proto = n & 2 ? UDP : TCP,
                      .dport = port[n >> 2 & 3],
                      .sport = 1024 + n,
                      .seq = 65536 + n,
                      .flags = 2,
                      .tcp_options = 1 };

    p.src = addr_of(p.v6     ? "2001:db8::1"
                    : n & 16 ? "192.0.2.2"
                             : "172.16.0.1");
    p.dst = addr_of(p.v6 ? "fd00::1" : "10.0.0.1");
    return build(to, &p);
}

/* Everything that the sniffer says is possible. */
static void check_events(const struct sniffer *s) {
    unsigned n = heard;

    for (unsigned i = 0; i < n; i++) {
        const struct event *e = &events[i];

        REQUIRE(e->kind < KINDS);
        REQUIRE(e->kind == SUPPRESSED ||
                (e->door < s->ndoors && addr_usable(&e->src) &&
                 e->stage <= SEQUENCE_MAX));
    }
    events_kept = 0;
}

static void one_input(const uint8_t *data, size_t n) {
    static struct sniffer *s, fresh;
    static uint8_t right[32][PACKET_MAX];
    static size_t length[32];
    static struct packet sent[1024];
    union slot slot = { .bytes = { 0 } };
    struct tpacket2_ *t = &slot.head;
    uint8_t *now = slot.bytes + 80;
    unsigned nsent = 0;
    bool good;

    for (unsigned i = 0; !s && i < 32; i++)
        length[i] = right_packet(right[i], i);
    if (!s) {
        s = one_sniffer();
        fresh = *s;
    }
    *t = (struct tpacket2_){ .net = 80 };
    slot.from = (struct sockaddr_ll){ .sll_hatype = 1, .sll_ifindex = 1 };
    for (const uint8_t *end = data + n; data < end && nsent < 1024;) {
        unsigned op = *data++, next = data < end ? *data : 0;
        struct packet *p = &sent[nsent];
        size_t room = FRAME_BYTES - 80;

        if (op < 0x80) {
            if (op < room) now[op] = (uint8_t)next;
            data++;
        } else if (op < 0xa0) {
            s->now += (op & 31) * (op & 31) * 1000;
        } else if (op < 0xc0) {
            memcpy(now, right[op & 31], length[op & 31]);
            t->len = t->captured = (uint32_t)length[op & 31];
        } else if (op < 0xe0) {
            slot.from.sll_ifindex = op & 3;
            slot.from.sll_hatype = op & 4 ? HATYPE_LOOPBACK : 1;
            continue;
        } else if (op < 0xf0) {
            size_t left = (size_t)(end - data);

            t->captured = next < room ? next : (uint32_t)room;
            if (left > t->captured + 1) left = t->captured + 1;
            if (left) memcpy(now, data + 1, left - 1);
            data += left;
            if (t->len < t->captured) t->len = t->captured;
            continue;
        } else {
            t->len = t->captured + (op & 15) * 256 + next;
            data++;
            continue;
        }
        packets++;
        REQUIRE(parsed_alike(now, t->captured, t->len, &good));
        if (!frame(s, &slot, p)) continue;
        REQUIRE(good);
        unlimited(s);
        match(s, p);
        nsent++;
        expire_now(s);
        check_events(s);
        REQUIRE(s->active <= s->used && s->used <= nsent * s->ndoors);
    }
    for (unsigned i = 0; i < s->used; i++) {
        *bucket(s, hash(s, &s->attempts[i].src)) = NULL;
        memset(&s->attempts[i], 0, sizeof(*s->attempts));
    }
    for (unsigned i = 0; i < nsent; i++) {
        memset(mark_set(s, &sent[i], false), 0, sizeof(*s->marks));
        memset(mark_set(s, &sent[i], true), 0, sizeof(*s->marks));
    }
    for (unsigned i = 0; i <= SEQUENCE_MAX; i++)
        s->stages[i].older = s->stages[i].newer = &s->stages[i];
    memcpy(s, &fresh, offsetof(struct sniffer, noted));
    s->suppressed = s->unsent = 0;
}

/* For the statistics of fuzz.sh. */
__attribute__((destructor)) static void packets_said(void) {
    fprintf(stderr, "stat::packets: %lu\n", packets);
}

#endif
#if defined(TARGET_WORLD) || defined(TARGET_SEALED)

/* The input as choices; when it ends, all of them are 0. */
static const uint8_t *choices;
static size_t nchoices;

static unsigned take(unsigned n) {
    unsigned value = 0;

    for (unsigned k = n; k > 1 && nchoices; k = (k + 255) / 256, nchoices--)
        value = value * 256 + *choices++;
    return n ? value % n : 0;
}

#endif
#ifdef TARGET_WORLD

/* A world and what happens in it, both chosen by the input. */
static void chosen_packets(const uint8_t *data, size_t n, bool filter) {
    choices = data;
    nchoices = n;
    draw = take;
    world_new(filter);
    while (nchoices) {
        if (world_stream(1)) continue;
        snprintf(kept, sizeof(kept), "%s", world.why);
        REQUIRE(!"agreed");
    }
}

static void one_input(const uint8_t *data, size_t n) {
    chosen_packets(data + 1, n - 1, data[0] % 8 == 3);
}

#endif
#ifdef TARGET_CONFIG

static void one_input(const uint8_t *data, size_t n) {
    static char first[KEPT_MAX], second[KEPT_MAX];
    struct conf c;

    out.started = false;
    settings.test = n & 1;
    if (!config_load(&c, input_file(data, n))) {
        REQUIRE(c.errors && kept_length);
        check_text();
        config_free(&c);
        return;
    }
    check_text();
    for (unsigned k = 0; k < c.ndoors; k++) {
        const struct door *d = &c.doors[k];

        REQUIRE(d->seq.n <= SEQUENCE_MAX && (d->seq.n || d->one_time));
        for (unsigned i = 0; i < d->seq.n; i++)
            REQUIRE(d->seq.knock[i] % TO_UDP && d->seq.knock[i] < KNOCKS);
        REQUIRE(strlen(d->name) <= DOOR_NAME_MAX && *d->name);
        REQUIRE(d->seq_timeout <= SECONDS_MAX && d->stray_limit <= 63 &&
                d->cmd_timeout <= SECONDS_MAX);
        for (unsigned i = 0; i < d->allow.n; i++)
            REQUIRE(d->allow.net[i].bits <= 128);
        for (unsigned i = 0; i < d->deny.n; i++)
            REQUIRE(d->deny.net[i].bits <= 128);
        for (unsigned i = 0; i < d->target.n; i++)
            REQUIRE(d->target.net[i].bits <= 128);
    }
    forget();
    config_print(&c);
    config_free(&c);
    if (kept_length > KEPT_MAX - 2) return; /* not all of it was kept */
    memcpy(first, kept, kept_length + 1);
    settings.test = false;
    REQUIRE(config_load(&c, input_file((uint8_t *)first, strlen(first))));
    forget();
    config_print(&c);
    config_free(&c);
    memcpy(second, kept, kept_length + 1);
    REQUIRE(!strcmp(first, second));
}

#endif
#if defined(TARGET_STATE) || defined(TARGET_EVENT) || defined(TARGET_SEALED)

static struct monitor m;

static void monitor_new(void) {
    for (unsigned i = 0; i < m.nopenings; i++) opening_free(m.openings[i]);
    free(m.openings);
    for (struct share *s; (s = m.shares);) {
        m.shares = s->next;
        free(s);
    }
    free(m.memories);
    if (m.clock > 0) close(m.clock);
    if (m.stamps.fd > 0) close(m.stamps.fd);
    free(m.stamps.text.b);
    memset(&m, 0, sizeof(m));
    m.channel = m.signals = m.netlink = m.state.fd = m.timer = m.ready_fd =
        -1;
    m.clock = m.stamps.fd = -1;
    m.alarm = m.until = out.sum_up = NEVER;
    m.sniffer = 99;
    m.null = 1;
    out.started = true;
    nspawned = 0;
    forget();
}

/* Told to end: each command that runs ends at once. */
static void end_all(void) {
    m.ending = true;
    openings_end(&m);
    for (unsigned i = 0; m.nopenings && i < 100000; i++) {
        turn(&m);
        while (m.nchildren) command_reap(&m, m.children[0].pid, 0);
        forget();
    }
    REQUIRE(!m.nopenings && !m.nchildren);
}

#endif
#ifdef TARGET_STATE

/* The file as it is; or, by its first byte, with the head and the sums that it
 * should have: of version 3, or of 2. */
static char *state_text(const uint8_t *data, size_t n, size_t *size) {
    char *text = malloc(20 * n + 100);
    bool whole = *data & 1, old = *data & 2;

    REQUIRE(text);
    *size = 0;
    if (whole) *size = (size_t)sprintf(text, old ? STATE_HEAD_2 : STATE_HEAD);
    data++, n--;
    while (n) {
        const uint8_t *end = memchr(data, '\n', n);
        size_t line = end ? (size_t)(end - data) : n;

        memcpy(text + *size, data, line);
        *size += line;
        if (end && whole && !old)
            *size +=
                (size_t)sprintf(text + *size, " %016llx",
                                (unsigned long long)checksum(data, line));
        if (end) text[(*size)++] = '\n';
        data += line + !!end;
        n -= line + !!end;
    }
    text[*size] = '\0';
    if (whole && old)
        *size += (size_t)sprintf(text + *size, "sum %016llx\n",
                                 (unsigned long long)checksum(text, *size));
    return text;
}

static void one_input(const uint8_t *data, size_t n) {
    size_t size, stops = 0;
    char *text = state_text(data, n, &size);
    struct records rs = { .n = 0 };

    monitor_new();
    m.conf.ndoors = 0;
    if (records_read(&rs, text, size))
        for (unsigned i = 0; i < rs.n; i++) {
            if (rs.list[i].times > 1000) rs.list[i].times = 1000;
            if (rs.list[i].times) opening_restore(&m, &rs.list[i], rs.old);
        }
    for (unsigned i = 0; i < m.nopenings; i++) {
        const struct opening *o = m.openings[i];

        stops += o->times;
        REQUIRE(o->state == HELD && o->stop && *o->stop && o->times);
        /* Of version 2's equal entries the last deadline counts. */
        REQUIRE(rs.old ||
                o->when <= clock_ms + ORPHAN_MS + (int64_t)o->timeout * 1000);
    }
    free(rs.list);
    free(text);
    check_text();
    end_all();
    REQUIRE(nspawned == stops);
}

#endif
#ifdef TARGET_ONETIME

/* How many lines of a file are a sequence, and how many are this one. */
static unsigned count_sequences(const char *path,
                                const struct sequence *seq) {
    size_t n;
    int fd = open(path, O_RDONLY);
    char *text = read_all(fd, &n), *rest_of = text, *line;
    unsigned count = 0;

    close(fd);
    REQUIRE(text);
    for (size_t i = 0; i < n; i++)
        if (!text[i]) text[i] = 'x'; /* no sequence has one */
    while ((line = strsep(&rest_of, "\n"))) {
        struct sequence other;

        line = trim(line);
        if (!*line || *line == '#' || !list_parse(knock_parse, &other, line))
            continue;
        count += !seq ||
                 (other.n == seq->n && !memcmp(other.knock, seq->knock,
                                               seq->n * sizeof(*seq->knock)));
    }
    free(text);
    return count;
}

static void one_input(const uint8_t *data, size_t n) {
    const char *path = input_file(data, n);
    struct door d = { .path = "conf", .name = "d", .one_time = path };
    int left, before;

    out.started = true;
    left = one_time(&d, false);
    REQUIRE(left == (int)count_sequences(path, NULL));
    check_text();
    for (unsigned i = 0; i < 4 && left > 0; i++) {
        struct sequence used = d.seq;
        unsigned same = count_sequences(path, &used);

        before = left;
        REQUIRE(d.seq.n && same);
        left = one_time(&d, true);
        REQUIRE(left == before - (int)same);
        REQUIRE(count_sequences(path, &used) == 0);
        REQUIRE(count_sequences(path, NULL) == (unsigned)left);
        forget();
    }
    REQUIRE(left || !d.seq.n);
}

#endif
#ifdef TARGET_EVENT

static struct door doors[4];
static struct net only = { { { [10] = 255, [11] = 255, [12] = 10 } }, 104 };

/* The only client, and her key at the door "d". */
static void client_new(void) {
    static struct client *anna;
    static const uint8_t key[KEY_BYTES] = { 1, 2, 3 };

    m.conf.clients = anna;
    if (!anna) client_add(&m.conf, &doors[3], "anna", key);
    anna = m.conf.clients;
    m.conf.nclients = 1;
    m.watching = true; /* there is no stamps file to read */
    memories_take(&m, &m.conf);
}

/* Seals what an event has, as far from now as its stamp says; else nobody could
 * guess the tag. */
static void event_seal(struct event *e) {
    struct plain *p = &e->sealed.plain;

    p->stamp = htobe64(wall_ms() + (be64toh(p->stamp) & 0x1fffff) - 0x100000);
    seal(&m.conf.clients->key, &e->sealed);
}

/* Records behind a byte each: how long it is, and what time passes. A record
 * whose unused bytes are "seal" is sealed. */
static void one_input(const uint8_t *data, size_t n) {
    static int ends[2] = { -1, -1 };
    unsigned opens = 0;

    doors[0] = (struct door){ .name = "a",
                              .start = "x %IP%",
                              .stop = "y",
                              .seq = { { 1 }, 1 },
                              .cmd_timeout = 5 };
    doors[1] = (struct door){ .name = "b",
                              .start = "z %IP%",
                              .seq = { { 1, 2 | TO_UDP }, 2 },
                              .allow = { &only, 1 } };
    doors[2] = (struct door){ .name = "c", .one_time = "-" }; /* used up */
    doors[3] = (struct door){ .name = "d",
                              .keys = "-",
                              .start = "k %IP%",
                              .stop = "l",
                              .seq = { { 3 | TO_UDP }, 1 },
                              .deny = { &only, 1 } };
    monitor_new();
    m.conf = (struct conf){ .doors = doors, .ndoors = 4, .listen = "any" };
    client_new();
    clock_ms += 3600000;
    settings.only_ipv4 = *data & 1;
    m.ready = true;
    t_only_path = "-";
    out.started = true;
    if (ends[0] < 0)
        REQUIRE(
            !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
    m.channel = ends[0];
    for (data++, n--; n > 1;) {
        size_t length = *data >= 200 ? *data - 200 : sizeof(struct event);
        static uint8_t record[1 << 10];
        struct event e;
        bool right;

        clock_ms += *data;
        if (length > n - 1) length = n - 1;
        data++, n--;
        if (!length) continue;
        right = length % sizeof(e) == 0;
        memcpy(record, data, length);
        for (size_t at = 0; right && at < length; at += sizeof(e)) {
            memcpy(&e, data + at, sizeof(e));
            if (!memcmp(&e.unused, "seal", 4)) event_seal(&e);
            memcpy(record + at, &e, sizeof(e));
            opens += right_record(&m, &e, sizeof(e)) &&
                     (e.kind == OPEN || e.kind == SEALED);
        }
        REQUIRE(write(ends[1], record, length) == (ssize_t)length);
        REQUIRE(record_take(&m) >= 0);
        data += length;
        n -= length;
        check_text();
        if (kept_length > KEPT_MAX / 2) forget();
    }
    REQUIRE(m.nopenings <= opens);
    end_all();
}

#endif
#ifdef TARGET_KEYS

enum { KEYS_MOST = 64 };

/* One reader more of a line, "NAME KEY"; false if it is neither that nor
 * nothing. */
static bool key_line(char *line, char name[32], char key[65]) {
    static const char vectors[] = "000102030405060708090a0b0c0d0e0f"
                                  "101112131415161718191a1b1c1d1e1f";
    size_t length, digits;

    *name = '\0';
    line += strspn(line, BLANKS);
    if (!*line || *line == '#') return true;
    for (size_t i = 1; line[i]; i++)
        if (line[i] == '#' && strchr(BLANKS, line[i - 1])) line[i] = '\0';
    length = strcspn(line, BLANKS);
    if (length > 31 || strchr("._@-", *line)) return false;
    for (size_t i = 0; i < length; i++) {
        name[i] = line[i];
        if (!isalnum((unsigned char)line[i]) && !strchr("._@-", line[i]))
            return false;
    }
    name[length] = '\0';
    line += length;
    line += strspn(line, BLANKS);
    digits = strspn(line, "0123456789abcdefABCDEF");
    if (digits != 64 || line[64 + strspn(line + 64, BLANKS)]) return false;
    for (size_t i = 0; i < 64; i++)
        key[i] = (char)tolower((unsigned char)line[i]);
    key[64] = '\0';
    return strcmp(key, vectors) != 0;
}

/* How many clients a key file has, or -1. names: theirs. */
static int keys_in(char *text, char (*names)[32]) {
    char keys[KEYS_MOST][65], *line;
    int n = 0;

    while (n < KEYS_MOST && (line = strsep(&text, "\n"))) {
        if (!key_line(line, names[n], keys[n])) return -1;
        if (!*names[n]) continue;
        for (int i = 0; i < n; i++)
            if (!strcmp(keys[i], keys[n])) return -1;
        n++;
    }
    return n;
}

/* Who is let in; and no message has a part of a key in it. */
static void one_input(const uint8_t *data, size_t n) {
    static char text[4096], names[KEYS_MOST][32];
    struct door d = { .name = "ssh", .keys = input_file(data, n) };
    struct conf c = { .doors = &d, .ndoors = 1 };
    unsigned hex = 0;
    int good;

    if (n >= sizeof(text)) return;
    memcpy(text, data, n);
    text[n] = '\0';
    out.started = false;
    spot.errors = 0;
    keys_read(&c, &d);
    check_text();
    good = strlen(text) == n ? keys_in(text, names) : -1;
    REQUIRE((good < 0) == (spot.errors > 0));
    REQUIRE(good < 0 || (unsigned)good == c.nclients);
    for (int i = 0; i < good; i++)
        REQUIRE(!strcmp(names[i], c.clients[i].name));
    for (const char *p = kept; *p; p++) {
        hex = strchr("0123456789abcdefABCDEF", *p) ? hex + 1 : 0;
        REQUIRE(hex <= CLIENT_MAX); /* a name can be hex, too */
    }
    clients_free(&c);
}

#endif
#ifdef TARGET_SEALED
#include "judge.h"

enum { RECENT_PACKETS = 8, PORT = 62201 };

/* What the second judge knows, the daemon's configuration, and the sniffer. */
static struct j_client plain[J_CLIENTS];
static struct client clients[J_CLIENTS];
static struct door doors[2];
static struct net denied = {
    { { [10] = 255, [11] = 255, [12] = 10, [15] = 3 } }, 128
};
static struct sniffer *sniffer;
static char directory[32], stamps_file[64]; /* that the lives share */
/* ms, when the wall clock was set, or the host slept: since boot, since 1970, and
 * the wall clock ahead of the one that stops in a suspend. */
static int64_t clock_set, clock_set_wall, clock_ahead;

static struct {
    uint8_t bytes[J_PACKET];
    unsigned source;
} recent[RECENT_PACKETS];
static unsigned nrecent;

static void directory_remove(void) {
    unlink(stamps_file);
    rmdir(directory);
}

/* Once: the clients, and a sniffer that knows their ids. */
static void world_begin(void) {
    static const struct {
        const char *name;
        unsigned door, key;
    } who[J_CLIENTS] = {
        { "anna", 0, 0 }, { "bert", 0, 1 }, { "anna", 1, 0 }, { "carl", 1, 2 }
    };
    struct conf c = { .doors = doors, .ndoors = 2 };
    struct watches *w;
    uint32_t bytes;

    strcpy(directory, "/tmp/fuzz.XXXXXX");
    REQUIRE(mkdtemp(directory));
    snprintf(stamps_file, sizeof(stamps_file), "%s/stamps", directory);
    atexit(directory_remove);
    doors[0] = (struct door){ .name = "ssh" };
    doors[1] =
        (struct door){ .name = "my d\303\266r: x", .deny = { &denied, 1 } };
    for (unsigned i = 0; i < 2; i++) {
        doors[i].keys = "-";
        doors[i].seq = (struct sequence){ { PORT | TO_UDP }, 1 };
        doors[i].start = "x %IP%";
        doors[i].stop = "y";
        doors[i].cmd_timeout = 5;
    }
    sniffer = sniffer_new(&c);
    sniffer->locals->naddrs = 1;
    sniffer->locals->addr[0] = addr_of("10.0.0.1");
    for (unsigned i = 0; i < J_CLIENTS; i++) {
        const uint8_t key[KEY_BYTES] = { (uint8_t)who[i].key, 7 };
        const struct door *d = &doors[who[i].door];

        client_add(&c, d, who[i].name, key);
        j_client_new(&plain[i], who[i].name, who[i].door, d->name, key);
    }
    memcpy(clients, c.clients, sizeof(clients));
    w = watches_make(&c, &bytes);
    readers_init(sniffer,
                 (struct key *)&((struct net *)&w->door[2])[w->nnets],
                 J_CLIENTS);
    free(w);
}

/* The daemon reads the key files. */
static void read_keys(void) {
    static struct client there[J_CLIENTS];

    m.conf.nclients = 0;
    for (unsigned i = 0; i < J_CLIENTS; i++)
        if (plain[i].here) there[m.conf.nclients++] = clients[i];
    m.conf.clients = there;
    memories_take(&m, &m.conf);
}

/* A step is one of a second or more; smaller ones add up. */
static void clock_notice(void) {
    clock_set = clock_ms;
    clock_set_wall = clock_ms + t_wall;
    clock_ahead = t_wall + t_slept;
}

/* The daemon starts, with the stamps of its last life or without. */
static void life_begin(bool stamps_lost) {
    if (stamps_lost) unlink(stamps_file);
    monitor_new();
    m.conf = (struct conf){ .doors = doors, .ndoors = 2, .listen = "any" };
    m.stamps.path = stamps_file;
    for (unsigned i = 0; i < J_CLIENTS; i++) {
        struct j_client *c = &plain[i];

        c->here = true;
        c->since = clock_ms;
        c->since_wall = clock_ms + t_wall;
        c->seen = c->used = false;
        if (stamps_lost) c->floor = c->nburnt = 0;
    }
    clock_notice();
    read_keys();
}

/* A client is out, or in again. */
static void toggle(unsigned i) {
    plain[i].here = !plain[i].here;
    plain[i].since = clock_ms;
    plain[i].since_wall = clock_ms + t_wall;
    read_keys();
}

/* The plain part of a packet and its id's period, mostly as they should be. */
static void draw_packet(uint8_t packet[J_PACKET], unsigned *source) {
    static const int64_t offsets[] = { 0,
                                       0,
                                       0,
                                       0,
                                       1,
                                       -1,
                                       500,
                                       -500,
                                       -5000,
                                       60000,
                                       J_SKEW,
                                       J_SKEW + 1,
                                       -(int64_t)J_SKEW,
                                       -(int64_t)J_SKEW - 1,
                                       700000,
                                       3600000,
                                       -3600000,
                                       86400000,
                                       -86400000,
                                       97200000 };
    static const char *const addresses[] = {
        "10.9.9.9",    "2001:db8::7", "10.0.0.3",  "127.0.0.1",
        "169.254.1.1", "::1",         "::1.2.3.4", "fe80::1",
        "0.0.0.0",     "224.0.0.1",   "ff02::1"
    };
    uint64_t stamp =
        (uint64_t)(clock_ms + t_wall +
                   offsets[take(sizeof(offsets) / sizeof(*offsets))]);
    uint8_t p[32] = { 0 };

    if (take(4) == 0) stamp += take(65536);
    j_bytes(stamp, p);
    if (take(3) == 0) {
        struct addr a = addr_of(addresses[take(11)]);

        memcpy(p + 8, &a, sizeof(a));
    }
    if (take(4) == 0) p[24] = (uint8_t)(1 + take(2));
    if (take(16) == 0) p[25 + take(7)] = 1;
    stamp >>= 20;
    if (take(8) == 0) stamp += take(256) - 128;
    j_seal(&plain[take(J_CLIENTS)], stamp, p, packet);
    *source = take(3);
}

/* The line that is to be logged, or "". */
static void expect(char *line, size_t size, enum j_verdict v, unsigned who,
                   uint64_t stamp, const uint8_t *packet,
                   const uint8_t *source, const uint8_t *address,
                   int64_t start) {
    static const char *const fixed[] = { [J_REQUEST] = "bad request",
                                         [J_REPLAY] = "replayed",
                                         [J_ADDRESS] = "no opening for " };
    struct j_client *c = &plain[who];
    char from[ADDR_TEXT], ip[ADDR_TEXT];
    int64_t off = (int64_t)stamp - clock_ms - t_wall, seconds = 0;
    char number[32] = "", *to = line;
    bool again;

    *line = '\0';
    if (v == J_UNKNOWN) return;
    again = c->seen && !memcmp(c->tag, packet + 8, 16) &&
            !memcmp(c->from, source, 16);
    c->seen = true;
    memcpy(c->tag, packet + 8, 16);
    memcpy(c->from, source, 16);
    if (again) return;
    if (v >= J_ADDRESS) {
        c->used = true;
        memcpy(c->first, source, 16);
    }
    if (v > J_ADDRESS && c->door == 1 &&
        (!memcmp(address, &denied.addr, 16) ||
         !memcmp(source, &denied.addr, 16)))
        v = J_ADDRESS;
    addr_text((const struct addr *)source, from);
    to += sprintf(to, "%s: %s: ", from, doors[c->door].name);
    addr_text((const struct addr *)address, ip);
    size -= (size_t)(to - line);
    if (v > J_ADDRESS && !memcmp(address, source, 16))
        snprintf(to, size, "key of %s\n", c->name);
    if (v > J_ADDRESS && memcmp(address, source, 16) != 0)
        snprintf(to, size, "key of %s for %s\n", c->name, ip);
    if (v > J_ADDRESS) return;
    if (v == J_FUTURE || v == J_PAST) seconds = (off < 0 ? -off : off) / 1000;
    if (v == J_BEFORE_START) seconds = (start - (int64_t)stamp + 1000) / 1000;
    snprintf(number, sizeof(number), seconds < 1000 ? "%d" : "%d,%03d",
             (int)(seconds < 1000 ? seconds : seconds / 1000),
             (int)(seconds % 1000));
    to += snprintf(to, size, "%s: ", c->name);
    if (v == J_FUTURE) sprintf(to, "clock %s s ahead\n", number);
    else if (v == J_PAST) sprintf(to, "clock %s s behind\n", number);
    else if (v == J_BEFORE_START)
        sprintf(to, "sent before the start: wait %s s\n", number);
    else if (v == J_ADDRESS) sprintf(to, "%s%s\n", fixed[v], ip);
    else if (v == J_REPLAY && stamp == c->floor && c->used &&
             memcmp(c->first, source, 16) != 0)
        sprintf(to, "replayed, first from %s\n",
                addr_text((const struct addr *)c->first, ip));
    else sprintf(to, "%s\n", fixed[v]);
}

/* The daemon remembers what the second judge does. */
static void compare_stamps(void) {
    for (unsigned i = 0; i < J_CLIENTS; i++) {
        const struct memory *y = memory_find(&m, clients[i].seen);
        const struct j_client *c = &plain[i];

        REQUIRE(!y ? !c->floor && !c->nburnt
                   : y->stamps.floor == c->floor &&
                         y->stamps.nburnt == c->nburnt);
        for (unsigned k = 0; k < c->nburnt; k++)
            REQUIRE(y->stamps.burnt[k].low == c->burnt[k][0] &&
                    y->stamps.burnt[k].high == c->burnt[k][1]);
    }
}

/* A datagram comes: to the sniffer, from there to the monitor. */
static void arrive(const uint8_t *packet, size_t size, unsigned from) {
    static const char *const sources[] = { "10.0.0.2", "10.0.0.3",
                                           "10.0.0.4" };
    struct addr source = addr_of(sources[from]);
    struct spec spec = { .src = source,
                         .dst = sniffer->locals->addr[0],
                         .proto = 17,
                         .sport = 9,
                         .dport = PORT,
                         .payload = (unsigned)size };
    union slot slot = { .bytes = { 0 } };
    struct tpacket2_ t = { .net = 80 };
    struct sockaddr_ll link = { .sll_hatype = 1, .sll_ifindex = 1 };
    int64_t start[J_CLIENTS], wall = clock_ms + t_wall;
    char line[512];
    uint8_t bytes[512], address[16];
    unsigned who, here = 0;
    uint64_t stamp = 0;
    struct packet p;
    enum j_verdict v;
    bool open;

    for (unsigned i = 0; i < J_CLIENTS; i++) {
        bool reading = plain[i].since > clock_set;
        int64_t at = reading ? plain[i].since_wall : clock_set_wall;

        start[i] = wall - clock_ms + (reading ? plain[i].since : clock_set);
        if (start[i] < at) start[i] = at;
    }
    v = j_judge(plain, J_CLIENTS, packet, size, source.b, (uint64_t)wall,
                start, &who, &stamp, address);
    expect(line, sizeof(line), v, who, stamp, packet, source.b, address,
           v == J_UNKNOWN ? 0 : start[who]);

    t.len = t.captured = (uint32_t)build(bytes, &spec);
    memcpy(bytes + t.len - size, packet, size);
    memcpy(slot.bytes, &t, sizeof(t));
    memcpy(slot.bytes + 32, &link, sizeof(link));
    memcpy(slot.bytes + 80, bytes, t.len);
    for (unsigned i = 0; i < J_CLIENTS; i++) sniffer->readers[i].odd = 0;
    for (struct share *s = m.shares; s; s = s->next) s->second = -1;
    sniffer->nsealed = 0;
    ids_make(sniffer);
    p.sealed = NULL;
    if (frame(sniffer, &slot, &p) && p.sealed) sealed_take(sniffer, &p);
    forget();
    for (unsigned i = 0; i < sniffer->nsealed; i++) {
        struct event e = sniffer->sealed[i];

        for (unsigned k = here = 0; k < e.door; k++) here += plain[k].here;
        if (!plain[e.door].here) continue; /* an event of before the reload */
        e.door = here;
        REQUIRE(is_true(&m, &e));
        event_take(&m, &e);
    }
    check_text();
    if (*line ? !strstr(kept, line) : kept_length)
        fprintf(stderr, "expected: %s\n", *line ? line : "nothing");
    REQUIRE(*line ? strstr(kept, line) != NULL : !kept_length);
    open = strstr(kept, ": OPEN SESAME\n") != NULL;
    REQUIRE(open == (*line && v == J_OPEN && !strstr(line, "no opening")));
    compare_stamps();
}

/* The wall clock is set; the host sleeps. The monitor hears of both. */
static void clock_jumps(int64_t set, int64_t slept) {
    t_wall += set;
    t_slept += slept;
    clock_ms += slept;
    if (llabs(t_wall + t_slept - clock_ahead) >= 1000) clock_notice();
    clock_look(&m);
}

static void one_step(void) {
    static const int64_t pauses[] = { 0,   0,    1,     1,      2,
                                      500, 1000, 60000, 700000, 3600000 };
    static const int64_t jumps[] = { 1000,    2000,    60000,    3600000,
                                     3600000, 7200000, 86400000, 1,
                                     600,     999 };
    uint8_t packet[J_PACKET + 8] = { 0 };
    size_t size = J_PACKET;
    unsigned source, what = take(24), i = take(RECENT_PACKETS);
    int64_t jump = jumps[what < 4 ? take(10) : 0];

    clock_ms += pauses[take(10)];
    switch (what) {
    case 0: clock_jumps(jump, 0); return;
    case 1:
    case 2: clock_jumps(-jump, 0); return;
    case 3: clock_jumps(0, jump); return;
    case 4: life_begin(false); return;
    case 5: life_begin(true); return;
    case 6:
    case 7: toggle(take(J_CLIENTS)); return;
    case 8:
    case 9:
    case 10:
    case 11:
    case 12: /* replayed, by the same or another */
        if (i >= nrecent) return;
        arrive(recent[i].bytes, J_PACKET,
               what < 11 ? recent[i].source : take(3));
        return;
    case 13: /* spoilt */
        draw_packet(packet, &source);
        packet[take(J_PACKET)] ^= (uint8_t)(1 + take(255));
        break;
    case 14:
        draw_packet(packet, &source);
        size = take(sizeof(packet) + 1);
        break;
    default:
        draw_packet(packet, &source);
        i = nrecent < RECENT_PACKETS ? nrecent++ : i;
        memcpy(recent[i].bytes, packet, J_PACKET);
        recent[i].source = source;
    }
    arrive(packet, size, source);
}

/* Steps, each chosen by a few bytes. */
static void one_input(const uint8_t *data, size_t n) {
    choices = data;
    nchoices = n;
    t_wall = INT64_C(1764244800000);
    t_slept = 0;
    if (!sniffer) world_begin();
    nrecent = 0;
    life_begin(true);
    while (nchoices) one_step();
    end_all();
}

#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
#ifndef TARGET_KNOCK
    random_state = 1;
    clock_ms = 1000000;
    t_wall = t_slept = 0;
#endif
    one_input(data, n);
    return 0;
}

#ifdef STANDALONE
int main(int argc, char **argv) {
    static uint8_t data[1 << 20];

    for (int i = 1; i < argc; i++) {
        int fd = open(argv[i], O_RDONLY);
        ssize_t n = read(fd, data, sizeof(data));

        close(fd);
        LLVMFuzzerTestOneInput(data, n > 0 ? (size_t)n : 0);
    }
    return 0;
}
#endif
