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
    for (nfds_t i = 0; i < n; i++) fds[i].revents = lucky() ? fds[i].events : 0;
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
#include <stdbool.h>
#include <stdint.h>

#include "harness.h"
#include "world.h"

#define REQUIRE(good)                                                         \
    do {                                                                      \
        if (!(good)) {                                                        \
            fprintf(stderr, "%s:%d: not %s\n%s\n", __FILE__, __LINE__, #good, \
                    kept);                                                    \
            abort();                                                          \
        }                                                                     \
    } while (0)

static unsigned nspawned;
static char spawned[256];

static pid_t spawn_note(const char *path, char *const *argv, char *const *env) {
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
        REQUIRE((uint8_t)kept[i] >= ' ' || kept[i] == '\n' || kept[i] == '\t');
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
    static struct net here = { { { [10] = 255, [11] = 255, [12] = 10 } }, 104 };
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

    p.src = addr_of(p.v6 ? "2001:db8::1" : n & 16 ? "192.0.2.2" : "172.16.0.1");
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
#ifdef TARGET_WORLD

/* The input as choices; when it ends, all of them are 0. */
static const uint8_t *choices;
static size_t nchoices;

static unsigned take(unsigned n) {
    unsigned value = 0;

    for (unsigned k = n; k > 1 && nchoices; k = (k + 255) / 256, nchoices--)
        value = value * 256 + *choices++;
    return n ? value % n : 0;
}

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
    for (const struct door *d = c.doors; d < c.doors + c.ndoors; d++) {
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
#if defined(TARGET_STATE) || defined(TARGET_EVENT)

static struct monitor m;

static void monitor_new(void) {
    for (unsigned i = 0; i < m.nopenings; i++) opening_free(m.openings[i]);
    free(m.openings);
    for (struct share *s; (s = m.shares);) {
        m.shares = s->next;
        free(s);
    }
    memset(&m, 0, sizeof(m));
    m.channel = m.signals = m.netlink = m.state.fd = m.timer = m.ready_fd = -1;
    m.alarm = m.until = m.sum_up = NEVER;
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
            *size += (size_t)sprintf(text + *size, " %016llx",
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
        REQUIRE(o->when <= clock_ms + ORPHAN_MS + (int64_t)o->timeout * 1000);
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
static unsigned count_sequences(const char *path, const struct sequence *seq) {
    size_t n;
    int fd = open(path, O_RDONLY);
    char *text = read_all(fd, &n), *rest_of = text, *line;
    unsigned count = 0;

    close(fd);
    REQUIRE(text);
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
    if (memchr(data, 0, n)) return; /* a text ends at it */
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

static struct door doors[3];
static struct net only = { { { [10] = 255, [11] = 255, [12] = 10 } }, 104 };

/* Records behind a byte each: how long it is, and what time passes. */
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
    monitor_new();
    m.conf = (struct conf){ .doors = doors, .ndoors = 3, .listen = "any" };
    settings.only_ipv4 = *data & 1;
    m.ready = true;
    t_only_path = "-";
    out.started = true;
    if (ends[0] < 0)
        REQUIRE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
    m.channel = ends[0];
    for (data++, n--; n > 1;) {
        size_t length = *data >= 200 ? *data - 200 : sizeof(struct event);
        struct event e;
        bool right;

        clock_ms += *data;
        if (length > n - 1) length = n - 1;
        data++, n--;
        if (!length) continue;
        right = length % sizeof(e) == 0;
        for (size_t at = 0; right && at < length; at += sizeof(e)) {
            memcpy(&e, data + at, sizeof(e));
            opens += right_record(&m, &e, sizeof(e)) && e.kind == OPEN;
        }
        REQUIRE(write(ends[1], data, length) == (ssize_t)length);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
#ifndef TARGET_KNOCK
    random_state = 1;
    clock_ms = 1000000;
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
