/*
 * knock - hit ports of a host in order, so that its knockd opens a door. Below:
 * options, words, profiles, the knock, the way through the open door, main.
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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"

enum {
    FIRST_TRY_MS = 25,  /* at the door, each further one twice as long, */
    LAST_TRY_MS = 1600, /* but not longer than this */
    SILENCE_MS = 2000   /* of stdin, after the peer has ended its side */
};

static const char usage[] =
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

/* The options; a profile has those before --generate as directives too. */
static const struct option options[] = {
    { "udp", 0, NULL, 'u' },       { "delay", 1, NULL, 'd' },
    { "interface", 1, NULL, 'i' }, { "wait", 1, NULL, 'w' },
    { "timeout", 1, NULL, 't' },   { "verbose", 0, NULL, 'v' },
    { "generate", 1, NULL, 'g' },  { "connect", 1, NULL, 'W' },
    { "ipv4", 0, NULL, '4' },      { "ipv6", 0, NULL, '6' },
    { "version", 0, NULL, 'V' },   { "help", 0, NULL, 'h' },
    { NULL, 0, NULL, 0 }
};
static const char *given[128]; /* by letter: an option's value, or NULL */
static long delay, timeout;    /* of -d in ms, of -t in s */
static in_port_t door;         /* of -W or -w */

struct knock {        /* one port to hit; never freed: no free() is linked in */
    const char *word; /* as the user wrote it */
    in_port_t port;
    bool udp;
    struct knock *next;
};

static const char *host;
static struct knock *knocks, **last = &knocks;
static const char blanks[] = " \t\r=,"; /* between the words of a profile */
static char section[NI_MAXHOST];        /* "[PROFILE]", as in the file */
static char where[PATH_MAX + 16];       /* "FILE:LINE: " in a profile, or "" */
static struct addrinfo *own;            /* of -i when that is an address */
static struct addrinfo *peers, *peer; /* the host's addresses, the one in use */
static char peer_name[NI_MAXHOST];

#define die(format, ...) \
    (dprintf(2, "knock: " format "\n", __VA_ARGS__), exit(1))

/* The value of a word of digits; anything else is the end. */
static long number(const char *what, const char *word, long min, long max) {
    long value = strtol(word, NULL, 10);

    if (!*word || word[strspn(word, "0123456789")] || value < min ||
        value > max)
        die("%s%s '%s' is not a number from %ld to %ld", where, what, word, min,
            max);
    return value;
}

/* A port by its number or its name in /etc/services. */
static in_port_t port_of(const char *word) {
    const struct servent *service = getservbyname(word, NULL);

    return service ? ntohs((in_port_t)service->s_port)
                   : (in_port_t)number("port", word, 1, 65535);
}

/* Adds PORT[:PROTOCOL] to the knocks; the text is cut in two and kept. */
static void add_knock(char *text) {
    struct knock *new = *last = calloc(1, sizeof(*new));

    if (!new) die("%s", strerror(errno));
    new->word = strsep(&text, ":");
    new->udp = text && !strcasecmp(text, "udp");
    if (text && !new->udp && strcasecmp(text, "tcp") != 0)
        die("%sprotocol '%s' is not tcp or udp", where, text);
    new->port = port_of(new->word);
    last = &new->next;
}

/* Reads the options that have a value; called whenever there are new ones. */
static void read_values(void) {
    const char *port = given['W'] ? given['W'] : given['w'];

    door = port ? port_of(port) : 0;
    delay = number("delay", given['d'] ? given['d'] : "0", 0, 86400000);
    timeout = number("timeout", given['t'] ? given['t'] : "10", 1, 86400);
}

/* A line of a profile that is an option of the command line; false if not. */
static bool given_in_profile(const char *word, const char *value) {
    for (const struct option *o = options; o->val != 'g'; o++) {
        if (strcasecmp(word, o->name) != 0) continue;
        if (o->has_arg ? !value : value && strcasecmp(value, "yes") != 0)
            return false;
        if (!given[o->val]) /* the command line's counts */
            given[o->val] = value ? value : "";
        return true;
    }
    return false;
}

/* Carries out a line of a profile: word, and what strtok() has left of it. */
static void directive(const char *word) {
    char *value = strtok(NULL, blanks);

    if (!strcasecmp(word, "ports") || !strcasecmp(word, "sequence"))
        for (; value; value = strtok(NULL, blanks)) add_knock(value);
    else if (!strcasecmp(word, "host") && value) host = value;
    else if (!given_in_profile(word, value))
        die("%s'%s' with '%s' is not understood", where, word,
            value ? value : "");
    if (strtok(NULL, blanks)) die("%s'%s' has too many words", where, word);
    read_values();
}

