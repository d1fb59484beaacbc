/*
 * bench_probe - the bench's clock: how long from a knock to what it causes
 *
 *	cc -O2 -o build/bench_probe tests/bench_probe.c
 *
 *	bench_probe knock SOCKET HOST PORTS COUNT
 *		knocks COUNT times; prints for each the microseconds from the
 *		last knock to the stamp of bench_stamp, the doors' command
 *	bench_probe rule NETNS HOST PORTS COUNT FROM
 *		the same until a datagram to HOST's port 2222 arrives at a
 *		socket in NETNS (a file of /proc/PID/ns); each knock comes from
 *		an address of its own, counted up from FROM, which must be local
 *	bench_probe crowd NETNS HOST PORTS COUNT FROM
 *		COUNT addresses knock once each, within a second; prints the
 *		microseconds from the last knock until a datagram of the last
 *		address arrives, as above
 *	bench_probe datagrams SOCKET HOST FILE
 *		sends a datagram for each line PORT HEX of FILE; prints the
 *		microseconds from each to the stamp that it causes
 *	bench_probe reload SOCKET HOST FILE PID
 *		sends SIGHUP to PID, then these datagrams, half a millisecond
 *		apart, until one causes a stamp; prints the microseconds from
 *		the signal to the stamp
 *	bench_probe many SOCKET COUNT COMMAND...
 *		runs COMMAND (a generator); prints the milliseconds until COUNT
 *		stamps have come, and from how many addresses
 *	bench_probe start WORD COMMAND...
 *		runs COMMAND (a daemon); prints the microseconds from exec to
 *		the WORD on its standard output, then ends it
 *	bench_probe floor INTERFACE PORT COMMAND
 *		the least that any daemon can do: one process, one packet
 *		socket; runs COMMAND for each SYN to PORT, %IP% replaced
 *
 * A value that does not come within 2 seconds (start: 60) is printed as "-".
 * All times are of CLOCK_MONOTONIC.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 2000000000LL /* ns */
#define START_PATIENCE 60000000000LL
#define PROBE_PORT 2222
#define PORTS_MAX 32

static int64_t now(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void rest(int64_t ns) {
    struct timespec t = { ns / 1000000000, ns % 1000000000 };

    nanosleep(&t, NULL);
}

static void print_us(int64_t ns) {
    if (ns < 0) puts("-");
    else printf("%.1f\n", (double)ns / 1000);
    fflush(stdout);
}

static struct sockaddr_in in4(uint32_t addr, int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(addr),
    };
}

static uint32_t parse4(const char *text) {
    struct in_addr a;

    if (inet_pton(AF_INET, text, &a) != 1)
        errx(1, "%s: not an IPv4 address", text);
    return ntohl(a.s_addr);
}

/* The list of ports; returns how many. */
static int parse_ports(const char *text, int *ports) {
    char *copy = strdup(text), *rest_of = copy, *item;
    int n = 0;

    while (n < PORTS_MAX && (item = strsep(&rest_of, ",")))
        ports[n++] = atoi(item);
    free(copy);
    return n;
}

/* One SYN, sent when connect() returns; from: 0 or the address to use. */
static void hit(uint32_t from, uint32_t host, int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = in4(from, 0), to = in4(host, port);

    if (from && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        err(1, "bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 &&
        errno != EINPROGRESS && errno != ECONNREFUSED)
        err(1, "connect");
    close(fd);
}

/* All ports but the last, a millisecond apart, then a rest of random length
 * (no daemon shall be in step with us), then the last. Returns its time. */
static int64_t knock(uint32_t from, uint32_t host, const int *ports, int n) {
    int64_t t;

    for (int i = 0; i < n - 1; i++) {
        hit(from, host, ports[i]);
        rest(1000000);
    }
    rest(20000000 + random() % 60000000);
    t = now();
    hit(from, host, ports[n - 1]);
    return t;
}

/* A datagram socket at the path, readable for any user's command. */
static int stamp_socket(const char *path) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    unlink(path);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) err(1, "%s", path);
    return fd;
}

/* The next stamp's time, and its text without the time; -1: none came. */
static int64_t next_stamp(int fd, int64_t patience, char text[128]) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int64_t end = now() + patience, left;
    char *space;
    ssize_t n;

    do {
        left = (end - now()) / 1000000;
        if (left < 0) return -1;
    } while (poll(&p, 1, (int)left + 1) <= 0);
    n = recv(fd, text, 127, 0);
    if (n <= 0) return -1;
    text[n] = '\0';
    space = strchr(text, ' ');
    if (!space) return -1;
    memmove(text + 64, space + 1, strlen(space + 1) + 1);
    return strtoll(text, NULL, 10);
}

