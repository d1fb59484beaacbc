/*
 * knockd - runs a command for an address that hits the right ports in the
 * right order: port knocking for Linux, in place of knockd 0.8.
 *
 * Two processes.  The sniffer, without any privilege, reads packets from a
 * mapped AF_PACKET ring, parses and matches them and writes a fixed-size event
 * for each finding.  The monitor, its parent, checks every event and does what
 * needs privilege: log, commands, timers, grants, reload, interfaces.
 *
 * From top to bottom, the way of a packet: types, messages, helpers, config;
 * socket, filter, parse, match, the sniffer; then the monitor: commands,
 * grants, state file, one-time files, interfaces, reload, loop; then main.
 *
 * SPDX-License-Identifier: ISC
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

enum { TCP = 6, UDP = 17 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32 };

struct addr { uint8_t b[16]; };     /* IPv4 as ::ffff:a.b.c.d (RFC 4291) */
struct net { struct addr addr; unsigned bits; };        /* of all 128 */
struct knock { uint16_t port, proto; };

struct door {
    const char *name;
    int line;                       /* of [name] in the file */
    struct knock seq[SEQUENCE_MAX];
    unsigned nseq;                  /* 0: no one-time sequence is left */
    unsigned seq_timeout, cmd_timeout, cooldown;        /* seconds */
    unsigned stray_limit;           /* ports; 0 = any number */
    unsigned tcp_want, tcp_forbid;  /* TCPFlags */
    struct addr *target;            /* NULL: the local addresses */
    struct net *allow;              /* NULL: everyone */
    unsigned nallow;
    const char *start, *start6, *stop, *stop6, *message, *one_time;

    /* What the sniffer keeps about it at run time. */
    bool wide;                      /* see index_doors() */
    int64_t quiet_until;            /* ms: cooldown */
    struct { struct addr src; int64_t time; uint32_t interface, mark; } last;
};

/* A configuration as read; the strings point into text. */
struct conf {
    const char *path;
    char *text;
    struct door *doors;
    unsigned ndoors;
    bool use_syslog, allow_duplicates;
    const char *logfile, *pidfile, *interface;
    unsigned stray_limit;
    bool test;                      /* -t: warn, too */
    int line;                       /* being read, and the ... */
    unsigned section, errors;       /* ... OPTIONS or DOOR it is in */
    uint32_t seen;                  /* keywords given in this section */
};

/* Where knocks come in; the sniffer gets it whole when it changes. */
struct locals {
    uint32_t any, ninterfaces, naddrs;
    uint32_t interface[INTERFACES_MAX];
    struct addr addr[ADDRESSES_MAX];                    /* sorted */
};

enum kind {                         /* of an event, sniffer to monitor */
    READY,                          /* value: bits of skipped sandbox steps */
    STAGE, OPEN, TIMEOUT,           /* src, door, stage */
    PACKET,                         /* src; value: -D, see report_packet() */
    SUPPRESSED,                     /* value: events beyond the rate */
    DROPS,                          /* value: packets lost in the kernel */
    COUNTER,                        /* stage: which; value */
    KINDS
};
struct event { uint64_t value; struct addr src; uint32_t door, kind, stage; };

enum { PACKETS, LOST, HITS, ATTEMPTS, EVICTIONS, CANCELLED, OPENS, COUNTERS };

struct order {                      /* monitor to sniffer */
    enum { NEW_LOCALS, NEW_SEQUENCE, TELL_COUNTERS } kind;
    uint32_t door, nseq;
    struct knock seq[SEQUENCE_MAX];
    struct locals locals;
};

/* ---- Messages --------------------------------------------------------- */

enum where { LOG, OUT };            /* log (and -v: stdout); stdout alone */

static struct {
    bool started;                   /* until then all goes to stderr */
    bool detached, verbose, debug, use_syslog;
    int file, syslog, namer;        /* LogFile, /dev/log, -l; or -1 */
} out = { .file = -1, .syslog = -1, .namer = -1 };

/* Writes "<head><text>\n" at once, so that processes don't mix lines. */
static void write_line(int fd, const char *head, const char *text)
{
    char line[TEXT_MAX + 64];
    int n = snprintf(line, sizeof line, "%s%s\n", head, text);
    while (write(fd, line, (size_t)n) < 0 && errno == EINTR)
        ;
}

/* RFC 3164, daemon.notice.  Never blocks: a line that doesn't fit is lost.
 * Connects anew when syslogd was restarted. */
static void write_syslog(const char *date, const char *text)
{
    struct sockaddr_un un = { AF_UNIX, SYSLOG_PATH };
    char line[TEXT_MAX + 64];
    int n = snprintf(line, sizeof line, "<29>%s knockd: %s", date, text);
    for (int i = 0; i < 2; i++) {
        if (out.syslog < 0) {
            out.syslog = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC |
                                SOCK_NONBLOCK, 0);
            connect(out.syslog, (struct sockaddr *)&un, sizeof un);
        }
        if (send(out.syslog, line, (size_t)n, MSG_NOSIGNAL) >= 0 ||
            errno == EAGAIN)
            return;
        close(out.syslog);
        out.syslog = -1;
    }
}

static void write_log(const char *text)
{
    char date[64];
    time_t now = time(NULL);
    struct tm tm = { 0 };
    localtime_r(&now, &tm);
    if (out.verbose)
        write_line(STDOUT_FILENO, "", text);
    if (out.file >= 0 &&
        strftime(date, sizeof date, "[%Y-%m-%d %H:%M] ", &tm))
        write_line(out.file, date, text);
    if (out.use_syslog && strftime(date, sizeof date, "%b %e %H:%M:%S", &tm))
        write_syslog(date, text);
    if (out.file < 0 && !out.use_syslog && !out.detached && !out.verbose)
        write_line(STDERR_FILENO, "", text);
}

/* Says a line.  Control characters (they may come from a command or from the
 * DNS) would forge other lines: they are replaced. */
__attribute__((format(printf, 2, 3)))
static void say(enum where to, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    if (to == OUT)
        write_line(STDOUT_FILENO, "", text);
    else if (!out.started)
        write_line(STDERR_FILENO, "knockd: ", text);
    else if (out.namer < 0 || send(out.namer, text, strlen(text),
                                   MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        write_log(text);
}

#define die(...) (say(LOG, __VA_ARGS__), exit(1))

/* ---- Helpers ---------------------------------------------------------- */

/* Milliseconds that no clock step changes and that go on through a suspend;
 * what the state file holds of them is valid until the next boot. */
static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void *allocate(void *old, size_t bytes)
{
    void *p = realloc(old, bytes);
    if (!p)
        die("out of memory");
    return p;
}

static char *copy(const char *text)
{
    return strcpy(allocate(NULL, strlen(text) + 1), text);
}

static char *trim(char *s)
{
    s += strspn(s, BLANKS);
    char *end = s + strlen(s);
    while (end > s && strchr(BLANKS, end[-1]))
        end--;
    *end = '\0';
    return s;
}

/* The rest of fd as a string, and its length; NULL and errno on error. */
static char *read_all(int fd, size_t *n)
{
    size_t room = 8192;
    char *text = allocate(NULL, room);
    ssize_t got;
    for (*n = 0; (got = read(fd, text + *n, room - *n - 1)) > 0;) {
        *n += (size_t)got;
        if (room - *n < 2)
            text = allocate(text, room *= 2);
    }
    text[*n] = '\0';
    if (got == 0)
        return text;
    free(text);
    return NULL;
}

static const struct addr mapped = { { [10] = 0xff, [11] = 0xff } };

static bool is_v4(const struct addr *a)
{
    return memcmp(a, &mapped, 12) == 0;
}

static struct addr addr_v4(const void *four)
{
    struct addr a = mapped;
    memcpy(a.b + 12, four, 4);
    return a;
}

static int addr_cmp(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct addr));
}

static const char *addr_text(const struct addr *a, char buf[INET6_ADDRSTRLEN])
{
    bool v4 = is_v4(a);
    return inet_ntop(v4 ? AF_INET : AF_INET6, a->b + (v4 ? 12 : 0), buf,
                     INET6_ADDRSTRLEN);
}

static bool addr_parse(const char *text, struct addr *a)
{
    *a = mapped;
    return inet_pton(AF_INET, text, a->b + 12) == 1 ||
           inet_pton(AF_INET6, text, a->b) == 1;
}

/* Can a packet from a be answered?  Not if it is "this network" (iptables
 * reads 0.0.0.0 as everyone), multicast or broadcast (RFC 1122, 3.2.1.3;
 * RFC 4291, 2.7). */
static bool addr_usable(const struct addr *a)
{
    static const struct addr none;
    return is_v4(a) ? a->b[12] != 0 && a->b[12] < 224
                    : a->b[0] != 0xff && addr_cmp(a, &none) != 0;
}

static bool addr_loopback(const struct addr *a)
{
    static const struct addr one = { { [15] = 1 } };
    return is_v4(a) ? a->b[12] == 127 : addr_cmp(a, &one) == 0;
}

/* Does the door exist for this source (Allow)? */
static bool allowed(const struct door *d, const struct addr *src)
{
    for (unsigned i = 0; i < d->nallow; i++) {
        const struct net *n = &d->allow[i];
        unsigned whole = n->bits / 8, rest = n->bits % 8;
        if (memcmp(&n->addr, src, whole) == 0 && (!rest ||
            ((n->addr.b[whole] ^ src->b[whole]) >> (8 - rest)) == 0))
            return true;
    }
    return !d->allow;
}

/* SipHash-2-4 of one address: a hash that nobody without the key can aim
 * (Aumasson and Bernstein, 2012). */
static uint64_t addr_hash(const uint64_t key[2], const struct addr *a)
{
    uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d,
             v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573,
             word[3] = { 0, 0, (uint64_t)sizeof *a << 56 };
#define ROTATE(v, by) (v = v << by | v >> (64 - by))
#define ROUND() (v0 += v1, ROTATE(v1, 13), v1 ^= v0, ROTATE(v0, 32), \
                 v2 += v3, ROTATE(v3, 16), v3 ^= v2, \
                 v0 += v3, ROTATE(v3, 21), v3 ^= v0, \
                 v2 += v1, ROTATE(v1, 17), v1 ^= v2, ROTATE(v2, 32))
    memcpy(word, a, sizeof *a);
    for (int i = 0; i < 3; i++) {
        v3 ^= word[i];
        ROUND(), ROUND();
        v0 ^= word[i];
    }
    v2 ^= 0xff;
    ROUND(), ROUND(), ROUND(), ROUND();
    return v0 ^ v1 ^ v2 ^ v3;
}

/* ---- Configuration ---------------------------------------------------- */

enum { OPTIONS = 1, DOOR = 2 };

#define O(field) offsetof(struct conf, field)
#define D(field) offsetof(struct door, field)
static const struct keyword {
    const char *name, *alias;
    unsigned section;
    enum { FLAG, TEXT, NAMES, COMMAND, NUMBER, PORTS, FLAGS, TARGET, NETS } kind;
    size_t offset;                  /* in the door, or else in the conf */
    unsigned max;
} keywords[] = {
    { "UseSyslog", NULL, OPTIONS | DOOR, FLAG, O(use_syslog), 0 },
    { "AllowDuplicates", "AllowDupes", OPTIONS | DOOR, FLAG,
      O(allow_duplicates), 0 },
    { "LogFile", NULL, OPTIONS, TEXT, O(logfile), 0 },
    { "PidFile", NULL, OPTIONS, TEXT, O(pidfile), 0 },
    { "Interface", NULL, OPTIONS, NAMES, O(interface), 0 },
    { "Stray_Limit", NULL, OPTIONS, NUMBER, O(stray_limit), STRAY_LIMIT_MAX },
    { "Sequence", NULL, DOOR, PORTS, D(seq), 0 },
    { "One_Time_Sequences", NULL, DOOR, TEXT, D(one_time), 0 },
    { "Seq_Timeout", "Timeout", DOOR, NUMBER, D(seq_timeout), SECONDS_MAX },
    { "TCPFlags", NULL, DOOR, FLAGS, 0, 0 },
    { "Target", NULL, DOOR, TARGET, D(target), 0 },
    { "Allow", NULL, DOOR, NETS, D(allow), 0 },
    { "Stray_Limit", NULL, DOOR, NUMBER, D(stray_limit), STRAY_LIMIT_MAX },
    { "Seq_Cooldown", "Cooldown", DOOR, NUMBER, D(cooldown), SECONDS_MAX },
    { "Message", NULL, DOOR, TEXT, D(message), 0 },
    { "Start_Command", "Command", DOOR, COMMAND, D(start), 0 },
    { "Start_Command_6", "Command_6", DOOR, COMMAND, D(start6), 0 },
    { "Cmd_Timeout", NULL, DOOR, NUMBER, D(cmd_timeout), SECONDS_MAX },
    { "Stop_Command", NULL, DOOR, COMMAND, D(stop), 0 },
    { "Stop_Command_6", NULL, DOOR, COMMAND, D(stop6), 0 },
};
#define KEYWORDS (sizeof keywords / sizeof *keywords)

static const char *const flag_names[] = { "fin", "syn", "rst", "psh", "ack",
                                          "urg" };

#define complain(c, at, fmt, ...) \
    say(LOG, "%s:%d: " fmt, (c)->path, at, __VA_ARGS__)
#define wrong(c, ...) ((c)->errors++, complain(c, (c)->line, __VA_ARGS__))
#define warn(c, at, fmt, ...) \
    ((c)->test ? complain(c, at, "warning: " fmt, __VA_ARGS__) : (void)0)

/* Is text a whole decimal number from min to max?  Then *n is it. */
static bool number(const char *text, unsigned min, unsigned max, unsigned *n)
{
    uint64_t value = 0;
    const char *p = text;
    while (isdigit((unsigned char)*p) && value <= max)
        value = value * 10 + (unsigned)(*p++ - '0');
    if (!*text || *p || value < min || value > max)
        return false;
    *n = (unsigned)value;
    return true;
}

/* Reads "port[:protocol], ..." into the door; what follows a second colon is
 * ignored, as in 0.8.  Returns NULL or, in why, what is wrong. */
