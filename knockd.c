/*
 * knockd - port knocking for Linux: opens the firewall or runs a command for an
 * address that hits the right ports in the right order.  A drop-in for 0.8.
 *
 * Three programs share the binary; main() chooses.  knock (knock.c) is the
 * client.  The sniffer has no privilege: it reads packets from a mapped
 * AF_PACKET ring, matches them against the doors and reports events of a fixed
 * size.  The monitor, its parent, checks each event and does what needs
 * privilege: configuration, log, commands, timers, reload.  They share the
 * first sections; two towers follow, the sniffer in the order in which a packet
 * travels, then the monitor.  struct order and struct event join the towers.
 * Within a section, callees come first.
 *
 * SPDX-License-Identifier: ISC
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

/* Code between these runs for each packet: it is made for speed even with -Os. */
#if defined __OPTIMIZE_SIZE__ && !defined __clang__
/* clang-format off */
#define FAST \
    _Pragma("GCC push_options") \
    _Pragma("GCC optimize(\"O2,no-align-functions,no-align-loops,\
no-align-jumps,no-caller-saves\")")
/* clang-format on */
#define FAST_END _Pragma("GCC pop_options")
#else
#define FAST
#define FAST_END
#endif

/* Protocols of IP, flags of TCP. */
enum {
    TCP = 6,
    UDP = 17,
    ROUTING = 43,
    FRAGMENT = 44,
    AUTH = 51,
};
enum {
    SYN = 2,
    ACK = 16,
};
enum { TO_UDP = 1 << 16, KNOCKS = 2 << 16 }; /* a knock: port, + TO_UDP */

struct addr { /* IPv4 as ::ffff:a.b.c.d (RFC 4291) */
    uint8_t b[16];
};

struct net {
    struct addr addr;
    unsigned bits; /* 0 to 128, of IPv4 96 to 128 */
};

struct nets {
    struct net *net;
    unsigned n;
};

struct flags {
    unsigned want, forbid;
};

struct sequence {
    uint32_t knock[SEQUENCE_MAX];
    unsigned n;
};

struct client { /* a line of a door's key file */
    char name[CLIENT_MAX + 1];
    uint32_t door;
    uint32_t first;    /* in the bucket with this place's number, + 1 */
    uint32_t next;     /* in its own bucket, + 1 */
    uint64_t seen;     /* its name in the stamps file; decides its bucket */
    struct hmac key;   /* D (docs/knock1.md) */
    struct memory *of; /* see memories_take() */
};

struct door {
    const char *path, *name; /* the file of the [name] */
    const char *start, *start6, *stop, *stop6, *message, *one_time, *keys;
    const char *set, *set6; /* words, see set_read() */
    const char *close;      /* the door that this one closes */
    struct sequence seq;    /* n = 0: no one-time sequence is left */
    struct flags tcp;
    struct nets target, allow, deny; /* n = 0: ours; everyone; nobody */
    unsigned seq_timeout, cmd_timeout, cooldown; /* seconds */
    unsigned stray_limit;                        /* ports; 0 = any number */
    int line, lines[KEYWORDS_MAX]; /* of [name] and each directive, or 0 */
    bool bad;                      /* the section has an error */
    /* Set by the monitor: */
    bool renew; /* its next one-time sequence is still to be sent */
    int64_t renewed, believed, said; /* see in_rate() */
};

struct conf { /* strings point into the texts that are kept */
    const char *logfile, *pidfile, *interface;
    const char *listen, *pid; /* the interfaces and the pidfile in use */
    char **kept;              /* texts and names of files */
    struct door *doors;
    struct client *clients; /* of all doors; see secrets_map() */
    unsigned nkept, ndoors, nclients, stray_limit, errors;
    bool use_syslog, duplicates;
    int lines[KEYWORDS_MAX]; /* of each directive of [options], or 0 */
};

/* What the sniffer knows of the doors: what to look for, in a message without
 * pointers.  First struct watches, then a struct watch for each door, then the
 * networks of all doors (a door's struct range says which are its own), then a
 * struct key for each client.  Equal configurations make equal messages. */
struct range {
    uint32_t at, n;
};

/* Of an event, from the sniffer to the monitor. */
enum kind {
    READY,      /* value: bits of skipped sandbox steps */
    STAGE,      /* src, door, stage */
    OPEN,       /* the same */
    TIMEOUT,    /* the same */
    PACKET,     /* -D: src, dst; value: see frame() */
    SUPPRESSED, /* value: lines beyond the rate */
    DROPS,      /* value: packets lost in the kernel */
    COUNTED,    /* stage: a counter; value: what to add to it */
    SEALED,     /* src, door: the client; sealed */
    KINDS
};

struct key {
    uint32_t door;
    uint8_t of_ids[HASH_BYTES]; /* hmac(D, "knock1 id") */
};

struct watch {
    struct sequence seq; /* n = 0: no one-time sequence is left */
    struct flags tcp;
    struct range target, allow, deny;         /* as in struct door */
    uint32_t seq_timeout, cooldown, one_time; /* s, s, bool */
    uint32_t stray_limit, sealed;             /* sealed: bool, has Keys */
    /* Set by the sniffer: */
    uint32_t wide;       /* bool, see index_doors() */
    uint32_t next_first; /* next door with this first knock, + 1 */
    int64_t quiet_until; /* ms: cooldown */
    int64_t second;      /* in which told[] was counted */
    uint32_t told[KINDS];
};

struct watches {
    uint32_t ndoors, nnets, nkeys, only_ipv4, debug; /* the last two: bool */
    struct watch door[];
};

/* Our interfaces and addresses.  full: there are more, ask the kernel. */
struct locals {
    uint32_t any, full, ninterfaces, naddrs, interface[INTERFACES_MAX];
    struct addr addr[ADDRESSES_MAX]; /* sorted */
};

enum { PACKETS, LOST, HITS, ATTEMPTS, EVICTIONS, CANCELLED, OPENS, COUNTERS };
struct event {
    struct addr src;
    uint32_t door, kind, stage, unused; /* explicit padding */
    union {
        struct {
            uint64_t value;
            struct addr dst; /* PACKET only */
        };
        struct sealed sealed;
    };
};

/* From the monitor to the sniffer; first its doors, once, then its locals. */
struct order {
    enum {
        NEW_DOORS,    /* struct watches follows */
        NEW_LOCALS,   /* struct locals follows */
        NEW_SEQUENCE, /* door, seq */
        COUNT         /* to be answered by COUNTED */
    } kind;
    uint32_t bytes; /* that follow, in pieces */
    uint32_t door;
    struct sequence seq;
};

/* ---- Messages ----------------------------------------------------------- */

/* What a message is.  This decides its colour on a terminal and where it goes:
 * QUIET not to the stdout of -v, OUT to that stdout alone. */
enum severity { LOG, OPENED, TROUBLE, QUIET, OUT };

/* What the command line says. */
static struct settings {
    const char *config, *pidfile, *interface, *logfile;
    bool test, status, daemon, lookup, only_ipv4, verbose, debug;
    bool version, help, save_mem; /* which 0.8.2 has: ignored */
} settings = { .config = CONFIG_PATH, .pidfile = PID_PATH };

static struct {
    bool started; /* false: messages go to stderr */
    bool detached, use_syslog;
    bool terminal;           /* stdout with -v, else stderr, is a terminal */
    int file, syslog, namer; /* LogFile, /dev/log, process of -l; or -1 */
    int64_t sum_up;          /* ms: suppressed lines are summed up */
} out = { .file = -1, .syslog = -1, .namer = -1, .sum_up = NEVER };

/* Writes a line in one call: lines of several processes never mix.  One for
 * syslogd (RFC 3164) is a datagram to its path, lost if its queue is full. */
static ssize_t write_line(int fd, const char *head, const char *text) {
    static const struct sockaddr_un un = { AF_UNIX, SYSLOG_PATH };
    char line[TEXT_MAX + NAME_BYTES + 128];
    size_t n = (size_t)snprintf(line, sizeof line, "%s%s\n", head, text);
    if (fd != out.syslog) return write(fd, line, n);
    return sendto(fd, line, n, MSG_DONTWAIT, (const void *)&un, sizeof un);
}

struct moment {
    char time[80], day[24]; /* "2026-01-31 23:59:59", "Jan 31" */
};

static struct moment moment_now(void) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct moment m;
    time_t now = time(NULL);
    const struct tm *t = localtime(&now);
    sprintf(m.time, "%04d-%02d-%02d %02d:%02d:%02d", t->tm_year + 1900,
            t->tm_mon + 1, t->tm_mday, t->tm_hour, t->tm_min, t->tm_sec);
    sprintf(m.day, "%.3s %2d", months + t->tm_mon * 3L, t->tm_mday);
    return m;
}

/* Writes a line to stdout with -v, else to stderr if the log goes there; on a
 * terminal with the time, green for an opened door, yellow for trouble. */
static void write_screen(const char *text, enum severity severity,
                         const char *clock) {
    static const char colours[] = "6236"; /* ANSI's, of LOG to QUIET */
    int fd = settings.verbose ? STDOUT_FILENO : STDERR_FILENO;
    bool has_log = out.file >= 0 || out.use_syslog;
    bool wanted = !out.detached && (!has_log || out.terminal);
    char head[64] = "";
    if (settings.verbose) wanted = severity != QUIET;
    if (!wanted) return;
    if (out.terminal)
        sprintf(head, "\033[3%cm%.9s\033[0m  ", colours[severity], clock);
    write_line(fd, head, text);
}

static void write_log(const char *text, enum severity severity) {
    struct moment now = moment_now();
    char head[128];
    write_screen(text, severity, now.time + 11);
    sprintf(head, "[%.16s] ", now.time);
    if (out.file >= 0) write_line(out.file, head, text);
    if (!out.use_syslog) return;
    if (out.syslog < 0)
        out.syslog = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sprintf(head, "<29>%s %.8s knockd: ", now.day, now.time + 11);
    write_line(out.syslog, head, text);
}

/* Hands a line to the process of -l, severity first; false if it can't. */
static bool send_namer(const char *text, enum severity severity) {
    char line[TEXT_MAX + 1];
    int n = snprintf(line, sizeof line, "%c%s", 'A' + (int)severity, text);
    return out.namer >= 0 &&
           send(out.namer, line, (size_t)n, MSG_DONTWAIT) > 0;
}

/* The length of the printable character at p in UTF-8 (RFC 3629), or 0.
 * `least` leaves out C0 (but tab), C1 and forms longer than needed. */
static unsigned character(const uint8_t *p) {
    static const uint32_t least[] = { 0, ' ', 0xa0, 0x800, 0x10000 };
    unsigned n = 1, ones = 0;
    if (*p == '\t') return 1;
    while (*p << ones & 0x80) ones++;
    if (ones == 1 || ones > 4) return 0;
    uint32_t code = *p & 0x7fu >> ones;
    for (; n < ones; n++) {
        if ((p[n] & 0xc0) != 0x80) return 0; /* also at the end */
        code = code << 6 | (p[n] & 0x3f);
    }
    bool surrogate = code >> 11 == 0xd800 >> 11;
    if (code < least[n] || code == 0x7f || code > 0x10ffff) return 0;
    return surrogate ? 0 : n;
}

/* Replaces bytes that are not printable: no outside text fakes a log line. */
static void make_printable(char *text) {
    for (unsigned n; *text; text += n) {
        n = character((const uint8_t *)text);
        if (!n) *text = '?';
        if (!n) n = 1;
    }
}

/* Sends a message to where it belongs; false, for `return say(...)`. */
FORMAT(2)
static bool say(enum severity severity, const char *fmt, ...) {
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    make_printable(text);
    if (severity == OUT) write_line(STDOUT_FILENO, "", text);
    else if (!out.started) write_line(STDERR_FILENO, "knockd: ", text);
    else if (severity == QUIET || !send_namer(text, severity))
        write_log(text, severity);
    return false;
}

#define die(...) (say(TROUBLE, __VA_ARGS__), exit(1))
#define print(...) dprintf(STDOUT_FILENO, __VA_ARGS__)

/* ---- Helpers ------------------------------------------------------------ */

static int64_t ms_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Milliseconds since boot, suspend included, whatever the clock is set to. */
static int64_t now_ms(void) { return ms_of(CLOCK_BOOTTIME); }

/* Milliseconds since 1970. */
static uint64_t wall_ms(void) { return (uint64_t)ms_of(CLOCK_REALTIME); }

/* The working directory of the start, where relative paths begin. */
static int cwd = AT_FDCWD;

static int64_t min_ms(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_ms(int64_t a, int64_t b) { return a > b ? a : b; }

/* The timeout for a poll() that ends at `until`; NEVER: never. */
static int poll_ms(int64_t now, int64_t until) {
    if (until == NEVER) return -1;
    return until <= now ? 0 : (int)min_ms(until - now, INT_MAX);
}

/* realloc() or die. */
static void *alloc(void *old, size_t bytes) {
    void *p = realloc(old, bytes);
    if (!p) die("out of memory");
    return p;
}

/* A copy of text, to be freed. */
static char *copy(const char *text) {
    return strcpy(alloc(NULL, strlen(text) + 1), text);
}

/* FNV-1a, 64 bits (RFC 9923). */
static uint64_t checksum(const void *data, size_t n) {
    uint64_t h = 0xcbf29ce484222325;
    for (const uint8_t *p = data; n--;) h = (h ^ *p++) * 0x100000001b3;
    return h;
}

struct text { /* that grows; to be freed */
    char *b;
    size_t n, room;
};

/* Appends to a text; summed: a line that ends in its own sum. */
FORMAT(3)
static void text_put(struct text *t, bool summed, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    size_t n = (size_t)vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    size_t most = t->n + n + sizeof " 0123456789abcdef\n";
    if (most > t->room) {
        t->room = 2 * most;
        t->b = alloc(t->b, t->room);
    }
    char *line = t->b + t->n;
    va_start(ap, fmt);
    vsprintf(line, fmt, ap);
    va_end(ap);
    t->n += n;
    if (summed)
        t->n +=
            (size_t)sprintf(line + n, " %016" PRIx64 "\n", checksum(line, n));
}

#define text_add(t, ...) text_put(t, false, __VA_ARGS__)
#define line_put(t, ...) text_put(t, true, __VA_ARGS__)

/* Says what can't be done with a file, by errno, and what follows; false. */
static bool could_not(const char *what, const char *path, const char *so) {
    return say(TROUBLE, "could not %s %s: %s%s", what, path, strerror(errno),
               so);
}

static bool same_text(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

static bool is_given(const char *text) { return text && *text; }

/* Cuts the blanks off the end of s; returns s without those at its start. */
char *trim(char *s) {
    s += strspn(s, BLANKS);
    for (char *end = s + strlen(s); end > s && strchr(BLANKS, end[-1]);)
        *--end = '\0';
    return s;
}

/* The next name of a list, cut to IFNAMSIZ characters; false at the end. */
static bool next_name(const char **list, char name[IFNAMSIZ + 1]) {
    *list += strspn(*list, LIST);
    size_t n = strcspn(*list, LIST);
    snprintf(name, IFNAMSIZ + 1, "%.*s", (int)n, *list);
    *list += n;
    return n > 0;
}

/* Parses a decimal number into *n; false if it is none, or too large. */
static bool long_number(const char *text, uint64_t *n) {
    *n = 0;
    if (!is_given(text)) return false;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)*text - '0';
        if (digit > 9 || __builtin_mul_overflow(*n, 10, n) ||
            __builtin_add_overflow(*n, digit, n))
            return false;
    }
    return true;
}

/* The same of a number from min to max. */
static bool number(const char *text, unsigned min, unsigned max,
                   unsigned *n) {
    uint64_t value;
    if (!long_number(text, &value) || value < min || value > max)
        return false;
    *n = (unsigned)value;
    return true;
}

/* Is this an error that may be gone when the call is made again? */
static bool is_passing(int error) {
    return error == EAGAIN || error == EINTR || error == EIO ||
           error == ENOMEM || error == EMFILE || error == ENFILE;
}

/* Reads fd to its end: a string of *n bytes, to be freed, or NULL and errno. */
static char *read_all(int fd, size_t *n) {
    size_t room = 4096;
    ssize_t got;
    if (fd < 0) return NULL;
    char *text = alloc(NULL, room);
    *n = 0;
    while ((got = read(fd, text + *n, room - 1 - *n)) > 0 && *n < FILE_MAX) {
        *n += (size_t)got;
        if (*n < room - 1) continue;
        room += room / 2;
        text = alloc(text, room);
    }
    text[*n] = '\0';
    if (got == 0) return text;
    int error = got < 0 ? errno : EFBIG;
    free(text);
    errno = error;
    return NULL;
}

/* Makes zero bytes visible: their lines are then wrong, and nothing is lost. */
static void zeros_replace(char *text, size_t n) {
    for (size_t i = 0; text && i < n; i++)
        if (!text[i]) text[i] = '?';
}

/* mmap() or die.  fd: the ring's socket, or -1 for zeroed memory. */
static void *map(size_t bytes, int fd) {
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (!p || p == MAP_FAILED) die("mmap: %s", strerror(errno));
    return p;
}

/* Closes every descriptor from 3 on except a, b and c. */
static void close_others(int a, int b, int c) {
    int fd = 3;
    for (; fd < 1024 || fd <= a || fd <= b || fd <= c; fd++)
        if (fd != a && fd != b && fd != c) close(fd);
    syscall(SYS_close_range, fd, ~0u, 0);
}

FAST

static const struct addr mapped = { { [10] = 0xff, [11] = 0xff } };

static bool is_v4(const struct addr *a) { return !memcmp(a, &mapped, 12); }

static int addr_cmp(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct addr));
}

/* The address whose four bytes are in an IPv4 header or a sockaddr_in. */
static struct addr addr_v4(const void *four) {
    struct addr a = mapped;
    memcpy(a.b + 12, four, 4);
    return a;
}

/* Keyed multilinear hashing (Lemire and Kaser, 2014): no chosen collisions. */
static uint64_t addr_hash(const uint64_t key[5], const struct addr *a) {
    uint32_t w[4];
    memcpy(w, a, sizeof w);
    return key[0] + key[1] * w[0] + key[2] * w[1] + key[3] * w[2] +
           key[4] * w[3];
}

static bool addr_loopback(const struct addr *a) {
    static const struct addr one = { { [15] = 1 } };
    if (is_v4(a)) return a->b[12] == 127;
    return !addr_cmp(a, &one);
}

/* Can a be the address of a host?  Not 0.0.0.0/8 (to iptables 0.0.0.0 means
 * everyone), multicast or broadcast (RFC 1122, 3.2.1.3; RFC 4291, 2.7). */
static bool addr_usable(const struct addr *a) {
    static const struct addr none;
    if (is_v4(a)) return a->b[12] && a->b[12] < 224;
    return a->b[0] != 0xff && addr_cmp(a, &none);
}

static bool same_prefix(const struct addr *a, const struct addr *b,
                        unsigned bits) {
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole)) return false;
    return !rest || !((a->b[whole] ^ b->b[whole]) >> (8 - rest));
}

static bool in_nets(const struct nets *l, const struct addr *a) {
    for (unsigned i = 0; i < l->n; i++) {
        const struct net *n = &l->net[i];
        bool only_v6 = n->bits < 96; /* such as ::/0 */
        if (only_v6 && is_v4(a)) continue;
        if (same_prefix(&n->addr, a, n->bits)) return true;
    }
    return false;
}

/* Does a door with these Allow and Deny lists exist for src?  Deny wins. */
static bool allowed(const struct nets *allow, const struct nets *deny,
                    const struct addr *src) {
    if (in_nets(deny, src)) return false;
    return !allow->n || in_nets(allow, src);
}

FAST_END

static const char *addr_text(const struct addr *a, char buf[ADDR_TEXT]) {
    if (is_v4(a)) return inet_ntop(AF_INET, a->b + 12, buf, ADDR_TEXT);
    return inet_ntop(AF_INET6, a, buf, ADDR_TEXT);
}

/* Parses an IPv4 or IPv6 address; false if text is neither. */
static bool addr_parse(const char *text, struct addr *a) {
    *a = mapped;
    if (inet_pton(AF_INET, text, a->b + 12) == 1) return true;
    return inet_pton(AF_INET6, text, a) == 1;
}

/* ---- Configuration ------------------------------------------------------ */

enum { NOWHERE, OPTIONS, DOOR };

/* The place that is being read; messages name it. */
static struct spot {
    const char *path;
    int line, section;
    bool included;   /* in the file of an Include */
    unsigned errors; /* so far */
} spot;

#define O(field) offsetof(struct conf, field)
#define D(field) offsetof(struct door, field)
enum { FLAG, FLAGS, GLOB, TEXT, NAMES, SET, COMMAND, NUMBER, PORTS, NETS };
static const struct keyword {
    char name[19], alias[11]; /* 18 and 10 letters at most, and a zero */
    uint8_t section, kind;
    uint16_t offset; /* in struct door or (OPTIONS) conf */
    unsigned max;
} keywords[] = {
    { "UseSyslog", "", OPTIONS | DOOR, FLAG, O(use_syslog), 0 },
    { "AllowDuplicates", "AllowDupes", OPTIONS | DOOR, FLAG, O(duplicates),
      0 },
    { "Include", "", OPTIONS, GLOB, 0, 0 },
    { "LogFile", "", OPTIONS, TEXT, O(logfile), 0 },
    { "PidFile", "", OPTIONS, TEXT, O(pidfile), 0 },
    { "Interface", "", OPTIONS, NAMES, O(interface), 0 },
    { "Stray_Limit", "", OPTIONS, NUMBER, O(stray_limit), STRAY_LIMIT_MAX },
    { "Sequence", "", DOOR, PORTS, D(seq), 0 },
    { "One_Time_Sequences", "", DOOR, TEXT, D(one_time), 0 },
    { "Keys", "", DOOR, TEXT, D(keys), 0 },
    { "Seq_Timeout", "Timeout", DOOR, NUMBER, D(seq_timeout), SECONDS_MAX },
    { "TCPFlags", "", DOOR, FLAGS, D(tcp), 0 },
    { "Target", "", DOOR, NETS, D(target), 0 },
    { "Allow", "", DOOR, NETS, D(allow), 0 },
    { "Deny", "", DOOR, NETS, D(deny), 0 },
    { "Stray_Limit", "", DOOR, NUMBER, D(stray_limit), STRAY_LIMIT_MAX },
    { "Seq_Cooldown", "Cooldown", DOOR, NUMBER, D(cooldown), SECONDS_MAX },
    { "Message", "", DOOR, TEXT, D(message), 0 },
    { "Close", "", DOOR, TEXT, D(close), 0 },
    { "Set", "", DOOR, SET, D(set), 0 },
    { "Set_6", "", DOOR, SET, D(set6), 0 },
    { "Start_Command", "Command", DOOR, COMMAND, D(start), 0 },
    { "Start_Command_6", "Command_6", DOOR, COMMAND, D(start6), 0 },
    { "Cmd_Timeout", "", DOOR, NUMBER, D(cmd_timeout), SECONDS_MAX },
    { "Stop_Command", "", DOOR, COMMAND, D(stop), 0 },
    { "Stop_Command_6", "", DOOR, COMMAND, D(stop6), 0 },
};
enum { KEYWORDS = LENGTH(keywords), FLAG_BITS = 6 };
_Static_assert(KEYWORDS <= KEYWORDS_MAX, "room for the line of each");
static const char flags[][4] = { "fin", "syn", "rst", "psh", "ack", "urg" };

/* Prints an error, which counts, or with -t a doubt, of this line; false. */
FORMAT(2)
static bool complain(const char *kind, const char *fmt, ...) {
    char text[TEXT_MAX];
    va_list ap;
    if (!*kind) spot.errors++;
    else if (!settings.test) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return say(TROUBLE, "%s:%d: %s%s", spot.path, spot.line, kind, text);
}

#define wrong(...) complain("", __VA_ARGS__)
#define warn(...) complain("warning: ", __VA_ARGS__)

/* Lets messages name the line of a door's directive, or that of its [name]. */
static void be_at(const struct door *d, size_t field) {
    spot.path = d->path;
    spot.line = d->line;
    for (unsigned i = 0; i < KEYWORDS; i++) {
        bool it = keywords[i].section == DOOR && keywords[i].offset == field;
        if (it && d->lines[i]) spot.line = d->lines[i];
    }
}

/* Where a directive of [options] or of door d is kept. */
static void *field_of(struct conf *c, struct door *d,
                      const struct keyword *k) {
    return k->section == DOOR ? (char *)d + k->offset : (char *)c + k->offset;
}

/* Parses item i of a list into a field; false, with a message, if wrong. */
typedef bool item_parser(void *field, unsigned i, char *item);

/* "port[:protocol]"; as in 0.8, what follows a second colon is ignored. */
static bool knock_parse(void *field, unsigned i, char *item) {
    struct sequence *seq = field;
    char *name = trim(strsep(&item, ":"));
    char *protocol = strsep(&item, ":");
    const char *hint = "";
    unsigned port;
    if (!*name && !protocol)
        return wrong("item %u of the sequence is empty", i + 1);
    if (i == SEQUENCE_MAX) wrong("more than %u ports in a sequence", i);
    if (i >= SEQUENCE_MAX) return false;
    if (strpbrk(name, BLANKS ";."))
        hint = ": a comma separates ports, as in 7000,8000";
    if (strchr(name, '/'))
        hint = ": a colon precedes the protocol, as in 7000:udp";
    if (!number(name, 1, 65535, &port))
        return wrong("port '%.40s' is not a number from 1 to 65535%s", name,
                     hint);
    protocol = protocol ? trim(protocol) : "tcp";
    bool udp = !strcasecmp(protocol, "udp");
    if (!udp && strcasecmp(protocol, "tcp"))
        return wrong("protocol '%.40s' is neither tcp nor udp", protocol);
    seq->knock[i] = udp ? port | TO_UDP : port;
    seq->n = i + 1;
    return true;
}

/* "flag" or "!flag". */
static bool flag_parse(void *field, unsigned i, char *item) {
    struct flags *f = field;
    bool forbidden = *item == '!';
    unsigned *set = forbidden ? &f->forbid : &f->want;
    if (forbidden) item = trim(item + 1);
    for (i = 0; i < FLAG_BITS && strcasecmp(item, flags[i]);) i++;
    if (i == FLAG_BITS)
        return wrong("'%.40s' is not a TCP flag; use fin syn rst psh ack urg",
                     item);
    *set |= 1u << i;
    if (f->want & f->forbid)
        return wrong("no packet fits both %s and !%s", flags[i], flags[i]);
    return true;
}

/* "address[/bits]". */
static bool net_parse(void *field, unsigned i, char *item) {
    struct nets *l = field;
    char *address = trim(strsep(&item, "/"));
    l->n = i + 1;
    l->net = alloc(l->net, l->n * sizeof *l->net);
    struct net *n = &l->net[i];
    if (!addr_parse(address, &n->addr))
        return wrong("'%.40s' is not an IPv4 or IPv6 address", address);
    unsigned most = is_v4(&n->addr) ? 32 : 128;
    n->bits = most;
    if (item && !number(trim(item), 0, most, &n->bits))
        return wrong("prefix length '%.40s' is not a number from 0 to %u",
                     trim(item), most);
    n->bits += 128 - most;
    return true;
}

/* Parses the items of a comma list; false if one is wrong. */
static bool list_parse(item_parser *parse, void *field, char *list) {
    bool good = true;
    char *item;
    for (unsigned i = 0; (item = strsep(&list, ",")); i++)
        good &= parse(field, i, trim(item));
    return good;
}

/* Stores a text in *field.  An empty one in [options] counts as not given. */
static bool text_parse(const struct keyword *k, char **field, char *value) {
    char first = value[strspn(value, LIST)], name[IFNAMSIZ + 1];
    const char *list = k->kind == NAMES ? value : "";
    *field = value;
    while (next_name(&list, name))
        if (strlen(name) == IFNAMSIZ)
            wrong("interface name '%s' is longer than %d characters", name,
                  IFNAMSIZ - 1);
    if (k->kind == COMMAND || (first && first != '#')) return true;
    if (k->section == DOOR) return wrong("%s is empty", k->name);
    *field = NULL;
    warn("%s is empty and has no effect", k->name);
    return true;
}

/* A set of addresses that the firewall has. */
struct set {
    uint8_t family; /* of the table, NFPROTO_*; 0: an ipset */
    const char *table, *name;
    char text[SET_TEXT];
};

/* Cuts the next word off *rest; "" at the end. */
static char *next_word(char **rest) {
    char *word = "";
    while (*rest && !*word) word = strsep(rest, BLANKS);
    return word;
}

