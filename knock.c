/*
 * knock - hits ports of a host in order, so that the knockd there opens a door.
 *
 * From top to bottom: what is given, messages and numbers, words, profiles, the
 * host, the knock, the way through the open door, new sequences, and the start.
 *
 * SPDX-License-Identifier: ISC
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"

enum {
    DELAY_MAX = 86400000, /* ms */
    TIMEOUT_MAX = 86400,  /* s */
    FIRST_TRY_MS = 25,    /* at the door, each further one twice as long, */
    LAST_TRY_MS = 1600,   /* but not longer than this */
    SILENCE_MS = 2000     /* of stdin, after the peer has ended its side */
};

static const char help[] =
    "usage: knock [options] HOST PORT[:tcp|udp]...\n"
    "       knock [options] PROFILE           (a section of "
    "~/.config/knock.conf)\n"
    "  -u, --udp             hit every port with UDP (default: TCP)\n"
    "  -d, --delay MS        wait MS milliseconds after each port (default: "
    "0)\n"
    "  -4, -6                use IPv4 only, or IPv6 only (--ipv4, --ipv6)\n"
    "  -i, --interface NAME  leave by this interface, or from this address\n"
    "  -w, --wait PORT       then wait until PORT accepts a connection\n"
    "  -W, --connect PORT    then connect PORT to stdin and stdout\n"
    "  -t, --timeout SEC     let -w and -W try for SEC seconds (default: 10)\n"
    "  -v, --verbose         say what is sent\n"
    "      --generate N      print a new random sequence of N ports\n"
    "  -h, -V                print this help, or the version (--help, "
    "--version)\n"
    "examples: knock -d 500 example.org 7000 8000:udp 9000\n"
    "          knock -w 22 example.org 7000 8000 9000 && ssh example.org\n"
    "          ssh -o ProxyCommand='knock -W %p %h 7000 8000 9000' example.org";

/* ---- What is given ---------------------------------------------------- */

/* What the command line says and, where that is silent, the profile. */
static struct given {
    bool udp, ipv4, ipv6, verbose, help, version;
    const char *interface;   /* or an address of this host */
    unsigned delay, timeout; /* ms; s */
    unsigned wait, connect;  /* ports; 0: none */
    unsigned generate;       /* ports of a new sequence; 0: none */
    uint32_t seen;           /* a bit for each of words[] that was given */
} given = { .timeout = 10 };

/* The options; those that a profile may have as well come first.  One without a
 * short form has a letter that nobody types. */
#define FIELD(name) offsetof(struct given, name)
static const struct word {
    const char *name;
    char letter;
    enum { IS_FLAG, IS_TEXT, IS_NUMBER, IS_PORT } kind;
    size_t field;
    unsigned min, max;
} words[] = {
    { "udp", 'u', IS_FLAG, FIELD(udp), 0, 0 },
    { "delay", 'd', IS_NUMBER, FIELD(delay), 0, DELAY_MAX },
    { "interface", 'i', IS_TEXT, FIELD(interface), 0, 0 },
    { "wait", 'w', IS_PORT, FIELD(wait), 0, 0 },
    { "timeout", 't', IS_NUMBER, FIELD(timeout), 1, TIMEOUT_MAX },
    { "verbose", 'v', IS_FLAG, FIELD(verbose), 0, 0 },
    { "connect", 'W', IS_PORT, FIELD(connect), 0, 0 },
    { "ipv4", '4', IS_FLAG, FIELD(ipv4), 0, 0 },
    { "ipv6", '6', IS_FLAG, FIELD(ipv6), 0, 0 },
    { "generate", '\1', IS_NUMBER, FIELD(generate), 1, SEQUENCE_MAX },
    { "version", 'V', IS_FLAG, FIELD(version), 0, 0 },
    { "help", 'h', IS_FLAG, FIELD(help), 0, 0 },
};
enum { WORDS = sizeof words / sizeof *words, PROFILE_WORDS = 6 };