static const char *sequence(struct door *d, char *text, char why[WHY_MAX])
{
    struct knock seq[SEQUENCE_MAX];
    unsigned n = 0, port = 0;
    for (char *item; (item = strsep(&text, ",")); n++) {
        char *name = trim(strsep(&item, ":")), *proto = strsep(&item, ":");
        bool udp = proto && strcasecmp(proto = trim(proto), "udp") == 0;
        if (n == SEQUENCE_MAX)
            snprintf(why, WHY_MAX, "more than %d ports in a sequence", n);
        else if (!*name)
            snprintf(why, WHY_MAX, "item %u of the sequence is empty", n + 1);
        else if (!number(name, 1, 65535, &port))
            snprintf(why, WHY_MAX, "port '%.40s' is not a number from 1 to "
                     "65535", name);
        else if (proto && !udp && strcasecmp(proto, "tcp") != 0)
            snprintf(why, WHY_MAX, "protocol '%.40s' is neither tcp nor udp",
                     proto);
        else {
            seq[n] = (struct knock){ (uint16_t)port, udp ? UDP : TCP };
            continue;
        }
        return why;
    }
    memcpy(d->seq, seq, n * sizeof *seq);
    d->nseq = n;
    return NULL;
}

static void tcp_flags(struct conf *c, struct door *d, char *text)
{
    for (char *item; (item = strsep(&text, ","));) {
        unsigned i = 0, not = *(item = trim(item)) == '!';
        item = trim(item + not);
        while (i < 6 && strcasecmp(item, flag_names[i]) != 0)
            i++;
        if (i == 6)
            wrong(c, "unknown TCP flag '%.40s'", item);
        else
            *(not ? &d->tcp_forbid : &d->tcp_want) |= 1u << i;
    }
}

static void networks(struct conf *c, struct door *d, char *text)
{
    d->nallow = 0;
    for (char *item; (item = strsep(&text, ","));) {
        char *address = trim(strsep(&item, "/"));
        struct net n = { .bits = 128 };
        if (!addr_parse(address, &n.addr))
            wrong(c, "'%.40s' is not an IPv4 or IPv6 address", address);
        unsigned most = is_v4(&n.addr) ? 32 : 128;
        if (item && !number(item = trim(item), 0, most, &n.bits))
            wrong(c, "'%.40s' is not a number of bits from 0 to %u", item, most);
        else if (item)
            n.bits += 128 - most;
        d->allow = allocate(d->allow, (d->nallow + 1) * sizeof n);
        d->allow[d->nallow++] = n;
    }
}

static void names(struct conf *c, const char *list)
{
    for (size_t n; n = strcspn(list, LIST), n || *list; list += n + !!list[n])
        if (n >= IFNAMSIZ)
            wrong(c, "interface name '%.40s' is longer than %d characters",
                  list, IFNAMSIZ - 1);
}

/* One directive.  value is NULL where the line has no '='. */
static void directive(struct conf *c, const struct keyword *k, char *value)
{
    struct door *d = k->section == DOOR ? &c->doors[c->ndoors - 1] : NULL;
    void *field = (d ? (char *)d : (char *)c) + k->offset;
    char why[WHY_MAX];
    if (!value != (k->kind == FLAG))
        wrong(c, "%s %s", k->name, value ? "takes no value" :
              "needs a value: it stands alone on its line");
    else if (k->kind == FLAG)
        *(bool *)field = true;
    else if (k->kind == NUMBER && !number(value, 0, k->max, field))
        wrong(c, "%s '%.40s' is not a number from 0 to %u", k->name, value,
              k->max);
    else if (k->kind == PORTS && sequence(d, value, why)) {
        wrong(c, "%s", *value ? why : "the sequence is empty");
        d->nseq = 1;                /* not missing, at any rate */
    } else if (k->kind == TARGET) {
        d->target = allocate(d->target, sizeof *d->target);
        if (!addr_parse(value, d->target))
            wrong(c, "Target '%.60s' is not an IPv4 or IPv6 address", value);
    } else if (k->kind == FLAGS)
        tcp_flags(c, d, value);
    else if (k->kind == NETS)
        networks(c, d, value);
    else if (k->kind <= COMMAND) {
        if (!*value && k->kind != COMMAND)
            wrong(c, "%s is empty", k->name);
        if (k->kind == NAMES)
            names(c, value);
        *(char **)field = value;
    }
}

/* -t: what 0.8 accepts too and its owner may not have meant. */
static void review(struct conf *c, const struct door *d)
{
    const char *start = d->start ? d->start : "";
    unsigned up = 0, down = 0;
    for (unsigned i = 1; i < d->nseq; i++) {
        up += d->seq[i].port > d->seq[i - 1].port;
        down += d->seq[i].port < d->seq[i - 1].port;
    }
    if (d->nseq > 1 && (up == d->nseq - 1 || down == d->nseq - 1))
        warn(c, d->line, "the ports of door '%s' stand in %s order, as scanners "
             "try them: mix them", d->name, up ? "ascending" : "descending");
    if (d->nseq == 3 && d->seq[1].port == 8000 && d->seq[0].port % 2000 == 1000
        && d->seq[2].port % 2000 == 1000)
        warn(c, d->line, "everyone knows the sequence of door '%s' from the "
             "manuals: take another", d->name);
    if (d->nseq && d->nseq < 3 && !d->one_time)
        warn(c, d->line, "door '%s' has fewer than 3 ports", d->name);
    if (!*start && !d->start6)
        warn(c, d->line, "door '%s' has no command: it only logs", d->name);
    else if (*start && !strstr(start, "%IP%"))
        warn(c, d->line, "the command of door '%s' lacks %%IP%%: it opens for "
             "everyone", d->name);
    if (d->stop && d->cmd_timeout == UINT_MAX)
        warn(c, d->line, "door '%s' has a Stop_Command, but no Cmd_Timeout: it "
             "runs after %d s", d->name, CMD_TIMEOUT);
    if (*start && !d->stop && !strstr(start, "-D") && !strstr(start, "delete"))
        warn(c, d->line, "door '%s' has no Stop_Command: something else must "
             "close it", d->name);
    if (strstr(start, "tables -A"))
        warn(c, d->line, "door '%s' appends its rule behind those that reject: "
             "-I is meant?", d->name);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(start, BLANKS), start);
    if (*path == '/' && access(path, X_OK) != 0)
        warn(c, d->line, "door '%s': %.200s: %s", d->name, path, strerror(errno));
}

/* What can only be said of a section at its end. */
static void section_end(struct conf *c)
{
    struct door *d = &c->doors[c->ndoors - 1];
    if (c->section != DOOR)
        return;
    c->line = d->line;
    if (!d->one_time && d->nseq == 0)
        wrong(c, "door '%s' has no sequence", d->name);
    if (d->seq_timeout == 0 && d->nseq > 1)
        wrong(c, "Seq_Timeout 0 leaves door '%s' no time", d->name);
    review(c, d);
    if (d->cmd_timeout == UINT_MAX)
        d->cmd_timeout = CMD_TIMEOUT;
}

static void section(struct conf *c, char *line, int at)
{
    char *end = strrchr(line, ']'), *name = line + 1;
    section_end(c);
    c->line = at;
    c->seen = 0;
    if (!end || end[1])
        wrong(c, "bad section line '%.40s'", line);
    else
        *end = '\0';
    if (!*(name = trim(name)) || strlen(name) > NAME_LENGTH_MAX)
        wrong(c, "a section name has 1 to %d characters", NAME_LENGTH_MAX);
    c->section = strcasecmp(name, "options") == 0 ? OPTIONS : DOOR;
    if (c->section == OPTIONS)
        return;
    for (unsigned i = 0; c->test && i < c->ndoors; i++)
        if (strcmp(c->doors[i].name, name) == 0)
            warn(c, at, "there is a door '%s' at line %d already", name,
                 c->doors[i].line);
    if ((c->ndoors & (c->ndoors - 1)) == 0)
        c->doors = allocate(c->doors, (c->ndoors * 2 + 1) * sizeof(struct door));
    c->doors[c->ndoors++] = (struct door){
        .name = name, .line = at, .seq_timeout = SEQ_TIMEOUT,
        .cmd_timeout = UINT_MAX, .stray_limit = UINT_MAX };
}

/* One line of the file.  A comment after white space ends every value but a
 * command, which may well need its '#'. */
static void config_line(struct conf *c, char *line, int at)
{
    const struct keyword *k = NULL;
    char *hash = line, *value;
    c->line = at;
    line = trim(line);
    if (!*line || *line == '#')
        return;
    while ((hash = strchr(hash + 1, '#')) && !strchr(BLANKS, hash[-1]))
        ;
    value = strchr(line, '=');
    if (hash && (!value || hash < value))
        *hash = '\0', value = NULL;
    if (*line == '[') {
        section(c, line, at);
        return;
    }
    if (value)
        *value++ = '\0';
    line = trim(line);
    for (unsigned i = 0; i < KEYWORDS; i++)
        if ((strcasecmp(line, keywords[i].name) == 0 || (keywords[i].alias &&
             strcasecmp(line, keywords[i].alias) == 0)) &&
            (!k || keywords[i].section & c->section))
            k = &keywords[i];
    if (!k)
        wrong(c, "%s '%.40s'", value ? "unknown directive" :
              "syntax error: unknown word", line);
    else if (!c->section)
        wrong(c, "'%.40s' stands before the first [section]", line);
    else if (!(k->section & c->section))
        wrong(c, "'%.40s' belongs in %s", line, k->section == DOOR ?
              "a door, not in [options]" : "[options], not in a door");
    else {
        uint32_t bit = 1u << (k - keywords);
        if (c->seen & bit && k->kind != FLAGS)
            warn(c, at, "%s is given again: the last one counts", k->name);
        c->seen |= bit;
        if (hash && value && k->kind != COMMAND)
            *hash = '\0';
        directive(c, k, value ? trim(value) : NULL);
    }
}

static void config_free(struct conf *c)
{
    for (unsigned i = 0; i < c->ndoors; i++) {
        free(c->doors[i].target);
        free(c->doors[i].allow);
    }
    free(c->doors);
    free(c->text);
}

/* Takes the first sequence of the door's one-time file (seen from the directory
 * dir) as the door's own; with spend, the one it has is marked as used before,
 * durably.  Returns how many are left: 0 disables the door, as does -1, when
 * the file can't be used (why is said). */
static int one_time(struct conf *c, struct door *d, int dir, bool spend)
{
    int fd = openat(dir, d->one_time, (c->test ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    int left = fd < 0 ? -1 : 0, at = 0;
    struct door old = *d, next = *d;
    size_t n, length;
    char *text = fd < 0 ? NULL : read_all(fd, &n), why[WHY_MAX];
    d->nseq = 0;
    if (!text) {
        say(LOG, "door %s: one-time file %s: %s", d->name, d->one_time,
            strerror(errno));
        left = -1;
    }
    for (char *p = text; p && *p; p += length + (p[length] != '\0')) {
        length = strcspn(p, "\n");
        char *line = strndup(p, length), *item = line ? trim(line) : NULL;
        at++;
        if (!item || !*item || *item == '#')
            ;
        else if (sequence(&next, item, why))
            say(LOG, "%s:%d: %s", d->one_time, at, why);
        else if (spend && next.nseq == old.nseq && memcmp(next.seq, old.seq,
                 sizeof *next.seq * next.nseq) == 0) {
            /* A blank makes room for the mark, or else the rest moves. */
            bool blank = *p == ' ' || *p == '\t';
            char *rest = p + blank;
            spend = pwrite(fd, "#", 1, p - text) != 1 || (!blank && pwrite(fd,
                    rest, strlen(rest), p + 1 - text) < 0) || fsync(fd) != 0;
        } else if (left++ == 0) {
            memcpy(d->seq, next.seq, sizeof d->seq);
            d->nseq = next.nseq;
        }
        free(line);
    }
    if (spend) {
        say(LOG, "door %s: can't mark the sequence as used in %s: disabling the "
            "door", d->name, d->one_time);
        d->nseq = 0;
    } else if (left == 0)
        say(LOG, "no more sequences left in the one time sequences file for door"
            " %s --> disabling the door", d->name);
    free(text);
    if (fd >= 0)
        close(fd);
    return left;
}

/* Reads the file at path, seen from the directory dir, into c.  Says all that
 * is wrong with it, and with test what is doubtful; false if anything is. */
static bool config_load(struct conf *c, int dir, const char *path, bool test)
{
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC), at = 0;
    struct stat st = { 0 };
    size_t n = 0;
    *c = (struct conf){ .path = path, .test = test, .stray_limit = STRAY_LIMIT };
    char *next = c->text = fd < 0 ? NULL : read_all(fd, &n);
    if (!next) {
        say(LOG, "could not open %s: %s", path, strerror(errno));
        c->errors = 1;
    } else if (strlen(next) != n) {
        wrong(c, "byte %zu is 0: this is no text file", strlen(next));
        next = NULL;
    }
    if (fd >= 0) {
        fstat(fd, &st);
        close(fd);
    }
    if (st.st_mode & S_IROTH)
        warn(c, 1, "everyone may read this file: chmod 600 %s", path);
    if (next && strncmp(next, "\xef\xbb\xbf", 3) == 0)
        next += 3;                  /* byte order mark (RFC 3629) */
    while (next)
        config_line(c, strsep(&next, "\n"), ++at);
    section_end(c);
    for (unsigned i = 0; i < c->ndoors; i++) {
        struct door *d = &c->doors[i];
        if (d->stray_limit == UINT_MAX)
            d->stray_limit = c->stray_limit;
        if (d->one_time && one_time(c, d, dir, false) < 0)
            c->errors++;
    }
    if (c->ndoors == 0 && !c->errors)
        warn(c, at, "no door in %s", path);
    return c->errors == 0;
}

/* Prints a list's item with what must stand before it. */
#define LIST_ITEM(first, ...) (printf("%s", (first) ? " = " : ","), \
                               printf(__VA_ARGS__))