/* Parses "nft FAMILY TABLE NAME" or "ipset NAME"; false if it is neither. */
static bool set_read(struct set *s, const char *words) {
    static const char families[][8] = SET_FAMILIES;
    *s = (struct set){ .table = "", .name = "" };
    if (strlen(words) >= sizeof s->text) return false;
    char *word[5], *rest = strcpy(s->text, words);
    unsigned n, i = LENGTH(families) - 1;
    for (n = 0; n < LENGTH(word); n++) {
        word[n] = next_word(&rest);
        if (!*word[n]) break;
    }
    if (n) s->name = word[n - 1];
    if (n == 2 && !strcmp(word[0], "ipset"))
        return strlen(s->name) <= IPSET_NAME_MAX;
    if (n != 4 || strcmp(word[0], "nft")) return false;
    s->table = word[2];
    while (i && strcmp(families[i], word[1])) i--;
    s->family = (uint8_t)i;
    return i;
}

/* Stores the words with one blank between them: equal sets have equal texts. */
static bool set_parse(const struct keyword *k, char **field, char *value) {
    struct set s;
    char *to = value;
    if (!set_read(&s, value))
        return wrong(
            "%s '%.60s' is neither nft FAMILY TABLE NAME (such as nft "
            "inet filter knock) nor ipset NAME",
            k->name, value);
    for (const char *from = value; *from; from++) {
        if (!strchr(BLANKS, *from)) *to++ = *from;
        else if (!strchr(BLANKS, from[1])) *to++ = ' ';
    }
    *to = '\0';
    *field = value;
    return true;
}

static void config_read(struct conf *c, const char *path);

/* Keeps a string until the configuration is freed. */
static char *conf_keep(struct conf *c, char *text) {
    c->kept = alloc(c->kept, (c->nkept + 1) * sizeof *c->kept);
    return c->kept[c->nkept++] = text;
}

/* The last part of a path, behind its directory. */
static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The path of a name that may be relative to another path's directory. */
static char *path_beside(struct conf *c, const char *path, const char *name) {
    int n = *name == '/' ? 0 : (int)(last_part(path) - path);
    struct text joined = { 0 };
    text_add(&joined, "%.*s%s", n, path, name);
    return conf_keep(c, joined.b);
}

/* Does a name match a pattern?  * is any text, ? is any character. */
static bool matches(const char *pattern, const char *name) {
    if (*pattern == '*' && *name && matches(pattern, name + 1)) return true;
    if (*pattern == '*') return matches(pattern + 1, name);
    if (!*name) return !*pattern;
    bool same = *pattern == '?' || *pattern == *name;
    return same && matches(pattern + 1, name + 1);
}

static int name_cmp(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads the files that match path, if any, in the order of their names. */
static void include_all(struct conf *c, const char *path) {
    const char *directory = path_beside(c, path, ".");
    unsigned from = c->nkept;
    struct dirent *entry;
    int fd = openat(cwd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && errno != ENOENT) wrong("%s: %s", path, strerror(errno));
    while (d && (entry = readdir(d)))
        if (*entry->d_name != '.' && matches(last_part(path), entry->d_name))
            path_beside(c, path, entry->d_name);
    if (d) closedir(d);
    unsigned to = c->nkept;
    qsort(c->kept + from, to - from, sizeof *c->kept, name_cmp);
    while (from < to) config_read(c, c->kept[from++]);
}

/* Reads what an Include names, relative to the directory of this file. */
static void include(struct conf *c, const char *name) {
    struct spot was = spot;
    if (spot.included) return; /* the error is its [options] */
    spot.included = true;
    name = path_beside(c, spot.path, name);
    if (strpbrk(last_part(name), "*?")) include_all(c, name);
    else config_read(c, name);
    was.errors = spot.errors;
    spot = was;
}

/* Parses a directive; value: NULL where its line has no '='. */
static bool directive(struct conf *c, const struct keyword *k, char *value) {
    struct door *d = k->section == DOOR ? &c->doors[c->ndoors - 1] : NULL;
    void *field = field_of(c, d, k);
    int *line = &(d ? d->lines : c->lines)[k - keywords];
    bool adds = k->kind <= GLOB;
    if (*line && !adds)
        warn("%s is given again: the last one counts", k->name);
    *line = spot.line;
    if (k->kind == FLAG && value)
        return wrong("%s has no value: write the word alone", k->name);
    if (k->kind != FLAG && !value)
        return wrong("%s needs '=' and a value", k->name);
    switch (k->kind) {
    case FLAG: *(bool *)field = true; return true;
    case GLOB: include(c, value); return true;
    case PORTS: return list_parse(knock_parse, field, value);
    case FLAGS: return list_parse(flag_parse, field, value);
    case SET: return set_parse(k, field, value);
    case NETS: return list_parse(net_parse, field, value);
    case NUMBER:
        if (number(value, 0, k->max, field)) return true;
        return wrong("%s '%.40s' is not a number from 0 to %u", k->name,
                     value, k->max);
    default: return text_parse(k, field, value);
    }
}

static void port_review(unsigned port, int type) {
    struct sockaddr_in6 any = { .sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)port) };
    int yes = 1, fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    if (type == SOCK_STREAM) /* no connection in TIME_WAIT */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (void *)&any, sizeof any) && errno == EADDRINUSE)
        warn("port %u is in use: a program answers the knock, and may log it",
             port);
    close(fd);
}

/* -t: warns of a sequence that is weak, or whose ports are in use. */
static void sequence_review(const struct sequence *seq) {
    const char *weak = NULL;
    unsigned rises = 0, falls = 0, before = 0;
    uint16_t r[4];
    for (unsigned i = 0; i < seq->n; i++) {
        unsigned port = seq->knock[i] & 0xffff;
        rises += port > before;
        falls += !i || port < before;
        before = port;
        port_review(port, seq->knock[i] & TO_UDP ? SOCK_DGRAM : SOCK_STREAM);
    }
    if (rises == seq->n || falls == seq->n)
        weak = "the ports are in the order of a scan and of the manuals";
    if (seq->n < 3) weak = "fewer than 3 ports are easily guessed";
    if (weak && getrandom(r, sizeof r, 0) == sizeof r)
        warn("%s: use a random one, for example sequence = %d,%d,%d,%d", weak,
             r[0] >> 1 | 1024, r[1] | 32768, r[2] >> 1 | 1024, r[3] | 32768);
}

/* Is this a word of the shell, or a program, in PATH or by its path?  errno. */
static bool can_run(const char *word) {
    static const char shell[] = " . : cd case command eval exec exit export "
                                "for if read set trap umask until while ";
    char path[PATH_MAX];
    const char *dir = getenv("PATH");
    if (strchr(word, '/')) return !access(word, X_OK);
    snprintf(path, sizeof path, " %.32s ", word);
    bool found = strstr(shell, path);
    while (!found && dir && *dir) {
        int n = (int)strcspn(dir, ":");
        snprintf(path, sizeof path, "%.*s/%.255s", n, dir, word);
        found = !access(path, X_OK);
        dir += n + (dir[n] == ':');
    }
    return found;
}

/* -t: warns of a start command that does not do what people expect. */
static void start_review(const struct door *d, const char *start) {
    static const char behind[][2][18] = {
        { "-A INPUT", "-I INPUT" },
        { "add rule", "insert rule" },
        { "ufw allow", "ufw prepend allow" },
    };
    bool sets = d->set || d->set6;
    bool closes = d->stop || d->stop6 || strstr(start, "-D") ||
                  strstr(start, "delete") || strstr(start, "timeout");
    bool adds = strstr(start, " -I ") || strstr(start, " -A ");
    for (unsigned i = 0; i < LENGTH(behind); i++)
        if (strstr(start, behind[i][0]))
            warn("'%s' goes behind the rules that reject: did you mean '%s'?",
                 behind[i][0], behind[i][1]);
    if (sets) return; /* the sets open the door */
    if (!strstr(start, "%IP%")) {
        if (d->seq.n != 1 || d->keys)
            warn("no %%IP%% in the command: is the door for everyone?");
        else if (!d->cooldown)
            warn("every packet runs the command: set Seq_Cooldown");
    } else if (!closes && adds && !strstr(start, " -C "))
        warn("each knock adds a rule: use iptables -C ... || iptables -I "
             "..., or add Stop_Command");
    else if (!closes && start == d->start)
        warn("no Stop_Command: another door must close this one");
}

/* Are there networks in the list, all of them IPv4 or, without v4, IPv6? */
static bool only_of(const struct nets *l, bool v4) {
    for (unsigned i = 0; i < l->n; i++)
        if (is_v4(&l->net[i].addr) != v4) return false;
    return l->n;
}

/* Is the door for IPv4 alone or, without v4, for IPv6 alone? */
static bool door_only(const struct door *d, bool v4) {
    if (v4 && settings.only_ipv4) return true;
    return only_of(&d->target, v4) || only_of(&d->allow, v4);
}

/* -t: warns of a door's command, of directive k; k[1] is that with _6. */
static void command_review(const struct door *d, const struct keyword *k,
                           const char *command) {
    bool start = k->offset == D(start), stop = k->offset == D(stop);
    bool for_v4 =
        strstr(command, "iptables") && !strstr(command, "ip6tables");
    bool lacks_six = (start || stop) && !d->lines[k + 1 - keywords];
    char word[PATH_MAX];
    int n = (int)strcspn(command, BLANKS ";&|<>");
    snprintf(word, sizeof word, "%.*s", n, command);
    bool plain = n && !strpbrk(word, "()$`\\\"'*?[]#~={}!%");
    if (plain && !can_run(word))
        warn("can't run %.200s: %s", word, strerror(errno));
    if (start || k->offset == D(start6)) start_review(d, command);
    if (stop && d->cmd_timeout == UINT_MAX)
        warn("no Cmd_Timeout: the stop command runs after %d s", CMD_TIMEOUT);
    if (for_v4 && lacks_six && !door_only(d, true))
        warn("iptables does not accept IPv6 addresses: add %s", k[1].name);
}

/* -t: warns of what is legal, also in 0.8, but probably not meant. */
static void door_review(struct conf *c, struct door *d) {
    bool sets = d->set || d->set6;
    bool mixed = d->tcp.want & SYN && d->tcp.want != SYN;
    for (const struct door *o = c->doors; o < d; o++)
        if (!strcmp(o->name, d->name))
            warn("another door is named '%s': %s:%d", d->name, o->path,
                 o->line);
    if (!is_given(d->start) && !d->start6 && !d->close && !sets)
        warn("no command: the door only logs");
    for (const struct keyword *k = keywords; k < keywords + KEYWORDS; k++) {
        const char **command = field_of(c, d, k);
        if (k->section != DOOR || !d->lines[k - keywords]) continue;
        be_at(d, k->offset);
        if (k->kind == PORTS && !d->keys) sequence_review(&d->seq);
        if (k->kind == FLAGS && mixed)
            warn("no ordinary client sends syn with another flag");
        if (k->kind == COMMAND && **command) command_review(d, k, *command);
    }
    if (!sets) return;
    be_at(d, d->set ? D(set) : D(set6));
    if (!d->set6 && !door_only(d, true))
        warn("an IPv6 knock puts nothing: add Set_6");
    if (!d->set && !door_only(d, false))
        warn("an IPv4 knock puts nothing: add Set");
    if (d->cmd_timeout == UINT_MAX && !d->stop)
        warn("no Cmd_Timeout: the address stays for %d s", CMD_TIMEOUT);
}

/* Begins the section of a line "[name]". */
static bool section(struct conf *c, char *line) {
    char *end = strrchr(line, ']');
    bool good = end && !end[1];
    if (!good) wrong("bad section line '%.40s'", line);
    else *end = '\0';
    char *name = trim(line + 1);
    if (!*name || strlen(name) > DOOR_NAME_MAX)
        good = wrong("a section name has 1 to %d characters", DOOR_NAME_MAX);
    spot.section = strcasecmp(name, "options") ? DOOR : OPTIONS;
    if (spot.included && spot.section == OPTIONS)
        good = wrong("an included file has no [options]");
    if (spot.section == OPTIONS) return good;
    c->doors = alloc(c->doors, (c->ndoors + 1) * sizeof *c->doors);
    struct door *d = &c->doors[c->ndoors++];
    *d = (struct door){ .path = spot.path, .name = name, .line = spot.line };
    d->seq_timeout = SEQ_TIMEOUT;
    d->cmd_timeout = d->stray_limit = UINT_MAX;
    return good;
}

/* Are the n letters of text this word?  Most words differ in the first letter,
 * which is quickly compared. */
static bool is_word(const char *text, size_t n, const char *word) {
    if (!n || (*text | ' ') != (*word | ' ')) return false;
    return !strncasecmp(text, word, n) && !word[n];
}

/* Cuts off the comment: from a '#' after white space, not in [name]. */
static void comment_cut(char *line) {
    char *p = line + 1;
    if (*line == '[') p += strcspn(p, "]");
    while (*p && (*p != '#' || !strchr(BLANKS, p[-1]))) p++;
    *p = '\0';
}

/* The keyword of the line's first n letters or NULL; of two, the section's. */
static const struct keyword *keyword_of(const char *line, size_t n,
                                        int where) {
    const struct keyword *found = NULL;
    for (const struct keyword *k = keywords; k < keywords + KEYWORDS; k++) {
        bool it = is_word(line, n, k->name) || is_word(line, n, k->alias);
        if (it) found = k;
        if (it && k->section & where) break;
    }
    return found;
}

/* Parses a line; false if it is wrong.  '#' in a command is no comment. */
static bool config_line(struct conf *c, char *line) {
    spot.line++;
    line = trim(line);
    if (!*line || *line == '#') return true;
    size_t n = strcspn(line, "=:" BLANKS);
    const struct keyword *k = keyword_of(line, n, spot.section);
    if (!k || k->kind != COMMAND) comment_cut(line);
    char *rest = trim(line + n);
    if (*line == '[') return section(c, trim(line));
    const char *what = "unknown directive";
    if (k || !strchr(line, '=')) what = "no '=' in";
    if (!k || (*rest && *rest != '='))
        return wrong("%s '%.*s'", what, n < 20 ? (int)n : 20, line);
    if (!spot.section)
        return wrong("%s comes before the first [section]", k->name);
    what = "[options], not in a door";
    if (k->section == DOOR) what = "a door, not in [options]";
    if (!(k->section & spot.section))
        return wrong("%s belongs in %s", k->name, what);
    return directive(c, k, *rest ? trim(rest + 1) : NULL);
}

/* Makes room for secrets, which are in no core dump. */
static void *secrets_map(size_t bytes) {
    void *p = map(bytes, -1);
    madvise(p, bytes, MADV_DONTDUMP);
    return p;
}

static void clients_free(struct conf *c) {
    if (!c->clients) return;
    explicit_bzero(c->clients, c->nclients * sizeof *c->clients);
    munmap(c->clients, CLIENTS_MAX * sizeof *c->clients);
}

static void config_free(struct conf *c) {
    for (unsigned i = 0; i < c->ndoors; i++) {
        free(c->doors[i].target.net);
        free(c->doors[i].allow.net);
        free(c->doors[i].deny.net);
    }
    for (unsigned i = 0; i < c->nkept; i++) free(c->kept[i]);
    clients_free(c);
    free(c->kept);
    free(c->doors);
}

static bool same_sequence(const struct sequence *a,
                          const struct sequence *b) {
    return a->n == b->n &&
           !memcmp(a->knock, b->knock, a->n * sizeof *a->knock);
}

/* Gives a door the first unused sequence of its one-time file.  With spend,
 * first marks the present one as used, on disk: a '#' replaces the first byte
 * of its lines.  Returns how many are left; 0 disables the door, and so does
 * -1: the file can't be read or marked, which is logged. */
static int one_time(struct door *d, bool spend) {
    struct sequence old = d->seq, next = old;
    bool marked = false, failed = false;
    int how = settings.test ? O_RDONLY : O_RDWR, left = 0;
    size_t size;
    int fd = openat(cwd, d->one_time, how | O_NONBLOCK | O_CLOEXEC);
    char *text = read_all(fd, &size), *rest = text, *line;
    be_at(d, D(one_time));
    d->seq.n = 0;
    if (!text)
        wrong("door '%s': %s: %s", d->name, d->one_time, strerror(errno));
    zeros_replace(text, size);
    unsigned errors = spot.errors; /* a wrong line is skipped */
    spot.path = d->one_time;
    for (spot.line = 1; (line = strsep(&rest, "\n")); spot.line++) {
        off_t start = line - text;
        line = trim(line);
        if (!*line || *line == '#') continue;
        if (!list_parse(knock_parse, &next, line)) continue;
        if (spend && same_sequence(&next, &old)) {
            marked = true;
            if (pwrite(fd, "#", 1, start) != 1) failed = true;
            continue;
        }
        if (!left) d->seq = next;
        left++;
    }
    spot.errors = errors;
    if (spend && (!marked || fsync(fd))) failed = true;
    free(text);
    if (fd >= 0) close(fd);
    if (failed) d->seq.n = 0;
    if (failed)
        say(TROUBLE,
            "door %s: can't mark the sequence as used in %s: door disabled",
            d->name, d->one_time);
    else if (text && !left)
        say(TROUBLE,
            "no more sequences left in the one time sequences file for "
            "door %s --> disabling the door",
            d->name);
    return failed || !text ? -1 : left;
}

static void client_add(struct conf *c, const struct door *d, const char *name,
                       const uint8_t key[KEY_BYTES]) {
    uint8_t hash[HASH_BYTES];
    if (!c->clients)
        c->clients = secrets_map(CLIENTS_MAX * sizeof *c->clients);
    struct client *new = &c->clients[c->nclients++];
    strcpy(new->name, name);
    new->door = (uint32_t)(d - c->doors);
    door_key(&new->key, key, d->name);
    hmac(&new->key, "knock1 seen", "", 0, hash);
    memcpy(&new->seen, hash, sizeof new->seen);
    uint32_t *link = &c->clients[new->seen % CLIENTS_MAX].first;
    for (struct client *o; *link; link = &o->next) {
        o = &c->clients[*link - 1];
        if (o->seen == new->seen)
            wrong("%s and %s have the same key", o->name, name);
    }
    *link = c->nclients;
}

/* Parses "NAME KEY"; false if there is no room.  No message quotes a key. */
static bool keys_line(struct conf *c, const struct door *d, char *line) {
    uint8_t key[KEY_BYTES], vectors[KEY_BYTES];
    spot.line++;
    line = trim(line);
    if (!*line || *line == '#') return true;
    if (c->nclients == CLIENTS_MAX)
        return wrong("more than %d clients", CLIENTS_MAX);
    comment_cut(line);
    char *digits = line + strcspn(line, BLANKS);
    if (*digits) *digits++ = '\0';
    for (int i = 0; i < KEY_BYTES; i++) vectors[i] = (uint8_t)i;
    if (!is_client_name(line))
        wrong("the name has other characters than letters, digits and "
              "._@-, begins with one of ._@-, or is longer than %d",
              CLIENT_MAX);
    else if (!key_parse(trim(digits), key))
        wrong("the key is not 64 hex digits");
    else if (!memcmp(key, vectors, sizeof key))
        wrong("everybody has this key: it is that of the test vectors");
    else client_add(c, d, line, key);
    explicit_bzero(key, sizeof key);
    return true;
}