struct knock {        /* a port to hit; never freed: no free() is linked in */
    const char *text; /* as the user wrote the port */
    in_port_t port;
    bool udp;
    struct knock *next;
};

static struct knock *knocks, **last_knock = &knocks;
static const char *host;
static char where[PATH_MAX + 16]; /* "FILE:LINE: " in a profile, or "" */

/* ---- Words ------------------------------------------------------------ */

/* Writes a message to stderr and ends with status 1. */
__attribute__((format(printf, 1, 2), noreturn)) static void die(
    const char *format, ...) {
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    dprintf(STDERR_FILENO, "knock: %s\n", text);
    exit(1);
}

/* The value of a word of digits; dies if the word is anything else. */
static unsigned number_of(const char *name, const char *text, unsigned min,
                          unsigned max) {
    bool digits = *text && !text[strspn(text, "0123456789")];
    unsigned long value = strtoul(text, NULL, 10); /* ULONG_MAX on overflow */
    if (!digits || value < min || value > max)
        die("%s%s '%s' is not a number from %u to %u", where, name, text, min,
            max);
    return (unsigned)value;
}

/* A port by its number or its name in /etc/services. */
static in_port_t port_of(const char *text) {
    const struct servent *service = getservbyname(text, NULL);
    if (service) return ntohs((in_port_t)service->s_port);
    return (in_port_t)number_of("port", text, 1, 65535);
}

/* Adds PORT[:PROTOCOL] to the knocks; the text is cut in two and kept. */
static void knock_add(char *text) {
    struct knock *k = calloc(1, sizeof *k);
    if (!k) die("%s", strerror(errno));
    k->text = strsep(&text, ":");
    k->udp = text && !strcasecmp(text, "udp");
    if (text && !k->udp && strcasecmp(text, "tcp"))
        die("%sprotocol '%s' is not tcp or udp", where, text);
    k->port = port_of(k->text);
    *last_knock = k;
    last_knock = &k->next;
}

/* Puts the value of an option or of a profile's directive into its field. */
static void word_take(const struct word *w, const char *value) {
    void *field = (char *)&given + w->field;
    given.seen |= 1u << (w - words);
    switch (w->kind) {
    case IS_FLAG: *(bool *)field = true; break;
    case IS_TEXT: *(const char **)field = value; break;
    case IS_PORT: *(unsigned *)field = port_of(value); break;
    case IS_NUMBER:
        *(unsigned *)field = number_of(w->name, value, w->min, w->max);
        break;
    }
}

/* ---- Profiles --------------------------------------------------------- */

static const char separators[] = " \t\r=,"; /* between a profile's words */

/* Takes a line of a profile that is an option of the command line, which beats
 * the profile.  False if there is no such option, or its value does not fit. */
static bool profile_option(const char *name, const char *value) {
    const struct word *w = words;
    while (w < words + PROFILE_WORDS && strcasecmp(name, w->name)) w++;
    if (w == words + PROFILE_WORDS) return false;
    if (w->kind == IS_FLAG && value && strcasecmp(value, "yes")) return false;
    if (w->kind != IS_FLAG && !value) return false;
    if (!(given.seen >> (w - words) & 1)) word_take(w, value);
    return true;
}

/* Takes a line of a profile; strtok() returned its first word. */
static void profile_line(const char *name) {
    char *value = strtok(NULL, separators);
    if (!strcasecmp(name, "ports") || !strcasecmp(name, "sequence"))
        for (; value; value = strtok(NULL, separators)) knock_add(value);
    else if (!strcasecmp(name, "host") && value) host = value;
    else if (!profile_option(name, value))
        die("%s'%s' with '%s' is not understood", where, name,
            value ? value : "");
    if (strtok(NULL, separators)) die("%s'%s' has too many words", where, name);
}