/* -t: prints one directive as understood, in the file's own language. */
static void print_directive(const struct keyword *k, const struct conf *c,
                            const struct door *d)
{
    const void *field = (d ? (const char *)d : (const char *)c) + k->offset;
    const char *text = k->kind <= COMMAND && k->kind != FLAG ?
                       *(const char *const *)field : NULL;
    char buf[INET6_ADDRSTRLEN];
    if (k->kind == FLAG ? !*(const bool *)field : k->kind <= COMMAND ? !text :
        k->kind == PORTS ? !!d->one_time : k->kind == TARGET ? !d->target :
        k->kind == FLAGS ? !(d->tcp_want | d->tcp_forbid) :
        k->kind == NETS && !d->allow)
        return;
    printf("%s", k->name);
    if (text)
        printf(" = %s", text);
    else if (k->kind == NUMBER)
        printf(" = %u", *(const unsigned *)field);
    else if (k->kind == TARGET)
        printf(" = %s", addr_text(d->target, buf));
    for (unsigned i = 0; k->kind == PORTS && i < d->nseq; i++)
        LIST_ITEM(i == 0, "%u%s", d->seq[i].port,
                  d->seq[i].proto == UDP ? ":udp" : "");
    for (unsigned i = 0, n = 0; k->kind == FLAGS && i < 12; i++)
        if ((i < 6 ? d->tcp_want : d->tcp_forbid) >> i % 6 & 1)
            LIST_ITEM(n++ == 0, "%s%s", i < 6 ? "" : "!", flag_names[i % 6]);
    for (unsigned i = 0; k->kind == NETS && i < d->nallow; i++)
        LIST_ITEM(i == 0, "%s/%u", addr_text(&d->allow[i].addr, buf),
                  d->allow[i].bits - (is_v4(&d->allow[i].addr) ? 96 : 0));
    printf("\n");
}

static void config_print(const struct conf *c)
{
    for (unsigned i = 0; i <= c->ndoors; i++) {
        const struct door *d = i ? &c->doors[i - 1] : NULL;
        printf("%s[%s]\n", d ? "\n" : "", d ? d->name : "options");
        for (unsigned j = 0; j < KEYWORDS; j++)
            if (d ? keywords[j].section == DOOR : keywords[j].section & OPTIONS)
                print_directive(&keywords[j], c, d);
    }
}

/* ---- Socket and kernel filter ----------------------------------------- */

struct attempt {                    /* one source's way to one door */
    struct addr src;
    uint64_t strays;                /* set of ports, hashed to 64 */
    int64_t deadline;               /* ms */
    uint32_t door;
    uint32_t next;                  /* in its bucket: by source, then door */
    uint32_t older, newer;          /* in its stage */
    uint16_t mark[SEQUENCE_MAX];    /* of each packet accepted: mark_of() */
    uint8_t stage;                  /* knocks accepted; 0 = free */
};

struct sniffer {
    struct conf *conf;
    struct locals locals;
    int packets, channel;           /* descriptors */
    bool only_v4, debug, resting;
    int64_t now;                    /* ms, once a turn */
    uint8_t *ring;
    uint32_t ring_at, burst, empty; /* see ring_read() */
    int64_t burst_start;

    uint8_t known[2][8192];         /* ports of doors: TCP, UDP */
    uint8_t bulk[2][8192];          /* ... that bulk packets can knock on */
    struct first { uint32_t key, door; } *firsts; /* sorted first knocks */
    uint32_t nfirsts;
    struct addr targets[FILTER_ADDRS_MAX];
    uint32_t ntargets;

    uint64_t key[2];                /* of addr_hash() */
    struct attempt *attempts;       /* 1 to ATTEMPTS_MAX; 0 means none */
    uint32_t *buckets;
    uint32_t unused, used;          /* list of free ones; highest ever used */
    uint32_t active, advanced;      /* of stage 1 up, of stage 2 up */
    struct { uint32_t oldest, newest; } stages[SEQUENCE_MAX + 1];
    int64_t next_expiry, last_expiry;

    struct { struct addr addr; uint32_t attempts; } wide[FILTER_SOURCES_MAX];
    uint32_t nwide, unlisted;       /* attempts at wide doors, by source */

    int64_t second;                 /* ms: start of the one counted here */
    uint32_t lines[KINDS], suppressed;
    uint64_t counters[COUNTERS];
};

/* A program of classic BPF, made from its end to its start: what a jump
 * leads to stands already, so a label is simply an index. */
struct program {
    struct bpf_insn_ code[FILTER_MAX];
    unsigned at;
};

/* Puts an instruction before the others.  yes and no: where a test leads, or
 * yes: a JA.  A test reaches 255 instructions, a JA any.  Returns its label. */
static unsigned put(struct program *p, unsigned code, uint32_t k, unsigned yes,
                    unsigned no)
{
    bool test = code == JEQ || code == JGE || code == JSET;
    if (test && yes - p->at > 250)
        yes = put(p, JA, 0, yes, 0);
    if (test && no - p->at > 250)
        no = put(p, JA, 0, no, 0);
    p->at--;
    p->code[p->at] = (struct bpf_insn_){ (uint16_t)code,
        (uint8_t)(test ? yes - p->at - 1 : 0),
        (uint8_t)(test ? no - p->at - 1 : 0),
        code == JA ? yes - p->at - 1 : k };
    return p->at;
}

/* An instruction that is no jump, and then on to next. */
static unsigned load(struct program *p, unsigned code, int k, unsigned next)
{
    if (next != p->at)
        put(p, JA, 0, next, 0);
    return put(p, code, (uint32_t)k, 0, 0);
}

static bool has(const uint8_t set[8192], unsigned port)
{
    return set[port >> 3] >> (port & 7) & 1;
}

/* The port ranges of set as a sorted list of where they begin and end.  If
 * they are too many the smallest gaps are closed: the parser tests again. */
static unsigned range_edges(const uint8_t set[8192], uint32_t *edge)
{
    for (unsigned gap = 0, n = 0;; gap = gap * 2 + 1, n = 0) {
        for (unsigned port = 0; port < 65536 && n <= FILTER_EDGES_MAX - 2; port++)
            if (!has(set, port))
                continue;
            else if (n && port - edge[n - 1] <= gap)
                edge[n - 1] = port + 1;
            else {
                edge[n++] = port;
                edge[n++] = port + 1;
            }
        if (n <= FILTER_EDGES_MAX - 2)
            return n;
    }
}

/* Binary search for A among edge[low..high-1]: an odd number of edges at or
 * below A means that it is in the set.  yes and no may become nearer. */
static unsigned search(struct program *p, const uint32_t *edge, unsigned low,
                       unsigned high, unsigned *yes, unsigned *no)
{
    if (low == high) {
        unsigned *label = low & 1 ? yes : no;
        if (*label - p->at > 200)
            *label = put(p, JA, 0, *label, 0);
        return *label;
    }
    unsigned middle = (low + high) / 2;
    unsigned above = search(p, edge, middle + 1, high, yes, no);
    unsigned below = search(p, edge, low, middle, yes, no);
    return put(p, JGE, edge[middle], above, below);
}

/* Is the IP header's address (source or destination) among n, step bytes
 * apart?  The two headers have them at offset 12 or 16 and 8 or 24. */
static unsigned among(struct program *p, bool source, const struct addr *a,
                      size_t step, unsigned n, unsigned yes, unsigned no)
{
    unsigned next[2] = { no, no };  /* IPv6, IPv4 */
    if (n == 0)
        return no;
    for (; n--; a = (const struct addr *)((const char *)a + step)) {
        bool v4 = is_v4(a);
        unsigned hit = yes;
        for (int word = 3; word >= (v4 ? 3 : 0); word--) {
            uint32_t k;
            memcpy(&k, a->b + 4 * word, 4);
            hit = put(p, JEQ, ntohl(k), hit, next[v4]);
            hit = load(p, LD_W, v4 ? (source ? 12 : 16) :
                       (source ? 8 : 24) + 4 * word, hit);
        }
        next[v4] = hit;
    }
    return load(p, LD_W, AD_PROTOCOL,
                put(p, JEQ, ETHERTYPE_V4, next[1], next[0]));
}

/* TCP and UDP over either header, X bytes long: attempts to connect and probes
 * (no ACK, or SYN) go to pass; bulk (the rest) only to ports that it can knock
 * on.  The rest of it goes to wide. */
static void transport(struct program *p, const struct sniffer *s, unsigned pass,
                      unsigned wide, unsigned *tcp, unsigned *udp)
{
    uint32_t edge[FILTER_EDGES_MAX];
    unsigned yes = pass, no = wide, n = range_edges(s->bulk[1], edge);
    *udp = load(p, LD_HX, 2, search(p, edge, 0, n, &yes, &no));
    n = range_edges(s->bulk[0], edge);
    *tcp = load(p, LD_HX, 2, search(p, edge, 0, n, &yes, &no));
    *tcp = put(p, JSET, ACK, put(p, JSET, SYN, pass, *tcp), pass);
    *tcp = load(p, LD_BX, 13, *tcp);
}

/* Makes and attaches the filter: what can't matter is thrown away here, before
 * it costs a wake-up.  One look-up in a search tree, whatever the number of
 * doors.  It may let too much through (the parser tests again), never less. */
static void filter_attach(const struct sniffer *s)
{
    static const uint8_t headers6[] = { 0, 43, 44, 51, 60, 135, 139, 140 };
    static struct program p;
    const struct locals *l = &s->locals;
    unsigned tcp, udp, wide, v6, vlan;
    p.at = FILTER_MAX;
    unsigned drop = put(&p, RET, 0, 0, 0), take = put(&p, RET, 0xffff, 0, 0);
    unsigned to = take;
    if (l->naddrs <= FILTER_ADDRS_MAX && s->ntargets < FILTER_ADDRS_MAX)
        to = among(&p, false, l->addr, sizeof *l->addr, l->naddrs, take,
                   among(&p, false, s->targets, sizeof *s->targets, s->ntargets,
                         take, drop));
    wide = s->unlisted ? to : among(&p, true, &s->wide->addr, sizeof *s->wide,
                                    s->nwide, to, drop);
    transport(&p, s, to, wide, &tcp, &udp);
    v6 = drop;
    for (unsigned i = 0; i < sizeof headers6; i++)
        v6 = put(&p, JEQ, headers6[i], to, v6);
    v6 = put(&p, JEQ, UDP, udp, put(&p, JEQ, TCP, tcp, v6));
    v6 = load(&p, LDX_IMM, 40, load(&p, LD_B, 6, v6));
    unsigned v4 = put(&p, JEQ, UDP, udp, put(&p, JEQ, TCP, tcp, drop));
    v4 = put(&p, JSET, 0x1fff, drop, load(&p, LD_B, 9, v4)); /* a fragment */
    v4 = load(&p, LDX_IHL, 0, load(&p, LD_H, 6, v4));
    unsigned ip = put(&p, JEQ, ETHERTYPE_V6, s->only_v4 ? drop : v6, drop);
    ip = load(&p, LD_W, AD_PROTOCOL, put(&p, JEQ, ETHERTYPE_V4, v4, ip));
    vlan = load(&p, AND, 0xfff, put(&p, JEQ, 0, ip, drop));
    vlan = load(&p, LD_W, AD_VLAN_TAG, vlan);
    ip = load(&p, LD_W, AD_VLAN_PRESENT, put(&p, JEQ, 0, ip, vlan));
    unsigned in = drop;
    for (unsigned i = 0; i < l->ninterfaces; i++)
        in = put(&p, JEQ, l->interface[i], ip, in);
    in = l->any ? load(&p, LD_W, AD_HATYPE, put(&p, JEQ, HATYPE_LOOPBACK, drop,
                                                ip))
                : load(&p, LD_W, AD_IFINDEX, in);
    load(&p, LD_W, AD_PKTTYPE, put(&p, JGE, PKTTYPE_OTHERHOST, drop, in));
    struct bpf_prog_ prog = { (uint16_t)(FILTER_MAX - p.at), p.code + p.at };
    setsockopt(s->packets, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

/* A packet socket for every interface, with a ring, that takes nothing until
 * the sniffer sets its filter.  Protocol 0 first, so that nothing is queued
 * before that.  SOCK_DGRAM: offset 0 is the IP header on every link type
 * (packet(7)).  Ends the program if there is none to be had. */
static int packet_socket(void)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int version = TPACKET_V2_, yes = 1;
    struct tpacket_req_ ring = { BLOCK_BYTES, FRAMES * FRAME_BYTES / BLOCK_BYTES,
                                 FRAME_BYTES, FRAMES };
    struct bpf_insn_ none = { RET, 0, 0, 0 };
    struct bpf_prog_ prog = { 1, &none };
    struct sockaddr_ll all = { .sll_family = AF_PACKET,
                               .sll_protocol = htons(ETHERTYPE_ALL) };
    if (fd < 0 && errno == EPERM)
        die("opening a packet socket needs CAP_NET_RAW (be root, or see "
            "capabilities(7))");
    if (fd < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) ||
        setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog))
        die("opening a packet socket: %s", strerror(errno));
    /* Since Linux 4.20; before, the filter throws them away by their type. */
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&all, sizeof all))
        die("binding the packet socket: %s", strerror(errno));
    return fd;
}

/* ---- Parse ------------------------------------------------------------ */

struct packet {
    struct addr src, dst;
    uint16_t sport, dport, proto;
    uint8_t flags;                  /* of TCP */
    bool bulk;                      /* UDP, and TCP with ACK and without SYN */
    uint16_t mark;                  /* a retransmission has the same */
    uint32_t interface, bytes;
};

static unsigned get16(const uint8_t *b)
{
    return (unsigned)b[0] << 8 | b[1];
}

/* TCP (RFC 9293) or UDP (RFC 768): n bytes captured at b, of claim that the IP
 * header promises; in a first fragment UDP's own length may be more. */
static bool parse_transport(const uint8_t *b, size_t n, size_t claim, bool part,
                            struct packet *p)
{
    uint32_t id;
    if (n < (p->proto == TCP ? 20 : 8))
        return false;
    p->sport = (uint16_t)get16(b);
    p->dport = (uint16_t)get16(b + 2);
    if (p->proto == TCP) {
        size_t header = (size_t)(b[12] >> 4) * 4;
        if (header < 20 || header > claim)
            return false;
        p->flags = b[13];
        p->bulk = (b[13] & (ACK | SYN)) == ACK;
        id = get16(b + 4) ^ get16(b + 6) * 0x9e37;      /* sequence number */
    } else {
        if (get16(b + 4) < 8 || (get16(b + 4) > claim && !part))
            return false;
        p->flags = 0;
        p->bulk = true;
        id = get16(b + 6) ^ get16(b + 4);               /* checksum, length */
    }
    p->mark = (uint16_t)(id ^ id >> 16 ^ p->sport * 0x85ebu ^ p->mark);
    return true;
}