/* Reads the key file of a door, straight into pages that are wiped. */
static void keys_read(struct conf *c, const struct door *d) {
    struct stat st = { .st_size = 0 };
    const char *doubt = NULL;
    unsigned before = c->nclients;
    int fd = openat(cwd, d->keys, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool hidden = fd < 0 && errno == EACCES && settings.test;
    if (fd < 0 || fstat(fd, &st)) doubt = strerror(errno);
    else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        doubt = "it is not a file of keys";
    else if (st.st_mode & 077) doubt = "others may use it: chmod 600";
    else if (st.st_uid && st.st_uid != geteuid())
        doubt = "it belongs neither to root nor to this user";
    if (doubt) st.st_size = 0;
    size_t bytes = (size_t)st.st_size + 1;
    char *text = secrets_map(bytes), *rest = text;
    if (!doubt && read(fd, text, bytes) != st.st_size)
        doubt = "the file has changed";
    if (!doubt && strlen(text) != bytes - 1)
        doubt = "a byte is zero: this is not a text file";
    if (fd >= 0) close(fd);
    if (hidden) warn("%s is not checked: %s", d->keys, doubt);
    else if (doubt) wrong("%s: %s", d->keys, doubt);
    spot.path = d->keys;
    spot.line = 0;
    while (!doubt && rest && keys_line(c, d, strsep(&rest, "\n"))) {}
    explicit_bzero(text, bytes);
    munmap(text, bytes);
    if (!doubt && c->nclients == before)
        warn("no client: door '%s' opens for nobody", d->name);
}

/* Checks a door with Keys, and reads its key file. */
static void keys_check(struct conf *c, const struct door *d) {
    be_at(d, D(seq));
    if (d->seq.n != 1 || !(d->seq.knock[0] & TO_UDP))
        wrong("a door with Keys has one port: Sequence = PORT:udp");
    be_at(d, D(keys));
    if (d->one_time) wrong("Keys and One_Time_Sequences exclude each other");
    if (d->tcp.want || d->tcp.forbid)
        warn("TCPFlags has no effect: a sealed knock is UDP");
    for (const struct door *o = c->doors; o < c->doors + c->ndoors; o++) {
        if (o->keys) continue;
        if (o->start && same_text(o->start, d->start))
            warn("door '%s' runs the same command without a key", o->name);
        if (o->set && same_text(o->set, d->set))
            warn("door '%s' has the same Set without a key", o->name);
    }
    keys_read(c, d);
}

static void config_read(struct conf *c, const char *path) {
    struct stat st;
    size_t n;
    int fd = openat(cwd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    /* Only the first file, and only at the start, may be a pipe: knockd waits
     * for a writer that has opened it, and for no other. */
    bool first = !out.started && !spot.included;
    if (fd >= 0 && first) fcntl(fd, F_SETFL, 0);
    char *next = read_all(fd, &n), hint[128] = "";
    int error = errno;
    spot.path = path;
    spot.line = 1;
    if (!next) {
        if (fd >= 0) close(fd);
        if (error == EACCES && !fstatat(cwd, path, &st, 0))
            sprintf(
                hint,
                ": its owner is user %u, its mode %04o, and this is user %u",
                st.st_uid, st.st_mode & 07777, geteuid());
        spot.errors++;
        errno = error;
        bool needless = settings.status && error == ENOENT &&
                        !strcmp(path, CONFIG_PATH) &&
                        strcmp(settings.pidfile, PID_PATH);
        if (!needless) could_not("open", path, hint);
        return;
    }
    if (strlen(next) != n) wrong("a byte is zero: this is not a text file");
    else if (fstat(fd, &st) || (spot.included && !S_ISREG(st.st_mode)))
        wrong("this is not a regular file");
    else if (!n && S_ISFIFO(st.st_mode)) wrong("nobody writes to this pipe");
    else if (st.st_mode & S_IROTH && !S_ISCHR(st.st_mode))
        warn("everyone can read this file: chmod 600 %s", path);
    close(fd);
    conf_keep(c, next);
    if (!strncmp(next, "\xef\xbb\xbf", 3)) next += 3; /* RFC 3629 */
    spot.line = 0;
    spot.section = NOWHERE;
    while (next) {
        bool good = config_line(c, strsep(&next, "\n"));
        if (!good && c->doors && spot.section == DOOR)
            c->doors[c->ndoors - 1].bad = true;
    }
}

/* Close must name another door, one that has something to close. */
static void close_check(struct conf *c, const struct door *d) {
    bool found = false, closes = false;
    for (const struct door *o = c->doors; o < c->doors + c->ndoors; o++) {
        if (o == d || strcmp(o->name, d->close)) continue;
        found = true;
        closes |=
            is_given(o->stop) || is_given(o->stop6) || o->set || o->set6;
    }
    be_at(d, D(close));
    if (!found) wrong("there is no other door '%s'", d->close);
    else if (!closes)
        wrong("door '%s' has neither Set nor Stop_Command", d->close);
}

/* An address in a set needs a time, which an ipset limits to IPSET_S_MAX. */
static void cmd_timeout_check(struct door *d) {
    bool ipset = (d->set && *d->set == 'i') || (d->set6 && *d->set6 == 'i');
    be_at(d, D(cmd_timeout));
    if (!d->cmd_timeout) wrong("Cmd_Timeout 0 leaves the set no time");
    if (!ipset || d->cmd_timeout <= IPSET_S_MAX) return;
    d->cmd_timeout = IPSET_S_MAX;
    warn("an ipset holds an address for %u s at most", d->cmd_timeout);
}

/* Checks and completes a door, but for faults that its errors may cause. */
static void door_finish(struct conf *c, struct door *d) {
    be_at(d, D(seq_timeout));
    if (d->seq_timeout == 0 && d->seq.n > 1)
        wrong("Seq_Timeout 0 leaves door '%s' no time", d->name);
    be_at(d, D(name));
    if (!d->bad && !d->one_time && !d->seq.n)
        wrong("door '%s' has no sequence", d->name);
    if (!d->bad && settings.test) door_review(c, d);
    if (!d->bad && d->keys) keys_check(c, d);
    if (d->cmd_timeout == UINT_MAX) d->cmd_timeout = CMD_TIMEOUT;
    if (d->set || d->set6) cmd_timeout_check(d);
    if (d->stray_limit == UINT_MAX) d->stray_limit = c->stray_limit;
    if (is_given(d->close)) close_check(c, d);
    if (is_given(d->one_time)) one_time(d, false);
}

/* Reads the file into c.  Logs all errors (false) and, with -t, all doubts. */
static bool config_load(struct conf *c, const char *path) {
    const char *list = settings.interface;
    *c = (struct conf){ .stray_limit = STRAY_LIMIT };
    spot.errors = 0;
    spot.included = false;
    config_read(c, path);
    c->listen = c->interface ? c->interface : "any";
    if (list && list[strspn(list, LIST)]) c->listen = list;
    c->pid = c->pidfile ? c->pidfile : settings.pidfile;
    for (unsigned i = 0; i < c->ndoors; i++) door_finish(c, &c->doors[i]);
    if (!c->ndoors && !spot.errors) warn("%s has no doors", path);
    c->errors = spot.errors;
    return !spot.errors;
}

/* Adds a directive's value as understood, a blank or comma before each item. */
static void value_add(struct text *t, const struct keyword *k,
                      const void *field) {
    const struct sequence *seq = field;
    const struct nets *l = field;
    const struct flags *f = field;
    const char *const *text = field;
    char ip[ADDR_TEXT];
    switch (k->kind) {
    case FLAG:
    case GLOB: return; /* its doors are printed */
    case NUMBER: text_add(t, " %u", *(const unsigned *)field); return;
    case PORTS:
        for (const uint32_t *p = seq->knock; p < seq->knock + seq->n; p++)
            text_add(t, ",%u%s", *p & 0xffff, *p & TO_UDP ? ":udp" : "");
        return;
    case NETS:
        for (unsigned i = 0; i < l->n; i++) {
            const struct net *n = &l->net[i];
            text_add(t, ",%s/%u", addr_text(&n->addr, ip),
                     is_v4(&n->addr) ? n->bits - 96 : n->bits);
        }
        return;
    case FLAGS:
        for (unsigned i = 0; i < FLAG_BITS; i++)
            if (f->want >> i & 1) text_add(t, ",%s", flags[i]);
        for (unsigned i = 0; i < FLAG_BITS; i++)
            if (f->forbid >> i & 1) text_add(t, ",!%s", flags[i]);
        return;
    default:
        if (*text) text_add(t, " %s", *text);
    }
}

/* Prints [options], or the section of door d. */
static void section_print(struct conf *c, struct door *d) {
    for (const struct keyword *k = keywords; k < keywords + KEYWORDS; k++) {
        bool here = (k->section == DOOR) == (d != NULL);
        bool from_file = d && d->one_time && k->kind == PORTS;
        struct text value = { 0 };
        if (!here || from_file) continue;
        const void *field = field_of(c, d, k);
        value_add(&value, k, field);
        if (k->kind == FLAG && *(const bool *)field) print("%s\n", k->name);
        if (value.n) print("%s = %s\n", k->name, value.b + 1);
        free(value.b);
    }
}

static void config_print(struct conf *c) {
    print("[options]\n");
    section_print(c, NULL);
    for (unsigned i = 0; i < c->ndoors; i++) {
        print("\n[%s]\n", c->doors[i].name);
        section_print(c, &c->doors[i]);
        for (unsigned k = 0; k < c->nclients; k++)
            if (c->clients[k].door == i)
                print("# client %s\n", c->clients[k].name);
    }
}

/* ---- The sniffer: socket and kernel filter ------------------------------ */

struct attempt {                  /* a source's progress at a door */
    _Alignas(64) struct addr src; /* at stage 1: one cache line */
    uint64_t strays;              /* stray ports seen, each hashed to a bit */
    int64_t deadline;             /* ms */
    struct attempt *next;         /* in its bucket; sorted by source, door */
    struct attempt *older, *newer; /* ring of all attempts at this stage */
    uint32_t door;
    uint8_t stage;                 /* knocks accepted; 0 = unused */
    uint16_t packet[SEQUENCE_MAX]; /* serial numbers of those accepted */
};

struct port {         /* what a knock means to the doors */
    uint32_t first;   /* first door that begins with it, + 1 */
    bool known, bulk; /* some door has it; filter passes bulk */
    bool sealed;      /* a door with keys has it */
};

struct id {        /* that sealed knocks of a client have in a period */
    uint64_t id;   /* as in the packet */
    uint64_t of;   /* the period, + 1; 0: the id is not made yet */
    uint32_t next; /* in its bucket, + 1 */
};

struct reader { /* a client, as far as the sniffer knows it */
    struct hmac id_key;
    uint32_t door, odd; /* odd: packets of far periods, in this second */
};

struct recent { /* a hit; from: interface */
    uint64_t mark;
    int64_t time;
    uint32_t from;
};

union slot { /* of the ring, see packet(7) */
    struct {
        struct tpacket2_ head;
        struct sockaddr_ll from;
    };
    uint8_t bytes[FRAME_BYTES];
};

struct sniffer {
    struct watch *doors;
    struct net *nets; /* of all doors */
    uint32_t ndoors;
    struct locals *locals;
    int packets, channel; /* descriptors */
    bool resting;
    union slot *ring;
    uint32_t at;                            /* the slot to read next */
    uint32_t burst, empty;                  /* see rest() */
    int64_t now, burst_start, second, look; /* ms; look: expire() is due */

    struct port *ports;                      /* by knock */
    uint32_t edge[FILTER_EDGES_MAX], nedges; /* see find_edges() */
    uint32_t sealed_edge[FILTER_EDGES_MAX], nsealed_edges;
    bool indexed, targets; /* has any door a Target? */

    uint64_t key[7];          /* of hash() and mark_of() */
    struct attempt *attempts; /* the table; `used` of them so far */
    struct attempt *stages;   /* heads of the rings of 0 to 32 knocks */
    struct attempt **buckets; /* by source, see bucket() */
    uint32_t used, active, advanced; /* ... at stage 1 or more; 2 or more */
    struct addr wide[FILTER_SOURCES_MAX + 1]; /* see wide_begins() */
    uint32_t nwide;
    struct recent recent[RECENT_MAX]; /* see is_twin() */
    uint64_t (*marks)[MARKS_IN_SET];  /* see mark_set() */
    uint16_t serial;                  /* of the next packet */
    bool noted[UINT16_MAX + 1];       /* packets, see note_packets() */

    struct reader *readers;           /* by client */
    struct id *ids;                   /* `periods` of each client */
    uint32_t *id_buckets;             /* by id: an index into ids, + 1 */
    uint64_t *id_marks;               /* of each bucket, see marks_of() */
    uint32_t nreaders, periods, nids; /* nids: of all, and buckets */
    uint64_t period;                  /* that of the wall clock, + 1 */
    struct event sealed[SEALED_MAX];  /* not yet sent, in their order */
    uint32_t sealed_at, nsealed;      /* the first of these, their end */

    uint32_t told[KINDS], suppressed; /* in this second, of no door; of all */
    struct event events[EVENTS_MAX];  /* not yet sent */
    unsigned unsent;
    uint64_t counters[COUNTERS]; /* since they were told last */
};

/* A classic BPF program, built backwards: what a jump leads to exists before
 * the jump is written, so a label is simply an index into code. */
static struct {
    struct bpf_insn_ code[FILTER_MAX];
    unsigned at;
} program;

/* Prepends an instruction and returns its label.  A test goes on at yes or no,
 * through a JA if that is more than BPF's 255 away; a JA goes to yes. */
static unsigned put(unsigned code, uint32_t k, unsigned yes, unsigned no) {
    struct bpf_insn_ insn = { .code = (uint16_t)code, .k = k };
    if (code == JEQ || code == JGE || code == JSET) {
        if (yes - program.at > 250) yes = put(JA, 0, yes, 0);
        if (no - program.at > 250) no = put(JA, 0, no, 0);
        insn.jt = (uint8_t)(yes - program.at);
        insn.jf = (uint8_t)(no - program.at);
    }
    if (code == JA) insn.k = yes - program.at;
    program.code[--program.at] = insn;
    return program.at;
}

/* Prepends an instruction that does not jump and goes on at next. */
static unsigned load(unsigned code, int k, unsigned next) {
    if (next != program.at) put(JA, 0, next, 0);
    return put(code, (uint32_t)k, 0, 0);
}

/* Searches edge[low..high-1], where ranges begin and end in turn, for A: it is
 * in one of the ranges if the number of edges at or below it is odd. */
static unsigned search(const uint32_t *edge, unsigned low, unsigned high,
                       unsigned yes, unsigned no) {
    unsigned middle = (low + high) / 2;
    if (low == high) return low & 1 ? yes : no;
    unsigned above = search(edge, middle + 1, high, yes, no);
    unsigned below = search(edge, low, middle, yes, no);
    return put(JGE, edge[middle], above, below);
}

/* Compares the address at offset v4 or v6 of the IP header with a. */
static unsigned is_addr(const struct addr *a, int v4, int v6, unsigned yes,
                        unsigned no) {
    uint32_t word, type = ETHERTYPE_V6;
    int first = 0, at = v6;
    if (is_v4(a)) {
        type = ETHERTYPE_V4;
        first = 12;
        at = v4 - first;
    }
    for (int i = 12; i >= first; i -= 4) {
        memcpy(&word, a->b + i, 4);
        yes = put(JEQ, ntohl(word), yes, no);
        yes = load(LD_W, at + i, yes);
    }
    yes = put(JEQ, type, yes, no);
    return load(LD_W, AD_PROTOCOL, yes);
}

/* Attaches the program that begins at a label.  Not through libc, which may
 * use socketcall() on i386: seccomp() allows setsockopt() only. */
static long attach(int fd, unsigned at) {
    struct bpf_prog_ prog = { (uint16_t)(FILTER_MAX - at),
                              program.code + at };
    return syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
                   sizeof prog);
}

/* IPv6's extension headers (RFC 8200 and 4302, and mobility, HIP, Shim6). */
static const uint8_t headers6[] = { 0,  ROUTING, FRAGMENT, AUTH,
                                    60, 135,     139,      140 };

/* Is one of n addresses at offset v4 or v6 of the IP header? */
static unsigned is_listed(const struct addr *list, uint32_t n, int v4, int v6,
                          unsigned yes, unsigned no) {
    unsigned next = no;
    for (uint32_t i = 0; i < n; i++)
        next = is_addr(&list[i], v4, v6, yes, next);
    return next;
}

/* Does an IP packet matter?  Bulk packets, UDP and TCP with ACK, do near ports
 * that they can knock on, and from sources with an attempt at a wide door
 * (index_doors()), where strays count.  All other TCP does: attempts to
 * connect, scans.  With Targets or too many addresses user space finds out what
 * is for us; too many sources at wide doors are all sources. */
static unsigned filter_ip(const struct sniffer *s, unsigned take,
                          unsigned drop) {
    const struct locals *l = s->locals;
    unsigned local = take;
    if (!s->targets && l->naddrs <= FILTER_ADDRS_MAX)
        local = is_listed(l->addr, l->naddrs, 16, 24, take, drop);
    unsigned wide = local;
    if (s->nwide <= FILTER_SOURCES_MAX)
        wide = is_listed(s->wide, s->nwide, 12, 8, local, drop);
    unsigned sealed = put(JEQ, 8 + sizeof(struct sealed), local, wide);
    sealed = load(LD_HX, 4, sealed); /* UDP's length */
    sealed = search(s->sealed_edge, 0, s->nsealed_edges, sealed, wide);
    unsigned port = search(s->edge, 0, s->nedges, local, sealed);
    unsigned udp = load(LD_HX, 2, load(OR, TO_UDP, port));
    unsigned tcp = load(LD_HX, 2, port);
    tcp = put(JSET, ACK, tcp, local);
    tcp = load(LD_BX, 13, tcp);
    unsigned v6 = drop;
    for (unsigned i = 0; i < sizeof headers6; i++)
        v6 = put(JEQ, headers6[i], local, v6);
    v6 = put(JEQ, UDP, udp, put(JEQ, TCP, tcp, v6));
    v6 = load(LDX_IMM, 40, load(LD_B, 6, v6));
    if (settings.only_ipv4) v6 = drop;
    unsigned v4 = put(JEQ, UDP, udp, put(JEQ, TCP, tcp, drop));
    v4 = put(JSET, 0x1fff, drop, load(LD_B, 9, v4)); /* a fragment */
    v4 = load(LDX_IHL, 0, load(LD_H, 6, v4));
    unsigned ip = put(JEQ, ETHERTYPE_V6, v6, drop);
    return load(LD_W, AD_PROTOCOL, put(JEQ, ETHERTYPE_V4, v4, ip));
}

static unsigned filter_interface(const struct locals *l, unsigned yes,
                                 unsigned no) {
    unsigned listed = no;
    for (unsigned i = 0; i < l->ninterfaces; i++)
        listed = put(JEQ, l->interface[i], yes, listed);
    listed = load(LD_W, AD_IFINDEX, listed);
    if (!l->any) return listed;
    return load(LD_W, AD_HATYPE, put(JEQ, HATYPE_LOOPBACK, listed, yes));
}

/* Attaches the kernel's filter, which drops what can't matter before it wakes
 * us.  It may pass too much, as the parser tests again, never too little. */
static void filter_attach(const struct sniffer *s) {
    program.at = FILTER_MAX;
    unsigned drop = put(RET, 0, 0, 0), take = put(RET, 0xffff, 0, 0);
    unsigned ip = filter_ip(s, take, drop);
    unsigned tag = load(AND, 0xfff, put(JEQ, 0, ip, drop));
    tag = load(LD_W, AD_VLAN_TAG, tag); /* 0: only a priority */
    ip = load(LD_W, AD_VLAN_PRESENT, put(JEQ, 0, ip, tag));
    unsigned in = filter_interface(s->locals, ip, drop);
    load(LD_W, AD_PKTTYPE, put(JGE, PKTTYPE_OTHERHOST, drop, in));
    if (!attach(s->packets, program.at)) return;
    attach(s->packets, take);       /* old and new together exceed */
    attach(s->packets, program.at); /* net.core.optmem_max */
}

/* Opens a packet socket with a ring; -1 and errno if that fails.  A filter that
 * drops all is attached before bind(): nothing is queued until the sniffer sets
 * its own.  SOCK_DGRAM: offset 0 is the IP header on every link (packet(7)). */
static int packet_socket(void) {
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int yes = 1, version = TPACKET_V2_;
    struct tpacket_req_ ring = { BLOCK_BYTES, RING_BYTES / BLOCK_BYTES,
                                 FRAME_BYTES, FRAMES };
    struct sockaddr_ll all = { .sll_family = AF_PACKET,
                               .sll_protocol = htons(ETHERTYPE_ALL) };
    if (fd < 0) return -1;
    /* Fails before Linux 4.20; there the filter drops outgoing packets. */
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
    program.at = FILTER_MAX;
    bool bad = setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version,
                          sizeof version) ||
               setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring);
    bad = bad || attach(fd, put(RET, 0, 0, 0));
    bad = bad || bind(fd, (void *)&all, sizeof all);
    if (!bad) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* ---- The sniffer: parse ------------------------------------------------- */

FAST

struct packet {
    struct addr src, dst;
    uint64_t mark; /* the same if it is sent again; see mark_of() */
    const struct attempt *end; /* see attempts_of() */
    const uint8_t *sealed;     /* in the ring; NULL: no sealed knock */
    uint32_t knock;
    uint32_t number; /* TCP's sequence number; UDP: see parse_udp() */
    uint32_t interface;
    enum { BEGINS = 1, REPEATS = 2, MOVES = 4, COMPLETES = 8 } use; /* bits */
    uint16_t serial; /* among the packets that were matched */
    uint16_t sport, proto;
    uint16_t at;       /* where its TCP or UDP header is */
    uint8_t flags;     /* of TCP */
    bool bulk, part;   /* see filter_ip(); first fragment */
    bool may_return;   /* TCP sends it again if nobody answers */
    bool to_host;      /* the kernel accepts it for this host */
    bool known, local; /* set by match(): a door's port; for us */
};

static unsigned get16(const uint8_t *b) { return (unsigned)b[0] << 8 | b[1]; }

/* Parses a TCP header (RFC 9293): n bytes are captured, size left of the
 * packet.  Every TCP sends SYN with options and starts at a random number: a
 * SYN without options, or number 0, is made by hand and never sent again. */
static bool parse_tcp(const uint8_t *h, size_t n, size_t size,
                      struct packet *p) {
    if (n < 20) return false;
    size_t length = (size_t)(h[12] >> 4) * 4;
    p->number = (uint32_t)get16(h + 4) << 16 | get16(h + 6);
    p->flags = h[13];
    p->bulk = p->flags & ACK;
    bool made_by_hand = (p->flags & SYN) && length == 20;
    p->may_return = p->number && !made_by_hand;
    return length >= 20 && length <= size;
}

/* Parses a UDP header (RFC 768).  Only a first fragment may be cut short. */
static bool parse_udp(const uint8_t *h, size_t size, struct packet *p) {
    size_t length = get16(h + 4);
    p->knock |= TO_UDP;
    p->number |= get16(h + 6); /* identification and checksum */
    p->bulk = true;
    return length >= 8 && (length <= size || p->part);
}

/* Returns the end of an IPv4 header (RFC 791); 0: bad, or a later fragment. */
static size_t parse_v4(const uint8_t *b, struct packet *p) {
    size_t length = (size_t)(b[0] & 15) * 4;
    p->src = addr_v4(b + 12);
    p->dst = addr_v4(b + 16);
    p->proto = b[9];
    p->part = b[6] & 0x20;
    p->number = get16(b + 4) << 16; /* identification */
    bool later = get16(b + 6) & 0x1fff;
    return later || length < 20 ? 0 : length;
}

/* The length of an IPv6 extension header; 0: a later fragment, or routed on. */
static size_t parse_extension(const uint8_t *h, struct packet *p) {
    unsigned kind = p->proto;
    p->proto = h[0];
    if (kind == ROUTING && h[3]) return 0;
    if (kind == AUTH) return ((size_t)h[1] + 2) * 4;
    if (kind != FRAGMENT) return ((size_t)h[1] + 1) * 8;
    p->part = h[3] & 1;
    return get16(h + 2) & 0xfff8 ? 0 : 8;
}

/* The end of an IPv6 header and its extensions (RFC 8200); 0: not for us. */
static size_t parse_v6(const uint8_t *b, size_t n, struct packet *p) {
    size_t at = 40;
    memcpy(&p->src, b + 8, 16);
    memcpy(&p->dst, b + 24, 16);
    p->proto = b[6];
    if (is_v4(&p->src)) return 0; /* forged */
    for (int i = 0; i < 8 && at + 8 <= n; i++) {
        if (!memchr(headers6, p->proto, sizeof headers6)) break;
        size_t length = parse_extension(b + at, p);
        if (!length) return 0;
        at += length;
    }
    return at;
}

/* Parses the first n of a packet's wire bytes; false if it is not TCP or UDP, a
 * later fragment, or if a length exceeds what is there or what others claim. */
static bool parse(const uint8_t *b, size_t n, size_t wire, struct packet *p) {
    unsigned version = n ? b[0] >> 4 : 0;
    size_t at, end = 0;
    if (version == 4 && n >= 20) end = get16(b + 2);
    if (version == 6 && n >= 40) end = 40 + get16(b + 4);
    if (!end || end > wire) return false;
    if (n > end) n = end;
    p->number = 0;
    p->flags = 0;
    p->part = p->may_return = false;
    if (version == 4) at = parse_v4(b, p);
    else at = parse_v6(b, n, p);
    if (!at || at + 8 > n || !addr_usable(&p->src)) return false;
    const uint8_t *h = b + at;
    p->at = (uint16_t)at;
    p->sport = (uint16_t)get16(h);
    p->knock = get16(h + 2);
    if (p->proto == TCP) return parse_tcp(h, n - at, end - at, p);
    return p->proto == UDP && parse_udp(h, end - at, p);
}

FAST_END

/* ---- The sniffer: match ------------------------------------------------- */

/* Lists where the ranges of bulk and of sealed ports begin and end, in turn.
 * Of too many the last has no end (the limits are odd): too much passes. */
static void find_edges(struct sniffer *s) {
    uint32_t *n = &s->nedges, *sealed = &s->nsealed_edges;
    *n = *sealed = 0;
    for (uint32_t i = 0; i < KNOCKS; i++)
        if (s->ports[i].bulk != (*n & 1) && *n < FILTER_EDGES_MAX)
            s->edge[(*n)++] = i;
    uint32_t most = (FILTER_EDGES_MAX - *n) | 1;
    for (uint32_t i = 0; i < KNOCKS; i++)
        if (s->ports[i].sealed != (*sealed & 1) && *sealed < most)
            s->sealed_edge[(*sealed)++] = i;
}

/* Makes the table of ports from the doors.  A door is wide if bulk packets can
 * knock on it: it has a UDP port, or TCPFlags that an ACK fits.  Ports near
 * such a knock are bulk too: the filter shows us a passing scan at once. */
static void index_doors(struct sniffer *s) {
    if (s->indexed) memset(s->ports, 0, KNOCKS * sizeof *s->ports);
    s->indexed = true; /* new memory is zero already */
    for (uint32_t i = s->ndoors; i--;) {
        struct watch *d = &s->doors[i];
        uint32_t around = d->stray_limit ? d->stray_limit + 1 : 0;
        bool ack = !(d->tcp.forbid & ACK);
        if (d->tcp.want & SYN) ack = ack && d->tcp.want & ACK;
        d->wide = false;
        s->targets |= d->target.n > 0;
        if (d->sealed) s->ports[*d->seq.knock].sealed = true;
        if (d->sealed) continue;
        for (unsigned n = 0; n < d->seq.n; n++) {
            uint32_t k = d->seq.knock[n];
            s->ports[k].known = true;
            if (!ack && k < TO_UDP) continue;
            d->wide = true;
            for (uint32_t at = k - around; at != k + around + 1; at++)
                if (at / TO_UDP == k / TO_UDP) s->ports[at].bulk = true;
        }
        if (!d->seq.n) continue;
        d->next_first = s->ports[*d->seq.knock].first;
        s->ports[*d->seq.knock].first = i + 1;
    }
    find_edges(s);
}

/* Sends the events collected so far to the monitor, as one record. */
static void events_send(struct sniffer *s) {
    ssize_t n = (ssize_t)(s->unsent * sizeof *s->events);
    s->unsent = 0;
    if (n && write(s->channel, s->events, (size_t)n) != n)
        _exit(1); /* the monitor is gone */
}

/* Queues an event, to be completed by the caller. */
static struct event *tell(struct sniffer *s, enum kind kind) {
    if (s->unsent == EVENTS_MAX) events_send(s);
    struct event *e = &s->events[s->unsent++];
    *e = (struct event){ .kind = kind };
    return e;
}

/* May one more event of strangers be told?  *told: how many in this second. */
static bool may_tell(struct sniffer *s, uint32_t *told, uint32_t most) {
    *told += 1;
    if (*told <= most) return true;
    s->suppressed++;
    return false;
}

/* Tells of a source's stage at a door; false beyond the door's rate. */
static bool tell_stage(struct sniffer *s, enum kind kind, uint32_t door,
                       unsigned stage, const struct addr *src) {
    struct watch *d = &s->doors[door];
    uint32_t most = kind == OPEN ? OPENS_PER_SECOND : LINES_PER_SECOND;
    if (d->second != s->second) memset(d->told, 0, sizeof d->told);
    d->second = s->second;
    if (!may_tell(s, &d->told[kind], most)) return false;
    struct event *e = tell(s, kind);
    e->door = door;
    e->stage = stage;
    e->src = *src;
    return true;
}

FAST

static uint64_t hash(const struct sniffer *s, const struct addr *a) {
    return addr_hash(s->key, a);
}

/* The bucket of the sources with this hash. */
static struct attempt **bucket(const struct sniffer *s, uint64_t h) {
    return &s->buckets[(h >> 32) % ATTEMPTS_MAX];
}