/* Obeys the profile in the file dir/base, unless there were ports before. */
static void read_profile(const char *dir, const char *base) {
    static char path[PATH_MAX];
    char *rest, *line;
    bool wanted = false;
    struct stat status;
    int fd, n;

    if (knocks || !dir || *dir != '/') return;
    snprintf(path, sizeof(path), "%s/%s", dir, base);
    fd = open(path, O_RDONLY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return;
    if (fd < 0 || fstat(fd, &status) ||
        !(rest = calloc(1, (size_t)status.st_size + 1)) ||
        read(fd, rest, (size_t)status.st_size) < 0)
        die("%s: %s", path, strerror(errno));
    close(fd);
    if (status.st_mode & (S_IRGRP | S_IROTH))
        dprintf(2, "knock: warning: others can read %s\n", path);
    for (n = 1; (line = strsep(&rest, "\n")); n++) {
        snprintf(where, sizeof(where), "%s:%d: ", path, n);
        line[strcspn(line, "#")] = '\0';
        line = strtok(line, blanks);
        if (line && *line == '[') wanted = !strcmp(line, section);
        else if (line && wanted) directive(line);
    }
    where[0] = '\0';
}

/* Begins a connection to the peer; *error is 0, EINPROGRESS or what failed. */
static int reach(int type, int *error, in_port_t port) {
    int fd = socket(peer->ai_family, type | SOCK_NONBLOCK, 0);
    const char *via = given['i'];

    if (fd >= 0 && via &&
        (own ? bind(fd, own->ai_addr, own->ai_addrlen)
             : setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, via,
                          (socklen_t)strlen(via))))
        die("%s: %s", via, strerror(errno));
    /* the port of an IPv6 address stands at the same place */
    ((struct sockaddr_in *)(void *)peer->ai_addr)->sin_port = htons(port);
    *error = fd < 0 || connect(fd, peer->ai_addr, peer->ai_addrlen) ? errno : 0;
    return fd;
}

/* Settles on the host's first address that there is a route to. */
static void find_peer(void) {
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST,
                              .ai_family = given['4']   ? AF_INET
                                           : given['6'] ? AF_INET6
                                                        : AF_UNSPEC };
    int error, at;

    if (given['i'] && !getaddrinfo(given['i'], NULL, &hints, &own))
        hints.ai_family = own->ai_family;
    hints.ai_flags = 0;
    hints.ai_socktype = SOCK_STREAM;
    if ((error = getaddrinfo(host, NULL, &hints, &peers)))
        die("%s: %s", host, gai_strerror(error));
    for (peer = peers; peer; peer = peer->ai_next) {
        at = peer->ai_family == AF_INET ? 2 : 6; /* behind the port */
        inet_ntop(peer->ai_family, peer->ai_addr->sa_data + at, peer_name,
                  sizeof(peer_name));
        strncat(peer_name, host + strcspn(host, "%"), 99);
        close(reach(SOCK_DGRAM, &error, knocks->port));
        if (!error) return;
    }
    die("%s: %s", peer_name, strerror(error));
}

/* Sends one SYN or one datagram, whatever comes back, and sleeps the delay. */
static void hit(const struct knock *knock) {
    bool udp = given['u'] || knock->udp;
    int fd, error;

    if (given['v'])
        dprintf(given['W'] ? 2 : 1, "hitting %s %s:%s\n", udp ? "udp" : "tcp",
                peer_name, knock->word);
    fd = reach(udp ? SOCK_DGRAM : SOCK_STREAM, &error, knock->port);
    if (udp && !error && send(fd, "", 1, 0) < 0) error = errno;
    if (error && error != EINPROGRESS && error != ECONNREFUSED)
        die("%s:%s: %s", peer_name, knock->word, strerror(error));
    close(fd); /* before the SYN could be repeated */
    poll(NULL, 0, (int)delay);
}

/*
 * A connection to the door, once it opens. A closed one refuses or is silent:
 * no try waits for long, but each for longer, as the peer may be far away.
 */