/* IPv6 (RFC 8200): walks at most 8 extension headers. */
static bool parse_v6(const uint8_t *b, size_t n, size_t wire, struct packet *p)
{
    if (n < 40 || 40 + get16(b + 4) > wire)
        return false;
    size_t end = 40 + get16(b + 4), at = 40;
    bool part = false;
    memcpy(&p->src, b + 8, 16);
    memcpy(&p->dst, b + 24, 16);
    for (unsigned next = b[6], i = 0; i <= 8; i++) {
        if (at + 8 > end || at + 8 > n)
            return false;
        const uint8_t *h = b + at;
        p->proto = (uint16_t)next;
        switch (next) {
        case TCP: case UDP:
            return !is_v4(&p->src) &&   /* forged: ::ffff:0:0/96 */
                   parse_transport(h, (n < end ? n : end) - at, end - at, part, p);
        case 43:                        /* routing: is it for us? */
            if (h[3] != 0)
                return false;
            /* fall through */
        case 0: case 60: case 135: case 139: case 140:
            at += (size_t)(h[1] + 1) * 8;
            break;
        case 44:                        /* fragment: the first only */
            if (get16(h + 2) & 0xfff8)
                return false;
            part = h[3] & 1;
            at += 8;
            break;
        case 51:                        /* authentication (RFC 4302) */
            at += (size_t)(h[1] + 2) * 4;
            break;
        default:
            return false;
        }
        next = h[0];
    }
    return false;
}

/* Takes n captured bytes of a packet that was wire bytes long.  False if it is
 * not TCP or UDP, a later fragment, cut short, or claims what it does not
 * hold: every length is checked against what is there and what was said. */
static bool parse(const uint8_t *b, size_t n, size_t wire, struct packet *p)
{
    p->mark = 0;
    if (n > 0 && b[0] >> 4 == 6)
        return parse_v6(b, n, wire, p) && addr_usable(&p->src);
    if (n < 20 || b[0] >> 4 != 4)
        return false;
    size_t header = (size_t)(b[0] & 15) * 4, end = get16(b + 2); /* RFC 791 */
    p->proto = b[9];
    p->src = addr_v4(b + 12);
    p->dst = addr_v4(b + 16);
    if (header < 20 || header > n || end < header || end > wire ||
        get16(b + 6) & 0x1fff || (p->proto != TCP && p->proto != UDP) ||
        !addr_usable(&p->src))
        return false;
    p->mark = p->proto == UDP ? (uint16_t)get16(b + 4) : 0; /* identification */
    return parse_transport(b + header, (n < end ? n : end) - header, end - header,
                           b[6] & 0x20, p);
}

/* ---- Match ------------------------------------------------------------ */

static uint32_t key_of(unsigned proto, unsigned port)
{
    return proto << 16 | port;
}

static int first_cmp(const void *a, const void *b)
{
    const struct first *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1)
                            : (x->door < y->door ? -1 : x->door > y->door);
}

/* What is looked up for each packet, made from the doors.  A door is wide if
 * bulk packets can knock on it: with UDP, or with flags that ACK may fit. */
static void index_doors(struct sniffer *s)
{
    memset(s->known, 0, sizeof s->known);
    memset(s->bulk, 0, sizeof s->bulk);
    s->nfirsts = s->ntargets = 0;
    for (unsigned i = 0; i < s->conf->ndoors; i++) {
        struct door *d = &s->conf->doors[i];
        bool tcp = !(d->tcp_want & SYN) && !(d->tcp_forbid & ACK);
        d->wide = false;
        for (const struct knock *k = d->seq; k < d->seq + d->nseq; k++) {
            uint8_t bit = (uint8_t)(1 << (k->port & 7));
            s->known[k->proto == UDP][k->port >> 3] |= bit;
            if (tcp || k->proto == UDP) {
                s->bulk[k->proto == UDP][k->port >> 3] |= bit;
                d->wide = true;
            }
        }
        if (d->nseq)
            s->firsts[s->nfirsts++] =
                (struct first){ key_of(d->seq->proto, d->seq->port), i };
        if (d->target && s->ntargets < FILTER_ADDRS_MAX)
            s->targets[s->ntargets++] = *d->target;
    }
    qsort(s->firsts, s->nfirsts, sizeof *s->firsts, first_cmp);
}

static void tell(struct sniffer *s, enum kind kind, uint32_t door,
                 unsigned stage, const struct addr *src, uint64_t value)
{
    struct event e = { value, src ? *src : mapped, door, kind, stage };
    if (kind == STAGE || kind == TIMEOUT || kind == PACKET) {
        if (s->lines[kind]++ >= LINES_PER_SECOND) {
            s->suppressed++;
            return;
        }
    }
    if (write(s->channel, &e, sizeof e) != sizeof e)
        _exit(1);                   /* the monitor is gone */
}

/* Adds an attempt of src at a wide door, or takes one (by: 1, -1): the filter
 * must show all that these sources send, or it would hide their strays. */
static void wide_source(struct sniffer *s, const struct addr *src, int by)
{
    unsigned i = 0;
    while (i < s->nwide && addr_cmp(&s->wide[i].addr, src) != 0)
        i++;
    if (i < s->nwide || (by > 0 && i < FILTER_SOURCES_MAX)) {
        bool fresh = i == s->nwide;
        if (fresh) {
            s->wide[s->nwide++].addr = *src;
            s->wide[i].attempts = 0;
        }
        s->wide[i].attempts += (uint32_t)by;
        if (s->wide[i].attempts == 0)
            s->wide[i] = s->wide[--s->nwide];
        else if (!fresh)
            return;
    } else if ((s->unlisted += (uint32_t)by) != (by > 0))
        return;
    filter_attach(s);
}