/* Spreads every bit of x over all bits (MurmurHash3's finalizer). */
static uint64_t spread(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

/* 48 bits that tell a packet from others: of source (hash h), ports, number. */
static uint64_t mark_of(const struct sniffer *s, const struct packet *p,
                        uint64_t h) {
    uint64_t ports = (uint64_t)p->knock << 16 | p->sport;
    return spread(h + s->key[5] * p->number + s->key[6] * ports) >> 16;
}

/* Did another interface show us this packet, as a bridge and its port do? */
static bool is_twin(struct sniffer *s, const struct packet *p) {
    struct recent *r = &s->recent[p->mark % RECENT_MAX];
    bool fresh = s->now - r->time < TWIN_MS;
    if (fresh && r->mark == p->mark && r->from != p->interface) return true;
    *r = (struct recent){ p->mark, s->now, p->interface };
    return false;
}

/* The set of p's mark.  First knocks have sets of their own: a stranger who
 * knows no other knock washes out no other mark. */
static uint64_t *mark_set(const struct sniffer *s, const struct packet *p,
                          bool first) {
    return s->marks[p->mark % MARK_SETS + (first ? MARK_SETS : 0)];
}

/* The age of a mark, in units of MARK_TICK_MS. */
static uint16_t mark_age(const struct sniffer *s, uint64_t mark) {
    return (uint16_t)((uint64_t)s->now / MARK_TICK_MS - mark);
}

/* Has p been of use before, so that TCP now sends it again (rule 2)? */
static bool is_marked(const struct sniffer *s, const struct packet *p) {
    for (int first = 0; first < 2; first++) {
        const uint64_t *set = mark_set(s, p, first);
        for (int i = 0; i < MARKS_IN_SET; i++)
            if (set[i] >> 16 == p->mark &&
                mark_age(s, set[i]) <= MARK_KEEP_MS / MARK_TICK_MS)
                return true;
    }
    return false;
}

/* Keeps p's mark, in place of the oldest in its set. */
static void mark_keep(struct sniffer *s, const struct packet *p) {
    uint64_t *set = mark_set(s, p, p->use == BEGINS), *oldest = set;
    for (int i = 1; i < MARKS_IN_SET; i++)
        if (mark_age(s, set[i]) > mark_age(s, *oldest)) oldest = &set[i];
    *oldest = p->mark << 16 | (uint16_t)((uint64_t)s->now / MARK_TICK_MS);
}

/* src has an attempt at a wide door: the filter must pass all that src sends,
 * as strays count; with too many such sources, everything.  True if the filter
 * has to change.  Only expire() narrows it: strangers can't toggle it. */
static bool wide_begins(struct sniffer *s, const struct addr *src) {
    for (uint32_t i = 0; i < s->nwide; i++)
        if (!addr_cmp(&s->wide[i], src)) return false;
    if (s->nwide > FILTER_SOURCES_MAX) return false;
    s->wide[s->nwide++] = *src;
    return true;
}

/* Changes an attempt's stage; nothing else does.  The attempts at a stage form
 * a ring, oldest first; at 0 are those that are over. */
static void attempt_move(struct sniffer *s, struct attempt *a,
                         unsigned stage) {
    struct attempt *head = &s->stages[stage];
    a->older->newer = a->newer;
    a->newer->older = a->older;
    a->older = head->older;
    a->newer = head;
    a->older->newer = head->older = a;
    a->stage = (uint8_t)stage;
    if (stage == 2) s->advanced++;
}

/* Ends an attempt.  Its `next` stays, for those who walk through its bucket. */
static void attempt_end(struct sniffer *s, struct attempt *a) {
    struct attempt **link = bucket(s, hash(s, &a->src));
    while (*link != a) link = &(*link)->next;
    *link = a->next;
    s->active--;
    if (a->stage > 1) s->advanced--;
    if (s->doors[a->door].wide) s->look = min_ms(s->look, s->now + EXPIRE_MS);
    attempt_move(s, a, 0);
}

/* Ends the oldest attempts of the lowest stage while there are too many, before
 * a packet adds one for each door.  Half the table is for stage 1: knowing two
 * knocks is not enough to fill it. */
static void make_room(struct sniffer *s) {
    while (s->active >= ATTEMPTS_MAX || s->advanced >= ATTEMPTS_MAX / 2) {
        struct attempt *stage = &s->stages[1];
        if (s->active < ATTEMPTS_MAX) stage++; /* too many past stage 1 */
        while (stage->newer == stage) stage++;
        attempt_end(s, stage->newer);
        __builtin_prefetch(bucket(s, hash(s, &stage->newer->src)));
        s->counters[EVICTIONS]++;
    }
}

static void time_out(struct sniffer *s, struct attempt *a) {
    tell_stage(s, TIMEOUT, a->door, a->stage, &a->src);
    attempt_end(s, a);
}

static void cancel(struct sniffer *s, struct attempt *a) {
    s->counters[CANCELLED]++;
    attempt_end(s, a);
}

static bool is_from(const struct attempt *a, const struct addr *src) {
    return a && !addr_cmp(&a->src, src);
}

/* The link in its bucket to the first attempt of p's source; ends those that
 * timed out.  The attempts of one source are side by side, up to p->end, in the
 * order of the doors, at each door the youngest first. */
static struct attempt **attempts_of(struct sniffer *s, struct attempt **link,
                                    struct packet *p) {
    while (*link && !is_from(*link, &p->src)) link = &(*link)->next;
    struct attempt *a = *link;
    for (; is_from(a, &p->src); a = a->next)
        if (a->deadline <= s->now) time_out(s, a);
    p->end = a;
    return link;
}

/* Is a an attempt of p's source at the door? */
static bool is_at(const struct attempt *a, const struct packet *p,
                  uint32_t door) {
    return a != p->end && a->door == door;
}

static uint32_t last_knock(const struct sniffer *s, const struct attempt *a) {
    return s->doors[a->door].seq.knock[a->stage - 1];
}

/* Do the TCP flags fit the door?  A packet with SYN and ACK answers somebody's
 * attempt to connect: it knocks only where ack is required. */
static bool fits(const struct watch *d, const struct packet *p) {
    bool answer = (p->flags & (SYN | ACK)) == (SYN | ACK);
    if (p->proto != TCP) return true;
    if (answer && !(d->tcp.want & ACK)) return false;
    return (p->flags & d->tcp.want) == d->tcp.want &&
           !(p->flags & d->tcp.forbid);
}

static struct nets nets_of(const struct sniffer *s, struct range r) {
    return (struct nets){ s->nets + r.at, r.n };
}

/* Does the door see the packet?  own: the port is one of this door's, and so
 * the flags must fit (rule 1); strays count with any flags. */
static bool sees(const struct sniffer *s, const struct watch *d,
                 const struct packet *p, bool own) {
    struct nets target = nets_of(s, d->target);
    struct nets deny = nets_of(s, d->deny);
    struct nets allow = nets_of(s, d->allow);
    if (!d->seq.n || s->now < d->quiet_until) return false;
    if (own && !fits(d, p)) return false;
    bool ours = target.n ? in_nets(&target, &p->dst) : p->local;
    return ours && allowed(&allow, &deny, &p->src);
}

static bool has_port(const struct watch *d, uint32_t knock) {
    unsigned i = 0;
    while (i < d->seq.n && d->seq.knock[i] != knock) i++;
    return i < d->seq.n;
}

/* The last knock at a door has come: the door opens for src. */
static void opens(struct sniffer *s, uint32_t door, const struct addr *src) {
    struct watch *d = &s->doors[door];
    tell_stage(s, STAGE, door, d->seq.n, src);
    if (!tell_stage(s, OPEN, door, d->seq.n, src)) return;
    s->counters[OPENS]++;
    d->quiet_until = s->now + (int64_t)d->cooldown * 1000;
    if (d->one_time) d->seq.n = 0; /* until the monitor sends the next one */
}

static int64_t timeout_ms(const struct sniffer *s, uint32_t door) {
    return s->doors[door].seq_timeout * 1000LL;
}

/* An attempt begins with its first knock, p, or begins again. */
static void start(struct sniffer *s, struct attempt *a, struct packet *p) {
    a->packet[0] = p->serial;
    a->strays = 0;
    a->deadline = s->now + timeout_ms(s, a->door);
    s->look = min_ms(s->look, a->deadline);
    attempt_move(s, a, 1);
    p->use |= BEGINS;
}

/* Rule 3: the knock that a waits for.  The last opens after all doors saw p. */
static void advance(struct sniffer *s, struct attempt *a, struct packet *p) {
    a->packet[a->stage] = p->serial;
    attempt_move(s, a, a->stage + 1u);
    p->use |= MOVES;
    if (a->stage == s->doors[a->door].seq.n) p->use |= COMPLETES;
    else tell_stage(s, STAGE, a->door, a->stage, &a->src);
}

/* The bit of a stray port in a set of 64, by a secret hash. */
static uint64_t stray_bit(const struct sniffer *s, uint32_t knock) {
    return 1ull << (spread(s->key[0] ^ knock) >> 58);
}

/* Rules 6 and 7: no attempt at the door, from a on, has a use for p.  A port
 * of the door's own ends them all; any other is a stray, and ends those that saw
 * too many.  Bulk packets are strays at wide doors alone: at others nobody
 * can knock with them, and the filter drops most. */
static void spoil(struct sniffer *s, struct attempt *a,
                  const struct packet *p, bool own) {
    uint32_t door = a->door;
    const struct watch *d = &s->doors[door];
    bool counts = d->stray_limit && (d->wide || !p->bulk);
    uint64_t bit = stray_bit(s, p->knock);
    for (; (own || counts) && is_at(a, p, door); a = a->next) {
        a->strays |= bit;
        unsigned strays = (unsigned)__builtin_popcountll(a->strays);
        if (own || strays > d->stray_limit) cancel(s, a);
    }
}

/* Rules 3, 4, 6, 7: shows p to a door where its source has attempts, the first
 * of them given; returns the first attempt at the next door, or p->end.  A
 * first knock that comes again renews: its client may have given up. */
static struct attempt *door_hit(struct sniffer *s, struct attempt *first,
                                struct packet *p) {
    struct attempt *next = NULL, *same = NULL, *a;
    const struct watch *d = &s->doors[first->door];
    for (a = first; is_at(a, p, first->door); a = a->next) {
        bool due = d->seq.knock[a->stage] == p->knock;
        bool again = d->seq.knock[a->stage - 1] == p->knock;
        if (due && (!next || a->stage > next->stage)) next = a;
        if (again && (!same || a->stage < same->stage)) same = a;
    }
    bool own = next || same || (p->known && has_port(d, p->knock));
    if (!sees(s, d, p, own)) return a;
    if (next) advance(s, next, p);
    else if (same && same->stage == 1) start(s, same, p);
    else if (same) p->use |= REPEATS;
    else if (d->seq.knock[0] != p->knock) spoil(s, first, p, own);
    return a;
}

/* Notes which packets an attempt has accepted, or forgets them. */
static void note_packets(struct sniffer *s, const struct attempt *a,
                         bool on) {
    for (unsigned i = 0; i < a->stage; i++) s->noted[a->packet[i]] = on;
}

static unsigned noted_packets(const struct sniffer *s,
                              const struct attempt *a) {
    unsigned n = 0;
    for (unsigned i = 0; i < a->stage; i++) n += s->noted[a->packet[i]];
    return n;
}

/* Rule 6, second half: p has advanced an attempt; others of the same packets,
 * at doors that see p but neither advance nor repeat, were wrong guesses. */
static void cancel_guesses(struct sniffer *s, struct attempt **first,
                           const struct packet *p) {
    struct attempt *a;
    if ((*first)->next == p->end) return; /* only one attempt */
    for (a = *first; a != p->end; a = a->next)
        if (a->packet[a->stage - 1] == p->serial) note_packets(s, a, true);
    for (a = *first; a != p->end; a = a->next) {
        const struct watch *d = &s->doors[a->door];
        bool wrong = last_knock(s, a) != p->knock && noted_packets(s, a);
        if (wrong && sees(s, d, p, has_port(d, p->knock))) cancel(s, a);
    }
    for (a = *first; a != p->end; a = a->next) note_packets(s, a, false);
}

static bool is_older(const struct sniffer *s, const struct attempt *a,
                     const struct attempt *b) {
    int64_t begun = a->deadline - timeout_ms(s, a->door);
    int64_t other = b->deadline - timeout_ms(s, b->door);
    if (begun != other) return begun < other;
    return (int16_t)(a->packet[0] - b->packet[0]) < 0; /* serial numbers */
}

/* The complete attempt that opens next: the earliest, then by file; or NULL. */
static struct attempt *complete(const struct sniffer *s, struct attempt *a,
                                const struct packet *p) {
    struct attempt *best = NULL;
    for (; a != p->end; a = a->next) {
        if (a->stage != s->doors[a->door].seq.n) continue;
        if (!best || is_older(s, a, best)) best = a;
    }
    return best;
}

/* Rule 8: opens the doors that p completes.  What opened a door is used up: the
 * source's other attempts there end, and those elsewhere that have accepted
 * some of these packets and no others. */
static void open_doors(struct sniffer *s, struct attempt **first,
                       const struct packet *p) {
    struct attempt *c, *a;
    while ((c = complete(s, *first, p))) {
        opens(s, c->door, &p->src);
        note_packets(s, c, true);
        for (a = *first; a != p->end; a = a->next) {
            bool part =
                a->stage < c->stage && noted_packets(s, a) == a->stage;
            if (a != c && (part || a->door == c->door)) attempt_end(s, a);
        }
        note_packets(s, c, false);
        attempt_end(s, c);
    }
}

/* Rule 5 for a door that begins with p: a new attempt, inserted at *link, in
 * place of the source's weakest if it has many.  None begins if p has advanced
 * an attempt here or repeats: that attempt has p as its last knock. */
static void begin(struct sniffer *s, struct attempt **link, uint32_t door,
                  struct packet *p) {
    struct attempt *a, *weakest = *link;
    unsigned n = 0;
    for (a = *link; is_at(a, p, door); a = a->next) {
        if (last_knock(s, a) == p->knock) return;
        if (a->stage <= weakest->stage) weakest = a; /* the oldest */
        n++;
    }
    if (n >= ATTEMPTS_PER_SOURCE) attempt_end(s, weakest);
    a = s->stages->newer; /* an attempt that is over, */
    if (a == s->stages) { /* or one that was never used */
        a = &s->attempts[s->used++];
        a->older = a->newer = a;
    }
    a->src = p->src;
    a->door = door;
    a->next = *link;
    *link = a;
    s->active++;
    s->counters[ATTEMPTS]++;
    if (s->doors[door].wide && wide_begins(s, &p->src)) filter_attach(s);
    start(s, a, p);
    tell_stage(s, STAGE, door, 1, &p->src);
}

/* Rule 5: shows p to the doors that begin with it.  One-port doors open. */
static void begin_all(struct sniffer *s, struct attempt **link,
                      struct packet *p) {
    uint32_t door = s->ports[p->knock].first - 1; /* UINT32_MAX: no more */
    for (; door != UINT32_MAX; door = s->doors[door].next_first - 1) {
        const struct watch *d = &s->doors[door];
        while (*link != p->end && (*link)->door < door) link = &(*link)->next;
        if (!sees(s, d, p, true)) continue;
        if (d->seq.n > 1) {
            begin(s, link, door, p);
        } else {
            opens(s, door, &p->src);
            p->use |= BEGINS;
        }
    }
}

static bool is_local(const struct sniffer *s, const struct packet *p) {
    const struct locals *l = s->locals;
    const struct addr *a = l->addr; /* the last one that is not above dst */
    if (l->full) return p->to_host;
    for (uint32_t n = l->naddrs; n > 1; n -= n / 2)
        if (addr_cmp(&a[n / 2], &p->dst) <= 0) a += n / 2;
    return l->naddrs && !addr_cmp(a, &p->dst);
}

/* Applies the rules to a packet: first the doors where its source has attempts,
 * then, unless the packet has opened a door, the doors that begin with it. */
static void match(struct sniffer *s, struct packet *p) {
    p->known = s->ports[p->knock].known;
    if (!p->known && !s->active) return; /* a stray, and nobody is knocking */
    uint64_t h = hash(s, &p->src);
    if (p->known) {
        p->mark = mark_of(s, p, h);
        if (is_twin(s, p)) return;
        if (p->may_return && is_marked(s, p)) return; /* rule 2 */
        s->counters[HITS]++;
        make_room(s);
    }
    struct attempt **first = attempts_of(s, bucket(s, h), p);
    if (!p->known && *first == p->end) return;
    p->local = is_local(s, p);
    p->serial = s->serial++;
    p->use = 0;
    for (struct attempt *a = *first; a != p->end;) a = door_hit(s, a, p);
    if (p->use & MOVES) cancel_guesses(s, first, p);
    if (p->use & COMPLETES) open_doors(s, first, p);
    else if (p->known) begin_all(s, first, p);
    if (p->use && p->may_return) mark_keep(s, p);
}

FAST_END

/* ---- The sniffer: sealed knocks ----------------------------------------- */

/* Makes the tables of a message's keys, with as many periods as fit. */
static void readers_init(struct sniffer *s, const struct key *keys,
                         uint32_t n) {
    uint32_t around = PERIODS_AROUND;
    while (around > 1 && n * (2 * around + 1) > IDS_MAX) around--;
    s->nreaders = n;
    s->periods = 2 * around + 1;
    s->nids = n * s->periods;
    if (!n) return;
    s->readers = map(n * sizeof *s->readers, -1);
    s->ids = map(s->nids * sizeof *s->ids, -1);
    s->id_buckets = map(s->nids * sizeof *s->id_buckets, -1);
    s->id_marks = map(s->nids * sizeof *s->id_marks, -1);
    for (uint32_t i = 0; i < n; i++) {
        s->readers[i].door = keys[i].door;
        hmac_key(&s->readers[i].id_key, keys[i].of_ids, HASH_BYTES);
    }
}

static uint32_t id_bucket(const struct sniffer *s, uint64_t id) {
    return (uint32_t)(id % s->nids);
}

/* An id's two marks.  A bucket that lacks one of them does not have the id; of
 * random ids, one in some 400 finds both. */
static uint64_t marks_of(uint64_t id) {
    return UINT64_C(1) << (id >> 58) | UINT64_C(1) << (id >> 52 & 63);
}

/* Makes the ids of the periods around now, if the wall clock has come to
 * another one: a single new id for each client, unless the clock was set. */
static void ids_make(struct sniffer *s) {
    uint64_t now = wall_ms() >> PERIOD_BITS, first = now - s->periods / 2;
    if (s->period == now + 1) return;
    s->period = now + 1;
    memset(s->id_buckets, 0, s->nids * sizeof *s->id_buckets);
    memset(s->id_marks, 0, s->nids * sizeof *s->id_marks);
    for (uint32_t i = 0; i < s->nids; i++) {
        struct id *id = &s->ids[i]; /* its place: the period's remainder */
        uint64_t after = (i + s->periods - first % s->periods) % s->periods;
        uint64_t period = first + after;
        if (id->of != period + 1)
            id->id = sealed_id(&s->readers[i / s->periods].id_key, period);
        id->of = period + 1;
        uint32_t bucket = id_bucket(s, id->id);
        s->id_marks[bucket] |= marks_of(id->id);
        uint32_t *link = &s->id_buckets[bucket];
        id->next = *link;
        *link = i + 1;
    }
}

/* Queues a datagram for the client whose id it has; false if there is none: it
 * is a stray.  Datagrams with an id of another time are limited. */
static bool sealed_take(struct sniffer *s, const struct packet *p) {
    struct event e = { .kind = SEALED, .src = p->src };
    bool known = false;
    if (!s->nids) return false;
    memcpy(&e.sealed, p->sealed, sizeof e.sealed);
    uint32_t bucket = id_bucket(s, e.sealed.id);
    if (marks_of(e.sealed.id) & ~s->id_marks[bucket]) return false;
    uint32_t i = s->id_buckets[bucket];
    for (; i; i = s->ids[i - 1].next) {
        const struct id *id = &s->ids[i - 1];
        if (id->id != e.sealed.id) continue;
        e.door = (i - 1) / s->periods;
        struct reader *r = &s->readers[e.door];
        const struct watch *d = &s->doors[r->door];
        struct nets target = nets_of(s, d->target);
        bool here = target.n ? in_nets(&target, &p->dst) : is_local(s, p);
        if (*d->seq.knock != p->knock || !here) continue;
        known = true;
        bool odd = id->of + 1 < s->period || id->of > s->period + 1;
        if (odd) r->odd++;
        if (odd && r->odd > ODD_IDS_A_SECOND) continue;
        if (s->nsealed < SEALED_MAX) s->sealed[s->nsealed++] = e;
        else s->counters[LOST]++;
    }
    return known;
}

/* Sends some of the queue if there is room: nothing waits for the monitor. */
static void sealed_send(struct sniffer *s) {
    uint32_t n = s->nsealed - s->sealed_at;
    if (n > EVENTS_MAX) n = EVENTS_MAX;
    size_t bytes = n * sizeof *s->sealed;
    if (write(s->channel, &s->sealed[s->sealed_at], bytes) != (ssize_t)bytes)
        _exit(1); /* the monitor is gone */
    s->sealed_at += n;
    if (s->sealed_at == s->nsealed) s->sealed_at = s->nsealed = 0;
}

/* ---- The sniffer: sandbox ----------------------------------------------- */

/* The sniffer's descriptors; 2 is /dev/null, and there is no other. */
enum { CHANNEL_FD, PACKETS_FD };

static bool execed; /* see sniffer_exec() */

/* Makes a deleted directory the root: nobody can put anything there. */
static bool empty_root(void) {
    static const char bases[][12] = { EMPTY_ROOTS };
    for (unsigned i = 0; i < LENGTH(bases); i++) {
        char path[64];
        sprintf(path, "%.11s/knockd.%d", bases[i], (int)getpid());
        if (mkdir(path, 0700)) continue;
        bool in = !chdir(path);
        rmdir(path);
        return in && !chroot(".") && !chdir("/");
    }
    return false;
}

/* Changes user and group by system calls: libc would look for more threads. */
static bool own_id(unsigned id) {
    return !syscall(ID_CALL(setgroups), 0, NULL) &&
           !syscall(ID_CALL(setresgid), id, id, id) &&
           !syscall(ID_CALL(setresuid), id, id, id);
}

/* Empties all capability sets (capset(2)), and proves it: reads them back, and
 * tries to become root unless we are root. */
static bool no_capabilities(void) {
    static const uint32_t none[6];
    uint32_t head[2] = { CAP_VERSION_3, 0 }, sets[6] = { 0 };
    return !syscall(SYS_capset, head, none) &&
           !syscall(SYS_capget, head, sets) &&
           !memcmp(sets, none, sizeof none) &&
           (!getuid() || syscall(ID_CALL(setuid), 0));
}

/* Allows the few system calls of the loop, and the packet socket's filter. */
static bool seccomp(void) {
    static const int calls[] = { SECCOMP_CALLS };
    program.at = FILTER_MAX;
    unsigned kill_ = put(RET, SECCOMP_KILL, 0, 0);
    unsigned allow = put(RET, SECCOMP_ALLOW, 0, 0);
    unsigned next = put(JEQ, SO_ATTACH_FILTER, allow, kill_);
    next = put(JEQ, SOL_SOCKET, load(LD_W, SECCOMP_ARG(2), next), kill_);
    next = put(JEQ, PACKETS_FD, load(LD_W, SECCOMP_ARG(1), next), kill_);
    next = put(JEQ, SYS_setsockopt, load(LD_W, SECCOMP_ARG(0), next), kill_);
    for (unsigned i = 0; i < LENGTH(calls); i++)
        next = put(JEQ, (uint32_t)calls[i], allow, next);
    next = put(JEQ, SECCOMP_ARCH, load(LD_W, 0, next), kill_);
    load(LD_W, 4, next);
    struct bpf_prog_ prog = { (uint16_t)(FILTER_MAX - program.at),
                              program.code + program.at };
    return SECCOMP_ARCH && !prctl(PR_SET_SECCOMP, 2, &prog, 0, 0);
}

static bool no_bounding_set(void) {
    unsigned cap = 0;
    while (cap <= CAP_LAST_POSSIBLE && !prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
        cap++;
    return cap > 0;
}

static bool no_new_privs(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after own_id(), which clears it */
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static bool limits(void) {
    static const struct rlimit zero;
    return !prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) &&
           !prlimit(0, RLIMIT_NPROC, &zero, NULL) &&
           !prlimit(0, RLIMIT_FSIZE, &zero, NULL) &&
           !prlimit(0, RLIMIT_CORE, &zero, NULL);
}

static const char sandbox_steps[][22] = {
    "bounding set",          "empty root directory", "own user and group id",
    "empty capability sets", "no_new_privs",         "resource limits",
    "seccomp filter",        "memory of its own"
};
enum { SANDBOX_STEPS = LENGTH(sandbox_steps) };

/* Gives up every privilege; returns a bit for each step that is forbidden. */
static unsigned sandbox(void) {
    bool taken[SANDBOX_STEPS]; /* in the order of their names */
    unsigned n = 0, skipped = 0;
    taken[n++] = no_bounding_set();
    taken[n++] = empty_root();
    taken[n++] = own_id(SNIFFER_ID);
    taken[n++] = no_capabilities();
    taken[n++] = no_new_privs();
    taken[n++] = limits();
    taken[n++] = seccomp();
    taken[n++] = execed; /* else this is a copy that fork() made */
    while (n--)
        if (!taken[n]) skipped |= 1u << n;
    return skipped;
}

/* ---- The sniffer: its loop ---------------------------------------------- */

static void drops_tell(struct sniffer *s) {
    unsigned stats[2] = { 0, 0 }; /* packets and drops since asked */
    socklen_t size = sizeof stats;
    syscall(SYS_getsockopt, s->packets, SOL_PACKET, PACKET_STATISTICS, stats,
            &size);
    s->counters[LOST] += stats[1];
    if (stats[1] && may_tell(s, &s->told[DROPS], LINES_PER_SECOND))
        tell(s, DROPS)->value = stats[1];
}

FAST

/* Finds a sealed knock in the n bytes from p's IP header on, and prefetches the
 * marks of its id. */
static void sealed_find(const struct sniffer *s, const uint8_t *ip, size_t n,
                        struct packet *p) {
    const uint8_t *udp = ip + p->at;
    size_t size = 8 + sizeof(struct sealed);
    uint64_t id;
    if (!s->ports[p->knock].sealed) return;
    if (p->at + size > n) return;
    if (get16(udp + 4) != size) return;
    p->sealed = udp + 8;
    memcpy(&id, p->sealed, sizeof id);
    __builtin_prefetch(&s->id_marks[id_bucket(s, id)]);
}

/* Parses the packet in a slot; false if match() has no use for it. */
static bool frame(struct sniffer *s, const union slot *slot,
                  struct packet *p) {
    const struct tpacket2_ *t = &slot->head;
    if (t->net > FRAME_BYTES) return false; /* only in a poisoned ring */
    size_t n = FRAME_BYTES - (size_t)t->net;
    if (n > t->captured) n = t->captured;
    if (!parse(slot->bytes + t->net, n, t->len, p)) return false;
    bool inside = slot->from.sll_hatype == HATYPE_LOOPBACK;
    if (addr_loopback(&p->src) && !inside) return false; /* forged */
    p->interface = (uint32_t)slot->from.sll_ifindex;
    p->to_host = slot->from.sll_pkttype == PKTTYPE_HOST;
    if (settings.debug && may_tell(s, &s->told[PACKET], LINES_PER_SECOND)) {
        struct event *e = tell(s, PACKET);
        e->src = p->src;
        e->dst = p->dst;
        e->value = (uint64_t)p->proto << 48 | (uint64_t)p->sport << 32 |
                   (p->knock & 0xffff) << 16 | (t->len & 0xffff);
    }
    p->sealed = NULL;
    if (s->nids && !p->part) sealed_find(s, slot->bytes + t->net, n, p);
    return true;
}

static bool is_full(const union slot *slot) {
    return __atomic_load_n(&slot->head.status, __ATOMIC_ACQUIRE) & TP_USER;
}

/* Goes to the oldest packet: another sniffer may have read this ring before. */
static void ring_find(struct sniffer *s) {
    bool full = is_full(&s->ring[FRAMES - 1]);
    for (uint32_t i = 0; i < FRAMES; i++) {
        bool full_before = full;
        full = is_full(&s->ring[i]);
        if (full && !full_before) s->at = i;
    }
}

/* Takes a few packets from the ring, and prefetches tables; returns how many.
 * The slots go back to the kernel last: p[].sealed points into them. */
static uint32_t ring_read(struct sniffer *s) {
    struct packet p[FRAMES_AT_ONCE];
    uint32_t n = 0, good = 0, first = s->at;
    for (; n < FRAMES_AT_ONCE; n++) {
        const union slot *slot = &s->ring[s->at];
        if (!is_full(slot)) break;
        if (frame(s, slot, &p[good])) {
            __builtin_prefetch(bucket(s, hash(s, &p[good].src)));
            good++;
        }
        s->at = (s->at + 1) % FRAMES;
    }
    for (uint32_t i = 0; i < good && s->active; i++)
        __builtin_prefetch(*bucket(s, hash(s, &p[i].src)));
    for (uint32_t i = 0; i < good; i++)
        if (!p[i].sealed || !sealed_take(s, &p[i])) match(s, &p[i]);
    for (; first != s->at; first = (first + 1) % FRAMES)
        __atomic_store_n(&s->ring[first].head.status, 0, __ATOMIC_RELEASE);
    s->counters[PACKETS] += n;
    return n;
}

FAST_END

/* In a burst, waking up for each packet costs more than the packet: sleeps for
 * REST_MS at a time then, until the ring stays empty.  n: packets just read. */
static bool rest(struct sniffer *s, uint32_t n) {
    if (s->now - s->burst_start > REST_WITHIN_MS) {
        s->burst_start = s->now;
        s->burst = 0;
    }
    s->burst += n;
    s->empty = n ? 0 : s->empty + 1;
    if (s->resting && s->empty == REST_EMPTY) drops_tell(s);
    bool quiet = s->empty >= REST_EMPTY;
    s->resting = s->burst >= REST_PACKETS || (s->resting && !quiet);
    return s->resting;
}

/* Ends attempts that have timed out, and lists the sources at wide doors.  It
 * walks through the table: if something is due, at most once in EXPIRE_MS. */
static void expire(struct sniffer *s) {
    struct attempt *end = s->attempts + s->used;
    int64_t next = NEVER;
    bool wide = s->nwide;
    if (s->now < s->look) return;
    s->nwide = 0;
    for (struct attempt *a = s->attempts; a < end; a++) {
        if (a->stage && a->deadline <= s->now) time_out(s, a);
        if (!a->stage) continue;
        next = min_ms(next, a->deadline);
        if (s->doors[a->door].wide) wide_begins(s, &a->src);
    }
    s->look = next < s->now + EXPIRE_MS ? s->now + EXPIRE_MS : next;
    if (wide) filter_attach(s);
}

/* Once a second: tells how many lines were suppressed, and allows new ones. */
static void limit(struct sniffer *s) {
    if (s->now < s->second + 1000) return;
    if (s->resting) drops_tell(s);
    if (s->suppressed) tell(s, SUPPRESSED)->value = s->suppressed;
    memset(s->told, 0, sizeof s->told);
    for (uint32_t i = 0; i < s->nreaders; i++) s->readers[i].odd = 0;
    s->suppressed = 0;
    s->second = s->now;
}

static void counters_tell(struct sniffer *s) {
    drops_tell(s);
    for (uint32_t i = 0; i < COUNTERS; i++) {
        struct event *e = tell(s, COUNTED);
        e->stage = i;
        e->value = s->counters[i];
    }
    memset(s->counters, 0, sizeof s->counters);
}

/* Gives a door its next one-time sequence; attempts at the old one are over. */
static void sequence_change(struct sniffer *s, uint32_t door,
                            const struct sequence *seq) {
    struct attempt *end = s->attempts + s->used;
    for (struct attempt *a = s->attempts; a < end; a++)
        if (a->stage && a->door == door) attempt_end(s, a);
    s->doors[door].seq = *seq;
    index_doors(s);
}

/* Reads what the monitor sends; at the channel's end tells the counters. */
static void receive(struct sniffer *s, void *to, size_t bytes) {
    for (char *at = to; bytes;) {
        ssize_t n = read(s->channel, at, bytes);
        if (n <= 0) {
            counters_tell(s);
            events_send(s);
            _exit(0);
        }
        at += n;
        bytes -= (size_t)n;
    }
}

/* Receives the doors.  Only at the start: the sandbox allows no more memory. */
static void doors_take(struct sniffer *s, size_t bytes) {
    struct watches *w = map(bytes, -1);
    receive(s, w, bytes);
    s->doors = w->door;
    s->ndoors = w->ndoors;
    s->nets = (struct net *)&w->door[w->ndoors];
    readers_init(s, (struct key *)&s->nets[w->nnets], w->nkeys);
    settings.only_ipv4 = w->only_ipv4;
    settings.debug = w->debug;
    index_doors(s);
}

static void obey(struct sniffer *s) {
    struct order o;
    receive(s, &o, sizeof o);
    switch (o.kind) {
    case NEW_DOORS: doors_take(s, o.bytes); return;
    case NEW_LOCALS: receive(s, s->locals, o.bytes); break;
    case NEW_SEQUENCE: sequence_change(s, o.door, &o.seq); break;
    case COUNT: counters_tell(s); return;
    }
    filter_attach(s);
}

/* Makes the tables, receives doors and local addresses, locks itself in. */
static void sniffer_init(struct sniffer *s) {
    s->ring = map(RING_BYTES, s->packets);
    s->stages = map((SEQUENCE_MAX + (size_t)1) * sizeof *s->stages, -1);
    s->marks = map((size_t)2 * MARK_SETS * sizeof *s->marks, -1);
    s->buckets = map(ATTEMPTS_MAX * sizeof(struct attempt *), -1);
    s->ports = map(KNOCKS * sizeof *s->ports, -1);
    s->locals = map(sizeof *s->locals, -1);
    s->look = NEVER;
    for (struct attempt *a = s->stages; a <= s->stages + SEQUENCE_MAX; a++)
        a->older = a->newer = a;
    if (getrandom(s->key, sizeof s->key, 0) != sizeof s->key) _exit(1);
    ring_find(s);
    obey(s); /* NEW_DOORS */
    size_t attempts = ATTEMPTS_MAX + 1 + s->ndoors;
    s->attempts = map(attempts * sizeof *s->attempts, -1);
    obey(s); /* NEW_LOCALS */
    if (s->nids) ids_make(s);
    tell(s, READY)->value = sandbox();
}

/* The sniffer's life: until the channel to the monitor ends. */
static void sniff(struct sniffer *s) {
    sniffer_init(s);
    struct pollfd fds[] = { { s->channel, POLLIN, 0 },
                            { s->packets, POLLIN, 0 } };
    for (;;) {
        s->now = now_ms();
        if (s->nids) ids_make(s);
        uint32_t n = 0, more;
        do {
            more = ring_read(s);
            n += more;
        } while (more && n < FRAMES);
        if (!n && fds[1].revents & POLLIN) ring_find(s);
        limit(s);
        expire(s);
        int64_t wake =
            rest(s, n) ? min_ms(s->look, s->now + REST_MS) : s->look;
        if (s->suppressed) wake = min_ms(wake, s->second + 1000);
        int ms = more ? 0 : poll_ms(s->now, wake);
        events_send(s);
        fds[1].revents = 0;
        fds[0].events = s->nsealed ? POLLIN | POLLOUT : POLLIN;
        if (poll(fds, s->resting ? 1 : 2, ms) <= 0) continue;
        if (fds[0].revents & POLLOUT) sealed_send(s);
        if (fds[0].revents & ~POLLOUT) obey(s);
    }
}

/* The program: the sniffer, on the descriptors that the monitor gave it. */
static void sniffer_main(void) {
    static struct sniffer s; /* all zero: needs no room in the file */
    /* A stranger may start a file with capabilities under this name, and send
     * us anything: we drop the capabilities first. */
    if (getauxval(AT_SECURE)) no_capabilities();
    prctl(PR_SET_NAME, SNIFFER_NAME);
    s.channel = CHANNEL_FD;
    s.packets = PACKETS_FD;
    sniff(&s);
}

/* ---- The monitor: its types --------------------------------------------- */

/* A ring of openings, with a head; one alone is its own neighbour. */
struct ring {
    struct ring *older, *newer;
};

/* What an opening does or waits for; opening_move() alone changes it. */
enum state {
    QUEUED,   /* waits for its turn to start */
    CROWDED,  /* the same; a stop command makes room for one more start */
    DUE,      /* waits for its turn to stop */
    STARTING, /* its start command runs */
    HELD,     /* it is open until its deadline */
    STOPPING, /* its stop command runs */
    FAILED,   /* its stop command has failed and will run again */
    GONE,     /* it is over */
    STATES
};

enum command { START, STOP };

/* What a line about a door is about.  Each topic has its own limit. */
enum topic {
    STAGES,
    OPENINGS,
    REFUSALS,
    RUNS,
    ENDS,
    CLOSINGS,
    OUTPUT,
    CLIENTS,
    REJECTS,
    TOPICS
};

/* What the doors of one name have of each table, so that none fills a table. */
struct share {
    struct share *next;
    char name[DOOR_NAME_MAX + 1];
    struct ring held;      /* its open openings, the oldest first */
    unsigned n[STATES];    /* its openings in each state */
    struct queue {         /* of its start and of its stop commands */
        struct ring ready; /* openings that wait for a slot only */
        unsigned running;
        uint64_t served; /* when it got its last slot: a counter */
    } queue[2];
    int64_t quiet_until; /* ms: cooldown, of a door with keys */
    unsigned outputs;
    bool mute;      /* it has been said that an output is lost */
    int64_t second; /* in which these lines were logged: */
    unsigned lines[TOPICS], suppressed;
};

struct opening {          /* of a door, for one address */
    struct ring ring;     /* in its queue, or among those held; comes first */
    struct opening *next; /* in its bucket */
    struct share *share;
    struct addr src;
    char ip[ADDR_TEXT];
    char *client, *start, *stop; /* "-": unknown; NULL: there is none */
    char *set;                   /* words, or NULL */
    enum state state;
    unsigned timeout; /* s, from the end of its last start command */
    unsigned times;   /* start commands whose stop command is to run */
    unsigned rounds;  /* of stop commands that have failed */
    unsigned record;  /* its number in the state file, or 0 */
    unsigned at;      /* its place in the heap */
    int64_t when;     /* ms: its state, or its turn, ends; or NEVER */
    int64_t until;    /* ms: then the set forgets the address */
    int64_t queued;   /* ms: it has waited since, for its turn */
    uint64_t ticket;  /* its place in the queue of its address */
};

struct child { /* a command that runs; children[] has the oldest first */
    pid_t pid;
    enum command command;
    struct share *share;
    struct opening *opening; /* NULL: it is over */
    struct addr src;
    int64_t begun; /* ms */
};

struct output { /* of a command and of what it left */
    int fd;
    unsigned lines, length;
    struct share *share;
    char line[OUTPUT_LINE_MAX + 1];
};

/* A file that grows by lines, and is replaced when most of them are old. */
struct line_file {
    char *path; /* NULL: there is none, or another daemon has it */
    int fd;     /* -1: nothing was written yet */
    unsigned records, gone; /* in the file */
    struct text text;       /* lines to be appended */
    bool bad;               /* it could not be written */
    int64_t again;          /* ms: then it is tried again */
};

struct memory {           /* of a key at a door */
    uint64_t id;          /* its name in the stamps file */
    struct stamps stamps; /* which is all that the file has */
    int64_t up, wall;     /* ms since boot, since 1970: see memory_begin() */
    unsigned line;     /* of the stamps file; 0: new, see memories_sort() */
    unsigned taken;    /* when a client had it: m->takes then */
    struct addr first; /* the source of the last that was accepted */
    struct addr last;  /* source and tag of the last packet */
    uint8_t tag[16];
};

struct monitor {
    struct conf conf;
    bool ready, bad_record;
    bool locals_old;        /* to be read again */
    int exe;                /* our own file, O_PATH */
    int sniffer_error;      /* why none could be started, as last said */
    int64_t renew_at;       /* ms: see sequences_send() */
    posix_spawnattr_t attr; /* of all commands */
    int packets, channel, netlink, signals, timer, null, ready_fd;
    pid_t sniffer, namer;
    int64_t sniffer_again; /* ms: not before */
    struct locals locals;
    char waiting_for[TEXT_MAX]; /* interfaces, as last said */
    char *pid_path, log_path[PATH_MAX];
    struct line_file state;
    int64_t said;  /* of the sniffer's lines, see in_rate() */
    int64_t alarm; /* ms: when the timer fires */
    bool ending;   /* told to end ... */
    int64_t until; /* ms: ... by then */

    struct opening **openings; /* a heap: none is due before the first */
    unsigned nopenings, n[STATES];
    struct opening *buckets[BUCKETS]; /* by address */
    uint64_t key[5];                  /* of the addresses' hash */
    struct share *shares;

    struct child children[CHILDREN_MAX];
    unsigned nchildren;
    enum command last;        /* which got the last slot */
    uint64_t tickets, served; /* counters */
    int64_t again; /* ms: no command before, for want of processes */

    int sets;          /* netfilter's socket, or -1 */
    uint32_t requests; /* to it: their numbers */

    struct memory *memories;   /* of sealed knocks, by id */
    unsigned nmemories, takes; /* takes: how often clients were read */
    bool watching;             /* the clock; the stamps file has been read */
    struct line_file stamps;
    const char *client;  /* whose sealed knock is carried out, or NULL */
    uint64_t forged;     /* sealed packets without a right tag */
    int clock;           /* tells that the wall clock was set */
    int64_t clock_ahead; /* see clock_look() */

    struct output outputs[OUTPUTS_MAX];
    unsigned noutputs, most_outputs;
    uint64_t commands, counters[COUNTERS]; /* of all sniffers */
    bool asked;                            /* counters are to be logged */
};

static bool closes(const struct opening *o) { return o->stop || o->set; }

static struct share *share_of(struct monitor *m, const char *name) {
    struct share *s = m->shares;
    while (s && strcmp(s->name, name)) s = s->next;
    if (s) return s;
    s = alloc(NULL, sizeof *s);
    *s = (struct share){ .next = m->shares };
    snprintf(s->name, sizeof s->name, "%s", name);
    struct ring *heads[] = { &s->held, &s->queue[START].ready,
                             &s->queue[STOP].ready };
    for (unsigned i = 0; i < 3; i++)
        heads[i]->older = heads[i]->newer = heads[i];
    return m->shares = s;
}

/* Logs a line about a door, and about an address unless src is NULL.  Beyond
 * LINES_PER_SECOND (output: OUTPUT_LINES_MAX) the line is only counted. */
FORMAT(4)
static void say_of(struct share *s, const struct addr *src, enum topic topic,
                   const char *fmt, ...) {
    static const enum severity severity[TOPICS] = {
        [OPENINGS] = OPENED, [REFUSALS] = TROUBLE, [ENDS] = TROUBLE
    };
    unsigned most = topic == OUTPUT ? OUTPUT_LINES_MAX + 1 : LINES_PER_SECOND;
    int64_t second = now_ms() / 1000;
    char text[TEXT_MAX], ip[ADDR_TEXT];
    va_list ap;
    if (s->second != second) memset(s->lines, 0, sizeof s->lines);
    s->second = second;
    s->lines[topic]++;
    if (s->lines[topic] > most) {
        s->suppressed++;
        out.sum_up = min_ms(out.sum_up, (second + 1) * 1000);
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!src) say(severity[topic], "%s: %s", s->name, text);
    else
        say(severity[topic], "%s: %s: %s", addr_text(src, ip), s->name, text);
}

/* Once a second: logs how many lines about each door were suppressed. */
static void suppressed_say(struct monitor *m) {
    for (struct share *s = m->shares; s; s = s->next) {
        if (s->suppressed)
            say(LOG, "%s: %u messages suppressed", s->name, s->suppressed);
        s->suppressed = 0;
    }
    out.sum_up = NEVER;
}

/* ---- The monitor: files that outlive us --------------------------------- */

/* Replaces a file by its text: writes that to a new file, locks that one and
 * renames it, so that a reader finds either file whole.  If that fails, the old
 * file stays, and the log says so once, with what follows. */
static void lines_replace(struct line_file *f, const char *so) {
    int how = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC;
    char new[PATH_MAX];
    snprintf(new, sizeof new, "%s.new", f->path);
    unlinkat(cwd, new, 0); /* a killed daemon may have left it */
    int fd = openat(cwd, new, how, 0600), unused = fd;
    bool good = fd >= 0;
    if (good) {
        errno = ENOSPC; /* a short write() sets none */
        good = !flock(fd, LOCK_EX | LOCK_NB) &&
               write(fd, f->text.b, f->text.n) == (ssize_t)f->text.n &&
               !renameat(cwd, new, cwd, f->path);
    }
    if (good) {
        unused = f->fd;
        f->fd = fd;
    } else {
        if (!f->bad) could_not("write", f->path, so);
        unlinkat(cwd, new, 0);
    }
    if (unused >= 0) close(unused);
    f->text.n = 0;
    f->bad = !good;
    f->again = now_ms() + RETRY_MS;
}

/* Appends the text to a file; false: the file is to be replaced, as most of it
 * is gone, its name is, or only a part of the text has room. */
static bool lines_append(struct line_file *f) {
    struct stat st;
    bool full = f->gone > f->records / 2 + STATE_SLACK;
    bool fit = !full && !fstat(f->fd, &st) && st.st_nlink;
    if (fit) fit = write(f->fd, f->text.b, f->text.n) == (ssize_t)f->text.n;
    f->text.n = 0;
    return fit;
}

/* Takes the next line off *text; summed: its sum must be right, and is cut off.
 * NULL at the end, also at half a line that a killed daemon has left. */
static char *line_take(char **text, bool summed) {
    char *line = *text, *end = strchr(line, '\n');
    if (!end) return NULL;
    if (summed) {
        size_t n = (size_t)(end - line), sum = strlen(" 0123456789abcdef");
        if (n < sum || line[n - sum] != ' ') return NULL;
        if (checksum(line, n - sum) != strtoull(line + n - sum, NULL, 16))
            return NULL;
        line[n - sum] = '\0';
    }
    *end = '\0';
    *text = end + 1;
    return line;
}

/* The state file keeps the openings when the daemon ends or crashes.  It is
 * locked while in use.  Lines are appended, and each ends in its own sum, so
 * a last line that was cut short does no harm:
 *     knockd-state 3
 *     open DEADLINE-MS TIMEOUT-S TIMES ADDRESS CLIENT DOOR
 *     stop COMMAND
 *     set WORDS
 *     gone N
 * N is the number of an "open" line of before: 1 is the first.  Version 2 had
 * one sum for all, and an "open" line for each time. */
#define STATE_HEAD "knockd-state 3\n"
#define STATE_HEAD_2 "knockd-state 2\n"
struct record { /* strings point into the file's text */
    struct addr src;
    int64_t deadline;        /* ms, of now_ms() */
    unsigned timeout, times; /* s; times 0: it is gone */
    const char *client, *door, *stop, *set;
};

/* Does a record have a line that says how its opening closes? */
static bool is_whole(const struct record *r) { return r->stop || r->set; }

struct records {
    struct record *list;
    unsigned n;
    bool old; /* of version 2 */
};

/* Skips the head of a state file's text of n bytes; NULL if it is damaged. */
static char *records_head(struct records *rs, char *text, size_t n) {
    size_t head = strlen(STATE_HEAD), sum = strlen("sum 0123456789abcdef\n");
    if (strlen(text) != n) return NULL;
    if (!n) return text; /* one that was made just before a kill */
    if (!strncmp(text, STATE_HEAD, head)) return text + head;
    if (n < head + sum || strncmp(text, STATE_HEAD_2, head)) return NULL;
    char *end = text + n - sum;
    if (strncmp(end, "sum ", 4) ||
        checksum(text, n - sum) != strtoull(end + 4, NULL, 16))
        return NULL;
    *end = '\0';
    rs->old = true;
    return text + head;
}

/* Reads what follows "open"; false if it is no record. */
static bool record_read(struct record *r, char *line, bool old) {
    const char *deadline = strsep(&line, " ");
    const char *timeout = strsep(&line, " ");
    const char *times = old ? "1" : strsep(&line, " "), *first = deadline;
    const char *ip = strsep(&line, " ");
    const char *client = old ? "-" : strsep(&line, " ");
    if (old) deadline = timeout;
    if (old) timeout = first;
    if (!line || strlen(line) > DOOR_NAME_MAX) return false;
    if (strlen(client) > CLIENT_MAX) return false;
    *r = (struct record){ .door = line, .client = client };
    r->deadline = strtoll(deadline, NULL, 10);
    return number(timeout, 0, SECONDS_MAX, &r->timeout) &&
           number(times, 1, SECONDS_MAX, &r->times) &&
           addr_parse(ip, &r->src);
}

/* Reads a line of a state file; false if no such line can be there. */
static bool records_line(struct records *rs, char *line) {
    struct record *last = rs->n ? &rs->list[rs->n - 1] : NULL;
    const char *word = strsep(&line, " ");
    struct set set;
    unsigned n;
    if (!line) return false;
    if (!strcmp(word, "open") && (!last || is_whole(last))) {
        if (!(rs->n & (rs->n - 1))) /* room for the next power of 2 */
            rs->list = alloc(rs->list, (rs->n * 2 + 1) * sizeof *last);
        return record_read(&rs->list[rs->n++], line, rs->old);
    }
    if (!last) return false;
    if (!strcmp(word, "stop") && *line && !is_whole(last)) last->stop = line;
    else if (!strcmp(word, "set") && set_read(&set, line) && !last->set)
        last->set = line;
    else if (!strcmp(word, "gone") && number(line, 1, rs->n, &n))
        rs->list[n - 1].times = 0;
    else return false;
    return true;
}

/* Reads a state file into rs, whose list is to be freed; false: damaged. */
static bool records_read(struct records *rs, char *text, size_t n) {
    char *next = records_head(rs, text, n), *line;
    if (!next) return false;
    while ((line = line_take(&next, !rs->old)))
        if (!records_line(rs, line)) return false;
    bool cut_off = rs->n && !is_whole(&rs->list[rs->n - 1]);
    rs->n -= cut_off;
    return !strchr(next, '\n') && !(cut_off && rs->old);
}

/* The latest time of a stop; also after a reboot, which sets our clock back. */
static int64_t orphaned(const struct opening *o) {
    return now_ms() + o->timeout * 1000LL + ORPHAN_MS;
}

static int64_t deadline_of(const struct opening *o) {
    bool closing = o->state == DUE || o->state == STOPPING;
    if (o->state == HELD) return o->when;
    return closing || o->state == FAILED ? now_ms() : orphaned(o);
}

/* Brings the record of an opening up to date: in memory, for state_write(). */
static void record_change(struct monitor *m, struct opening *o) {
    struct line_file *f = &m->state;
    unsigned old = o->record;
    o->record = 0;
    if (!f->path) return;
    if (closes(o) && o->times && o->state != GONE) {
        o->record = ++f->records;
        line_put(&f->text, "open %" PRId64 " %u %u %s %s %s", deadline_of(o),
                 o->timeout, o->times, o->ip, o->client, o->share->name);
        if (o->stop) line_put(&f->text, "stop %s", o->stop);
        if (o->set) line_put(&f->text, "set %s", o->set);
    }
    if (old) line_put(&f->text, "gone %u", old);
    f->gone += old > 0;
}

/* Writes the state file as a whole, without what is gone. */
static void state_save(struct monitor *m) {
    struct line_file *f = &m->state;
    if (!f->path) return;
    f->records = f->gone = 0;
    f->text.n = 0;
    text_add(&f->text, STATE_HEAD);
    for (unsigned i = 0; i < m->nopenings; i++) {
        m->openings[i]->record = 0;
        record_change(m, m->openings[i]);
    }
    lines_replace(f, ": if knockd is killed, open doors stay open");
}

/* Appends the changes to the state file, before a start command runs. */
static void state_write(struct monitor *m, int64_t now) {
    struct line_file *f = &m->state;
    if (f->bad && now >= f->again) state_save(m);
    if (f->text.n && !f->bad && !lines_append(f)) state_save(m);
}

/* ---- The monitor: commands ---------------------------------------------- */

/* The command with each %IP% replaced, by hex digits, dots and colons only. */
static char *expand(const char *command, const char *ip) {
    struct text t = { 0 };
    for (const char *at; (at = strstr(command, "%IP%")); command = at + 4)
        text_add(&t, "%.*s%s", (int)(at - command), command, ip);
    text_add(&t, "%s", command);
    return t.b;
}

/* Is there anything in it that means more to a shell than plain words? */
static bool needs_shell(const char *command) {
    if (strpbrk(command, "|&;<>()$`\\\"'*?[]#~\n") ||
        memchr(command, '=', strcspn(command, BLANKS)))
        return true;
    for (const char *p = command; (p = strpbrk(p, "!{}")); p++)
        if (p == command || !strchr(BLANKS, p[-1]) || !strchr(BLANKS, p[1]))
            return true;
    return false;
}

/* Starts a command by posix_spawn(), whose cost does not grow with our memory:
 * split and run directly, or by the shell if it has its syntax or is no program
 * (a shell's own word, a script without #!).  Returns 0 or an error number. */
static int spawn(char *command, const posix_spawn_file_actions_t *act,
                 const posix_spawnattr_t *attr, pid_t *pid) {
    extern char **environ;
    char *sh[] = { "sh", "-c", command, NULL };
    char *text = copy(command), *rest = text, *word;
    char **argv = alloc(NULL, (strlen(text) / 2 + 2) * sizeof *argv);
    int n = 0, error = ENOENT;
    while ((word = strsep(&rest, BLANKS)))
        if (*word) argv[n++] = word;
    argv[n] = NULL;
    if (n && !needs_shell(command))
        error = posix_spawnp(pid, *argv, act, attr, argv, environ);
    if (error == ENOENT || error == ENOEXEC || error == EACCES)
        error = posix_spawn(pid, "/bin/sh", act, attr, sh, environ);
    free(argv);
    free(text);
    return error;
}

/* Makes a pipe for a command's output; false, logged once, if none is left. */
static bool output_open(struct monitor *m, struct share *s, int pipes[2]) {
    bool full = s->outputs + m->noutputs >= m->most_outputs;
    if (full || pipe2(pipes, O_CLOEXEC)) {
        if (!s->mute)
            say_of(s, NULL, REFUSALS,
                   "output is not logged: what earlier commands have left "
                   "running holds %u pipes",
                   s->outputs);
        s->mute = true;
        return false;
    }
    s->mute = false;
    fcntl(pipes[0], F_SETFL, O_NONBLOCK); /* the command may read it, too */
    m->outputs[m->noutputs++] = (struct output){ .fd = pipes[0], .share = s };
    s->outputs++;
    return true;
}

/* Runs a start or stop command: own session, default signals, descriptors 0-2,
 * a pipe for its output.  Returns 0 or an error number. */
static int command_run(struct monitor *m, struct opening *o,
                       enum command which, pid_t *pid) {
    int pipes[2] = { -1, m->null }; /* if there is no pipe: /dev/null */
    posix_spawn_file_actions_t act;
    static char env[4][NAME_BYTES]; /* without '=' putenv() removes */
    sprintf(env[0], "KNOCKD_IP=%s", o->ip);
    sprintf(env[1], "KNOCKD_DOOR=%s", o->share->name);
    sprintf(env[2], "KNOCKD_EVENT=%s", which == START ? "start" : "stop");
    sprintf(env[3], "KNOCKD_CLIENT=%s", o->client);
    if (!strcmp(o->client, "-")) *strchr(env[3], '=') = '\0';
    for (unsigned i = 0; i < LENGTH(env); i++) putenv(env[i]);
    bool piped = output_open(m, o->share, pipes);
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_adddup2(&act, m->null, 0);
    posix_spawn_file_actions_adddup2(&act, pipes[1], 1);
    posix_spawn_file_actions_adddup2(&act, pipes[1], 2);
    char *command = which == START ? o->start : o->stop;
    int error = spawn(command, &act, &m->attr, pid);
    posix_spawn_file_actions_destroy(&act);
    if (piped) close(pipes[1]); /* not started: it is at its end at once */
    return error;
}

static void output_line(struct output *o) {
    o->line[o->length] = '\0';
    o->length = 0;
    o->lines++;
    if (o->lines <= OUTPUT_LINES_MAX)
        say_of(o->share, NULL, OUTPUT, "%s", o->line);
    else if (o->lines == OUTPUT_LINES_MAX + 1)
        say_of(o->share, NULL, OUTPUT, "(further output is not logged)");
}

/* Reads a command's output, if poll() saw any; false at its end.  The pipe
 * stays open for what the command left running, which SIGPIPE would kill. */
static bool output_read(struct output *o, int seen) {
    char buf[4096];
    ssize_t n = seen & POLLIN ? read(o->fd, buf, sizeof buf) : 0;
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] == '\n' || o->length == OUTPUT_LINE_MAX) output_line(o);
        if (buf[i] != '\n') o->line[o->length++] = buf[i];
    }
    if (n) return true; /* or a passing error */
    if (o->length) output_line(o);
    close(o->fd);
    o->share->outputs--;
    return false;
}