static int enter(void) {
    int left = (int)timeout * 1000, step = FIRST_TRY_MS;
    int error, why = ETIMEDOUT;
    socklen_t size = sizeof(error);
    struct pollfd go = { .events = POLLOUT };

    while (left > 0) {
        if (step > left) step = left;
        go.fd = reach(SOCK_STREAM, &error, door);
        if (error == EINPROGRESS && poll(&go, 1, step) > 0)
            getsockopt(go.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (!error) return go.fd;
        close(go.fd);
        if (error != EINPROGRESS) {
            why = error;
            poll(NULL, 0, step);
        }
        left -= step;
        if (step < LAST_TRY_MS) step *= 2;
    }
    die("%s:%u did not open: %s", peer_name, door, strerror(why));
}

struct lane {     /* one direction of a join: bytes read and not yet written */
    int from, to; /* from is -1 after its end */
    size_t at, end; /* of these bytes; equal when there is none */
    char buf[PIPE_BUF];
};

/*
 * Writes what the lane holds or, if that is nothing, reads; passes an end on.
 * After poll neither blocks, even on a stdout in blocking mode: a pipe with any
 * room has it for PIPE_BUF bytes. Returns 0, or the error that ended the lane.
 */
static int move(struct lane *lane) {
    int error;
    ssize_t n;

    if (lane->at < lane->end) {
        n = write(lane->to, lane->buf + lane->at, lane->end - lane->at);
        lane->at += n > 0 ? (size_t)n : 0;
    } else {
        n = read(lane->from, lane->buf, sizeof(lane->buf));
        lane->at = 0;
        lane->end = n > 0 ? (size_t)n : 0;
    }
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return 0;
    error = n < 0 ? errno : 0;
    lane->from = -1;
    lane->at = lane->end;
    if (shutdown(lane->to, SHUT_WR) && errno == ENOTSOCK) close(lane->to);
    return error;
}

/*
 * Copies stdin to the connection and that to stdout until both have ended. A
 * peer that ended its side may be gone: then silence of stdin is an end too.
 */
static void join(int fd) {
    static struct lane lanes[2], *up = lanes, *down = lanes + 1, *lane;
    struct pollfd ready[2];
    int error = 0, lost = 0; /* of down and of up */

    up->to = down->from = fd; /* up->from is 0, stdin */
    down->to = STDOUT_FILENO;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    signal(SIGPIPE, SIG_IGN);
    while (!error && (up->from >= 0 || down->from >= 0)) {
        for (lane = up; lane <= down; lane++)
            ready[lane - up] = lane->at < lane->end
                                   ? (struct pollfd){ lane->to, POLLOUT, 0 }
                                   : (struct pollfd){ lane->from, POLLIN, 0 };
        if (!poll(ready, 2,
                  down->from < 0 && up->at == up->end ? SILENCE_MS : -1))
            break;
        if (ready[0].revents) lost = move(up);
        if (ready[1].revents) error = move(down);
    }
    if (error || lost)
        die("%s %s: %s", error ? "receiving from" : "sending to", peer_name,
            strerror(error ? error : lost));
}

/* Is a sequence unfit: a port below 1024, or twice, or the order of a scan? */
static bool unfit(const in_port_t *ports, long count) {
    bool falls = count < 3, rises = count < 3;

    for (long i = 0; i < count; i++) {
        if (ports[i] < 1024) return true;
        for (long j = 0; j < i; j++)
            if (ports[i] == ports[j]) return true;
        if (i > 0 && ports[i] < ports[i - 1]) falls = true;
        if (i > 0 && ports[i] > ports[i - 1]) rises = true;
    }
    return !falls || !rises;
}

/* Prints a new sequence for knockd.conf and knock, in no order of a scan. */
static int generate(void) {
    in_port_t ports[SEQUENCE_MAX];
    long count = number("--generate", given['g'], 1, SEQUENCE_MAX);

    do {
        if (getrandom(ports, sizeof(ports), 0) < 0)
            die("no random numbers: %s", strerror(errno));
    } while (unfit(ports, count));
    for (long i = 0; i < count; i++)
        dprintf(1, "%s%u", i ? "," : "sequence = ", ports[i]);
    for (long i = 0; i < count; i++)
        dprintf(1, "%s%u", i ? " " : "\nknock HOST ", ports[i]);
    return dprintf(1, "\n") < 0;
}

/* Knocks at HOST PORT... or PROFILE, when all of that is found good. */
static void run(char **words) {
    host = *words;
    while (*++words) add_knock(*words);
    read_values();
    snprintf(section, sizeof(section), "[%s]", host);
    read_profile(getenv("XDG_CONFIG_HOME"), "knock.conf");
    read_profile(getenv("HOME"), ".config/knock.conf");
    read_profile(getenv("HOME"), ".knockrc");
    if (!knocks)
        die("no ports, and no profile %s with ports\n%s", section, usage);
    find_peer();
    for (struct knock *k = knocks; k; k = k->next) hit(k);
    if (given['W']) join(enter());
    else if (given['w']) enter();
}

int knock_main(int argc, char **argv) {
    int c;

    while ((c = getopt_long(argc, argv, "ud:46i:w:W:t:vVh", options, NULL)) >=
           0)
        given[c] = optarg ? optarg : "";
    if (given['h']) return dprintf(1, "%s\n", usage) < 0;
    if (given['V']) return dprintf(1, "knock " VERSION "\n") < 0;
    if (given['g']) return generate();
    if (given['?'] || optind >= argc) return dprintf(2, "%s\n", usage), 1;
    run(argv + optind);
    return 0;
}