static void do_knock(char **argv) {
    int fd = stamp_socket(argv[0]), ports[PORTS_MAX];
    int n = parse_ports(argv[2], ports), count = atoi(argv[3]);
    uint32_t host = parse4(argv[1]);
    int64_t t, stamp;
    char text[128];

    while (count--) {
        t = knock(0, host, ports, n);
        stamp = next_stamp(fd, PATIENCE, text);
        print_us(stamp < 0 ? -1 : stamp - t);
    }
}

/* A datagram socket for the probes, in the other network namespace. */
static int probe_socket(const char *netns, uint32_t host) {
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int other = open(netns, O_RDONLY | O_CLOEXEC), fd;
    struct sockaddr_in a = in4(host, PROBE_PORT);

    if (other < 0 || setns(other, CLONE_NEWNET) < 0) err(1, "%s", netns);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) err(1, "bind");
    if (setns(own, CLONE_NEWNET) < 0) err(1, "setns");
    close(own);
    close(other);
    return fd;
}

/* Send datagrams from an address until one arrives; -1: none did. */
static int64_t probe(int in, uint32_t from, uint32_t host) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = in4(from, 0), to = in4(host, PROBE_PORT);
    int64_t end = now() + PATIENCE, t = -1;
    char c;

    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) err(1, "bind");
    while (t < 0 && now() < end) {
        (void)!sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof(to));
        if (recv(in, &c, 1, 0) == 1) t = now();
        else rest(20000);
    }
    close(fd);
    return t;
}

static void do_rule(char **argv) {
    uint32_t host = parse4(argv[1]), from = parse4(argv[4]);
    int in = probe_socket(argv[0], host), ports[PORTS_MAX];
    int n = parse_ports(argv[2], ports), count = atoi(argv[3]);
    int64_t t, open_at;

    while (count--) {
        t = knock(from, host, ports, n);
        open_at = probe(in, from, host);
        print_us(open_at < 0 ? -1 : open_at - t);
        from++;
    }
}

static void do_crowd(char **argv) {
    uint32_t host = parse4(argv[1]), from = parse4(argv[4]);
    int in = probe_socket(argv[0], host), ports[PORTS_MAX];
    int n = parse_ports(argv[2], ports), count = atoi(argv[3]);
    int64_t start = now(), t = start, open_at;

    for (int i = 0; i < count; i++) {
        for (int j = 0; j < n; j++) {
            t = now();
            hit(from + (uint32_t)i, host, ports[j]);
        }
        while (i < count - 1 &&
               now() < start + 1000000000LL * (i + 1) / count)
            rest(50000);
    }
    open_at = probe(in, from + (uint32_t)count - 1, host);
    print_us(open_at < 0 ? -1 : open_at - t);
}

/* Sends the datagram that the next line of the file has, PORT HEX, from a port of
 * its own. Returns when, or -1: there is no line. */