/* The place of a first knock among the sorted ones. */
static uint32_t first_at(const struct sniffer *s, uint32_t key)
{
    uint32_t low = 0, high = s->nfirsts;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->firsts[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t *bucket(struct sniffer *s, const struct addr *src)
{
    return &s->buckets[addr_hash(s->key, src) % ATTEMPTS_MAX];
}

/* Every change of an attempt's stage: to 1 it begins, to 0 it is over. */
static void attempt_move(struct sniffer *s, uint32_t i, unsigned stage)
{
    struct attempt *a = &s->attempts[i];
    bool wide = s->conf->doors[a->door].wide;
    if (a->stage) {
        *(a->older ? &s->attempts[a->older].newer :
          &s->stages[a->stage].oldest) = a->newer;
        *(a->newer ? &s->attempts[a->newer].older :
          &s->stages[a->stage].newest) = a->older;
    }
    s->active += (uint32_t)(stage > 0) - (a->stage > 0);
    s->advanced += (uint32_t)(stage > 1) - (a->stage > 1);
    if (wide && !stage != !a->stage)
        wide_source(s, &a->src, stage ? 1 : -1);
    a->stage = (uint8_t)stage;
    if (stage) {
        uint32_t *newest = &s->stages[stage].newest;
        a->older = *newest;
        a->newer = 0;
        *(*newest ? &s->attempts[*newest].newer : &s->stages[stage].oldest) = i;
        *newest = i;
    } else {
        uint32_t *link = bucket(s, &a->src);
        while (*link != i)
            link = &s->attempts[*link].next;
        *link = a->next;
        a->next = s->unused;
        s->unused = i;
    }
}

/* Ends the oldest attempt of the lowest stage not below the given one. */
static void evict(struct sniffer *s, unsigned stage)
{
    while (stage < SEQUENCE_MAX && !s->stages[stage].oldest)
        stage++;
    attempt_move(s, s->stages[stage].oldest, 0);
    s->counters[EVICTIONS]++;
}

/* Room for so many new attempts and for so many that reach stage 2, before
 * either happens, so that nothing moves while a packet is looked at.  Half of
 * the table is for stage 1: whoever knows the first knocks can't fill it. */
static void make_room(struct sniffer *s, uint32_t begin, uint32_t advance)
{
    uint32_t most = ATTEMPTS_MAX / 8;
    while (s->active + (begin < most ? begin : most) >= ATTEMPTS_MAX)
        evict(s, 1);
    while (s->advanced + (advance < most ? advance : most) > ATTEMPTS_MAX / 2)
        evict(s, 2);
}

/* The door has seen its last knock. */
static void open_door(struct sniffer *s, uint32_t door, const struct packet *p)
{
    struct door *d = &s->conf->doors[door];
    tell(s, OPEN, door, d->nseq, &p->src, 0);
    s->counters[OPENS]++;
    d->quiet_until = s->now + (int64_t)d->cooldown * 1000;
    d->last.src = p->src;
    d->last.time = s->now;
    d->last.interface = p->interface;
    d->last.mark = p->mark;
    if (d->one_time)
        d->nseq = 0;                /* until the monitor sends the next one */
}

/* Is p, which opened a door of one port, its last packet once more: sent again
 * by TCP, or shown again by another interface (a bridge and its port)? */
static bool is_twin(const struct sniffer *s, const struct door *d,
                    const struct packet *p)
{
    int64_t age = s->now - d->last.time;
    return d->last.time && d->last.mark == p->mark &&
           addr_cmp(&d->last.src, &p->src) == 0 &&
           (d->last.interface != p->interface ? age < TWIN_MS :
            p->proto == TCP && age < SEQ_TIMEOUT * 1000);
}

/* The first knock at a door: a new attempt, put at *link into its bucket. */
static void begin(struct sniffer *s, uint32_t *link, uint32_t door,
                  const struct packet *p)
{
    struct door *d = &s->conf->doors[door];
    if (d->nseq == 1) {
        if (!is_twin(s, d, p)) {
            tell(s, STAGE, door, 1, &p->src, 0);
            open_door(s, door, p);
        }
        return;
    }
    uint32_t i = s->unused ? s->unused : s->used + 1;
    if (i > ATTEMPTS_MAX)
        return;                     /* thousands of doors begin alike */
    struct attempt *a = &s->attempts[i];
    if (i == s->unused)
        s->unused = a->next;
    else
        s->used = i;
    a->src = p->src;
    a->strays = 0;
    a->deadline = s->now + (int64_t)d->seq_timeout * 1000;
    a->door = door;
    a->next = *link;
    a->mark[0] = p->mark;
    *link = i;
    attempt_move(s, i, 1);
    s->next_expiry = min_ms(s->next_expiry, a->deadline);
    s->counters[ATTEMPTS]++;
    tell(s, STAGE, door, 1, &p->src, 0);
}

static bool is_knock(const struct knock *k, const struct packet *p)
{
    return k->port == p->dport && k->proto == p->proto;
}

/* Does the door see this packet?  known: it is to a port of some door, and
 * then its TCP flags must fit. */
static bool sees(const struct sniffer *s, const struct door *d,
                 const struct packet *p, bool local, bool known)
{
    return (d->target ? addr_cmp(d->target, &p->dst) == 0 : local) &&
           d->nseq > 0 && s->now >= d->quiet_until && allowed(d, &p->src) &&
           (!known || p->proto != TCP || ((p->flags & d->tcp_want) ==
            d->tcp_want && !(p->flags & d->tcp_forbid)));
}

static bool is_of(const struct sniffer *s, uint32_t i, const struct addr *src,
                  uint32_t door)
{
    return i && s->attempts[i].door == door &&
           addr_cmp(&s->attempts[i].src, src) == 0;
}

static void advance(struct sniffer *s, uint32_t i, const struct packet *p)
{
    struct attempt *a = &s->attempts[i];
    unsigned stage = a->stage + 1u;
    uint32_t door = a->door;
    tell(s, STAGE, door, stage, &p->src, 0);
    a->mark[a->stage] = p->mark;
    bool last = stage == s->conf->doors[door].nseq;
    attempt_move(s, i, last ? 0 : stage);
    if (last)
        open_door(s, door, p);
}

/* p spoils the attempts of its source at a door, from *link on: at once if it
 * is to a port of a door, or when there are too many stray ports. */
static void spoil(struct sniffer *s, uint32_t *link, const struct packet *p,
                  bool known)
{
    uint32_t door = s->attempts[*link].door;
    const struct door *d = &s->conf->doors[door];
    uint64_t bit = 1ull << ((s->key[0] | 1) * (p->dport * 2u + (p->proto == UDP))
                            >> 58);
    if (!known && (d->stray_limit == 0 || (p->bulk && !d->wide)))
        return;
    while (is_of(s, *link, &p->src, door)) {
        struct attempt *a = &s->attempts[*link];
        a->strays |= bit;
        if (known || (unsigned)__builtin_popcountll(a->strays) > d->stray_limit) {
            s->counters[CANCELLED]++;
            attempt_move(s, *link, 0);
        } else
            link = &a->next;
    }
}

/* What p means to the attempts of its source at one door, from *link on.  In
 * this order: a true retransmission; the knock that the one furthest along
 * waits for; the last knock repeated; a first knock; anything else. */
static void door_hit(struct sniffer *s, uint32_t *link, const struct packet *p,
                     bool known)
{
    uint32_t door = s->attempts[*link].door, next = 0, weakest = *link, n = 0;
    const struct door *d = &s->conf->doors[door];
    int64_t fresh = 0;              /* a repeated first knock: a new clock */
    bool repeated = false;
    for (uint32_t i = *link; is_of(s, i, &p->src, door); n++) {
        struct attempt *a = &s->attempts[i], *w = &s->attempts[weakest];
        for (unsigned k = 0; k < a->stage; k++)
            if (a->mark[k] == p->mark && is_knock(&d->seq[k], p))
                return;
        if (is_knock(&d->seq[a->stage], p) &&
            (!next || a->stage > s->attempts[next].stage))
            next = i;
        repeated |= is_knock(&d->seq[a->stage - 1], p);
        if (a->stage < w->stage ||
            (a->stage == w->stage && a->deadline < w->deadline))
            weakest = i;
        i = a->next;
    }
    if (next)
        advance(s, next, p);
    else if (repeated) {
        fresh = s->now + (int64_t)d->seq_timeout * 1000;
        for (uint32_t i = *link; is_of(s, i, &p->src, door);
             i = s->attempts[i].next)
            if (s->attempts[i].stage == 1)
                s->attempts[i].deadline = fresh;
    } else if (is_knock(&d->seq[0], p)) {
        if (n >= ATTEMPTS_PER_SOURCE)
            attempt_move(s, weakest, 0);
        begin(s, link, door, p);
    } else
        spoil(s, link, p, known);
}

static void timed_out(struct sniffer *s, uint32_t i)
{
    struct attempt *a = &s->attempts[i];
    tell(s, TIMEOUT, a->door, a->stage, &a->src, 0);
    attempt_move(s, i, 0);
}

/* The link in its bucket that leads to the first attempt of src, or to 0; *n:
 * how many it has.  Those that have timed out are ended on the way. */
static uint32_t *attempts_of(struct sniffer *s, const struct addr *src,
                             uint32_t *n)
{
    uint32_t *link = bucket(s, src), *first;
    while (*link && addr_cmp(&s->attempts[*link].src, src) != 0)
        link = &s->attempts[*link].next;
    *n = 0;
    for (first = link; *link && addr_cmp(&s->attempts[*link].src, src) == 0;) {
        struct attempt *a = &s->attempts[*link];
        if (a->deadline > s->now) {
            link = &a->next;
            ++*n;
        } else
            timed_out(s, *link);
    }
    return first;
}

/* One packet, through all doors in their order. */
static void match(struct sniffer *s, const struct packet *p)
{
    bool known = has(s->known[p->proto == UDP], p->dport);
    uint32_t n, want = known ? key_of(p->proto, p->dport) : 0;
    if (!known && !s->active)
        return;
    uint32_t *link = attempts_of(s, &p->src, &n), first = first_at(s, want);
    if (!known && !*link)
        return;
    bool local = bsearch(&p->dst, s->locals.addr, s->locals.naddrs,
                         sizeof p->dst, addr_cmp);
    if (known) {
        s->counters[HITS]++;
        make_room(s, first_at(s, want + 1) - first, n);
        link = attempts_of(s, &p->src, &n);     /* it may have been moved */
    }
    for (;;) {
        bool mine = *link && addr_cmp(&s->attempts[*link].src, &p->src) == 0;
        uint32_t door = mine ? s->attempts[*link].door : UINT32_MAX;
        bool new = first < s->nfirsts && s->firsts[first].key == want && known;
        if (new && s->firsts[first].door <= door)
            door = s->firsts[first++].door;
        else if (!mine)
            return;
        if (sees(s, &s->conf->doors[door], p, local, known)) {
            if (is_of(s, *link, &p->src, door))
                door_hit(s, link, p, known);
            else
                begin(s, link, door, p);
        }
        while (is_of(s, *link, &p->src, door))
            link = &s->attempts[*link].next;
    }
}


/* ---- The sniffer ------------------------------------------------------ */

static uint64_t kernel_drops(const struct sniffer *s)
{
    struct { unsigned packets, drops; } stats = { 0, 0 }; /* and reset */
    socklen_t length = sizeof stats;
    getsockopt(s->packets, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
    return stats.drops;
}

static void report_drops(struct sniffer *s)
{
    uint64_t drops = kernel_drops(s);
    s->counters[LOST] += drops;
    if (drops)
        tell(s, DROPS, 0, 0, NULL, drops);
}

static struct tpacket2_ *slot(const struct sniffer *s, uint32_t at)
{
    return (struct tpacket2_ *)(void *)(s->ring + (size_t)(at % FRAMES) *
                                        FRAME_BYTES);
}

static bool is_full(const struct tpacket2_ *t)
{
    return __atomic_load_n(&t->status, __ATOMIC_ACQUIRE) & TP_USER;
}

static void frame(struct sniffer *s, const struct tpacket2_ *t)
{
    const uint8_t *base = (const uint8_t *)t;
    struct sockaddr_ll from;
    struct packet p;
    memcpy(&from, base + ((sizeof *t + 15) & ~15ul), sizeof from);
    size_t n = FRAME_BYTES - (size_t)t->net;
    s->counters[PACKETS]++;
    if (!parse(base + t->net, n < t->captured ? n : t->captured, t->len, &p) ||
        (addr_loopback(&p.src) && from.sll_hatype != HATYPE_LOOPBACK))
        return;
    p.interface = (uint32_t)from.sll_ifindex;
    if (s->debug)
        tell(s, PACKET, 0, 0, &p.src, (uint64_t)p.proto << 48 |
             (uint64_t)p.sport << 32 | (uint64_t)p.dport << 16 |
             (t->len & 0xffff));
    match(s, &p);
}

/* Takes what is in the ring, a lap at most; returns how many packets. */
static uint32_t ring_read(struct sniffer *s)
{
    uint32_t n = 0;
    for (struct tpacket2_ *t; n < FRAMES && is_full(t = slot(s, s->ring_at)); n++) {
        frame(s, t);
        s->ring_at = (s->ring_at + 1) % FRAMES;
        __atomic_store_n(&t->status, 0, __ATOMIC_RELEASE);
    }
    return n;
}

/* Finds the oldest full slot: a sniffer that takes over a ring does not know
 * how far the last one had come. */
static void ring_find(struct sniffer *s)
{
    for (uint32_t i = 0; i < FRAMES; i++)
        if (is_full(slot(s, i)) && !is_full(slot(s, i + FRAMES - 1))) {
            s->ring_at = i;
            return;
        }
}

/* When packets come fast, poll() for each costs more than the packet: rest and
 * read by the clock, until little comes.  Returns whether to rest now. */
static bool rest(struct sniffer *s, uint32_t n)
{
    if (s->now - s->burst_start > REST_WITHIN_MS) {
        s->burst_start = s->now;
        s->burst = 0;
    }
    s->burst += n;
    s->empty = n ? 0 : s->empty + 1;
    if (s->resting && s->empty >= REST_EMPTY)
        report_drops(s);
    s->resting = s->burst >= REST_PACKETS || (s->resting && s->empty < REST_EMPTY);
    return s->resting;
}

/* Ends what has timed out.  A look costs the table's length, so there is one
 * at most every EXPIRE_MS; each packet looks at its own source's besides. */
static void expire(struct sniffer *s)
{
    if (!s->active || s->now < s->next_expiry ||
        s->now < s->last_expiry + EXPIRE_MS)
        return;
    s->last_expiry = s->now;
    s->next_expiry = INT64_MAX;
    for (uint32_t i = 1; i <= s->used; i++)
        if (s->attempts[i].stage && s->attempts[i].deadline <= s->now)
            timed_out(s, i);
        else if (s->attempts[i].stage)
            s->next_expiry = min_ms(s->next_expiry, s->attempts[i].deadline);
}

/* A second is over: say how much was not said in it. */
static void limit(struct sniffer *s)
{
    if (s->now < s->second + 1000)
        return;
    if (s->suppressed)
        tell(s, SUPPRESSED, 0, 0, NULL, s->suppressed);
    memset(s->lines, 0, sizeof s->lines);
    s->suppressed = 0;
    s->second = s->now;
}

static void obey(struct sniffer *s)
{
    static struct order o;
    ssize_t n = read(s->channel, &o, sizeof o);
    if (n <= 0)
        _exit(0);                   /* the monitor wants no more */
    if (o.kind == NEW_LOCALS) {
        s->locals = o.locals;
        filter_attach(s);
    } else if (o.kind == NEW_SEQUENCE) {
        struct door *d = &s->conf->doors[o.door];
        for (uint32_t i = 1; i <= s->used; i++)
            if (s->attempts[i].stage && s->attempts[i].door == o.door)
                attempt_move(s, i, 0);
        d->nseq = o.nseq;
        memcpy(d->seq, o.seq, sizeof d->seq);
        index_doors(s);
        filter_attach(s);
    } else {
        report_drops(s);
        for (unsigned i = 0; i < COUNTERS; i++)
            tell(s, COUNTER, 0, i, NULL, s->counters[i]);
    }
}

static const char *const sandbox_steps[] = {
    "capability bounding set", "empty root directory", "user and group id",
    "no capabilities", "no new privileges", "limits", "seccomp filter"
};

/* Makes an empty directory, deletes it and lives in it: nothing can ever be
 * put there.  False if that is not permitted. */
static bool empty_root(void)
{
    static const char *const bases[] = { EMPTY_ROOTS };
    for (unsigned i = 0; i < sizeof bases / sizeof *bases; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/knockd.XXXXXX", bases[i]);
        if (mkdtemp(path)) {
            bool in = chdir(path) == 0;
            rmdir(path);
            return in && chroot(".") == 0 && chdir("/") == 0;
        }
    }
    return false;
}

/* All five capability sets empty, and no way back to root (capset(2)). */
static bool no_capabilities(bool was_root)
{
    uint32_t head[2] = { CAP_VERSION_3, 0 }, sets[6] = { 0 };
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, head, sets) != 0 ||
        syscall(SYS_capget, head, sets) != 0)
        return false;
    for (int i = 0; i < 6; i++)
        if (sets[i])
            return false;
    return !was_root || setuid(0) != 0;
}

/* The few system calls that the sniffer's loop makes; any other kills it.
 * setsockopt() only for the filter, which the kernel checks (seccomp(2)). */
static bool seccomp(void)
{
    static const int allowed_calls[] = {
        SYS_read, SYS_write, SYS_getsockopt, SYS_exit_group,
        SYS_restart_syscall, SYS_clock_gettime, SYS_ppoll,
#ifdef SYS_poll
        SYS_poll,
#endif
#ifdef SYS_ppoll_time64
        SYS_ppoll_time64, SYS_clock_gettime64,
#endif
    };
    static struct program p;
    p.at = FILTER_MAX;
    unsigned die_ = put(&p, RET, SECCOMP_KILL, 0, 0);
    unsigned allow = put(&p, RET, SECCOMP_ALLOW, 0, 0);
    unsigned next = load(&p, LD_W, SECCOMP_ARG(2),
                         put(&p, JEQ, SO_ATTACH_FILTER, allow, die_));
    next = put(&p, JEQ, SYS_setsockopt, next, die_);
    for (unsigned i = 0; i < sizeof allowed_calls / sizeof *allowed_calls; i++)
        next = put(&p, JEQ, (uint32_t)allowed_calls[i], allow, next);
    next = load(&p, LD_W, 0, next);
    load(&p, LD_W, 4, put(&p, JEQ, SECCOMP_ARCH, next, die_));
    struct bpf_prog_ prog = { (uint16_t)(FILTER_MAX - p.at), p.code + p.at };
    return SECCOMP_ARCH && prctl(PR_SET_SECCOMP, 2, &prog, 0, 0) == 0;
}

static bool own_id(void)
{
    return setgroups(0, NULL) == 0 &&
           setresgid(SNIFFER_ID, SNIFFER_ID, SNIFFER_ID) == 0 &&
           setresuid(SNIFFER_ID, SNIFFER_ID, SNIFFER_ID) == 0;
}

/* Gives up all that can be given up.  Returns a bit for each step that the
 * surroundings forbid; the others are still done. */
static unsigned sandbox(pid_t monitor)
{
    static const struct rlimit zero;
    bool root = geteuid() == 0;
    unsigned skipped = 0, cap = 0;
#define STEP(bit, done) (skipped |= (done) ? 0 : 1u << (bit))
    while (cap <= CAP_LAST_POSSIBLE && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
        cap++;
    STEP(0, cap > 0);
    STEP(1, empty_root());
    STEP(2, own_id());
    STEP(3, no_capabilities(root && !(skipped & 4)));
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not before: a new uid clears it */
    if (getppid() != monitor)
        _exit(0);
    STEP(4, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    STEP(5, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
            setrlimit(RLIMIT_NPROC, &zero) == 0 &&
            setrlimit(RLIMIT_FSIZE, &zero) == 0 &&
            setrlimit(RLIMIT_CORE, &zero) == 0);
#ifndef NO_SECCOMP                  /* a sanitizer needs more system calls */
    STEP(6, seccomp());
#endif
    return skipped;
}

/* Closes every descriptor but 0-2 and the two. */
static void close_others(int a, int b)
{
    int high = a > b ? a : b, low = a > b ? b : a;
    for (int fd = 3; fd < high; fd++)
        if (fd != low)
            close(fd);
    if (syscall(SYS_close_range, high + 1, ~0u, 0) != 0)
        for (int fd = high + 1; fd < 1024; fd++)
            close(fd);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
}

static void *map(size_t bytes, int fd)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, fd < 0 ? MAP_PRIVATE |
                   MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        die("sniffer: mmap: %s", strerror(errno));
    return p;
}

/* The sniffer's life: until the channel to the monitor ends.  The table's
 * memory is touched only as it fills. */
static void sniff(struct sniffer *s, pid_t monitor)
{
    enum { CHANNEL, RING, SLOTS };
    struct pollfd fds[SLOTS] = { [CHANNEL] = { s->channel, POLLIN, 0 },
                                 [RING] = { s->packets, POLLIN, 0 } };
    s->ring = map((size_t)FRAMES * FRAME_BYTES, s->packets);
    s->attempts = map((ATTEMPTS_MAX + 1) * sizeof *s->attempts, -1);
    s->buckets = map(ATTEMPTS_MAX * sizeof *s->buckets, -1);
    s->firsts = map((s->conf->ndoors + 1) * sizeof *s->firsts, -1);
    s->next_expiry = INT64_MAX;
    if (getrandom(s->key, sizeof s->key, 0) != sizeof s->key)
        die("sniffer: getrandom: %s", strerror(errno));
    close_others(s->channel, s->packets);
    index_doors(s);
    filter_attach(s);
    ring_find(s);
    tell(s, READY, 0, 0, NULL, sandbox(monitor));
    for (;;) {
        s->now = now_ms();
        uint32_t n = ring_read(s);
        limit(s);
        expire(s);
        int64_t wake = INT64_MAX;
        if (rest(s, n))
            wake = s->now + REST_MS;
        if (s->active)
            wake = min_ms(wake, s->next_expiry > s->last_expiry + EXPIRE_MS ?
                          s->next_expiry : s->last_expiry + EXPIRE_MS);
        if (s->suppressed)
            wake = min_ms(wake, s->second + 1000);
        int ms = wake == INT64_MAX ? -1 : wake <= s->now ? 0 : (int)(wake - s->now);
        if (poll(fds, s->resting ? RING : SLOTS, n == FRAMES ? 0 : ms) <= 0)
            continue;
        if (fds[CHANNEL].revents)
            obey(s);
        if (!s->resting && fds[RING].revents && !is_full(slot(s, s->ring_at)))
            ring_find(s);
    }
}

/* ---- The monitor: commands and grants --------------------------------- */

struct job {                        /* a command to run or running */
    struct job *next;
    struct grant *grant;            /* a start's; NULL if nothing follows it */
    char *command, *door;
    struct addr src;
    pid_t pid;                      /* 0: waiting */
    int64_t not_before;             /* ms */
    bool stop, blocked, chosen;     /* blocked: by one of the same address */
};

struct grant {                      /* a door open for an address */
    struct grant *next;
    struct job stop;                /* here, so that it is never refused */
    unsigned openings;              /* starts run, for each of which ... */
    unsigned timeout;               /* ... a stop follows, s after the last */
    unsigned starting;              /* starts that wait or run */
    int64_t deadline;               /* ms; valid when none does */
    bool closing;
};

struct output {                     /* of a command, and what it left behind */
    int fd;
    unsigned lines, length;
    char door[NAME_LENGTH_MAX + 1], line[OUTPUT_LINE_MAX + 1];
};

struct monitor {
    struct conf conf;
    const char *config, *interface_option, *pidfile, *logfile;  /* options */
    const char *interface;          /* in force */
    bool only_v4, lookup, daemon;
    int cwd;                        /* where relative paths begin */
    struct locals locals;
    char *waiting_for;              /* interfaces, as last said */
    int packets, channel, netlink, signals, null, pid_fd, state_fd, ready_fd;
    int standard[2];                /* stdout and stderr as they were */
    pid_t sniffer, namer;
    int64_t sniffer_since, sniffer_again;   /* ms */
    bool ready, bad_record, ending, state_bad;
    char *state, *pid_path, boot[64];
    struct job *jobs;               /* in their order */
    unsigned njobs, running;
    struct grant *grants;
    struct output outputs[OUTPUTS_MAX];
    unsigned noutputs;
    uint64_t commands;
};

static void state_save(struct monitor *m);
static void sequence_send(struct monitor *m, const struct door *d);

/* The command with the address for each %IP%; only digits, hex, dots and
 * colons can get in. */
static char *expand(const char *command, const struct addr *src)
{
    char ip[INET6_ADDRSTRLEN], *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f || !addr_text(src, ip))
        die("out of memory");
    for (const char *at; (at = strstr(command, "%IP%")); command = at + 4)
        fprintf(f, "%.*s%s", (int)(at - command), command, ip);
    fputs(command, f);
    if (fclose(f))
        die("out of memory");
    return text;
}

/* Is there anything in it that a shell would not take as just words? */
static bool needs_shell(const char *command)
{
    size_t first = strcspn(command, BLANKS);
    if (strpbrk(command, "|&;<>()$`\\\"'*?[]#~\n") || memchr(command, '=', first))
        return true;
    for (const char *p = command; (p = strpbrk(p, "!{}")); p++)
        if (p == command || !strchr(BLANKS, p[-1]) || !strchr(BLANKS, p[1]))
            return true;
    return false;
}

/* Starts command with posix_spawnp(): its cost does not grow with our memory.
 * Without shell syntax it is split and run directly, or by the shell should
 * there be no such program (a shell's own word, a script without #!).
 * Returns 0 or an error number. */
static int spawn(const char *command, char **env, posix_spawn_file_actions_t *act,
                 posix_spawnattr_t *attr, pid_t *pid)
{
    char *sh[] = { "sh", "-c", copy(command), NULL };
    char *text = copy(command), *rest = text, *word;
    char **argv = allocate(NULL, (strlen(command) / 2 + 2) * sizeof *argv);
    int argc = 0, error = ENOENT;
    while ((word = strsep(&rest, BLANKS)))
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    if (argc && !needs_shell(command))
        error = posix_spawnp(pid, argv[0], act, attr, argv, env);
    if ((error == ENOENT && !(argc && strchr(argv[0], '/') &&
                              !needs_shell(command))) || error == ENOEXEC)
        error = posix_spawn(pid, "/bin/sh", act, attr, sh, env);
    free(argv);
    free(text);
    free(sh[2]);
    return error;
}

/* Runs a job: in a session of its own, with default signals, descriptors 0-2
 * alone, and what it prints to a pipe.  Returns 0 or an error number. */
static int job_run(struct monitor *m, struct job *j)
{
    extern char **environ;
    char ip[32 + INET6_ADDRSTRLEN] = "KNOCKD_IP=", door[32 + NAME_LENGTH_MAX];
    int ends[2] = { -1, -1 }, error, n = 0;
    posix_spawn_file_actions_t act;
    posix_spawnattr_t attr;
    sigset_t all, none;
    while (environ[n])
        n++;
    char **env = allocate(NULL, (size_t)(n + 4) * sizeof *env);
    memcpy(env, environ, (size_t)n * sizeof *env);
    addr_text(&j->src, ip + strlen(ip));
    snprintf(door, sizeof door, "KNOCKD_DOOR=%s", j->door);
    env[n++] = ip;
    env[n++] = door;
    env[n++] = j->stop ? "KNOCKD_EVENT=stop" : "KNOCKD_EVENT=start";
    env[n] = NULL;
    if (m->noutputs < OUTPUTS_MAX && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0)
        fcntl(ends[1], F_SETFL, 0);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                             POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_adddup2(&act, m->null, 0);
    posix_spawn_file_actions_adddup2(&act, ends[1] < 0 ? m->null : ends[1], 1);
    posix_spawn_file_actions_adddup2(&act, ends[1] < 0 ? m->null : ends[1], 2);
    error = spawn(j->command, env, &act, &attr, &j->pid);
    posix_spawn_file_actions_destroy(&act);
    posix_spawnattr_destroy(&attr);
    free(env);
    if (ends[1] >= 0)
        close(ends[1]);
    if (ends[0] >= 0 && error)
        close(ends[0]);
    else if (ends[0] >= 0) {
        struct output *o = &m->outputs[m->noutputs++];
        o->fd = ends[0];
        o->lines = o->length = 0;
        snprintf(o->door, sizeof o->door, "%s", j->door);
    }
    return error;
}

static void output_line(struct output *o)
{
    o->line[o->length] = '\0';
    o->length = 0;
    if (o->lines++ < OUTPUT_LINES_MAX)
        say(LOG, "%s: %s", o->door, o->line);
    else if (o->lines == OUTPUT_LINES_MAX + 1)
        say(LOG, "%s: (the rest of its output is not logged)", o->door);
}

/* Reads some of a command's output; false at its end.  While anything that the
 * command left behind can write, the pipe stays, or SIGPIPE would kill it. */
static bool output_read(struct output *o)
{
    char buf[4096];
    ssize_t n = read(o->fd, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] == '\n' || o->length == OUTPUT_LINE_MAX)
            output_line(o);
        if (buf[i] != '\n')
            o->line[o->length++] = buf[i];
    }
    if (n > 0 || (n < 0 && errno == EAGAIN))
        return true;
    if (o->length)
        output_line(o);
    close(o->fd);
    return false;
}