/* ---- The monitor: sets -------------------------------------------------- */

/* A request to netfilter, built backwards as the filter is.  Its heads are in
 * host order and aligned to 4; what they carry for netfilter is big-endian. */
struct request {
    _Alignas(4) uint8_t b[SET_BYTES]; /* all zero: padding needs no bytes */
    size_t at, end;                   /* of the message that is built */
    uint32_t seq;
    const struct set *set;
    const uint8_t *address;
    bool v4, looks; /* looks: for the set's description */
    bool done;      /* the last answer has come */
};

/* Why a set can't be used; beside the kernel's error numbers. */
enum set_fault {
    OTHER_TYPE = 5000,
    IS_MAP,
    IS_INTERVAL,
    IS_CONSTANT,
    IS_MASKED,
    NO_TIMEOUT, /* up to here another set would be needed */
    IS_FULL,
    IS_OWNED,
    NO_CAPABILITY,
    NO_SUPPORT,
    NO_ANSWER
};

static void bytes_put(struct request *q, const void *data, size_t n) {
    q->at -= (n + 3) & ~(size_t)3;
    memcpy(q->b + q->at, data, n);
}

/* Prepends an attribute; without data, the head of one that is there. */
static void attr_put(struct request *q, unsigned type, const void *data,
                     size_t n) {
    struct attr_ head = { (uint16_t)(sizeof head + n), (uint16_t)type };
    if (data) bytes_put(q, data, n);
    bytes_put(q, &head, sizeof head);
}

/* Makes all that the message has so far an attribute. */
static void nest_put(struct request *q, unsigned type) {
    attr_put(q, ATTR_NESTED | type, NULL, q->end - q->at);
}

/* Completes a message about the set, or one that begins or ends a batch. */
static void message_put(struct request *q, unsigned type, unsigned how) {
    const struct set *s = q->set;
    struct netlink_ head = { .type = (uint16_t)type,
                             .flags = (uint16_t)(NLM_REQUEST | how),
                             .seq = q->seq,
                             .family = s->family };
    if (type == NFNL_BATCH_BEGIN || type == NFNL_BATCH_END) {
        head.family = 0;
        head.res_id[1] = NFNL_NFT;
    } else {
        attr_put(q, NFTA_NAME, s->name, strlen(s->name) + 1);
        if (s->family)
            attr_put(q, NFTA_TABLE, s->table, strlen(s->table) + 1);
        else attr_put(q, IPSET_PROTOCOL, "\6", 1);
    }
    head.bytes = (uint32_t)(sizeof head + q->end - q->at);
    bytes_put(q, &head, sizeof head);
    q->end = q->at;
}

/* Prepends a message that puts the address into an nft set for so long or, with
 * 0, removes it.  how: NLM_ACK if it is the last one. */
static void nft_put(struct request *q, unsigned how, unsigned seconds) {
    uint64_t ms = htobe64(seconds * 1000ULL);
    attr_put(q, NFTA_DATA_VALUE, q->address, q->v4 ? 4 : 16);
    nest_put(q, NFTA_ELEM_KEY);
    if (seconds) attr_put(q, NFTA_ELEM_TIMEOUT, &ms, sizeof ms);
    nest_put(q, NFTA_LIST_ELEM);
    nest_put(q, NFTA_ELEMENTS);
    message_put(q, seconds ? NFT_NEWSETELEM : NFT_DELSETELEM,
                NLM_CREATE | how);
}

/* The same for an ipset. */
static void ipset_put(struct request *q, unsigned seconds) {
    uint32_t s = htonl(seconds);
    unsigned type = q->v4 ? IPSET_IPV4 : IPSET_IPV6;
    attr_put(q, ATTR_NET_ORDER | type, q->address, q->v4 ? 4 : 16);
    nest_put(q, IPSET_IP);
    if (seconds) attr_put(q, ATTR_NET_ORDER | IPSET_TIMEOUT, &s, sizeof s);
    nest_put(q, IPSET_DATA);
    message_put(q, seconds ? IPSET_ADD : IPSET_DEL, NLM_ACK);
}

/* Finds an attribute among n bytes of them: returns its own *bytes, or NULL. */
static const uint8_t *attr_find(const uint8_t *p, size_t n, unsigned type,
                                size_t *bytes) {
    struct attr_ head;
    while (p && n >= sizeof head) {
        memcpy(&head, p, sizeof head);
        size_t step = (head.bytes + 3u) & ~3u;
        if (head.bytes < sizeof head || head.bytes > n) return NULL;
        *bytes = head.bytes - sizeof head;
        if ((head.type & ATTR_TYPE) == type) return p + sizeof head;
        if (step >= n) return NULL;
        p += step;
        n -= step;
    }
    return NULL;
}

/* An attribute that is a number; 0 if there is none. */
static uint32_t attr_number(const uint8_t *p, size_t n, unsigned type) {
    uint32_t value = 0;
    size_t bytes;
    const uint8_t *at = attr_find(p, n, type, &bytes);
    if (at && bytes == sizeof value) memcpy(&value, at, sizeof value);
    return ntohl(value);
}

/* Would an nft set of this description hold an address?  0 or the fault. */
static int nft_look(const uint8_t *p, size_t n, bool v4) {
    unsigned set = attr_number(p, n, NFTA_SET_FLAGS);
    unsigned type = attr_number(p, n, NFTA_SET_KEY_TYPE);
    if (set & NFT_MAP) return IS_MAP;
    if (type != (v4 ? NFT_IPV4_ADDR : NFT_IPV6_ADDR)) return OTHER_TYPE;
    if (set & NFT_INTERVAL) return IS_INTERVAL;
    if (set & NFT_CONSTANT) return IS_CONSTANT;
    return set & NFT_TIMEOUT ? 0 : NO_TIMEOUT;
}

/* The same of an ipset, of type hash:ip, hash:net or bitmap:ip. */
static int ipset_look(const uint8_t *p, size_t n, bool v4) {
    size_t bytes, inner = 0;
    const uint8_t *data = attr_find(p, n, IPSET_DATA, &inner);
    const uint8_t *family = attr_find(p, n, IPSET_FAMILY, &bytes);
    char type[IPSET_NAME_MAX + 1] = "";
    if (!family || !bytes) return OTHER_TYPE;
    if (*family != (v4 ? AF_INET : AF_INET6)) return OTHER_TYPE;
    p = attr_find(p, n, IPSET_TYPE, &bytes);
    if (p) snprintf(type, sizeof type, "%.*s", (int)bytes, (const char *)p);
    if (strcmp(type, "hash:ip") && strcmp(type, "hash:net") &&
        strcmp(type, "bitmap:ip"))
        return OTHER_TYPE;
    if (attr_find(data, inner, IPSET_NETMASK, &bytes)) return IS_MASKED;
    if (attr_find(data, inner, IPSET_BITMASK, &bytes)) return IS_MASKED;
    return attr_find(data, inner, IPSET_TIMEOUT, &bytes) ? 0 : NO_TIMEOUT;
}

/* What an answer says: 0, an error or a fault; NO_ANSWER: to something else. */
static int answer_read(struct request *q, const uint8_t *p, size_t n) {
    struct netlink_ head;
    uint32_t error = 0; /* as a negative number */
    memcpy(&head, p, sizeof head);
    if (head.seq != q->seq) return NO_ANSWER;
    bool ends = head.type == NLM_ERROR || head.type == NLM_DONE;
    q->done |= ends;
    if (ends) {
        memcpy(&error, p + offsetof(struct netlink_, family), sizeof error);
        return q->looks && !error ? NO_ANSWER : (int)-error;
    }
    p += sizeof head;
    n -= sizeof head;
    if (!q->looks) return NO_ANSWER;
    q->done |= q->set->family; /* an ipset's is a dump */
    return q->set->family ? nft_look(p, n, q->v4) : ipset_look(p, n, q->v4);
}

/* The same of all in n bytes: the first error.  error: of earlier answers. */
static int answers_read(struct request *q, const uint8_t *p, size_t n,
                        int error) {
    struct netlink_ head;
    while (n >= sizeof head) {
        memcpy(&head, p, sizeof head);
        size_t bytes = head.bytes < n ? head.bytes : n;
        size_t step = (bytes + 3) & ~(size_t)3;
        if (bytes < sizeof head) break;
        int said = answer_read(q, p, bytes);
        if (said != NO_ANSWER && (!error || error == NO_ANSWER)) error = said;
        if (step >= n) break;
        p += step;
        n -= step;
    }
    return error;
}