/* Reads a file; NULL if it does not exist.  Warns if others can read it. */
static char *profile_text(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return NULL;
    if (fd < 0 || fstat(fd, &st)) die("%s: %s", path, strerror(errno));
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (!text || read(fd, text, (size_t)st.st_size) < 0)
        die("%s: %s", path, strerror(errno));
    close(fd);
    if (st.st_mode & (S_IRGRP | S_IROTH))
        dprintf(STDERR_FILENO, "knock: warning: others can read %s\n", path);
    return text;
}

/* Takes the section of this heading in the file dir/base, unless there are
 * ports already. */
static void profile_read(const char *dir, const char *base,
                         const char *heading) {
    char path[PATH_MAX];
    if (knocks || !dir || *dir != '/') return;
    snprintf(path, sizeof path, "%s/%s", dir, base);
    char *text = profile_text(path), *line;
    bool wanted = false;
    for (int n = 1; (line = strsep(&text, "\n")); n++) {
        snprintf(where, sizeof where, "%s:%d: ", path, n);
        line[strcspn(line, "#")] = '\0';
        char *name = strtok(line, separators);
        if (name && *name == '[') wanted = !strcmp(name, heading);
        else if (name && wanted) profile_line(name);
    }
    where[0] = '\0';
}

/* ---- The host --------------------------------------------------------- */

static struct addrinfo *own;        /* of -i when that is an address, or NULL */
static const struct addrinfo *peer; /* the host's address that is knocked at */
static char peer_name[NI_MAXHOST];

/* Makes a socket leave by the interface or the address of -i. */
static void leave_by(int fd) {
    const char *name = given.interface;
    int failed = own ? bind(fd, own->ai_addr, own->ai_addrlen)
                     : setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name,
                                  (socklen_t)strlen(name));
    if (failed) die("%s: %s", name, strerror(errno));
}

/* Begins a connection to a port of the peer.  Returns the socket, or -1; *error
 * is 0, EINPROGRESS or what failed. */
static int reach(int type, in_port_t port, int *error) {
    int fd = socket(peer->ai_family, type | SOCK_NONBLOCK, 0);
    if (fd >= 0 && given.interface) leave_by(fd);
    /* struct sockaddr_in6 has its port at the same place. */
    ((struct sockaddr_in *)(void *)peer->ai_addr)->sin_port = htons(port);
    *error = 0;
    if (fd < 0 || connect(fd, peer->ai_addr, peer->ai_addrlen)) *error = errno;
    return fd;
}

/* Writes the peer's address into peer_name, with the zone that host has. */
static void peer_write(void) {
    int at = peer->ai_family == AF_INET ? 2 : 6; /* after the port */
    inet_ntop(peer->ai_family, peer->ai_addr->sa_data + at, peer_name,
              sizeof peer_name);
    strncat(peer_name, host + strcspn(host, "%"), 99);
}

/* Looks the host up, once, and settles on its first address that has a
 * route. */
static void peer_find(void) {
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *all;
    if (given.ipv6) hints.ai_family = AF_INET6;
    if (given.ipv4) hints.ai_family = AF_INET;
    if (given.interface && !getaddrinfo(given.interface, NULL, &hints, &own))
        hints.ai_family = own->ai_family;
    hints.ai_flags = 0;
    hints.ai_socktype = SOCK_STREAM;
    int error = getaddrinfo(host, NULL, &hints, &all);
    if (error) die("%s: %s", host, gai_strerror(error));
    for (peer = all; peer; peer = peer->ai_next) {
        peer_write();
        close(reach(SOCK_DGRAM, knocks->port, &error));
        if (!error) return;
    }
    die("%s: %s", peer_name, strerror(error));
}

/* ---- The knock -------------------------------------------------------- */

/* Sends one SYN or one datagram, whatever comes back, and waits the delay. */
static void hit(const struct knock *k) {
    bool udp = given.udp || k->udp;
    int out = given.connect ? STDERR_FILENO : STDOUT_FILENO, error;
    if (given.verbose)
        dprintf(out, "hitting %s %s:%s\n", udp ? "udp" : "tcp", peer_name,
                k->text);
    int fd = reach(udp ? SOCK_DGRAM : SOCK_STREAM, k->port, &error);
    if (udp && !error && send(fd, "", 1, 0) < 0) error = errno;
    if (error && error != EINPROGRESS && error != ECONNREFUSED)
        die("%s:%s: %s", peer_name, k->text, strerror(error));
    close(fd); /* before the kernel sends the SYN again */
    poll(NULL, 0, (int)given.delay);
}