/* Puts a job behind the others.  Those of one address run one after another,
 * in the order of its knocks; the others don't wait for it. */
static void job_add(struct monitor *m, struct job *j)
{
    struct job **end = &m->jobs;
    j->blocked = false;
    for (; *end; end = &(*end)->next)
        j->blocked |= addr_cmp(&(*end)->src, &j->src) == 0;
    j->next = NULL;
    *end = j;
    m->njobs++;
}

static void job_free(struct job *j)
{
    free(j->command);
    free(j->door);
}

static void grant_free(struct monitor *m, struct grant *g)
{
    struct grant **link = &m->grants;
    while (*link != g)
        link = &(*link)->next;
    *link = g->next;
    job_free(&g->stop);
    free(g);
}

/* A job is over (or never ran): what comes after it. */
static void job_end(struct monitor *m, struct job *j)
{
    struct grant *g = j->grant;
    struct job **link = &m->jobs;
    char ip[INET6_ADDRSTRLEN];
    j->pid = 0;
    if (j->stop && --g->openings > 0) {
        state_save(m);
        return;                     /* once more, at its place */
    }
    while (*link != j)
        link = &(*link)->next;
    *link = j->next;
    m->njobs--;
    for (struct job *next = j->next; next; next = next->next)
        if (addr_cmp(&next->src, &j->src) == 0) {
            next->blocked = false;
            break;
        }
    if (j->stop)
        say(LOG, "%s: %s: CLOSE SESAME", addr_text(&j->src, ip), j->door);
    else if (g && --g->starting == 0)
        g->deadline = now_ms() + (int64_t)g->timeout * 1000;
    if (!j->stop)
        job_free(j), free(j);
    if (g && !g->starting && !g->openings)
        grant_free(m, g);
    if (g)
        state_save(m);
}

/* A child has ended: logs why if it failed. */
static void job_reap(struct monitor *m, pid_t pid, int status)
{
    struct job *j = m->jobs;
    while (j && j->pid != pid)
        j = j->next;
    if (!j)
        return;
    m->running--;
    if (WIFSIGNALED(status))
        say(LOG, "%s: command killed by signal %d", j->door, WTERMSIG(status));
    else if (WEXITSTATUS(status))
        say(LOG, "%s: command returned non-zero status code (%d)", j->door,
            WEXITSTATUS(status));
    job_end(m, j);
}

/* Starts every job that may run.  The openings are on record before any of
 * them runs: no rule can be left that nobody will take back. */
static void jobs_launch(struct monitor *m, int64_t now)
{
    bool save = false;
    for (struct job *j = m->jobs; j && m->running < CHILDREN_MAX; j = j->next) {
        if (j->blocked || j->pid || j->chosen || j->not_before > now)
            continue;
        j->chosen = true;
        m->running++;
        if (!j->stop && j->grant) {
            j->grant->openings++;
            save = true;
        }
    }
    if (save)
        state_save(m);
    for (struct job *j = m->jobs, *next; j; j = next) {
        next = j->next;
        if (!j->chosen)
            continue;
        j->chosen = false;
        say(LOG, "%s: running command: %s", j->door, j->command);
        int error = job_run(m, j);
        m->commands++;
        if (error == 0)
            continue;
        say(LOG, "%s: could not run it: %s", j->door, strerror(error));
        m->running--;
        if (error == EAGAIN || error == ENOMEM) {
            j->not_before = now + RETRY_MS;
            if (!j->stop && j->grant)
                j->grant->openings--;
        } else
            job_end(m, j);
    }
}

/* Starts the stop command of every grant whose time has come; at the end of
 * the daemon that of all.  Returns when the next is due. */
static int64_t grants_close(struct monitor *m, int64_t now)
{
    int64_t next = INT64_MAX;
    char ip[INET6_ADDRSTRLEN];
    for (struct grant *g = m->grants; g; g = g->next) {
        if (g->closing || g->starting)
            continue;
        if (!m->ending && g->deadline > now) {
            next = min_ms(next, g->deadline);
            continue;
        }
        if (!m->ending)
            say(LOG, "%s: %s: command timeout", addr_text(&g->stop.src, ip),
                g->stop.door);
        g->closing = true;
        job_add(m, &g->stop);
    }
    return next;
}

static struct grant *grant_new(struct monitor *m, const char *door,
                               const struct addr *src, char *stop,
                               unsigned timeout)
{
    struct grant *g = allocate(NULL, sizeof *g);
    *g = (struct grant){ .next = m->grants, .timeout = timeout,
        .stop = { .grant = g, .command = stop, .door = copy(door), .src = *src,
                  .stop = true } };
    return m->grants = g;
}

/* The door has opened for src: logs it, takes the next one-time sequence, and
 * queues the start command.  With a stop command a grant is kept. */
static void door_open(struct monitor *m, struct door *d, const struct addr *src)
{
    const char *start = d->start, *stop = d->stop;
    char ip[INET6_ADDRSTRLEN];
    say(LOG, "%s: %s: %s", addr_text(src, ip), d->name,
        d->message ? d->message : "OPEN SESAME");
    if (!is_v4(src)) {
        start = d->start6 ? d->start6 : start;
        stop = d->stop6 ? d->stop6 : stop;
    }
    if (d->one_time) {
        int left = one_time(&m->conf, d, m->cwd, true);
        if (left > 0 && left <= ONE_TIME_LOW)
            say(LOG, "%s: %d one-time sequences left", d->name, left);
        sequence_send(m, d);
    }
    if (!start || !*start)
        return;
    if (m->njobs >= QUEUE_MAX) {
        say(LOG, "%s: %s: %d commands are waiting: refused", ip, d->name,
            QUEUE_MAX);
        return;
    }
    struct grant *g = m->grants;
    while (g && (g->closing || addr_cmp(&g->stop.src, src) != 0 ||
                 strcmp(g->stop.door, d->name) != 0))
        g = g->next;
    if (stop && *stop && !g)
        g = grant_new(m, d->name, src, expand(stop, src), d->cmd_timeout);
    if (g)
        g->starting++;
    struct job *j = allocate(NULL, sizeof *j);
    *j = (struct job){ .grant = g, .command = expand(start, src),
                       .door = copy(d->name), .src = *src };
    job_add(m, j);
}

/* ---- The state file --------------------------------------------------- */

/* Grants outlive the daemon here.  Lines of text:
 *     knockd-state 1 BOOT-ID
 *     grant OPENINGS TIMEOUT-S DEADLINE-MS ADDRESS DOOR
 *     stop COMMAND
 *     sum FNV-1A-64 OF ALL BEFORE IT
 * Locked while in use; replaced at once by rename(). */

static uint64_t checksum(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    while (n--)
        h = (h ^ (uint8_t)*text++) * 0x100000001b3;
    return h;
}