/* Sends a request and reads its answer, which is there when send() returns. */
static int set_ask(struct monitor *m, struct request *q) {
    uint8_t answer[SET_BYTES];
    int error = NO_ANSWER;
    if (m->sets < 0)
        m->sets = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETFILTER);
    if (m->sets < 0 ||
        send(m->sets, q->b + q->at, sizeof q->b - q->at, 0) < 0)
        return errno;
    for (int i = 0; i < SET_ANSWERS_MAX; i++) {
        ssize_t n = recv(m->sets, answer, sizeof answer, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return error;
        if (n < 0 && errno != EINTR) break; /* some are lost */
        if (n > 0) error = answers_read(q, answer, (size_t)n, error);
        if (q->done) return error;
    }
    return NO_ANSWER;
}

/* Would this set hold an address for its time?  0, an error or the fault. */
static int set_look(struct monitor *m, const struct set *s, bool v4) {
    struct request q = { .at = SET_BYTES, .end = SET_BYTES, .set = s };
    uint32_t header = htonl(IPSET_HEADER_ONLY);
    q.seq = ++m->requests;
    q.v4 = v4;
    q.looks = true;
    if (!s->family)
        attr_put(&q, ATTR_NET_ORDER | IPSET_FLAGS, &header, sizeof header);
    if (s->family) message_put(&q, NFT_GETSET, 0);
    else message_put(&q, IPSET_LIST, NLM_DUMP | NLM_ACK);
    int error = set_ask(m, &q);
    if (error == EPERM) return NO_CAPABILITY;
    if (error == EINVAL || error == EPROTONOSUPPORT) return NO_SUPPORT;
    return error;
}

/* Puts an address into a set for so many seconds or, with 0, removes it.
 * Before Linux 6.12 an nft element that is added again keeps its old time: one
 * batch adds it (it may be missing), deletes it, adds it with the new time. */
static int set_write(struct monitor *m, const struct set *s,
                     const struct addr *a, unsigned seconds) {
    struct request q = { .at = SET_BYTES, .end = SET_BYTES, .set = s };
    q.v4 = is_v4(a);
    q.address = q.v4 ? a->b + 12 : a->b;
    q.seq = ++m->requests;
    if (!s->family) ipset_put(&q, seconds);
    if (s->family) { /* the last message first */
        message_put(&q, NFNL_BATCH_END, 0);
        if (seconds) nft_put(&q, NLM_ACK, seconds);
        nft_put(&q, seconds ? 0 : NLM_ACK, 0);
        if (seconds) nft_put(&q, 0, seconds);
        message_put(&q, NFNL_BATCH_BEGIN, 0);
    }
    int error = set_ask(m, &q);
    if (error == EPERM) return IS_OWNED;
    if (error == ENFILE || error == IPSET_FULL) return IS_FULL;
    return error;
}

/* What is wrong with the set of these words, and the remedy. */
static const char *set_describe(const char *words, const struct set *s,
                                bool v4, int error) {
    static char text[TEXT_MAX];
    static const char faults[][61] = {
        "its type is another",
        "it is a map",
        "with flag interval an address would stand for a whole range",
        "with flag constant it takes no address",
        "with a mask an address would stand for its whole network",
        "without timeout an address would stay for ever",
        "it has no room: make its size, maxelem or range larger",
        "its table has an owner: load the table without flag owner",
        "no CAP_NET_ADMIN: run knockd as root, or see capabilities(7)",
        "the kernel lacks nf_tables or ip_set: load the module",
        "the kernel has not answered: the address may be there",
    };
    bool make = error == ENOENT;
    const char *why = make ? "there is no such set" : strerror(error);
    if (error >= OTHER_TYPE && error <= NO_ANSWER) {
        why = faults[error - OTHER_TYPE];
        make = error <= NO_TIMEOUT;
    }
    char *end = text + sprintf(text, "set %s: %s", words, why);
    if (make) end = stpcpy(end, "; it is made by: ");
    words += strlen("nft");
    int table = (int)(strlen(words) - strlen(s->name)) - 1;
    if (make && s->family)
        sprintf(end,
                "nft 'add table%.*s; add set%s { type ipv%c_addr; flags "
                "timeout; }'",
                table, words, words, v4 ? '4' : '6');
    else if (make)
        sprintf(end, "ipset create %s hash:ip%s timeout 0", s->name,
                v4 ? "" : " family inet6");
    return text;
}

/* Puts an opening's address into its set for so many seconds or, with 0,
 * removes it; twice, as an element can end in the middle of a batch before
 * Linux 6.12.  Returns whether it may be there now; an error is logged. */
static bool set_change(struct monitor *m, struct opening *o,
                       unsigned seconds) {
    struct set s;
    bool v4 = is_v4(&o->src);
    int error = 0;
    set_read(&s, o->set);
    for (int i = 0; i < 2; i++) {
        error = seconds ? set_look(m, &s, v4) : 0;
        if (!error) error = set_write(m, &s, &o->src, seconds);
        if (!error) return true;
        if (!seconds && error == ENOENT) return false; /* it is out */
    }
    say_of(o->share, &o->src, REFUSALS, "%s",
           set_describe(o->set, &s, v4, error));
    return error == NO_ANSWER;
}

/* Looks at the sets of all doors: at the start, at SIGHUP, for -t.  A missing
 * one may come later, with the firewall; one of another kind is an error. */
static void sets_review(struct monitor *m, struct conf *c) {
    struct set s;
    for (unsigned i = 0; i < 2 * c->ndoors; i++) {
        const struct door *d = &c->doors[i / 2];
        bool v4 = i % 2 == 0;
        const char *words = v4 ? d->set : d->set6;
        int error = words && set_read(&s, words) ? set_look(m, &s, v4) : 0;
        if (!error) continue;
        be_at(d, v4 ? D(set) : D(set6));
        const char *text = set_describe(words, &s, v4, error);
        if (error == NO_CAPABILITY && settings.test)
            warn("not checked: %s", text);
        else if (error < OTHER_TYPE || error == NO_ANSWER)
            say(TROUBLE, "%s:%d: warning: %s", spot.path, spot.line, text);
        else wrong("%s", text);
    }
    c->errors = spot.errors;
}

/* ---- The monitor: openings ---------------------------------------------- */

static void ring_cut(struct ring *r) {
    r->older->newer = r->newer;
    r->newer->older = r->older;
    r->older = r->newer = r;
}

static void ring_add(struct ring *head, struct ring *r) {
    r->older = head->older;
    r->newer = head;
    head->older->newer = r;
    head->older = r;
}

static struct opening **bucket_of(struct monitor *m, const struct addr *src) {
    return &m->buckets[(addr_hash(m->key, src) >> 32) % BUCKETS];
}

/* The first opening of this address from o on, in a bucket; or NULL. */
static struct opening *of_address(struct opening *o, const struct addr *src) {
    while (o && addr_cmp(&o->src, src)) o = o->next;
    return o;
}

/* Does a's time come before b's, or with it and a was queued earlier? */
static bool is_sooner(const struct opening *a, const struct opening *b) {
    return a->when < b->when || (a->when == b->when && a->ticket < b->ticket);
}

/* Puts o where it belongs in the heap, whose place `at` is free. */
static void heap_put(struct monitor *m, struct opening *o, unsigned at) {
    struct opening **heap = m->openings;
    for (; at && is_sooner(o, heap[(at - 1) / 2]); at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
        heap[at]->at = at;
    }
    for (unsigned next = 2 * at + 1; next < m->nopenings; next = 2 * at + 1) {
        bool two = next + 1 < m->nopenings;
        if (two && is_sooner(heap[next + 1], heap[next])) next++;
        if (is_sooner(o, heap[next])) break;
        heap[at] = heap[next];
        heap[at]->at = at;
        at = next;
    }
    heap[at] = o;
    o->at = at;
}

/* Is a command of this opening the next of its address, waiting for a slot? */
static bool is_ready(const struct opening *o) {
    return o->ring.newer != &o->ring;
}

/* When the youngest command that runs for an address has begun, in ms. */
static int64_t last_begun(const struct monitor *m, const struct addr *src) {
    for (unsigned i = m->nchildren; i--;)
        if (!addr_cmp(&m->children[i].src, src)) return m->children[i].begun;
    return -ORDER_MS; /* none runs */
}

/* Lets the next command of an address wait for a slot, unless an earlier one
 * waits for its own, or runs, for less than ORDER_MS.  A command that waited
 * longer leaves each earlier one HASTE_MS: a stranger who floods doors in the
 * name of an address holds up no other door of it for long, and quick commands
 * still run one after the other. */
static void address_turn(struct monitor *m, const struct addr *src) {
    struct opening *first = NULL, *o = *bucket_of(m, src);
    for (; (o = of_address(o, src)); o = o->next) {
        if (o->state > DUE) continue;
        if (is_ready(o) && o->when == NEVER) continue;
        if (is_ready(o)) return;
        if (!first || o->ticket < first->ticket) first = o;
    }
    if (!first) return;
    int64_t now = now_ms();
    int64_t begun = last_begun(m, src);
    int64_t late = first->queued + ORDER_MS;
    int64_t next = max_ms(late, begun + HASTE_MS);
    next = min_ms(next, begun + ORDER_MS);
    bool waits = next > now;
    first->when = waits ? next : max_ms(late, now + HASTE_MS);
    heap_put(m, first, first->at);
    if (waits) return;
    enum command which = first->state == DUE ? STOP : START;
    ring_add(&first->share->queue[which].ready, &first->ring);
}

static unsigned running(const struct monitor *m, const struct opening *o,
                        enum command which) {
    unsigned n = 0;
    for (const struct child *c = m->children; c < m->children + m->nchildren;
         c++)
        if (c->opening == o && c->command == which) n++;
    return n;
}

static void opening_free(struct opening *o) {
    free(o->client);
    free(o->start);
    free(o->stop);
    free(o->set);
    free(o);
}

/* Removes an opening that is over from all tables. */
static void opening_forget(struct monitor *m, struct opening *o) {
    struct opening **link = bucket_of(m, &o->src);
    struct opening *last = m->openings[--m->nopenings];
    while (*link != o) link = &(*link)->next;
    *link = o->next;
    if (last != o) heap_put(m, last, o->at);
    for (unsigned i = 0; i < m->nchildren; i++)
        if (m->children[i].opening == o) m->children[i].opening = NULL;
    opening_free(o);
}

/* Changes an opening's state; nothing else does.  when: the state ends then,
 * or NEVER by itself.  GONE frees the opening. */
static void opening_move(struct monitor *m, struct opening *o,
                         enum state state, int64_t when) {
    struct addr src = o->src;
    struct share *s = o->share;
    m->n[o->state]--;
    s->n[o->state]--;
    m->n[state]++;
    s->n[state]++;
    o->state = state;
    o->when = when;
    heap_put(m, o, o->at);
    ring_cut(&o->ring);
    if (state == HELD) ring_add(&s->held, &o->ring);
    if (state == HELD || state == GONE) record_change(m, o);
    if (state == GONE) opening_forget(m, o);
    address_turn(m, &src);
}

/* The same, at the end of its address's queue. */
static void opening_queue(struct monitor *m, struct opening *o,
                          enum state state) {
    o->ticket = ++m->tickets;
    o->queued = now_ms();
    opening_move(m, o, state, NEVER);
}

/* Are a and b one: of one door, stop command and set, or else start command? */
static bool is_same(const struct opening *a, const struct opening *b) {
    if (a->share != b->share || !same_text(a->stop, b->stop)) return false;
    if (!same_text(a->set, b->set)) return false;
    return closes(a) || same_text(a->start, b->start);
}

/* How many commands of o's address wait or start; 0 if none waits behind o. */
static unsigned queue_behind(struct monitor *m, const struct opening *o) {
    struct opening *i = *bucket_of(m, &o->src);
    unsigned n = 0;
    bool behind = false;
    for (; (i = of_address(i, &o->src)); i = i->next) {
        n += i->state <= STARTING;
        behind |= i->state <= DUE && i->ticket > o->ticket;
    }
    return behind ? n : 0;
}

/* Puts a new opening into all tables, unless there is one of its door and its
 * address: the old one then gets the start command and the timeout.  But what
 * is only a command runs in its place in the queue, and once more behind
 * others: open, close, open, close. */
static struct opening *opening_keep(struct monitor *m, struct opening *o) {
    struct opening **link = bucket_of(m, &o->src), *old = *link;
    while ((old = of_address(old, &o->src)) && !is_same(old, o))
        old = old->next;
    unsigned queue = 0;
    if (old && old->state == QUEUED && !closes(old))
        queue = queue_behind(m, old);
    if (old && (!queue || queue >= TIMES_MAX)) {
        free(old->start);
        free(old->client);
        old->start = o->start;
        old->client = o->client;
        old->timeout = o->timeout;
        o->start = o->client = NULL;
        opening_free(o);
        return old;
    }
    unsigned n = m->nopenings++;
    if (!(n & (n - 1))) /* room for the next power of 2 */
        m->openings =
            alloc(m->openings, (2 * n + 1) * sizeof(struct opening *));
    o->ticket = ++m->tickets;
    o->next = *link;
    *link = o;
    heap_put(m, o, n);
    return o;
}

static const char *start_of(const struct door *d, const struct addr *src) {
    return d->start6 && !is_v4(src) ? d->start6 : d->start;
}

static const char *set_of(const struct door *d, const struct addr *src) {
    return is_v4(src) ? d->set : d->set6;
}

/* Makes an opening of door d for src, or finds it. */
static struct opening *opening_new(struct monitor *m, const struct door *d,
                                   const struct addr *src) {
    const char *start = start_of(d, src), *set = set_of(d, src);
    const char *stop = d->stop6 && !is_v4(src) ? d->stop6 : d->stop;
    struct opening *o = alloc(NULL, sizeof *o);
    *o = (struct opening){ .ring = { &o->ring, &o->ring },
                           .share = share_of(m, d->name),
                           .src = *src,
                           .client = copy(m->client ? m->client : "-"),
                           .state = GONE,
                           .timeout = d->cmd_timeout,
                           .when = NEVER };
    addr_text(src, o->ip);
    if (is_given(start)) o->start = expand(start, o->ip);
    if (set) o->set = copy(set);
    if (stop && *stop) o->stop = expand(stop, o->ip);
    return opening_keep(m, o);
}

/* Closes an opening: its stop commands are queued, if there are any. */
static void opening_end(struct monitor *m, struct opening *o) {
    if (o->stop && o->times) {
        opening_queue(m, o, DUE);
        return;
    }
    if (o->set) say_of(o->share, &o->src, CLOSINGS, "CLOSE SESAME");
    opening_move(m, o, GONE, NEVER);
}

/* The same before its time: no start waits on, the address leaves the set.  The
 * record says for the next daemon that the opening is due; while a start command
 * runs, start_end() sees to that. */
static void opening_close(struct monitor *m, struct opening *o) {
    if (o->state == DUE || o->state == STOPPING) return;
    if (o->set) set_change(m, o, 0);
    o->rounds = 0;
    bool due = o->state != STARTING && o->stop && o->times;
    opening_end(m, o);
    if (due) record_change(m, o);
}

/* How many openings are open, by their states. */
static unsigned open_of(const unsigned n[STATES]) {
    return n[DUE] + n[STARTING] + n[HELD] + n[STOPPING] + n[FAILED];
}

static bool is_crowded(const struct monitor *m, const struct share *s) {
    return open_of(s->n) + open_of(m->n) >= OPENINGS_MAX;
}

/* Does the door lack room for one more opening?  If so, its oldest closes. */
static bool room_lacks(struct monitor *m, struct share *s) {
    struct ring *oldest = s->held.newer;
    bool closing = s->n[DUE] + s->n[STOPPING] > 0;
    if (!is_crowded(m, s)) return false;
    if (!closing && oldest != &s->held)
        opening_close(m, (struct opening *)oldest);
    return is_crowded(m, s);
}

/* A knock at door d: the address is put into the set, and the start command
 * queued unless it waits.  If the set refuses, nothing opens. */
static void opening_knock(struct monitor *m, const struct door *d,
                          const struct addr *src) {
    struct share *s = share_of(m, d->name);
    unsigned all = m->n[QUEUED] + m->n[CROWDED];
    unsigned own = s->n[QUEUED] + s->n[CROWDED];
    if (own + all >= QUEUE_MAX && is_given(start_of(d, src))) {
        say_of(s, src, REFUSALS,
               "refused: %u start commands wait, %u of this door", all, own);
        return;
    }
    struct opening *o = opening_new(m, d, src);
    bool begins = o->state == GONE && !o->start; /* no start command waits */
    bool refused = begins && room_lacks(m, s);
    if (refused)
        say_of(s, src, REFUSALS,
               "refused: stop commands of others are still to run");
    if (refused || (o->set && !set_change(m, o, o->timeout))) {
        if (o->state == GONE) opening_move(m, o, GONE, NEVER);
        return;
    }
    o->until = now_ms() + o->timeout * 1000LL;
    o->rounds = 0;
    bool waits = o->state == QUEUED || o->state == CROWDED;
    unsigned n = running(m, o, START);
    if (!o->start) { /* the set has opened the door */
        unsigned least = 1 + running(m, o, STOP);
        if (o->times < least) o->times = least;
        opening_move(m, o, HELD, o->until);
    } else if (n >= TIMES_MAX)
        say_of(s, src, REFUSALS, "refused: %u of its start commands run", n);
    else if (!waits || queue_behind(m, o)) opening_queue(m, o, QUEUED);
}

static void openings_close(struct monitor *m, const char *name,
                           const struct addr *src) {
    struct opening *o = of_address(*bucket_of(m, src), src);
    while (o) {
        struct opening *next = of_address(o->next, src);
        if (!strcmp(o->share->name, name)) opening_close(m, o);
        o = next;
    }
}

/* Takes an opening's address out of the set at its time: the kernel's clock
 * stops in a suspend.  An address that another door has put there stays. */
static void set_expire(struct monitor *m, struct opening *o) {
    struct opening *i = *bucket_of(m, &o->src);
    for (; (i = of_address(i, &o->src)); i = i->next)
        if (i != o && same_text(i->set, o->set)) return;
    set_change(m, o, 0);
}

/* What is due: deadlines, and stop commands that run again. */
static void openings_due(struct monitor *m, int64_t now) {
    while (m->nopenings && m->openings[0]->when <= now) {
        struct opening *o = m->openings[0];
        if (o->state == HELD && o->stop)
            say_of(o->share, &o->src, CLOSINGS, "command timeout");
        if (o->state == HELD && o->set) set_expire(m, o);
        if (o->state > DUE) opening_end(m, o);
        else { /* its turn; or others of its address may pass it */
            o->when = NEVER;
            if (is_ready(o) && now < m->again) o->when = m->again + HASTE_MS;
            heap_put(m, o, o->at);
            address_turn(m, &o->src);
        }
    }
}

/* Told to end: closes everything. */
static void openings_end(struct monitor *m) {
    unsigned n = m->nopenings;
    struct opening **all = alloc(NULL, (n + 1) * sizeof(struct opening *));
    for (unsigned i = 0; i < n; i++) all[i] = m->openings[i];
    for (struct opening **o = all; o < all + n; o++) {
        if ((*o)->state == QUEUED || (*o)->state == CROWDED)
            say_of((*o)->share, NULL, REFUSALS,
                   "not run because knockd ends: %s", (*o)->start);
        opening_close(m, *o);
    }
    free(all);
}

/* A round of stop commands has failed.  A few more follow; at the end, many. */
static void round_failed(struct monitor *m, struct opening *o) {
    static const int pauses[] = { ROUNDS_MS };
    unsigned rounds = LENGTH(pauses);
    if (m->ending) opening_move(m, o, FAILED, now_ms() + RETRY_MS);
    else if (o->rounds < rounds)
        opening_move(m, o, FAILED, now_ms() + pauses[o->rounds++]);
    else {
        say_of(o->share, &o->src, ENDS,
               "given up, the door may still be open: the stop command has "
               "failed %u times: %s",
               rounds + 1, o->stop);
        opening_move(m, o, GONE, NEVER);
    }
}

static void stop_end(struct monitor *m, struct opening *o, bool good) {
    if (good && o->times) {
        o->times--;
        o->rounds = 0;
        record_change(m, o);
    }
    bool closing = o->state == STOPPING || o->state == DUE;
    if (running(m, o, STOP) || !closing) return;
    if (!o->times) {
        say_of(o->share, &o->src, CLOSINGS, "CLOSE SESAME");
        opening_move(m, o, GONE, NEVER);
    } else if (o->state == DUE) return;
    else if (good) opening_move(m, o, DUE, NEVER); /* in its old place */
    else round_failed(m, o);
}

/* The opening lasts from the end of its last start command on. */
static void start_end(struct monitor *m, struct opening *o) {
    if (running(m, o, START)) return;
    if (o->state == DUE) record_change(m, o);
    if (o->state != STARTING) return;
    int64_t until = now_ms() + o->timeout * 1000LL;
    if (!closes(o)) opening_move(m, o, GONE, NEVER);
    else opening_move(m, o, HELD, o->set ? o->until : until);
}

/* A command has ended, or can't be run at all. */
static void command_end(struct monitor *m, struct child *c, bool good) {
    struct child was = *c, *last = &m->children[--m->nchildren];
    memmove(c, c + 1, (size_t)((char *)last - (char *)c));
    was.share->queue[was.command].running--;
    if (was.opening && was.command == START) start_end(m, was.opening);
    else if (was.opening) stop_end(m, was.opening, good);
    address_turn(m, &was.src);
}

/* A child has ended: logs how, if it was a command. */
static void command_reap(struct monitor *m, pid_t pid, int status) {
    struct child *c = m->children;
    while (c < m->children + m->nchildren && c->pid != pid) c++;
    if (c == m->children + m->nchildren) return;
    if (WIFSIGNALED(status))
        say_of(c->share, NULL, ENDS, "command killed by signal %d",
               WTERMSIG(status));
    else if (status)
        say_of(c->share, NULL, ENDS,
               "command returned non-zero status code (%d)",
               WEXITSTATUS(status));
    command_end(m, c, !status);
}

/* Begins the command of an opening whose turn it is.  At TIMES_MAX start
 * commands a stop command undoes one first.  If the kernel has no process left,
 * the command keeps its place, and all wait for a while. */
static void command_begin(struct monitor *m, struct opening *o, int64_t now) {
    enum state was = o->state, next = STARTING;
    if (was == DUE) next = STOPPING;
    if (was == QUEUED && o->stop && o->times >= TIMES_MAX) next = CROWDED;
    enum command which = next == STARTING ? START : STOP;
    struct child *c = &m->children[m->nchildren++];
    *c = (struct child){ .command = which,
                         .share = o->share,
                         .opening = o,
                         .src = o->src,
                         .begun = now };
    o->share->queue[which].running++;
    if (which == START) o->times++;
    if (which == START) record_change(m, o);
    opening_move(m, o, next, NEVER);
    state_write(m, now);
    m->commands++;
    say_of(o->share, NULL, RUNS, "running command: %s",
           which == START ? o->start : o->stop);
    int error = command_run(m, o, which, &c->pid);
    if (!error) return;
    say_of(o->share, NULL, ENDS, "could not run the command: %s",
           strerror(error));
    if (is_passing(error)) {
        m->again = now + RETRY_MS;
        c->opening = NULL;
        if (which == START) o->times--;
        opening_move(m, o, was, NEVER);
        record_change(m, o);
    }
    command_end(m, c, false);
}

/* Does the start command that is next at this door wait for room? */
static bool start_waits(struct monitor *m, struct share *s) {
    struct ring *first = s->queue[START].ready.newer;
    struct opening *o = (struct opening *)first;
    if (first == &s->queue[START].ready || !closes(o) || o->times)
        return false;
    return room_lacks(m, s);
}

/* The next command of this kind, of the door that got a slot longest ago. */
static struct opening *queue_next(struct monitor *m, enum command which) {
    struct queue *best = NULL;
    for (struct share *s = m->shares; s; s = s->next) {
        struct queue *q = &s->queue[which];
        if (which == START && start_waits(m, s)) q = &s->queue[STOP];
        bool full = q->running + m->nchildren >= CHILDREN_MAX && !m->ending;
        if (q->ready.newer == &q->ready || full) continue;
        if (!best || q->served < best->served) best = q;
    }
    if (!best) return NULL;
    best->served = ++m->served;
    return (struct opening *)best->ready.newer;
}

/* How long a command keeps a slot, in ms: less at the daemon's end. */
static int64_t run_ms(const struct monitor *m) {
    return m->ending ? END_RUN_MS : RUN_MS;
}

/* How many commands may begin now.  Those no longer young need no slot. */
static unsigned slots_free(const struct monitor *m, int64_t now) {
    unsigned young = 0, i = m->nchildren;
    while (i-- && now - m->children[i].begun < run_ms(m)) young++;
    if (young >= RUN_MAX) return 0;
    return (unsigned)min_ms(RUN_MAX - young, CHILDREN_MAX - m->nchildren);
}

/* Begins what may begin, starts and stops in turn: neither waits for all. */
static void commands_run(struct monitor *m, int64_t now) {
    unsigned slots = slots_free(m, now);
    for (; slots && now >= m->again; slots--) {
        enum command other = m->last == START ? STOP : START;
        struct opening *o = queue_next(m, other);
        if (o) m->last = other;
        else o = queue_next(m, m->last);
        if (!o) return;
        command_begin(m, o, now);
    }
}

/* ---- The monitor: openings of an earlier run ---------------------------- */

/* Takes over an opening that an earlier run has left: its last record holds.
 * Version 2 has one for each start command: of these the last deadline. */
static void opening_restore(struct monitor *m, const struct record *r,
                            bool old) {
    struct door d = { .name = r->door,
                      .stop = r->stop,
                      .set = r->set,
                      .set6 = r->set,
                      .cmd_timeout = r->timeout };
    struct opening *o = opening_new(m, &d, &r->src);
    int64_t when = min_ms(r->deadline, orphaned(o));
    if (o->state != HELD)
        say_of(o->share, &o->src, RUNS, "left open by an earlier run");
    if (old && o->state == HELD && o->when > when) when = o->when;
    o->times = r->times + (old ? o->times : 0);
    free(o->client);
    o->client = copy(r->client);
    opening_move(m, o, HELD, when);
}

/* Is this a file of ours that nobody else may read or write? */
static bool is_own(int fd) {
    struct stat st;
    return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           !(st.st_mode & 077);
}

/* Locks the state file; false if another daemon has, or has replaced it. */
static bool state_lock(const struct monitor *m, int fd) {
    struct stat st, now;
    return !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st) &&
           !fstatat(cwd, m->state.path, &now, 0) && now.st_ino == st.st_ino;
}

/* Opens and locks the state file and takes over its openings.  If the file is
 * damaged, or others may write it, it is renamed and nothing in it runs. */
static void state_load(struct monitor *m) {
    int how = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(cwd, m->state.path, how | O_CREAT | O_EXCL, 0600);
    bool made = fd >= 0; /* two daemons can't both make it */
    if (!made) fd = openat(cwd, m->state.path, how);
    bool locked = fd >= 0 && state_lock(m, fd);
    struct records rs = { .n = 0 };
    size_t n;
    char *text = read_all(fd, &n);
    int error = text ? 0 : errno;
    const char *path = m->state.path, *why = NULL;
    char aside[PATH_MAX];
    if (is_passing(error)) /* it may be a good one */
        die("could not read %s: %s", path, strerror(error));
    if (error && error != ENOENT) why = strerror(error);
    else if (text && !is_own(fd))
        why = "not a regular file of this user with mode 0600";
    else if (text && locked && !made && !records_read(&rs, text, n))
        why = "damaged";
    if (why) {
        rs.n = 0;
        snprintf(aside, sizeof aside, "%s.refused", path);
        renameat(cwd, path, cwd, aside);
        say(TROUBLE,
            "state file refused: %s: %s; its doors may still be open: see %s",
            path, why, aside);
    } else if (text && !locked) {
        say(TROUBLE,
            "another knockd uses %s: give this one a pid file of its own "
            "(-p), or doors stay open if this one is killed",
            path);
        free(m->state.path);
        m->state.path = m->stamps.path = NULL;
    }
    for (unsigned i = 0; i < rs.n; i++)
        if (rs.list[i].times) opening_restore(m, &rs.list[i], rs.old);
    free(rs.list);
    free(text);
    state_save(m);
    if (fd >= 0) close(fd);
}

#define STAMPS_LOST ": used sealed knocks may open again"

/* Adds what is remembered of a key to the text of the stamps file. */
static void stamps_put(struct line_file *f, const struct memory *y) {
    const struct stamps *s = &y->stamps;
    text_add(&f->text, "seen %016" PRIx64 " %" PRIu64, y->id, s->floor);
    for (const struct span *r = s->burnt; r < s->burnt + s->nburnt; r++)
        text_add(&f->text, " %" PRIu64 "-%" PRIu64, r->low, r->high);
    text_add(&f->text, "\n");
}

/* Replaces the stamps file, without what was written before and without keys
 * that no client has had for STAMPS_DAYS. */