/* ---- The way through the open door ------------------------------------ */

/* Tries once to connect, for ms milliseconds.  Returns the socket, or -1 and in
 * *error why not: EINPROGRESS if there was no answer. */
static int door_try(in_port_t port, int ms, int *error) {
    int fd = reach(SOCK_STREAM, port, error);
    struct pollfd go = { fd, POLLOUT, 0 };
    socklen_t size = sizeof *error;
    if (*error == EINPROGRESS && poll(&go, 1, ms) > 0)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, error, &size);
    if (!*error) return fd;
    close(fd);
    return -1;
}

/* Connects to the door's port once it opens.  A closed one refuses or is
 * silent: no try waits for long, but each for longer than the one before, as
 * the peer may be far away. */
static int door_enter(in_port_t port) {
    int left = (int)given.timeout * 1000, step = FIRST_TRY_MS;
    int error, why = ETIMEDOUT;
    while (left > 0) {
        if (step > left) step = left;
        int fd = door_try(port, step, &error);
        if (fd >= 0) return fd;
        if (error != EINPROGRESS) {
            why = error;
            poll(NULL, 0, step);
        }
        left -= step;
        if (step < LAST_TRY_MS) step *= 2;
    }
    die("%s:%u did not open: %s", peer_name, port, strerror(why));
}

struct lane {       /* one direction of a join */
    int from, to;   /* descriptors; from is -1 after its end */
    size_t at, end; /* of the bytes read and not yet written */
    char bytes[PIPE_BUF];
};

static bool is_empty(const struct lane *l) { return l->at == l->end; }

/* What a lane waits for: room for what it holds, or something to read. */
static struct pollfd lane_wait(const struct lane *l) {
    if (is_empty(l)) return (struct pollfd){ l->from, POLLIN, 0 };
    return (struct pollfd){ l->to, POLLOUT, 0 };
}

/* Writes what the lane holds or, if that is nothing, reads; passes an end on.
 * After poll() neither blocks, even on a stdout in blocking mode: a pipe with
 * any room has room for PIPE_BUF bytes.  Returns 0, or the error that ended the
 * lane. */
static int lane_move(struct lane *l) {
    ssize_t n;
    if (is_empty(l)) {
        n = read(l->from, l->bytes, sizeof l->bytes);
        l->at = 0;
        l->end = n > 0 ? (size_t)n : 0;
    } else {
        n = write(l->to, l->bytes + l->at, l->end - l->at);
        if (n > 0) l->at += (size_t)n;
    }
    int error = n < 0 ? errno : 0;
    if (n > 0 || error == EAGAIN || error == EINTR) return 0;
    l->from = -1;
    l->at = l->end;
    if (shutdown(l->to, SHUT_WR) && errno == ENOTSOCK) close(l->to);
    return error;
}

/* Copies stdin to the connection and that to stdout until both have ended.  A
 * peer that ended its side may be gone: then silence of stdin is an end too. */
static void join(int fd) {
    static struct lane up, down;
    int received = 0, sent = 0; /* errors */
    up.from = STDIN_FILENO;
    up.to = down.from = fd;
    down.to = STDOUT_FILENO;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    while (!received && (up.from >= 0 || down.from >= 0)) {
        struct pollfd ready[] = { lane_wait(&up), lane_wait(&down) };
        bool last = down.from < 0 && is_empty(&up);
        if (!poll(ready, 2, last ? SILENCE_MS : -1)) break;
        if (ready[0].revents) sent = lane_move(&up);
        if (ready[1].revents) received = lane_move(&down);
    }
    if (received) die("receiving from %s: %s", peer_name, strerror(received));
    if (sent) die("sending to %s: %s", peer_name, strerror(sent));
}