static void state_save(struct monitor *m)
{
    char *text = NULL, new[PATH_MAX], ip[INET6_ADDRSTRLEN];
    size_t n = 0;
    int64_t now = now_ms();
    FILE *f = m->state ? open_memstream(&text, &n) : NULL;
    if (!f)
        return;
    fprintf(f, "knockd-state 1 %s\n", m->boot);
    for (const struct grant *g = m->grants; g; g = g->next)
        if (g->openings)
            fprintf(f, "grant %u %u %lld %s %s\nstop %s\n", g->openings,
                    g->timeout, (long long)(g->starting ? now +
                    (int64_t)g->timeout * 1000 : g->deadline),
                    addr_text(&g->stop.src, ip), g->stop.door, g->stop.command);
    fflush(f);
    fprintf(f, "sum %016llx\n", (unsigned long long)checksum(text, n));
    bool good = fclose(f) == 0;
    snprintf(new, sizeof new, "%s.new", m->state);
    unlinkat(m->cwd, new, 0);       /* of a run that was killed */
    int fd = openat(m->cwd, new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    good = good && fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
           write(fd, text, n) == (ssize_t)n &&
           renameat(m->cwd, new, m->cwd, m->state) == 0;
    if (!good && !m->state_bad)
        say(LOG, "could not write %s: %s: doors that are open now stay open if "
            "knockd is killed", m->state, strerror(errno));
    m->state_bad = !good;
    if (!good)
        unlinkat(m->cwd, new, 0);
    if (m->state_fd >= 0 && good)
        close(m->state_fd);
    if (good)
        m->state_fd = fd;
    else if (fd >= 0)
        close(fd);
    free(text);
}

/* Takes the grants out of a state file's text; false if it is damaged. */
static bool state_parse(struct monitor *m, char *text, size_t n)
{
    char boot[64], *sum = n > 21 ? text + n - 21 : text, *line;
    unsigned long long said;
    int used = 0;
    if (sscanf(sum, "sum %16llx\n", &said) != 1 || strlen(text) != n ||
        checksum(text, n - 21) != said)
        return false;
    *sum = '\0';
    if (sscanf(strsep(&text, "\n"), "knockd-state 1 %63s", boot) != 1)
        return false;
    while ((line = strsep(&text, "\n")) && *line) {
        char ip[INET6_ADDRSTRLEN], *stop = strsep(&text, "\n");
        unsigned openings, timeout;
        long long deadline;
        struct addr src;
        if (sscanf(line, "grant %u %u %lld %45s %n", &openings, &timeout,
                   &deadline, ip, &used) != 4 || !addr_parse(ip, &src) ||
            !stop || strncmp(stop, "stop ", 5) != 0)
            return false;
        struct grant *g = grant_new(m, line + used, &src, copy(stop + 5), timeout);
        g->openings = openings;
        g->deadline = strcmp(boot, m->boot) != 0 ? 0 :
                      min_ms(deadline, now_ms() + (int64_t)timeout * 1000);
        say(LOG, "%s: %s: was left open by an earlier run", ip, line + used);
    }
    return true;
}

/* Opens and locks the state file and takes over what it holds.  One that is
 * damaged or not ours alone is put aside and nothing in it is run. */
static void state_load(struct monitor *m)
{
    const char *why = NULL;
    struct stat st, there;
    size_t n = 0;
    char *text = NULL, aside[PATH_MAX];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, m->boot, sizeof m->boot - 1);
    m->boot[got < 0 ? 0 : got] = '\0';
    m->boot[strcspn(m->boot, "\n")] = '\0';
    if (!*m->boot)
        strcpy(m->boot, "unknown");
    if (fd >= 0)
        close(fd);
    fd = openat(m->cwd, m->state, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        why = "a symbolic link";
    else if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        say(LOG, "%s is used by another knockd: give this one a pidfile of its "
            "own (-p), or its doors stay open if it is killed", m->state);
        free(m->state);
        m->state = NULL;
    } else if (fd >= 0 && fstat(fd, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            why = "no regular file";
        else if (st.st_uid != geteuid())
            why = "not owned by this user";
        else if (st.st_mode & 077)
            why = "open to others";
        else if (fstatat(m->cwd, m->state, &there, 0) || there.st_ino != st.st_ino)
            why = "just replaced by another knockd";
        else if (!(text = read_all(fd, &n)) || (n && !state_parse(m, text, n)))
            why = "damaged";
    }
    if (why) {
        while (m->grants)
            grant_free(m, m->grants);
        snprintf(aside, sizeof aside, "%s.refused", m->state);
        renameat(m->cwd, m->state, m->cwd, aside);
        say(LOG, "state file %s refused: %s; doors that it may name are still "
            "open; it is now %s", m->state, why, aside);
    }
    free(text);
    state_save(m);
    if (fd >= 0)
        close(fd);
}

/* ---- The monitor: interfaces, sniffer, reload ------------------------- */

/* Reads where knocks may come in: the interfaces of the list (or any but
 * loopback) and their addresses.  missing gets the names that do not exist,
 * waiting a text on all that can't be knocked on yet.  Returns false if the
 * kernel can't be asked. */
static bool locals_read(struct monitor *m, struct locals *l, char *missing,
                        char *waiting)
{
    struct ifaddrs *all, *a;
    char *list = copy(m->interface), *next = list, *name;
    *missing = *waiting = '\0';
    *l = (struct locals){ .any = strcasecmp(m->interface, "any") == 0 };
    if (getifaddrs(&all) != 0) {
        free(list);
        return false;
    }
    while ((name = strsep(&next, LIST))) {
        const char *why = NULL;
        unsigned index = l->any || !*name ? 0 : if_nametoindex(name);
        bool up = false, has_address = false;
        for (a = all; a; a = a->ifa_next) {
            size_t n = strcspn(a->ifa_name, ":");   /* eth0:1 is on eth0 */
            if (!*name || (!l->any && (strlen(name) != n ||
                                       strncmp(a->ifa_name, name, n) != 0)))
                continue;
            up |= a->ifa_flags & IFF_UP;
            if (!a->ifa_addr || l->naddrs == ADDRESSES_MAX)
                continue;
            struct addr *to = &l->addr[l->naddrs];
            if (a->ifa_addr->sa_family == AF_INET)
                *to = addr_v4(&((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr);
            else if (a->ifa_addr->sa_family == AF_INET6 && !m->only_v4)
                memcpy(to, &((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr,
                       sizeof *to);
            else
                continue;
            has_address = true;
            l->naddrs++;
        }
        if (l->any || !*name)
            continue;
        if (index && l->ninterfaces < INTERFACES_MAX)
            l->interface[l->ninterfaces++] = index;
        else if (!index && snprintf(missing + strlen(missing), 64, " %s", name))
            why = "does not exist";
        if ((why = why ? why : !up ? "is down" : !has_address ? "has no address" :
             NULL) && strlen(waiting) < WAITING_MAX - 64)
            sprintf(waiting + strlen(waiting), "%s%s %s", *waiting ? ", " : "",
                    name, why);
    }
    qsort(l->addr, l->naddrs, sizeof *l->addr, addr_cmp);
    freeifaddrs(all);
    free(list);
    return true;
}

static void order_send(struct monitor *m, struct order *o)
{
    size_t n = o->kind == NEW_LOCALS ? sizeof *o : offsetof(struct order, locals);
    if (m->channel >= 0 && send(m->channel, o, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
        && m->sniffer > 0)
        kill(m->sniffer, SIGKILL);  /* it hangs; a new one starts up to date */
}

static void sequence_send(struct monitor *m, const struct door *d)
{
    struct order o = { .kind = NEW_SEQUENCE, .nseq = d->nseq,
                       .door = (uint32_t)(d - m->conf.doors) };
    memcpy(o.seq, d->seq, sizeof o.seq);
    order_send(m, &o);
}

/* An interface or an address has changed (rtnetlink(7)): read all anew. */
static void locals_changed(struct monitor *m)
{
    static struct order o;
    char buf[8192], missing[WAITING_MAX], waiting[WAITING_MAX];
    while (m->netlink >= 0 && recv(m->netlink, buf, sizeof buf, MSG_DONTWAIT) > 0)
        ;                           /* ENOBUFS, too, only means "read anew" */
    o.kind = NEW_LOCALS;
    if (!locals_read(m, &o.locals, missing, waiting))
        return;
    if (strcmp(waiting, m->waiting_for) != 0) {
        say(LOG, *waiting ? "waiting: %s" : "listening on %s again",
            *waiting ? waiting : m->interface);
        free(m->waiting_for);
        m->waiting_for = copy(waiting);
    }
    if (memcmp(&o.locals, &m->locals, sizeof m->locals) != 0) {
        m->locals = o.locals;
        order_send(m, &o);
    }
}

static void sniffer_start(struct monitor *m)
{
    int ends[2] = { -1, -1 };
    pid_t monitor = getpid(), pid = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0)
        pid = fork();
    if (pid == 0) {
        struct sniffer *s = allocate(NULL, sizeof *s);
        *s = (struct sniffer){ .conf = &m->conf, .locals = m->locals,
            .packets = m->packets, .channel = ends[1], .only_v4 = m->only_v4,
            .debug = out.debug };
        sniff(s, monitor);
    }
    if (pid < 0)
        say(LOG, "could not start a sniffer: %s", strerror(errno));
    close(ends[1]);
    m->sniffer = pid;
    m->channel = ends[0];
    m->sniffer_since = now_ms();
    m->sniffer_again = pid < 0 ? m->sniffer_since + RETRY_MS : INT64_MAX;
    m->bad_record = false;
}

/* What is wrong with a record from the sniffer, which may have been taken
 * over; NULL if nothing is. */
static const char *fault(const struct monitor *m, const struct event *e, ssize_t n)
{
    if (n != sizeof *e)
        return "size";
    if (e->kind >= KINDS)
        return "kind";
    if (e->kind == COUNTER && e->stage >= COUNTERS)
        return "counter";
    if (e->kind != STAGE && e->kind != OPEN && e->kind != TIMEOUT)
        return NULL;
    if (e->door >= m->conf.ndoors)
        return "door";
    const struct door *d = &m->conf.doors[e->door];
    if (e->stage < 1 || e->stage > d->nseq || (e->kind == OPEN &&
                                               e->stage != d->nseq))
        return "stage";
    return !addr_usable(&e->src) || (m->only_v4 && !is_v4(&e->src)) ||
           !allowed(d, &e->src) ? "address" : NULL;
}

static void started(struct monitor *m, uint64_t skipped);

static void counters_say(struct monitor *m, const struct event *e)
{
    static uint64_t v[COUNTERS];
    unsigned grants = 0;
    v[e->stage] = e->value;
    if (e->stage != COUNTERS - 1)
        return;
    for (const struct grant *g = m->grants; g; g = g->next)
        grants++;
    say(LOG, "counters: packets %llu, drops %llu, hits %llu, attempts %llu, "
        "evictions %llu, cancelled %llu, opens %llu, grants %u, commands %llu",
        (unsigned long long)v[PACKETS], (unsigned long long)v[LOST],
        (unsigned long long)v[HITS], (unsigned long long)v[ATTEMPTS],
        (unsigned long long)v[EVICTIONS], (unsigned long long)v[CANCELLED],
        (unsigned long long)v[OPENS], grants, (unsigned long long)m->commands);
}

/* One record from the sniffer; false at the channel's end. */
static bool event_take(struct monitor *m)
{
    struct event e;
    ssize_t n = recv(m->channel, &e, sizeof e, MSG_TRUNC);
    if (n <= 0)
        return false;
    const char *why = fault(m, &e, n);
    struct door *d = why || e.door >= m->conf.ndoors ? NULL : &m->conf.doors[e.door];
    char ip[INET6_ADDRSTRLEN];
    addr_text(&e.src, ip);
    if (why && !m->bad_record) {
        say(LOG, "bad record from the sniffer (%s): ignored", why);
        m->bad_record = true;
    }
    if (why)
        return true;
    switch ((enum kind)e.kind) {
    case READY:
        started(m, e.value);
        break;
    case STAGE:
        say(LOG, "%s: %s: Stage %u", ip, d->name, e.stage);
        break;
    case OPEN:
        door_open(m, d, &e.src);
        break;
    case TIMEOUT:
        say(LOG, "%s: %s: sequence timeout (stage %u)", ip, d->name, e.stage);
        break;
    case PACKET:
        say(OUT, "packet: %s: %s:%u -> port %u, %u bytes",
            e.value >> 48 == TCP ? "tcp" : "udp", ip,
            (unsigned)(e.value >> 32 & 0xffff), (unsigned)(e.value >> 16 & 0xffff),
            (unsigned)(e.value & 0xffff));
        break;
    case SUPPRESSED:
        say(LOG, "%llu messages suppressed", (unsigned long long)e.value);
        break;
    case DROPS:
        say(LOG, "%llu packets came faster than they could be read",
            (unsigned long long)e.value);
        break;
    case COUNTER:
        counters_say(m, &e);
        break;
    case KINDS:
        break;
    }
    return true;
}

/* Takes what the sniffer still has to say, until it ends; not for long. */
static void sniffer_drain(struct monitor *m)
{
    int64_t until = now_ms() + DRAIN_MS;
    struct pollfd fd = { m->channel, POLLIN, 0 };
    while (m->channel >= 0 && now_ms() < until && poll(&fd, 1, DRAIN_MS) > 0 &&
           event_take(m))
        ;
    if (m->channel >= 0)
        close(m->channel);
    m->channel = -1;
}

static void sniffer_stop(struct monitor *m)
{
    if (m->channel >= 0)
        shutdown(m->channel, SHUT_WR);
    sniffer_drain(m);
    if (m->sniffer > 0) {
        kill(m->sniffer, SIGKILL);  /* if it has not ended by itself */
        waitpid(m->sniffer, NULL, 0);
    }
    m->sniffer = -1;
}

/* The sniffer has died by itself.  A new one starts, at once or, if this one
 * did not live for long, after a pause. */
static void sniffer_died(struct monitor *m, int status)
{
    m->sniffer = -1;
    sniffer_drain(m);
    say(LOG, "the sniffer died (%s %d): starting another",
        WIFSIGNALED(status) ? "signal" : "status",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    m->sniffer_again = now_ms();
    if (m->sniffer_again < m->sniffer_since + RETRY_MS)
        m->sniffer_again += RETRY_MS;
}

/* -l: a process of its own looks names up, so that no slow DNS delays a knock;
 * all lines go through it to keep their order.  Its queue full: they don't. */
static void namer(int from, const struct monitor *m)
{
    static struct { struct addr addr; char name[256]; } cache[256];
    char text[TEXT_MAX + 300], line[TEXT_MAX];
    struct addr a;
    ssize_t n;
    out.namer = -1;
    close(m->packets);
    if (m->state_fd >= 0)
        close(m->state_fd);
    own_id();
    while ((n = recv(from, line, sizeof line - 1, 0)) > 0) {
        line[n] = '\0';
        char *rest = strstr(line, ": ");
        snprintf(text, sizeof text, "%.*s", (int)(rest ? rest - line : 0), line);
        if (!rest || !addr_parse(text, &a)) {
            write_log(line);
            continue;
        }
        unsigned i = (unsigned)checksum((const char *)&a, sizeof a) % 256;
        union { struct sockaddr_in v4; struct sockaddr_in6 v6; } sa = { 0 };
        sa.v6.sin6_family = is_v4(&a) ? AF_INET : AF_INET6;
        if (is_v4(&a))
            memcpy(&sa.v4.sin_addr, a.b + 12, 4);
        else
            memcpy(&sa.v6.sin6_addr, &a, sizeof a);
        if (addr_cmp(&cache[i].addr, &a) != 0) {
            cache[i].addr = a;
            if (getnameinfo((struct sockaddr *)&sa, is_v4(&a) ? sizeof sa.v4 :
                            sizeof sa.v6, cache[i].name, sizeof cache[i].name,
                            NULL, 0, NI_NAMEREQD) != 0)
                *cache[i].name = '\0';
        }
        if (*cache[i].name)
            snprintf(text, sizeof text, "%.*s (%s)%s", (int)(rest - line), line,
                     cache[i].name, rest);
        else
            snprintf(text, sizeof text, "%s", line);
        write_log(text);
    }
    _exit(0);
}

static void namer_start(struct monitor *m)
{
    int ends[2];
    if (out.namer >= 0)
        close(out.namer);           /* it writes what it has, and ends */
    out.namer = -1;
    if (!m->lookup || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return;
    m->namer = fork();
    if (m->namer == 0) {
        close(ends[0]);
        namer(ends[1], m);
    }
    close(ends[1]);
    out.namer = ends[0];
}

/* Opens the log as the configuration says; file before option, as in 0.8.
 * /dev/stdout and /dev/stderr are kept: they may be closed by then. */
static bool log_open(struct monitor *m)
{
    const char *path = m->conf.logfile ? m->conf.logfile : m->logfile;
    int fd = -1;
    bool standard = path && (strcmp(path, "/dev/stdout") == 0 ||
                             strcmp(path, "/dev/stderr") == 0);
    if (standard)
        fd = fcntl(m->standard[path[8] == 'e'], F_DUPFD_CLOEXEC, 3);
    else if (path)
        fd = openat(m->cwd, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
                    O_NOCTTY, 0640);
    if (path && fd < 0) {
        say(LOG, "could not open log file %s: %s", path, strerror(errno));
        return false;
    }
    if (out.file >= 0)
        close(out.file);
    out.file = fd;
    out.use_syslog = m->conf.use_syslog;
    return true;
}

static void interface_set(struct monitor *m)
{
    m->interface = m->interface_option ? m->interface_option :
                   m->conf.interface ? m->conf.interface : "any";
}

/* SIGHUP.  A file that is bad changes nothing.  The ring goes on filling while
 * one sniffer follows the other, so no knock is lost. */
static void reload(struct monitor *m)
{
    struct conf new;
    say(LOG, "re-reading config file: %s", m->config);
    if (!config_load(&new, m->cwd, m->config, false)) {
        say(LOG, "%s has errors: everything stays as it was", m->config);
        config_free(&new);
        return;
    }
    sniffer_stop(m);
    config_free(&m->conf);
    m->conf = new;
    interface_set(m);
    if (m->conf.logfile || m->logfile)
        say(LOG, "re-opening log file: %s", m->conf.logfile ? m->conf.logfile :
            m->logfile);
    log_open(m);
    namer_start(m);
    locals_changed(m);
    sniffer_start(m);
}

/* ---- The monitor's loop ----------------------------------------------- */

/* Tells whoever waits for it, once, that knocks count from now on. */
static void started(struct monitor *m, uint64_t skipped)
{
    char list[512] = "";
    for (unsigned i = 0; i < sizeof sandbox_steps / sizeof *sandbox_steps; i++)
        if (skipped >> i & 1)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
                     *list ? ", " : "", sandbox_steps[i]);
    if (m->ready)
        return;
    m->ready = true;
    const char *socket_path = getenv("NOTIFY_SOCKET");  /* sd_notify(3) */
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    say(LOG, "starting up, listening on %s", m->interface);
    if (out.verbose)
        say(OUT, "listening on %s...", m->interface);
    if (*list)
        say(LOG, "warning: the sniffer could not be given: %s", list);
    if (*m->waiting_for)
        say(LOG, "waiting: %s", m->waiting_for);
    if (socket_path && strlen(socket_path) < sizeof un.sun_path) {
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        strcpy(un.sun_path, socket_path);
        if (*un.sun_path == '@')
            *un.sun_path = '\0';
        sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&un,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                           strlen(socket_path)));
        close(fd);
    }
    if (m->ready_fd >= 0) {         /* -d: the first process may end */
        if (chdir("/") != 0)
            say(LOG, "chdir /: %s", strerror(errno));
        for (int fd = 0; fd < 3; fd++)
            dup2(m->null, fd);
        out.detached = true;
        if (write(m->ready_fd, "", 1) == 1)
            close(m->ready_fd);
        m->ready_fd = -1;
    }
}

static void signals_take(struct monitor *m)
{
    struct signalfd_siginfo info;
    pid_t pid;
    int status;
    if (read(m->signals, &info, sizeof info) != sizeof info)
        return;
    switch (info.ssi_signo) {
    case SIGHUP:
        if (!m->ending)
            reload(m);
        break;
    case SIGUSR1:
        order_send(m, &(struct order){ .kind = TELL_COUNTERS });
        break;
    case SIGCHLD:
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (pid == m->sniffer)
                sniffer_died(m, status);
            else if (pid == m->namer)
                namer_start(m);
            else
                job_reap(m, pid, status);
        break;
    default:
        m->ending = true;
    }
}

/* Ends what waits to start; what is open will be closed. */
static void starts_cancel(struct monitor *m)
{
    for (struct job *j = m->jobs, *next; j; j = next) {
        next = j->next;
        if (!j->stop && !j->pid) {
            say(LOG, "%s: shutting down, not run: %s", j->door, j->command);
            job_end(m, j);
        }
    }
}

/* One turn: everything that is due, then sleep until something happens. */
static void turn(struct monitor *m)
{
    enum { SIGNALS, CHANNEL, NETLINK, SLOTS };
    static struct pollfd fds[SLOTS + OUTPUTS_MAX];
    int64_t now = now_ms(), wake = grants_close(m, now);
    jobs_launch(m, now);
    if (m->sniffer < 0 && !m->ending && now >= m->sniffer_again)
        sniffer_start(m);
    if (m->sniffer < 0)
        wake = min_ms(wake, m->sniffer_again);
    for (struct job *j = m->jobs; j; j = j->next)
        if (!j->pid && !j->blocked && j->not_before > now)
            wake = min_ms(wake, j->not_before);
    if (m->ending)
        wake = min_ms(wake, now + 100);
    fds[SIGNALS] = (struct pollfd){ m->signals, POLLIN, 0 };
    fds[CHANNEL] = (struct pollfd){ m->channel, POLLIN, 0 };
    fds[NETLINK] = (struct pollfd){ m->netlink, POLLIN, 0 };
    for (unsigned i = 0; i < m->noutputs; i++)
        fds[SLOTS + i] = (struct pollfd){ m->outputs[i].fd, POLLIN, 0 };
    int64_t ms = wake == INT64_MAX ? -1 : wake > now ? wake - now : 0;
    if (poll(fds, SLOTS + m->noutputs, ms > INT_MAX ? INT_MAX : (int)ms) <= 0)
        return;
    for (unsigned i = m->noutputs; i--;)
        if (fds[SLOTS + i].revents && !output_read(&m->outputs[i]))
            m->outputs[i] = m->outputs[--m->noutputs];
    if (fds[CHANNEL].revents && !event_take(m)) {
        close(m->channel);
        m->channel = -1;            /* SIGCHLD says the rest */
    }
    if (fds[NETLINK].revents)
        locals_changed(m);
    if (fds[SIGNALS].revents)
        signals_take(m);
}

static void run(struct monitor *m)
{
    while (!m->ending)
        turn(m);
    if (out.verbose)
        say(OUT, "waiting for child processes...");
    sniffer_stop(m);
    starts_cancel(m);
    int64_t until = now_ms() + SHUTDOWN_MS;
    for (turn(m); m->grants && now_ms() < until;)
        turn(m);
    say(LOG, "shutting down");
    if (m->state && !m->grants)
        unlinkat(m->cwd, m->state, 0);
    if (m->pid_path)
        unlinkat(m->cwd, m->pid_path, 0);
    if (out.verbose)
        say(OUT, "closing...");
}

/* ---- Start ------------------------------------------------------------ */

static const char usage[] =
    "usage: knockd [options]\n"
    "  -i, --interface <list>  listen on these interfaces: eth0,wlan0 or any "
    "(default)\n"
    "  -c, --config <file>     configuration (default " CONFIG_PATH ")\n"
    "  -t, --test              say what the configuration means, warn, and exit\n"
    "  -d, --daemon            run in the background, once ready\n"
    "  -p, --pidfile <file>    pid of the daemon (default " PID_PATH ");\n"
    "                          the state file stands beside it\n"
    "  -g, --logfile <file>    log to this file\n"
    "  -l, --lookup            log the names of addresses as well\n"
    "  -4, --only-ip-v4        ignore IPv6\n"
    "  -v, --verbose           print log lines on stdout\n"
    "  -D, --debug             print every packet that is looked at\n"
    "  -V, --version           print the version\n"
    "  -h, --help              print this\n"
    "Signals: HUP reads the configuration again, USR1 logs counters, TERM closes\n"
    "all doors and ends.  See knockd(8) and knockd.conf(5).\n";

static bool options(struct monitor *m, int argc, char **argv)
{
    static const struct option names[] = {
        { "interface", 1, NULL, 'i' }, { "config", 1, NULL, 'c' },
        { "test", 0, NULL, 't' }, { "daemon", 0, NULL, 'd' },
        { "pidfile", 1, NULL, 'p' }, { "logfile", 1, NULL, 'g' },
        { "lookup", 0, NULL, 'l' }, { "only-ip-v4", 0, NULL, '4' },
        { "verbose", 0, NULL, 'v' }, { "debug", 0, NULL, 'D' },
        { "version", 0, NULL, 'V' }, { "help", 0, NULL, 'h' }, { 0, 0, NULL, 0 }
    };
    bool test = false;
    for (int c; (c = getopt_long(argc, argv, "i:c:tdp:g:l4vDVh", names, NULL)) != -1;)
        switch (c) {
        case 'i': m->interface_option = optarg; break;
        case 'c': m->config = optarg; break;
        case 't': test = true; break;
        case 'd': m->daemon = true; break;
        case 'p': m->pidfile = optarg; break;
        case 'g': m->logfile = optarg; break;
        case 'l': m->lookup = true; break;
        case '4': m->only_v4 = true; break;
        case 'v': out.verbose = true; break;
        case 'D': out.debug = true; break;
        case 'V': exit(printf("knockd " VERSION "\n") < 0);
        case 'h': exit(printf("%s", usage) < 0);
        default:
            fprintf(stderr, "%s", usage);
            exit(1);
        }
    if (argv[optind])
        die("unexpected operand '%.40s'\n%s", argv[optind], usage);
    return test;
}

/* -d: forks; the first process waits until the daemon is ready and returns its
 * success, or 1 when it ends before that. */
static void detach(struct monitor *m)
{
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC) != 0)
        die("pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    close(ends[pid > 0]);
    if (pid > 0)
        _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
    m->ready_fd = ends[1];
    setsid();
}

/* Writes and locks the pidfile; another daemon's is left alone. */
static void pidfile_write(struct monitor *m)
{
    int fd = openat(m->cwd, m->pid_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                    0644);
    if (fd < 0) {
        say(LOG, "could not create pid file %s: %s", m->pid_path, strerror(errno));
        free(m->pid_path);
        m->pid_path = NULL;
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        die("another knockd runs with pid file %s", m->pid_path);
    else if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        say(LOG, "could not write pid file %s: %s", m->pid_path, strerror(errno));
    m->pid_fd = fd;
}

/* The state file stands beside the pidfile, so that each of several daemons
 * has its own. */
static char *state_path(const char *pidfile)
{
    size_t n = strlen(pidfile);
    if (strcmp(pidfile, PID_PATH) == 0)
        return copy(STATE_PATH);
    if (n > 4 && strcmp(pidfile + n - 4, ".pid") == 0)
        n -= 4;
    char *path = allocate(NULL, n + sizeof ".state");
    sprintf(path, "%.*s.state", (int)n, pidfile);
    return path;
}

/* The interfaces must exist at the start; up and with an address they may be
 * later. */
static void interfaces_check(struct monitor *m)
{
    char missing[WAITING_MAX], waiting[WAITING_MAX], there[WAITING_MAX] = "";
    struct netlink_addr_ nl = { .family = AF_NETLINK, .groups = RTNL_GROUPS };
    m->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (m->netlink < 0 || bind(m->netlink, (struct sockaddr *)(void *)&nl, sizeof nl) != 0)
        say(LOG, "warning: can't follow changes of interfaces and addresses: %s",
            strerror(errno));
    if (!locals_read(m, &m->locals, missing, waiting))
        die("could not read the interfaces: %s", strerror(errno));
    struct if_nameindex *names = if_nameindex();
    for (struct if_nameindex *i = names; i && i->if_name; i++)
        if (strlen(there) < WAITING_MAX - IFNAMSIZ - 1)
            sprintf(there + strlen(there), " %s", i->if_name);
    if_freenameindex(names);
    if (*missing)
        die("no such interface:%s (there are:%s)", missing, there);
    m->waiting_for = copy(waiting);
}

static void signals_open(struct monitor *m)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
    static struct monitor m;        /* all zero: costs no room in the file */
    m.config = CONFIG_PATH;
    m.pidfile = PID_PATH;
    m.channel = m.netlink = m.pid_fd = m.state_fd = m.ready_fd = -1;
    m.sniffer = -1;
    while ((m.null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && m.null < 3)
        fcntl(m.null, F_SETFD, 0);  /* 0, 1, 2 were closed: they stay this */
    bool test = options(&m, argc, argv);
    m.cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool good = config_load(&m.conf, m.cwd, m.config, test);
    if (test && good)
        config_print(&m.conf);
    if (test || !good)
        return !good;
    setenv("PATH", DEFAULT_PATH, 0);
    mode_t mask = umask(022);       /* a command's files are not everyone's */
    umask(mask ? mask : 022);
    m.standard[0] = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    m.standard[1] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    interface_set(&m);
    if (m.daemon)
        detach(&m);
    signals_open(&m);
    m.packets = packet_socket();
    interfaces_check(&m);
    m.pid_path = copy(m.conf.pidfile ? m.conf.pidfile : m.pidfile);
    m.state = state_path(m.pid_path);
    if (!log_open(&m))
        return 1;
    if (m.daemon)
        pidfile_write(&m);
    out.started = true;
    namer_start(&m);
    state_load(&m);
    sniffer_start(&m);
    run(&m);
    return 0;
}