static void stamps_replace(struct monitor *m) {
    struct line_file *f = &m->stamps;
    uint64_t keep = STAMPS_DAYS * UINT64_C(86400000), now = wall_ms();
    uint64_t oldest = now - keep;
    if (now < keep) oldest = 0;
    f->gone = 0;
    f->records = m->nmemories; /* or fewer */
    f->text.n = 0;
    for (unsigned i = 0; i < m->nmemories; i++) {
        const struct memory *y = &m->memories[i];
        const struct stamps *s = &y->stamps;
        uint64_t newest = s->floor;
        uint64_t burnt = s->nburnt ? s->burnt[s->nburnt - 1].high : 0;
        if (burnt > newest) newest = burnt;
        bool had = y->taken == m->takes || newest >= oldest;
        if (newest && had) stamps_put(f, y);
    }
    lines_replace(f, STAMPS_LOST);
}

/* Writes the stamps of a key, before the daemon does what they must prevent
 * later.  The file has a line for each change of what is remembered of a key at
 * a door, and the last one holds:
 *     seen ID FLOOR LOW-HIGH...        (ms since 1970) */
static void stamps_save(struct monitor *m, const struct memory *y) {
    struct line_file *f = &m->stamps;
    if (!f->path) return;
    stamps_put(f, y);
    f->gone++; /* the line before it */
    bool appended = !f->bad && lines_append(f);
    if (!appended) stamps_replace(m);
}

static int memory_cmp(const void *a, const void *b) {
    const struct memory *l = a, *r = b;
    if (l->id == r->id) return (int)l->line - (int)r->line;
    return l->id < r->id ? -1 : 1;
}

/* From now on: what was sent before with this key is refused. */
static void memory_begin(struct memory *y) {
    y->up = now_ms();
    y->wall = (int64_t)wall_ms();
}

/* Sorts the memories by id.  Of several with one id the last line of the file is
 * kept, or what is known already: all have line 1 then, a later one has 0. */
static void memories_sort(struct monitor *m) {
    struct memory *to = m->memories, *y = to;
    struct memory *end = to + m->nmemories;
    if (y < end) qsort(y, m->nmemories, sizeof *y, memory_cmp);
    for (; y < end; y++) {
        bool again = to > m->memories && to[-1].id == y->id;
        to -= again;
        m->nmemories -= again;
        *to = *y;
        to->line = 1;
        to++;
    }
}

static struct memory *memory_add(struct monitor *m, uint64_t id) {
    size_t bytes = (m->nmemories + 1) * sizeof *m->memories;
    m->memories = alloc(m->memories, bytes);
    struct memory *y = &m->memories[m->nmemories++];
    *y = (struct memory){ .id = id, .taken = m->takes - 1 };
    return y;
}

/* Reads a line of the stamps file; false if it is damaged. */
static bool stamps_line(struct memory *y, char *line) {
    struct span *r = y->stamps.burnt, *end = r + BURNT_MAX;
    if (strncmp(line, "seen ", 5)) return false;
    y->id = strtoull(line + 5, &line, 16);
    if (*line != ' ') return false;
    line++;
    if (!long_number(strsep(&line, " "), &y->stamps.floor)) return false;
    for (; line && r < end; r++) {
        char *high = strsep(&line, " "), *low = strsep(&high, "-");
        if (!long_number(low, &r->low) || !long_number(high, &r->high))
            return false;
        y->stamps.nburnt++;
    }
    return true;
}

static void stamps_load(struct monitor *m) {
    const char *path = m->stamps.path;
    if (!path) return;
    int how = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    bool damaged = false;
    size_t n = 0;
    mkdir(STAMPS_DIR, 0700);
    int fd = open(path, how);
    char *text = read_all(fd, &n), *rest = text;
    if (!text && errno != ENOENT) could_not("read", path, STAMPS_LOST);
    zeros_replace(text, n);
    while (text && strchr(rest, '\n')) {
        struct memory *y = memory_add(m, 0);
        y->line = m->nmemories;
        if (stamps_line(y, strsep(&rest, "\n"))) continue;
        m->nmemories--;
        damaged = true;
    }
    if (text && *rest) damaged = true; /* half a line is none */
    if (damaged) say(TROUBLE, "%s is damaged%s", path, STAMPS_LOST);
    free(text);
    if (fd >= 0) close(fd);
}

static void widen(int *width, const char *text) {
    int n = (int)strlen(text);
    if (n > *width) *width = n;
}

/* --status: prints what is open, by what the state file says: with tabs or, on
 * a terminal, in columns below a heading.  Returns the exit status. */
static int status(const struct monitor *m) {
    const char *format = "%-*s\t%-*s\t%-*s\t%" PRId64 "\t%s\n";
    bool columns = isatty(STDOUT_FILENO);
    int door = (int)strlen("DOOR"), client = (int)strlen("CLIENT");
    int address = (int)strlen("ADDRESS"); /* widths */
    char ip[ADDR_TEXT];
    struct records rs = { .n = 0 };
    size_t n;
    int fd = openat(cwd, m->state.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    char *text = read_all(fd, &n);
    if (!text && errno == ENOENT) return 0; /* nothing was ever open */
    if (!text) die("could not read %s: %s", m->state.path, strerror(errno));
    if (!records_read(&rs, text, n)) die("%s is damaged", m->state.path);
    const struct record *end = rs.list + rs.n;
    for (const struct record *r = rs.list; r < end; r++) {
        widen(&door, r->door);
        widen(&address, addr_text(&r->src, ip));
        widen(&client, r->client);
    }
    if (!columns) door = address = client = 0;
    else {
        format = "%-*s  %-*s  %-*s  %7" PRId64 "  %s\n";
        print("%-*s  %-*s  %-*s  SECONDS  HOW\n", door, "DOOR", address,
              "ADDRESS", client, "CLIENT");
    }
    for (const struct record *r = rs.list; r < end; r++) {
        int64_t ms = r->deadline - now_ms();
        if (!r->times) continue;
        if (ms < 0) ms = 0;
        const char *how = "stop";
        if (r->set) how = *r->set == 'n' ? "nft" : "ipset";
        addr_text(&r->src, ip);
        print(format, door, r->door, address, ip, client, r->client,
              (ms + 999) / 1000, how);
    }
    free(rs.list);
    free(text);
    return 0;
}

/* ---- The monitor: interfaces -------------------------------------------- */

/* Is an entry of getifaddrs() that of an interface, or of a label (eth0:1)? */
static bool is_named(const char *entry, const char *name) {
    size_t length = strcspn(entry, ":");
    return !strcmp(entry, name) ||
           (!strncmp(entry, name, length) && !name[length]);
}

/* Sets *addr to the address of an entry of getifaddrs(), if we look at it. */
static bool address_of(const struct ifaddrs *a, struct addr *addr) {
    const void *from = a->ifa_addr;
    int family = from ? a->ifa_addr->sa_family : AF_UNSPEC;
    if (family == AF_INET)
        *addr = addr_v4(&((const struct sockaddr_in *)from)->sin_addr);
    if (family == AF_INET6)
        *addr = *(const struct addr *)&((const struct sockaddr_in6 *)from)
                     ->sin6_addr;
    return family == AF_INET || (family == AF_INET6 && !settings.only_ipv4);
}

/* Adds an interface and its addresses, which -t prints; index 0: the addresses
 * of all.  Returns why the interface can't be used yet, or NULL. */
static const char *locals_take(struct locals *l, const struct ifaddrs *all,
                               const char *name, unsigned index) {
    bool up = false, addressed = false;
    struct addr addr;
    char ip[ADDR_TEXT];
    if (index && l->ninterfaces == INTERFACES_MAX) return "is one too many";
    if (index) l->interface[l->ninterfaces++] = index;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (index && !is_named(a->ifa_name, name)) continue;
        if (a->ifa_flags & IFF_UP) up = true;
        if (!address_of(a, &addr)) continue;
        addressed = true;
        if (index && l->any) continue; /* any has added it */
        if (settings.test)
            print("# %s %s\n", a->ifa_name, addr_text(&addr, ip));
        if (l->naddrs == ADDRESSES_MAX) l->full = true;
        else l->addr[l->naddrs++] = addr;
    }
    if (!index) return NULL;
    if (!up) return "is down";
    return addressed ? NULL : "has no address";
}

/* Reads the interfaces of the list and their addresses.  waiting: the interfaces
 * that can't be used yet, and why.  False if the kernel gives no answer. */
static bool locals_read(struct monitor *m, struct locals *l,
                        char waiting[TEXT_MAX]) {
    const char *list = m->conf.listen;
    char name[IFNAMSIZ + 1];
    struct ifaddrs *all = NULL;
    bool good = !getifaddrs(&all);
    size_t n = 0;
    *waiting = '\0';
    memset(l, 0, offsetof(struct locals, addr));
    while (next_name(&list, name)) l->any |= !strcasecmp(name, "any");
    if (l->any) locals_take(l, all, "any", 0);
    for (list = m->conf.listen; good && next_name(&list, name);) {
        if (!strcasecmp(name, "any")) continue;
        const char *why = "does not exist";
        unsigned index = if_nametoindex(name);
        good = index || errno == ENODEV;
        bool label = strchr(name, ':');
        if (index && !label) if_indextoname(index, name); /* its first name */
        if (index) why = locals_take(l, all, name, index);
        if (why && n < TEXT_MAX)
            n += (size_t)snprintf(waiting + n, TEXT_MAX - n, "%s%s %s",
                                  n ? ", " : "", name, why);
    }
    qsort(l->addr, l->naddrs, sizeof *l->addr, addr_cmp);
    freeifaddrs(all);
    return good;
}

/* Sends data in pieces, for about SEND_SECONDS; else false and errno. */
static bool pieces_send(const struct monitor *m, const void *data,
                        size_t bytes) {
    int64_t until = now_ms() + SEND_SECONDS * 1000LL;
    for (const char *at = data; bytes;) {
        size_t n = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        if (send(m->channel, at, n, MSG_NOSIGNAL) < 0) return false;
        at += n;
        bytes -= n;
        errno = EAGAIN;
        if (bytes && now_ms() > until) return false;
    }
    return true;
}

/* Sends an order and its data; a sniffer that does not read is killed. */
static void order_send(struct monitor *m, const struct order *o,
                       const void *data) {
    if (m->sniffer < 0) return;
    bool sent =
        pieces_send(m, o, sizeof *o) && pieces_send(m, data, o->bytes);
    bool ending = errno == EPIPE;
    if (!sent && !ending) kill(m->sniffer, SIGKILL);
}

static uint32_t locals_bytes(const struct locals *l) {
    size_t used = l->naddrs * sizeof *l->addr;
    return (uint32_t)(offsetof(struct locals, addr) + used);
}

static void locals_send(struct monitor *m) {
    struct order o = { .kind = NEW_LOCALS,
                       .bytes = locals_bytes(&m->locals) };
    order_send(m, &o, &m->locals);
}

/* An interface or an address has changed (rtnetlink(7)): reads all of them. */
static void locals_changed(struct monitor *m) {
    static struct locals new;
    char buf[8192], waiting[TEXT_MAX];
    while (recv(m->netlink, buf, sizeof buf, MSG_DONTWAIT) > 0) {}
    m->locals_old = !locals_read(m, &new, waiting);
    if (m->locals_old) return; /* turn() tries again */
    bool changed = strcmp(waiting, m->waiting_for);
    if (changed && *waiting) say(LOG, "waiting: %s", waiting);
    else if (changed) say(LOG, "listening on %s again", m->conf.listen);
    strcpy(m->waiting_for, waiting);
    if (!memcmp(&new, &m->locals, locals_bytes(&new))) return;
    memcpy(&m->locals, &new, locals_bytes(&new));
    locals_send(m);
}

/* ---- The monitor: host names (-l) --------------------------------------- */

/* Logs a line with the host name of its address; false if there is none. */
static bool log_named(char *text, enum severity severity) {
    static struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST }, *a;
    char line[TEXT_MAX + NAME_BYTES + 8], name[NAME_BYTES];
    char *rest = strstr(text, ": ");
    struct addr addr;
    if (!rest) return false;
    *rest = '\0';
    alarm(LOOKUP_SECONDS);
    if (!addr_parse(text, &addr) || getaddrinfo(text, NULL, &numeric, &a) ||
        getnameinfo(a->ai_addr, a->ai_addrlen, name, sizeof name, NULL, 0,
                    NI_NAMEREQD))
        return false;
    alarm(0);
    name[strspn(name, NAME_LETTERS)] = '\0'; /* it could imitate our text */
    snprintf(line, sizeof line, "%s (%s): %s", text, name, rest + 2);
    write_log(line, severity);
    return true;
}

/* -l: looks names up in a process of its own, so that slow DNS delays no knock;
 * all lines but the first and last go through it, and stay in order.  After a
 * look-up of more than LOOKUP_SECONDS, lines have no name for a while. */
static void namer(int from) {
    char line[TEXT_MAX + 1], *text = line + 1; /* see send_namer() */
    int64_t again = 0;
    close_others(from, out.file, -1);
    out.syslog = out.namer = -1;
    own_id(NAMER_ID);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (ssize_t n; (n = recv(from, line, sizeof line - 1, 0)) > 0;) {
        line[n] = '\0';
        enum severity severity = (enum severity)(*line - 'A');
        int status = -1; /* not looked up */
        pid_t pid = now_ms() < again ? -1 : fork();
        if (!pid) _exit(!log_named(text, severity));
        if (pid > 0) waitpid(pid, &status, 0);
        if (status) write_log(text, severity);
        if (WIFSIGNALED(status)) again = now_ms() + LOOKUP_PAUSE_MS;
    }
    _exit(0);
}

/* Starts the process that looks names up, in place of any before. */
static void namer_start(struct monitor *m) {
    int ends[2];
    if (out.namer >= 0) close(out.namer); /* it writes all it has, and ends */
    out.namer = -1;
    if (!settings.lookup ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return;
    m->namer = fork();
    if (!m->namer) {
        clients_free(&m->conf);
        namer(ends[1]);
    }
    close(ends[1]);
    out.namer = ends[0];
}

/* ---- The monitor: doors ------------------------------------------------- */

/* May one more thing happen, of which per_second are allowed?  *spent: up to
 * when, in us, the time is used up; at most burst_ms of it are saved. */
static bool in_rate(int64_t *spent, int per_second, int burst_ms) {
    int64_t now = now_ms() * 1000, least = now - burst_ms * 1000LL;
    int64_t next = (*spent < least ? least : *spent) + 1000000 / per_second;
    if (next > now) return false;
    *spent = next;
    return true;
}

/* Sends doors their next one-time sequences, each only RENEWS_A_SECOND. */
static void sequences_send(struct monitor *m) {
    m->renew_at = NEVER;
    for (uint32_t i = 0; i < m->conf.ndoors; i++) {
        struct door *d = &m->conf.doors[i];
        struct order o = { NEW_SEQUENCE, 0, i, d->seq };
        if (!d->renew) continue;
        d->renew = !in_rate(&d->renewed, RENEWS_A_SECOND, RENEW_BURST_MS);
        if (d->renew) m->renew_at = now_ms() + 1000 / RENEWS_A_SECOND;
        else order_send(m, &o, NULL);
    }
}

/* A door opens for src: says so, and does what its directives say. */
static void door_open(struct monitor *m, struct door *d,
                      const struct addr *src) {
    const char *set = set_of(d, src);
    struct share *share = share_of(m, d->name);
    say_of(share, src, OPENINGS, "%s",
           d->message ? d->message : "OPEN SESAME");
    if (d->one_time) {
        int left = one_time(d, true);
        if (left > 0 && left <= ONE_TIME_LOW)
            say(LOG, "%s: %d one-time sequences left", d->name, left);
        d->renew = true;
        sequences_send(m);
        if (left < 0) return; /* it could be used again */
    }
    if (d->close) openings_close(m, d->close, src);
    if (!set && (d->set || d->set6))
        say_of(share, src, REFUSALS, "put into no set: the door has no %s",
               is_v4(src) ? "Set" : "Set_6");
    if (set || is_given(start_of(d, src))) opening_knock(m, d, src);
}

/* ---- The monitor: sealed knocks ----------------------------------------- */

static struct memory *memory_find(struct monitor *m, uint64_t id) {
    struct memory key = { .id = id, .line = 1 };
    return bsearch(&key, m->memories, m->nmemories, sizeof key, memory_cmp);
}

/* Looks whether the wall clock was set by a second or more, or the host
 * suspended: both move it against CLOCK_MONOTONIC, and wake us.  Nothing is
 * accepted then that was sent before. */
static void clock_look(struct monitor *m) {
    int64_t ahead = ms_of(CLOCK_REALTIME) - ms_of(CLOCK_MONOTONIC);
    if (llabs(ahead - m->clock_ahead) < 1000) return;
    m->clock_ahead = ahead;
    for (unsigned i = 0; i < m->nmemories; i++) memory_begin(&m->memories[i]);
}

static void clock_open(struct monitor *m) {
    struct itimerspec never = { .it_value.tv_sec = INT32_MAX };
    int how = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    m->clock = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    timerfd_settime(m->clock, how, &never, NULL);
    clock_look(m);
}

/* Gives each client the memory of its key at its door: an old one, or a new
 * one.  Nothing is accepted that was sent before a client had the key. */
static void memories_take(struct monitor *m, struct conf *c) {
    struct client *end = c->clients + c->nclients;
    if (c->nclients && !m->watching) {
        m->watching = true;
        clock_open(m);
        stamps_load(m);
    }
    for (struct client *k = c->clients; k < end; k++) memory_add(m, k->seen);
    memories_sort(m);
    for (struct client *k = c->clients; k < end; k++) {
        k->of = memory_find(m, k->seen);
        if (k->of->taken != m->takes) memory_begin(k->of);
        k->of->taken = m->takes + 1;
    }
    m->takes++;
}

/* Can a host have this address?  With -4, an IPv6 address does not count. */
static bool is_source(const struct addr *a) {
    return addr_usable(a) && (is_v4(a) || !settings.only_ipv4);
}

/* judge(), and what it leaves to us: the address, *a.  source: the packet's. */
static enum verdict sealed_judge(const struct hmac *key,
                                 struct stamps *stamps, struct sealed *s,
                                 const struct addr *source, uint64_t now,
                                 uint64_t start, struct addr *a) {
    static const struct addr none;
    enum verdict v = judge(key, stamps, s, now, start);
    memcpy(a, s->plain.address, sizeof *a);
    bool given = addr_cmp(a, &none);
    if (!given) *a = *source;
    bool low = !is_v4(a) && !memcmp(a, &none, 12); /* ::/96 */
    bool near = is_v4(a) ? a->b[12] == 169 && a->b[13] == 254
                         : a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
    bool ours = given && (low || near || addr_loopback(a));
    if (v == GOOD && (ours || !is_source(a))) return UNUSABLE;
    return v;
}

/* Logs why a sealed knock with a right tag is refused.  ms: how far its stamp is
 * from the clock, from the last one that was accepted, or from the start. */
static void sealed_refuse(struct monitor *m, const struct client *k,
                          const struct addr *src, enum verdict v, uint64_t ms,
                          const struct addr *a) {
    static const char reasons[][37] = {
        [MALFORMED] = "%s: bad request%s",
        [FUTURE] = "%s: clock %s s ahead",
        [PAST] = "%s: clock %s s behind",
        [REPLAY] = "%s: replayed%s",
        [BEFORE_START] = "%s: sent before the start: wait %s s",
        [UNUSABLE] = "%s: no opening for %s",
    };
    const struct addr *first = &k->of->first;
    const char *name = m->conf.doors[k->door].name;
    char ip[ADDR_TEXT], n[64] = "";
    uint64_t s = ms / 1000;
    bool counts = v == FUTURE || v == PAST || v == BEFORE_START;
    bool other = v == REPLAY && !ms && addr_cmp(first, src);
    if (counts) sprintf(n, "%" PRIu64, s);
    if (counts && s >= 1000)
        sprintf(n, "%" PRIu64 ",%03d", s / 1000, (int)(s % 1000));
    if (other && addr_usable(first))
        sprintf(n, ", first from %s", addr_text(first, ip));
    if (v == UNUSABLE) addr_text(a, n);
    say_of(share_of(m, name), src, REJECTS, reasons[v], k->name, n);
}

/* Judges a sealed packet, saves the stamps, opens or closes the door. */
static void sealed_knock(struct monitor *m, const struct event *e) {
    const struct client *k = &m->conf.clients[e->door];
    struct door *d = &m->conf.doors[k->door];
    struct memory *y = k->of;
    struct stamps before = y->stamps;
    struct sealed s = e->sealed;
    char ip[ADDR_TEXT], other[ADDR_TEXT + 8];
    struct addr a;
    clock_look(m);
    int64_t now = now_ms();
    uint64_t wall = wall_ms();
    int64_t start = (int64_t)wall - (now - y->up);
    if (start < y->wall) start = y->wall; /* it was set back */
    enum verdict v = sealed_judge(&k->key, &y->stamps, &s, &e->src, wall,
                                  (uint64_t)start, &a);
    if (v == FORGED) m->forged++;
    if (v == FORGED) return;
    if (memcmp(&before, &y->stamps, sizeof before)) stamps_save(m, y);
    bool copied = !memcmp(y->tag, s.tag, sizeof s.tag);
    if (copied && !addr_cmp(&y->last, &e->src)) return;
    memcpy(y->tag, s.tag, sizeof s.tag);
    y->last = e->src;
    if (v == GOOD || v == UNUSABLE) y->first = e->src;
    bool denied =
        !allowed(&d->allow, &d->deny, &a) || in_nets(&d->deny, &e->src);
    if (v == GOOD && denied) v = UNUSABLE;
    uint64_t stamp = be64toh(s.plain.stamp), ms = wall - stamp;
    if (v == FUTURE) ms = stamp - wall;
    if (v == REPLAY) ms = stamp - y->stamps.floor;
    if (v == BEFORE_START) ms = (uint64_t)start - stamp + 1000;
    if (v != GOOD) {
        sealed_refuse(m, k, &e->src, v, ms, &a);
        return;
    }
    struct share *share = share_of(m, d->name);
    if (!s.plain.request && now < share->quiet_until) return;
    *other = '\0';
    if (addr_cmp(&a, &e->src)) sprintf(other, " for %s", addr_text(&a, ip));
    say_of(share, &e->src, CLIENTS, "key of %s%s", k->name, other);
    m->client = k->name;
    if (s.plain.request) openings_close(m, d->name, &a);
    else {
        m->counters[OPENS]++; /* those without a key are the sniffer's */
        door_open(m, d, &a);
        share->quiet_until = now + d->cooldown * 1000LL;
    }
    m->client = NULL;
}

/* ---- The monitor: events ------------------------------------------------ */

/* Tells systemd that the daemon is ready (sd_notify(3)). */
static void notify_ready(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    if (!path || strlen(path) >= sizeof un.sun_path) return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(un.sun_path, path);
    if (*path == '@') *un.sun_path = '\0'; /* abstract, see unix(7) */
    sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&un,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                       strlen(path)));
    close(fd);
}

/* The first sniffer is ready: tells log, service manager and -d's parent. */
static void started(struct monitor *m, uint64_t skipped) {
    struct text list = { 0 };
    if (m->ready) return;
    m->ready = true;
    for (unsigned i = 0; i < SANDBOX_STEPS; i++)
        if (skipped >> i & 1) text_add(&list, ", %s", sandbox_steps[i]);
    say(QUIET, "starting up, listening on %s", m->conf.listen);
    if (settings.verbose) say(OUT, "listening on %s...", m->conf.listen);
    if (list.n)
        say(TROUBLE, "warning: the sniffer runs without: %s", list.b + 2);
    free(list.b);
    if (*m->waiting_for) say(LOG, "waiting: %s", m->waiting_for);
    notify_ready();
    if (m->ready_fd >= 0) {
        if (chdir("/")) say(TROUBLE, "chdir: %s", strerror(errno));
        for (int fd = 0; fd < 3; fd++) dup2(m->null, fd);
        out.detached = true;
        if (write(m->ready_fd, "", 1) == 1) close(m->ready_fd);
    }
    namer_start(m);
}

/* Says once for each sniffer why a record is wrong; false if it is. */
static bool check(struct monitor *m, const char *why) {
    if (!why) return true;
    if (!m->bad_record) say(TROUBLE, "bad record from the sniffer: %s", why);
    m->bad_record = true;
    return false;
}

/* Are there too many lines? */
static const char *lines_lie(int64_t *said) {
    bool few = in_rate(said, KINDS * LINES_PER_SECOND, STALL_MS);
    return few ? NULL : "rate";
}

/* Why no honest sniffer could send this event of a door; or NULL. */
static const char *door_lie(struct monitor *m, const struct event *e) {
    if (e->door >= m->conf.ndoors) return "door";
    struct door *d = &m->conf.doors[e->door];
    if (d->keys) return "door with keys";
    if (e->stage < 1 || e->stage > SEQUENCE_MAX) return "stage";
    if (e->kind == OPEN && e->stage != d->seq.n) return "stage";
    if (!is_source(&e->src) || !allowed(&d->allow, &d->deny, &e->src))
        return "address";
    if (e->kind != OPEN) return lines_lie(&d->said);
    if (d->renew) return "sequence"; /* it waits for the next one */
    bool few = in_rate(&d->believed, OPENS_BELIEVED, STALL_OPENS_MS);
    return few ? NULL : "openings";
}

/* The same of any event.  A hijacked sniffer may send any. */
static const char *lie(struct monitor *m, const struct event *e) {
    if (e->kind >= KINDS) return "kind";
    if (e->kind == STAGE || e->kind == OPEN || e->kind == TIMEOUT)
        return door_lie(m, e);
    if (e->kind == COUNTED && e->stage >= COUNTERS) return "counter";
    if (e->kind != SEALED) return lines_lie(&m->said);
    if (e->door >= m->conf.nclients) return "client";
    return is_source(&e->src) ? NULL : "address";
}

static bool is_true(struct monitor *m, const struct event *e) {
    return check(m, lie(m, e));
}

/* -D: prints a packet in the format of 0.8. */
static void packet_say(const struct event *e) {
    struct moment now = moment_now();
    char src[ADDR_TEXT], dst[ADDR_TEXT];
    say(OUT, "%s: %s: %s:%u -> %s:%u %u bytes", now.time,
        e->value >> 48 == TCP ? "tcp" : "udp", addr_text(&e->src, src),
        (unsigned)(e->value >> 32) & 0xffff, addr_text(&e->dst, dst),
        (unsigned)e->value >> 16, (unsigned)e->value & 0xffff);
}

/* SIGUSR1: logs the counters, once the sniffer has told its own. */
static void counters_say(struct monitor *m) {
    const uint64_t *c = m->counters;
    unsigned grants = 0;
    for (unsigned i = 0; i < m->nopenings; i++)
        if (closes(m->openings[i])) grants++;
    say(LOG,
        "counters: packets %" PRIu64 ", drops %" PRIu64 ", hits %" PRIu64
        ", attempts %" PRIu64 ", evictions %" PRIu64 ", cancelled %" PRIu64
        ", opens %" PRIu64 ", grants %u, commands %" PRIu64
        ", forged %" PRIu64,
        c[PACKETS], c[LOST], c[HITS], c[ATTEMPTS], c[EVICTIONS], c[CANCELLED],
        c[OPENS], grants, m->commands, m->forged);
    m->asked = false;
}

/* Carries out an event that is_true() has checked. */
static void event_take(struct monitor *m, const struct event *e) {
    struct door *d = m->conf.doors + (e->door < m->conf.ndoors ? e->door : 0);
    unsigned long long value = e->value;
    switch ((enum kind)e->kind) {
    case READY: started(m, value); break;
    case STAGE:
    case TIMEOUT:
        say_of(share_of(m, d->name), &e->src, STAGES,
               e->kind == STAGE ? "Stage %u" : "sequence timeout (stage %u)",
               e->stage);
        break;
    case OPEN: door_open(m, d, &e->src); break;
    case SEALED: sealed_knock(m, e); break;
    case PACKET: packet_say(e); break;
    case SUPPRESSED: say(LOG, "%llu messages suppressed", value); break;
    case DROPS: say(TROUBLE, "%llu packets lost: too fast", value); break;
    case COUNTED:
        m->counters[e->stage] += e->value;
        if (m->asked && e->stage == COUNTERS - 1) counters_say(m);
        break;
    case KINDS: break;
    }
}

/* Receives a record; returns its number of events, -1: none, or no channel. */
static int record_take(struct monitor *m) {
    static struct event events[EVENTS_MAX];
    int how = MSG_TRUNC | MSG_DONTWAIT; /* its true length, see recv(2) */
    ssize_t size = recv(m->channel, events, sizeof events, how);
    if (size < 0) return errno == ECONNRESET ? 0 : -1;
    if (!size) { /* SIGCHLD will follow */
        close(m->channel);
        m->channel = -1;
        return -1;
    }
    size_t n = (size_t)size / sizeof *events;
    bool odd = (size_t)size % sizeof *events || n > EVENTS_MAX;
    if (!check(m, odd ? "size" : NULL)) return 0;
    for (const struct event *e = events; e < events + n; e++)
        if (is_true(m, e)) event_take(m, e);
    return (int)n;
}