/* ---- New sequences ---------------------------------------------------- */

static bool is_among(in_port_t port, const in_port_t *ports, unsigned n) {
    while (n && ports[n - 1] != port) n--;
    return n > 0;
}

/* Is a sequence unfit: a port below 1024, or twice, or the order of a scan? */
static bool is_unfit(const in_port_t *ports, unsigned n) {
    bool falls = n < 3, rises = n < 3;
    for (unsigned i = 0; i < n; i++) {
        if (ports[i] < 1024 || is_among(ports[i], ports, i)) return true;
        if (i > 0 && ports[i] < ports[i - 1]) falls = true;
        if (i > 0 && ports[i] > ports[i - 1]) rises = true;
    }
    return !falls || !rises;
}

/* Prints a new sequence for knockd.conf and for knock; false if that fails. */
static bool generate(unsigned n) {
    in_port_t ports[SEQUENCE_MAX];
    do {
        if (getrandom(ports, sizeof ports, 0) < 0)
            die("no random numbers: %s", strerror(errno));
    } while (is_unfit(ports, n));
    dprintf(STDOUT_FILENO, "sequence = %u", ports[0]);
    for (unsigned i = 1; i < n; i++) dprintf(STDOUT_FILENO, ",%u", ports[i]);
    dprintf(STDOUT_FILENO, "\nknock HOST");
    for (unsigned i = 0; i < n; i++) dprintf(STDOUT_FILENO, " %u", ports[i]);
    return dprintf(STDOUT_FILENO, "\n") > 0;
}

/* ---- Start ------------------------------------------------------------ */

/* Takes the options.  False if one is unknown or lacks its value, which
 * getopt_long() says. */
static bool options_take(int argc, char **argv) {
    struct option names[WORDS + 1] = { 0 };
    char letters[2 * WORDS + 1], *end = letters;
    for (int i = 0; i < WORDS; i++) {
        bool has_value = words[i].kind != IS_FLAG;
        char letter = words[i].letter;
        names[i] = (struct option){ words[i].name, has_value, NULL, letter };
        *end++ = letter;
        if (has_value) *end++ = ':';
    }
    *end = '\0';
    for (int c; (c = getopt_long(argc, argv, letters, names, NULL)) >= 0;) {
        const struct word *w = words;
        while (w < words + WORDS && w->letter != c) w++;
        if (w == words + WORDS) return false;
        word_take(w, optarg);
    }
    return true;
}

/* Knocks at HOST PORT... or PROFILE, when all of that is found good. */
static void knock_at(char **operands) {
    char heading[NI_MAXHOST];
    host = *operands;
    while (*++operands) knock_add(*operands);
    snprintf(heading, sizeof heading, "[%s]", host);
    profile_read(getenv("XDG_CONFIG_HOME"), "knock.conf", heading);
    profile_read(getenv("HOME"), ".config/knock.conf", heading);
    profile_read(getenv("HOME"), ".knockrc", heading);
    if (!knocks)
        die("no ports, and no profile %s with ports\n%s", heading, help);
    peer_find();
    for (struct knock *k = knocks; k; k = k->next) hit(k);
    signal(SIGPIPE, SIG_IGN);
    if (given.connect) join(door_enter((in_port_t)given.connect));
    else if (given.wait) door_enter((in_port_t)given.wait);
}

int knock_main(int argc, char **argv) {
    bool good = options_take(argc, argv);
    if (given.help) return dprintf(STDOUT_FILENO, "%s\n", help) < 0;
    if (given.version) return dprintf(STDOUT_FILENO, "knock " VERSION "\n") < 0;
    if (given.generate) return !generate(given.generate);
    if (!good || optind >= argc) {
        dprintf(STDERR_FILENO, "%s\n", help);
        return 1;
    }
    knock_at(argv + optind);
    return 0;
}