static int64_t next_datagram(FILE *f, uint32_t host) {
    uint8_t bytes[256];
    char hex[2 * sizeof(bytes) + 1];
    struct sockaddr_in to;
    size_t n = 0;
    int port, fd;
    int64_t t;

    if (fscanf(f, "%d %512s", &port, hex) != 2) return -1;
    while (n < sizeof(bytes) && sscanf(hex + 2 * n, "%2hhx", bytes + n) == 1)
        n++;
    to = in4(host, port);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    t = now();
    if (sendto(fd, bytes, n, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        err(1, "send");
    close(fd);
    return t;
}

static FILE *open_lines(const char *path) {
    FILE *f = fopen(path, "re");

    if (!f) err(1, "%s", path);
    return f;
}

static void do_datagrams(char **argv) {
    int fd = stamp_socket(argv[0]);
    uint32_t host = parse4(argv[1]);
    FILE *f = open_lines(argv[2]);
    int64_t t, stamp;
    char text[128];

    while ((t = next_datagram(f, host)) >= 0) {
        stamp = next_stamp(fd, PATIENCE, text);
        print_us(stamp < 0 ? -1 : stamp - t);
        rest(20000000 + random() % 60000000);
    }
}

static void do_reload(char **argv) {
    int fd = stamp_socket(argv[0]);
    uint32_t host = parse4(argv[1]);
    FILE *f = open_lines(argv[2]);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct timespec half_ms = { 0, 500000 };
    int64_t start = now(), stamp;
    char text[128];

    kill(atoi(argv[3]), SIGHUP);
    while (next_datagram(f, host) >= 0)
        if (ppoll(&p, 1, &half_ms, NULL) > 0) break;
    stamp = next_stamp(fd, PATIENCE, text);
    print_us(stamp < 0 ? -1 : stamp - start);
}

/* Start a program; out: -1 or what its standard output becomes. */
static pid_t run(char **argv, int out) {
    pid_t pid = fork();

    if (pid < 0) err(1, "fork");
    if (pid) return pid;
    if (out >= 0) dup2(out, 1);
    execvp(argv[0], argv);
    err(127, "%s", argv[0]);
}

/* Is this text new among the first n? */
static bool is_new(char (*seen)[64], int n, const char *text) {
    for (int i = 0; i < n; i++)
        if (!strcmp(seen[i], text)) return false;
    return true;
}

static void do_many(char **argv) {
    int fd = stamp_socket(argv[0]), count = atoi(argv[1]), sources = 0;
    char(*seen)[64] = calloc((size_t)count, 64), text[128];
    int64_t start, stamp, last = 0;
    pid_t pid;
    int n;

    /* The queue of a datagram socket is short: read at once. */
    start = now();
    pid = run(argv + 2, open("/dev/null", O_WRONLY | O_CLOEXEC));
    for (n = 0; n < count; n++) {
        stamp = next_stamp(fd, PATIENCE, text);
        if (stamp < 0) break;
        last = stamp > last ? stamp : last;
        if (is_new(seen, sources, text + 64))
            memcpy(seen[sources++], text + 64, 64);
    }
    waitpid(pid, NULL, 0);
    if (n < count) printf("- %d\n", sources);
    else printf("%.1f %d\n", (double)(last - start) / 1e6, sources);
}

/* When the word comes out of the pipe; -1: it did not. */
static int64_t wait_for_word(int fd, const char *word) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int64_t end = now() + START_PATIENCE, t;
    char text[4096] = "";
    size_t len = 0;
    ssize_t n;

    while (now() < end && len < sizeof(text) - 1) {
        if (poll(&p, 1, 1000) <= 0) continue;
        t = now();
        n = read(fd, text + len, sizeof(text) - 1 - len);
        if (n <= 0) return -1;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, word)) return t;
    }
    return -1;
}

static void do_start(char **argv) {
    int64_t start, ready;
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) err(1, "pipe");
    start = now();
    pid = run(argv + 1, fds[1]);
    close(fds[1]);
    ready = wait_for_word(fds[0], argv[0]);
    print_us(ready < 0 ? -1 : ready - start);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

/* The command's words with the address; run, and not waited for. */
static void floor_run(char *command, const uint8_t *from) {
    char *argv[32], ip[16], whole[256], *at, *rest_of = whole;
    int n = 0;

    snprintf(ip, sizeof(ip), "%d.%d.%d.%d", from[0], from[1], from[2],
             from[3]);
    at = strstr(command, "%IP%");
    snprintf(whole, sizeof(whole), "%.*s%s%s",
             (int)(at ? at - command : (int)strlen(command)), command,
             at ? ip : "", at ? at + 4 : "");
    while (n < 31 && (argv[n] = strsep(&rest_of, " "))) n++;
    argv[n] = NULL;
    if (vfork() == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
}

static void do_floor(char **argv) {
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_ll a = { .sll_family = AF_PACKET,
                             .sll_protocol = htons(3), /* ETH_P_ALL */
                             .sll_ifindex = (int)if_nametoindex(argv[0]) };
    int port = atoi(argv[1]);
    uint8_t p[64];

    signal(SIGCHLD, SIG_IGN);
    setsockopt(fd, SOL_PACKET, 23, &yes, sizeof(yes)); /* IGNORE_OUTGOING */
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) err(1, "%s", argv[0]);
    puts("listening on");
    fflush(stdout);
    while (recv(fd, p, sizeof(p), 0) >= 0)
        if (p[0] == 0x45 && p[9] == IPPROTO_TCP && p[33] == 2 &&
            p[22] << 8 == (port & 0xff00) && p[23] == (port & 255))
            floor_run(argv[2], p + 12);
}

int main(int argc, char **argv) {
    static const struct {
        const char *word;
        int least; /* operands */
        void (*act)(char **operands);
    } modes[] = {
        { "knock", 4, do_knock },   { "rule", 5, do_rule },
        { "crowd", 5, do_crowd },   { "datagrams", 3, do_datagrams },
        { "reload", 4, do_reload }, { "many", 3, do_many },
        { "start", 2, do_start },   { "floor", 3, do_floor },
    };

    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    srandom((unsigned)now());
    for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(*modes); i++)
        if (!strcmp(argv[1], modes[i].word) && argc - 2 >= modes[i].least) {
            modes[i].act(argv + 2);
            return 0;
        }
    errx(1, "usage: see the top of bench_probe.c");
}