/* ---- The monitor: the sniffer's start and end, reload ------------------- */

/* Appends a list of networks to the message with the doors. */
static struct range nets_put(struct watches *w, const struct nets *l) {
    struct net *nets = (struct net *)&w->door[w->ndoors];
    struct range r = { w->nnets, l->n };
    for (unsigned i = 0; i < l->n; i++) nets[w->nnets++] = l->net[i];
    return r;
}

/* Makes the message with the doors for the sniffer, to be freed; *bytes long. */
static struct watches *watches_make(const struct conf *c, uint32_t *bytes) {
    size_t nnets = 0;
    for (unsigned i = 0; i < c->ndoors; i++) {
        const struct door *d = &c->doors[i];
        nnets += d->target.n + d->allow.n + d->deny.n;
    }
    size_t n = sizeof(struct watches) + c->ndoors * sizeof(struct watch) +
               nnets * sizeof(struct net) + c->nclients * sizeof(struct key);
    struct watches *w = memset(alloc(NULL, n), 0, n);
    *bytes = (uint32_t)n;
    w->ndoors = c->ndoors;
    w->only_ipv4 = settings.only_ipv4;
    w->debug = settings.debug;
    for (unsigned i = 0; i < c->ndoors; i++) {
        const struct door *d = &c->doors[i];
        struct watch *to = &w->door[i];
        to->seq.n = d->seq.n;
        memcpy(to->seq.knock, d->seq.knock, d->seq.n * sizeof *d->seq.knock);
        to->tcp = d->tcp;
        to->target = nets_put(w, &d->target);
        to->allow = nets_put(w, &d->allow);
        to->deny = nets_put(w, &d->deny);
        to->seq_timeout = d->seq_timeout;
        to->cooldown = d->cooldown;
        to->one_time = d->one_time != NULL;
        to->stray_limit = d->stray_limit;
        to->sealed = d->keys != NULL;
    }
    struct net *nets = (struct net *)&w->door[w->ndoors];
    struct key *keys = (struct key *)&nets[w->nnets];
    w->nkeys = c->nclients;
    for (unsigned i = 0; i < w->nkeys; i++) {
        keys[i].door = c->clients[i].door;
        hmac(&c->clients[i].key, "knock1 id", "", 0, keys[i].of_ids);
    }
    return w;
}

/* In a child of the monitor: becomes the sniffer, a new program with nothing of
 * our memory; without execveat() (qemu-user), a copy of us. */
static void sniffer_exec(const struct monitor *m, int channel) {
    static char name[] = SNIFFER_NAME;
    char *argv[] = { name, NULL }, *none[] = { NULL };
    dup2(channel, CHANNEL_FD);
    dup2(m->packets, PACKETS_FD);
    dup2(m->null, STDERR_FILENO);
    syscall(SYS_execveat, m->exe, "", argv, none, AT_EMPTY_PATH);
    /* TOMOYO looks for /dev/fd, which a bare /dev lacks. */
    if (errno == ENOENT) execve("/proc/self/exe", argv, none);
    if (m->conf.nclients) _exit(KEYS_STATUS); /* it would have the keys */
    close_others(-1, -1, -1);
    sniffer_main();
}

/* Starts a sniffer and tells it what to look for, or turn() tries again.  After
 * a death the socket is new: what is left in the old ring is not read. */
static void sniffer_start(struct monitor *m) {
    struct timeval limit = { SEND_SECONDS, 0 };
    struct order doors = { .kind = NEW_DOORS };
    int ends[2] = { -1, -1 };
    if (m->packets < 0) m->packets = packet_socket();
    if (m->packets >= 0 &&
        !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        m->sniffer = fork();
    if (m->sniffer == 0) sniffer_exec(m, ends[1]);
    int error = m->sniffer < 0 ? errno : 0, before = m->sniffer_error;
    if (ends[1] >= 0) close(ends[1]);
    m->sniffer_again = now_ms() + RETRY_MS;
    m->sniffer_error = error;
    m->bad_record = false;
    m->said = 0;
    if (m->sniffer < 0) {
        if (ends[0] >= 0) close(ends[0]);
        if (error != before)
            say(TROUBLE, "could not start the sniffer: %s", strerror(error));
        if (!m->ready) exit(1);
        return;
    }
    m->channel = ends[0];
    setsockopt(m->channel, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    struct watches *w = watches_make(&m->conf, &doors.bytes);
    order_send(m, &doors, w);
    free(w);
    locals_send(m);
}

/* Ends the sniffer; reads its last events, for DRAIN_MS at most. */
static void sniffer_stop(struct monitor *m) {
    int64_t until = now_ms() + DRAIN_MS;
    struct pollfd fd = { m->channel, POLLIN, 0 };
    shutdown(m->channel, SHUT_WR); /* -1 does no harm */
    while (m->channel >= 0 && now_ms() < until &&
           poll(&fd, 1, DRAIN_MS) > 0 && record_take(m) >= 0) {}
    close(m->channel);
    if (m->sniffer > 0 && !kill(m->sniffer, SIGKILL)) /* if it still runs */
        waitpid(m->sniffer, NULL, 0);
    m->channel = m->sniffer = -1;
}

/* The sniffer has died by itself: another one follows, if it was ever ready. */
static void sniffer_died(struct monitor *m, int status) {
    const char *how = "status", *next = "";
    int number = WEXITSTATUS(status);
    if (m->ready) next = ": starting another";
    if (number == KEYS_STATUS) next = ": Keys need execveat(2)";
    if (WIFSIGNALED(status)) {
        how = "signal";
        number = WTERMSIG(status);
    }
    m->sniffer = -1;
    sniffer_stop(m);
    close(m->packets);
    m->packets = -1;
    say(TROUBLE, "the sniffer died (%s %d)%s", how, number, next);
    if (!m->ready) exit(1);
    if (m->asked) counters_say(m);
}

/* Opens the log, again after SIGHUP.  The configuration's file beats -g's, as
 * in 0.8.  /dev/stdout and /dev/stderr are copied once, since -d closes them. */
static void log_open(struct monitor *m) {
    int how = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
    const char *path = m->conf.logfile;
    if (!path) path = settings.logfile;
    if (!path) path = "";
    bool standard = !strncmp(path, "/dev/std", 8);
    out.use_syslog = m->conf.use_syslog;
    if (standard && !strcmp(path, m->log_path)) return;
    if (*m->log_path && settings.verbose)
        say(OUT, "closing log file: %s", m->log_path);
    int fd = -1;
    if (standard)
        fd = fcntl(path[8] == 'e' ? STDERR_FILENO : STDOUT_FILENO,
                   F_DUPFD_CLOEXEC, 3);
    else if (*path) /* it may be a pipe */
        fd = openat(cwd, path, how | O_NONBLOCK, 0640);
    if (*path && fd < 0) {
        could_not("open log file", path, "");
        if (settings.daemon && !out.started) exit(1);
        if (out.file >= 0) return; /* keep the old one */
    } else if (*path && out.started)
        say(LOG, "re-opening log file: %s", path);
    if (out.file >= 0) close(out.file);
    out.file = fd;
    snprintf(m->log_path, sizeof m->log_path, "%s", path);
}

/* Would the sniffer be told the same?  Not while a sequence is to be sent. */
static bool same_doors(const struct monitor *m, const struct conf *new) {
    uint32_t bytes, new_bytes;
    struct watches *w = watches_make(&m->conf, &bytes);
    struct watches *w_new = watches_make(new, &new_bytes);
    bool same = bytes == new_bytes && !memcmp(w, w_new, bytes);
    free(w);
    free(w_new);
    return same && m->renew_at == NEVER;
}

static bool has_client(const struct conf *c, const struct opening *o) {
    for (unsigned i = 0; i < c->nclients; i++) {
        const struct client *k = &c->clients[i];
        if (strcmp(k->name, o->client)) continue;
        if (!strcmp(c->doors[k->door].name, o->share->name)) return true;
    }
    return false;
}

/* Closes the openings of clients that are not in the configuration c. */
static void clients_remove(struct monitor *m, const struct conf *c) {
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct opening *o = m->buckets[i], *next; o; o = next) {
            next = o->next;
            if (!strcmp(o->client, "-") || has_client(c, o)) continue;
            say_of(o->share, &o->src, CLOSINGS, "%s is not a client any more",
                   o->client);
            opening_close(m, o);
        }
}

/* SIGHUP.  A file with errors changes nothing.  The sniffer stays, with its
 * attempts, if its doors do; else another follows: the ring loses no packet. */
static void reload(struct monitor *m) {
    struct conf new;
    say(LOG, "re-reading config file: %s", settings.config);
    config_load(&new, settings.config);
    sets_review(m, &new);
    bool good = !new.errors;
    if (!good || (!new.ndoors && m->conf.ndoors)) {
        say(TROUBLE, "%s has %s: nothing changes", settings.config,
            good ? "no doors left" : "errors");
        config_free(&new);
        return;
    }
    bool same = same_doors(m, &new);
    if (!same) sniffer_stop(m);
    memories_take(m, &new);
    clients_remove(m, &new);
    config_free(&m->conf);
    m->conf = new;
    for (unsigned i = 0; i < new.ndoors; i++)
        if (new.doors[i].one_time && !same)
            one_time(&new.doors[i], false); /* the old one used it */
    log_open(m);
    namer_start(m);
    locals_changed(m);
    if (!same) sniffer_start(m);
}

/* ---- The monitor's loop ------------------------------------------------- */

static void counters_ask(struct monitor *m) {
    m->asked = true;
    order_send(m, &(struct order){ .kind = COUNT }, NULL);
    if (m->sniffer < 0) counters_say(m);
}

/* Reads all signals that have come.  A second one to end is obeyed at once. */
static void signals_take(struct monitor *m) {
    struct signalfd_siginfo info;
    int status;
    while (read(m->signals, &info, sizeof info) == sizeof info) {
        bool end = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
        if (end) m->until = m->ending ? 0 : now_ms() + SHUTDOWN_MS;
        m->ending |= end;
        if (info.ssi_signo == SIGHUP && !m->ending) reload(m);
        if (info.ssi_signo == SIGUSR1) counters_ask(m);
        if (info.ssi_signo != SIGCHLD) continue;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == m->sniffer) sniffer_died(m, status);
            else if (pid == m->namer) namer_start(m);
            else command_reap(m, pid, status);
    }
}

/* When turn() has something to do, if nothing happens before: ms. */
static int64_t next_wake(const struct monitor *m, int64_t now) {
    int64_t wake = min_ms(m->renew_at, min_ms(out.sum_up, m->until));
    bool waiting = m->n[QUEUED] + m->n[CROWDED] + m->n[DUE] > 0;
    if (m->nopenings) wake = min_ms(wake, m->openings[0]->when);
    if (waiting && m->again > now) wake = min_ms(wake, m->again);
    for (unsigned i = waiting ? m->nchildren : 0; i--;) {
        int64_t old = m->children[i].begun + run_ms(m);
        if (old <= now) break; /* and so are all before it */
        wake = min_ms(wake, old);
    }
    if (m->state.bad) wake = min_ms(wake, m->state.again);
    if (m->locals_old) wake = min_ms(wake, now + RETRY_MS);
    if (m->sniffer < 0) wake = min_ms(wake, m->sniffer_again);
    return wake;
}

/* Sets the timer, whose clock goes on while the machine is suspended. */
static void alarm_set(struct monitor *m, int64_t when) {
    struct itimerspec t = { .it_value = { 0, 0 } }; /* off */
    if (when == m->alarm) return;
    m->alarm = when;
    if (when != NEVER) {
        t.it_value.tv_sec = (time_t)(when / 1000);
        t.it_value.tv_nsec = (long)(when % 1000) * 1000000 + 1;
    }
    timerfd_settime(m->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

/* One turn: everything that is due, then sleep until something happens. */
static void turn(struct monitor *m) {
    enum { SIGNALS, CHANNEL, NETLINK, TIMER, CLOCK, SLOTS };
    static struct pollfd fds[SLOTS + OUTPUTS_MAX];
    int64_t now = now_ms();
    if (now >= out.sum_up) suppressed_say(m);
    openings_due(m, now);
    commands_run(m, now);
    state_write(m, now);
    if (m->locals_old) locals_changed(m);
    if (m->renew_at <= now) sequences_send(m);
    if (m->sniffer < 0 && now >= m->sniffer_again) sniffer_start(m);
    alarm_set(m, next_wake(m, now));
    const int own[SLOTS] = { m->signals, m->channel, m->netlink, m->timer,
                             m->clock };
    for (unsigned i = 0; i < SLOTS; i++)
        fds[i] = (struct pollfd){ own[i], POLLIN, 0 };
    for (unsigned i = 0; i < m->noutputs; i++)
        fds[SLOTS + i] = (struct pollfd){ m->outputs[i].fd, POLLIN, 0 };
    if (poll(fds, SLOTS + m->noutputs, -1) <= 0) return;
    for (unsigned i = m->noutputs; i--;)
        if (fds[SLOTS + i].revents &&
            !output_read(&m->outputs[i], fds[SLOTS + i].revents))
            m->outputs[i] = m->outputs[--m->noutputs];
    for (int i = 0; fds[CHANNEL].revents && i < RECORDS_A_TURN; i++)
        if (record_take(m) < EVENTS_MAX) break;
    if (fds[NETLINK].revents) locals_changed(m);
    uint64_t unused;
    if (fds[CLOCK].revents && read(m->clock, &unused, sizeof unused) < 0) {}
    if (fds[CLOCK].revents) clock_look(m);
    if (fds[SIGNALS].revents) signals_take(m);
}

static void left_open_say(const struct monitor *m) {
    struct text names = { 0 };
    for (const struct share *s = m->shares; s; s = s->next) {
        bool open = s->n[DUE] + s->n[STOPPING] + s->n[FAILED] > 0;
        if (open) text_add(&names, "%s%s", names.n ? ", " : "", s->name);
    }
    const char *next = "the next start of knockd closes them";
    if (!m->state.path || m->state.bad)
        next = "they are not saved: close them by hand";
    say(TROUBLE, "openings not closed in time: %u (%.2000s); %s",
        m->nopenings, names.b, next);
    free(names.b);
}

/* Works until told to end; then runs every stop command.  Returns the status. */
static int run(struct monitor *m) {
    while (!m->ending) turn(m);
    if (settings.verbose) say(OUT, "waiting for child processes...");
    sniffer_stop(m);
    m->sniffer_again = NEVER;
    openings_end(m);
    while (m->nopenings && now_ms() < m->until) turn(m);
    state_write(m, now_ms());
    if (m->nopenings) left_open_say(m);
    say(QUIET, "shutting down");
    if (m->state.path && !m->nopenings) unlinkat(cwd, m->state.path, 0);
    if (m->pid_path) unlinkat(cwd, m->pid_path, 0);
    if (settings.verbose) say(OUT, "closing...");
    return m->nopenings > 0;
}

/* ---- Start -------------------------------------------------------------- */

#define S(field) offsetof(struct settings, field)
static const struct word switches[] = {
    { "interface", "", 'i', IS_TEXT, 0, S(interface), 0 },
    { "config", "", 'c', IS_TEXT, 0, S(config), 0 },
    { "test", "", 't', IS_FLAG, 0, S(test), 0 },
    { "daemon", "", 'd', IS_FLAG, 0, S(daemon), 0 },
    { "pidfile", "", 'p', IS_TEXT, 0, S(pidfile), 0 },
    { "logfile", "", 'g', IS_TEXT, 0, S(logfile), 0 },
    { "lookup", "", 'l', IS_FLAG, 0, S(lookup), 0 },
    { "only-ip-v4", "", '4', IS_FLAG, 0, S(only_ipv4), 0 },
    { "verbose", "", 'v', IS_FLAG, 0, S(verbose), 0 },
    { "debug", "", 'D', IS_FLAG, 0, S(debug), 0 },
    { "status", "", 'S', IS_FLAG, 0, S(status), 0 },
    { "save-mem", "", 's', IS_FLAG, 0, S(save_mem), 0 },
    { "version", "", 'V', IS_FLAG, 0, S(version), 0 },
    { "help", "", 'h', IS_FLAG, 0, S(help), 0 },
};

/* Returns the next option, one of n; optarg is its value.  NULL at the end, or
 * if it is unknown.  *wrong: it is unknown, or its value is missing. */
const struct word *option_next(int argc, char **argv, const struct word *all,
                               size_t n, bool *wrong) {
    struct option names[OPTIONS_MAX + 1] = { 0 }, *name = names;
    char letters[2 * OPTIONS_MAX + 1] = "", *end = letters;
    const struct word *w, *last = all + n;
    for (w = all; w < last; w++) {
        int needs = w->kind == IS_FLAG ? no_argument : required_argument;
        *name++ = (struct option){ w->name, needs, NULL, w->letter };
        end += sprintf(end, needs ? "%c:" : "%c", w->letter);
    }
    int c = getopt_long(argc, argv, letters, names, NULL);
    *wrong = c == '?';
    if (*wrong) c = optopt;
    for (w = all; w < last && w->letter != c;) w++;
    return w < last ? w : NULL;
}

/* Reads the command line.  The first of -V, -h and a wrong option decides. */
static void options(int argc, char **argv) {
    const struct word *w, *s = switches;
    bool wrong;
    while ((w = option_next(argc, argv, s, LENGTH(switches), &wrong)) &&
           !wrong) {
        void *field = (char *)&settings + w->field;
        if (w->kind == IS_FLAG) *(bool *)field = true;
        else *(const char **)field = optarg;
        if (settings.version) exit(print("knockd " VERSION "\n") < 0);
        if (settings.help) exit(print(USAGE) < 0);
    }
    if (!wrong && optind == argc) return;
    if (!wrong) say(TROUBLE, "unexpected operand '%s'", argv[optind]);
    dprintf(STDERR_FILENO, USAGE);
    exit(1);
}

/* Makes permitted capabilities effective (setcap cap_net_raw+p). */
static void raise_capabilities(void) {
    uint32_t head[2] = { CAP_VERSION_3, 0 }, sets[6];
    if (syscall(SYS_capget, head, sets)) return;
    sets[0] = sets[1];
    sets[3] = sets[4];
    syscall(SYS_capset, head, sets);
}

/* -d: forks.  The parent exits with 0 when the daemon is ready, or with 1 if it
 * has ended before; a service manager (sd_notify(3)) would kill the rest. */
static void detach(struct monitor *m) {
    int ends[2];
    char byte;
    if (getenv("NOTIFY_SOCKET")) {
        say(TROUBLE, "warning: -d does not detach under a service manager");
        return;
    }
    pid_t pid = pipe2(ends, O_CLOEXEC) ? -1 : fork();
    if (pid < 0) die("could not detach: %s", strerror(errno));
    close(ends[pid > 0]);
    if (pid > 0) _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
    m->ready_fd = ends[1];
    setsid();
}

/* The name of another file of this daemon, made of the pidfile's without its
 * ".pid", to be freed.  usual: the name with the usual pidfile.  In a directory,
 * dashes replace the slashes of the pidfile's path, and % replaces a dash. */
static char *name_after(const char *pidfile, const char *usual,
                        const char *directory, const char *ending) {
    struct text name = { 0 };
    if (!strcmp(pidfile, PID_PATH)) return copy(usual);
    if (*directory) pidfile += strspn(pidfile, "/");
    size_t n = strlen(pidfile);
    if (n > 4 && !strcmp(pidfile + n - 4, ".pid")) n -= 4;
    text_add(&name, "%s%.*s%s", directory, (int)n, pidfile, ending);
    for (char *c = name.b + strlen(directory); *directory && *c; c++) {
        if (*c == '-') *c = '%';
        if (*c == '/') *c = '-';
    }
    return name.b;
}

/* Does a daemon hold the lock of a pidfile?  A reader's lock means nothing. */
static bool is_locked(int fd) {
    struct flock lock = { .l_type = F_WRLCK };
    return !fcntl(fd, F_GETLK, &lock) && lock.l_type == F_WRLCK;
}

/* Has a file nothing but a number, blanks, or the zeros of a power failure? */
static bool is_pidfile(int fd) {
    static const char usual[] = "0123456789 \t\r\n";
    char text[32];
    ssize_t n = read(fd, text, sizeof text);
    for (ssize_t i = 0; i < n; i++)
        if (!memchr(usual, text[i], sizeof usual)) return false;
    return n < (ssize_t)sizeof text;
}

/* -d: writes the pidfile, locked while we run; another daemon's is left alone.
 * An ordinary user often can't write the default one, and needs none. */
static void pidfile_open(struct monitor *m, const char *path) {
    struct flock lock = { .l_type = F_WRLCK };
    int how = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(cwd, path, how | O_CLOEXEC, 0644);
    if (fd >= 0 && fcntl(fd, F_SETLK, &lock) && is_locked(fd))
        die("another knockd runs with pid file %s: give this one its own "
            "(-p)",
            path);
    bool foreign = fd >= 0 && !is_pidfile(fd);
    if (foreign) die("%s is no pid file: remove it, or use -p", path);
    if (fd >= 0 && !ftruncate(fd, 0) &&
        dprintf(fd, "%d\n", (int)getpid()) > 0) {
        m->pid_path = copy(path);
        return;
    }
    could_not("create pid file", path, "");
    if (strcmp(path, PID_PATH)) exit(1);
}

/* Finds the interfaces; false, with a message, if one does not exist. */
static bool interfaces_find(struct monitor *m) {
    char there[TEXT_MAX / 2] = "";
    struct ifaddrs *all = NULL, *a;
    size_t n = 0;
    if (!locals_read(m, &m->locals, m->waiting_for))
        return say(TROUBLE, "could not read the interfaces: %s",
                   strerror(errno));
    if (!strstr(m->waiting_for, "not exist") &&
        !strstr(m->waiting_for, "too many"))
        return true;
    getifaddrs(&all);
    for (a = all; a && n < sizeof there - 32; a = a->ifa_next)
        if (!a->ifa_addr || a->ifa_addr->sa_family == AF_PACKET)
            n += (size_t)snprintf(there + n, 32, " %s", a->ifa_name);
    freeifaddrs(all);
    return say(TROUBLE, "no such interface: %s; this host has:%s",
               m->waiting_for, there);
}

/* The socket that tells of changes (rtnetlink(7)), then the interfaces. */
static void interfaces_open(struct monitor *m) {
    struct netlink_addr_ group = { AF_NETLINK, 0, 0, RTNL_GROUPS };
    m->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (bind(m->netlink, (void *)&group, sizeof group))
        say(TROUBLE, "warning: changes of interfaces will go unnoticed: %s",
            strerror(errno));
    if (!interfaces_find(m)) exit(1);
}

/* -t: says so if the start can't write this file, or its directory. */
static void file_test(struct monitor *m, const char *path, bool is_error) {
    int how = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    const char *directory = path_beside(&m->conf, path, ".");
    int fd = openat(cwd, path, how);
    bool good = fd >= 0;
    if (good) close(fd);
    else if (errno == ENOENT) good = !access(directory, W_OK);
    if (good) return;
    m->conf.errors += is_error;
    say(TROUBLE, "%scould not write %s: %s",
        is_error ? "" : "warning: ", path, strerror(errno));
}

/* -t: prints the configuration and what would hinder a start; exit status. */
static int test(struct monitor *m) {
    const char *log = m->conf.logfile ? m->conf.logfile : settings.logfile;
    const char *pid = m->conf.pid;
    bool found = interfaces_find(m), good = !m->conf.errors;
    if (found)
        print("# interfaces: %s%s%s\n", m->conf.listen,
              *m->waiting_for ? "; waiting: " : "", m->waiting_for);
    else m->conf.errors++;
    if (good) config_print(&m->conf);
    if (log && strncmp(log, "/dev/std", 8))
        file_test(m, log, settings.daemon);
    if (settings.daemon) file_test(m, pid, strcmp(pid, PID_PATH));
    file_test(m, m->state.path, false);
    const char *stamps = m->stamps.path; /* the start makes their directory */
    if (access(STAMPS_DIR, F_OK)) stamps = STAMPS_DIR;
    if (m->conf.nclients) file_test(m, stamps, false);
    int fd = openat(cwd, pid, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (is_locked(fd)) print("# another knockd runs with pid file %s\n", pid);
    if (settings.daemon && fd >= 0 && !is_pidfile(fd)) {
        m->conf.errors++;
        say(TROUBLE, "%s is no pid file: remove it, or use -p", pid);
    }
    if (fd >= 0) close(fd);
    if (!m->conf.errors) print("# OK\n");
    else say(TROUBLE, "errors: %u", m->conf.errors);
    return m->conf.errors > 0;
}

/* Signals are read from a descriptor, or ignored; commands get the default. */
static void signals_open(struct monitor *m) {
    static const int read[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD };
    short how =
        POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t set;
    for (int i = 1; i < NSIG; i++) signal(i, SIG_DFL); /* undo our caller's */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    posix_spawnattr_init(&m->attr);
    posix_spawnattr_setflags(&m->attr, how);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&m->attr, &set);
    sigaddset(&set, SIGPIPE);
    sigaddset(&set, SIGXFSZ);
    posix_spawnattr_setsigdefault(&m->attr, &set);
    sigemptyset(&set);
    for (size_t i = 0; i < LENGTH(read); i++) sigaddset(&set, read[i]);
    sigprocmask(SIG_SETMASK, &set, NULL);
    m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    m->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    if (m->signals < 0 || m->timer < 0) die("signalfd: %s", strerror(errno));
}

/* /dev/null or, without a /dev, the dead end of a pipe; 0 to 2 are open then. */
static int null_open(void) {
    int ends[2], fd = open("/dev/null", O_RDWR);
    if (fd < 0 && !pipe(ends)) {
        fd = ends[0];
        close(ends[1]);
    }
    while (fd >= 0 && fd < 3) fd = dup(fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static int monitor_main(int argc, char **argv) {
    static struct monitor m; /* all zero: needs no room in the file */
    struct rlimit files;
    m.channel = m.state.fd = m.ready_fd = m.sniffer = m.clock = m.sets = -1;
    m.stamps.fd = -1;
    m.alarm = m.until = NEVER;
    m.null = null_open();
    options(argc, argv);
    raise_capabilities();
    if (!getenv("PATH")) putenv("PATH=" DEFAULT_PATH);
    cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    config_load(&m.conf, settings.config);
    m.state.path = name_after(m.conf.pid, STATE_PATH, "", ".state");
    m.stamps.path =
        name_after(m.conf.pid, STAMPS_PATH, STAMPS_DIR "/", ".stamps");
    if (settings.status) return status(&m);
    /* Sniffers are started from our own file; a chroot may have no /proc. */
    const char *path = (const char *)getauxval(AT_EXECFN);
    m.exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    if (m.exe < 0 && path) m.exe = open(path, O_PATH | O_CLOEXEC);
    close_others(m.null, cwd, m.exe); /* commands must not inherit them */
    sets_review(&m, &m.conf);
    if (settings.test) return test(&m);
    if (m.conf.errors) return 1;
    getrlimit(RLIMIT_NOFILE, &files); /* half of them for commands' outputs */
    if (files.rlim_cur > 64)
        m.most_outputs =
            (unsigned)min_ms((int64_t)(files.rlim_cur / 2), OUTPUTS_MAX);
    mode_t mask = umask(022); /* others can't write commands' files */
    if (mask) umask(mask);
    if (settings.daemon) detach(&m);
    signals_open(&m);
    m.packets = packet_socket();
    const char *needs = "";
    if (errno == EPERM)
        needs = " needs CAP_NET_RAW (start as root, or see capabilities(7))";
    if (m.packets < 0)
        die("opening a packet socket%s: %s", needs, strerror(errno));
    interfaces_open(&m);
    log_open(&m);
    if (settings.daemon) pidfile_open(&m, m.conf.pid);
    sniffer_start(&m);
    out.started = true;
    out.terminal = isatty(settings.verbose ? STDOUT_FILENO : STDERR_FILENO);
    if (getrandom(m.key, sizeof m.key, 0) != sizeof m.key)
        die("getrandom: %s", strerror(errno));
    state_load(&m);
    memories_take(&m, &m.conf);
    clients_remove(&m, &m.conf);
    return run(&m);
}

int main(int argc, char **argv) {
    execed = argc == 1 && !strcmp(*argv, SNIFFER_NAME); /* no file's name */
    if (execed) sniffer_main();
    if (!strcmp(program_invocation_short_name, "knock")) {
        null_open(); /* descriptors 0 to 2 are not a socket's */
        return knock_main(argc, argv);
    }
    return monitor_main(argc, argv);
}
