/*
 * knock - hits ports of a host in order, so that the knockd there opens a door;
 * and what sealed knocks are made of (docs/knock1.md), for knockd as well.
 * SPDX-License-Identifier: ISC
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

/* ---- SHA-256 and HMAC ------------------------------------------------- */

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* Adds a block to the state (FIPS 180-4, 6.2.2, which has these names).  No
 * branch and no address depends on the bytes. */
static void compress(uint32_t state[8], const uint8_t block[64]) {
    static const uint32_t k[64] = { SHA256_K };
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7], w[64];
    memcpy(w, block, 64);
    for (int t = 0; t < 16; t++) w[t] = ntohl(w[t]);
    for (int t = 16; t < 64; t++) {
        uint32_t x = w[t - 2], y = w[t - 15];
        w[t] = w[t - 7] + w[t - 16];
        w[t] += rotr(x, 17) ^ rotr(x, 19) ^ x >> 10;
        w[t] += rotr(y, 7) ^ rotr(y, 18) ^ y >> 3;
    }
    for (int t = 0; t < 64; t++) {
        uint32_t t1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
        uint32_t t2 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
        t1 += h + (g ^ (e & (f ^ g))) + k[t] + w[t];
        t2 += (a & b) | (c & (a | b));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    const uint32_t sums[] = { a, b, c, d, e, f, g, h };
    for (int i = 0; i < 8; i++) state[i] += sums[i];
    explicit_bzero(w, sizeof w); /* it may hold a key */
}

/* Ends a hash: n bytes of text, less than 2^29, follow the `before` bytes, whole
 * blocks, that are in the state. */
static void finish(uint32_t state[8], size_t before, const void *text,
                   size_t n, uint8_t hash[HASH_BYTES]) {
    const uint8_t *rest = text, *end = rest + n;
    uint32_t bits = htonl((uint32_t)(before + n) * 8);
    for (; end - rest >= 64; rest += 64) compress(state, rest);
    uint8_t last[128] = { 0 };
    size_t size = n % 64 < 56 ? 64 : 128;
    memcpy(last, rest, n % 64);
    last[n % 64] = 0x80;
    memcpy(last + size - 4, &bits, 4);
    for (size_t at = 0; at < size; at += 64) compress(state, last + at);
    for (int i = 0; i < 8; i++) state[i] = htonl(state[i]);
    memcpy(hash, state, HASH_BYTES);
}

/* Makes a key of n bytes, at most 64, ready for hmac() (RFC 2104). */
void hmac_key(struct hmac *h, const void *key, size_t n) {
    uint8_t block[64] = { 0 };
    memcpy(block, key, n);
    *h = (struct hmac){ { SHA256_H }, { SHA256_H } };
    for (int i = 0; i < 64; i++) block[i] ^= 0x36;
    compress(h->inner, block);
    for (int i = 0; i < 64; i++) block[i] ^= 0x36 ^ 0x5c;
    compress(h->outer, block);
    explicit_bzero(block, sizeof block);
}

/* HMAC-SHA256 of a label and n bytes, both together HMAC_MAX at most. */
void hmac(const struct hmac *key, const char *label, const void *bytes,
          size_t n, uint8_t hash[HASH_BYTES]) {
    char text[HMAC_MAX], *end = stpcpy(text, label);
    struct hmac h = *key;
    memcpy(end, bytes, n);
    finish(h.inner, 64, text, (size_t)(end - text) + n, hash);
    finish(h.outer, 64, hash, HASH_BYTES, hash);
}

/* ---- Sealed knocks ---------------------------------------------------- */

/* Makes D, the key of a door, from a key that a client and a server share. */
void door_key(struct hmac *door, const uint8_t key[KEY_BYTES],
              const char *name) {
    uint8_t d[HASH_BYTES];
    hmac_key(door, key, KEY_BYTES);
    hmac(door, "knock1 door", name, strlen(name), d);
    hmac_key(door, d, sizeof d);
    explicit_bzero(d, sizeof d);
}

/* The id of a period, 2^PERIOD_BITS ms; id_key: of hmac(D, "knock1 id"). */
uint64_t sealed_id(const struct hmac *id_key, uint64_t period) {
    uint64_t big = htobe64(period), hash[HASH_BYTES / 8];
    hmac(id_key, "", &big, sizeof big, (uint8_t *)hash);
    return hash[0];
}

/* Masks the plain part of a packet, or unmasks it. */
static void mask(const struct hmac *door, struct sealed *s) {
    uint8_t hash[HASH_BYTES], *plain = (uint8_t *)&s->plain;
    hmac(door, "knock1 mask", s->tag, sizeof s->tag, hash);
    for (size_t i = 0; i < sizeof s->plain; i++) plain[i] ^= hash[i];
}

/* Makes the tag of a packet that is not masked: the hash's first bytes. */
static void tag(const struct hmac *door, const struct sealed *s,
                uint8_t hash[HASH_BYTES]) {
    struct tagged text = { s->id, s->plain };
    hmac(door, "knock1 tag", &text, sizeof text, hash);
}

/* Makes a packet of its plain part. */
void seal(const struct hmac *door, struct sealed *s) {
    uint8_t hash[HASH_BYTES];
    struct hmac id_key;
    hmac(door, "knock1 id", "", 0, hash);
    hmac_key(&id_key, hash, sizeof hash);
    s->id = sealed_id(&id_key, be64toh(s->plain.stamp) >> PERIOD_BITS);
    tag(door, s, hash);
    memcpy(s->tag, hash, sizeof s->tag);
    mask(door, s);
}

/* Unmasks a packet; true if the tag is right.  Constant time for any bytes. */
static bool unseal(const struct hmac *door, struct sealed *s) {
    uint8_t hash[HASH_BYTES], other = 0;
    mask(door, s);
    tag(door, s, hash);
    for (size_t i = 0; i < sizeof s->tag; i++) other |= hash[i] ^ s->tag[i];
    return !other;
}

static bool is_burnt(const struct stamps *s, uint64_t stamp) {
    for (const struct span *r = s->burnt; r < s->burnt + s->nburnt; r++)
        if (stamp >= r->low && stamp <= r->high) return true;
    return false;
}

/* Refuses a stamp from now on.  Of too many ranges the two closest join. */
static void burn(struct stamps *s, uint64_t stamp) {
    struct span *r = s->burnt + s->nburnt, *closest = s->burnt;
    if (is_burnt(s, stamp)) return;
    for (; r > s->burnt && r[-1].low > stamp; r--) *r = r[-1];
    *r = (struct span){ stamp, stamp };
    s->nburnt++;
    if (s->nburnt <= BURNT_MAX) return;
    for (r = s->burnt; r < s->burnt + BURNT_MAX; r++)
        if (r[1].low - r->high < closest[1].low - closest->high) closest = r;
    closest->high = closest[1].high;
    s->nburnt--;
    for (r = closest + 1; r < s->burnt + BURNT_MAX; r++) *r = r[1];
}

/* Judges a packet by a door's key, and unmasks it; the caller looks at the
 * address, saves the stamps, which change, and only then acts.  now: the wall
 * clock, ms; start: what was sent until then is refused, see sealed_knock(). */
enum verdict judge(const struct hmac *door, struct stamps *stamps,
                   struct sealed *s, uint64_t now, uint64_t start) {
    static const uint8_t zero[sizeof s->plain.zero];
    if (!unseal(door, s)) return FORGED;
    uint64_t stamp = be64toh(s->plain.stamp);
    if (s->plain.request > 1 || memcmp(s->plain.zero, zero, sizeof zero))
        return MALFORMED;
    if (stamp > now + SKEW_MS) {
        burn(stamps, stamp);
        return FUTURE;
    }
    if (is_burnt(stamps, stamp)) return REPLAY;
    if (stamp + SKEW_MS < now) return PAST;
    if (stamp <= stamps->floor) return REPLAY;
    if (stamp <= start) return BEFORE_START;
    stamps->floor = stamp;
    return GOOD;
}

/* Parses a key, 64 hex digits; false if the text is anything else. */
bool key_parse(const char *text, uint8_t key[KEY_BYTES]) {
    size_t n = strspn(text, "0123456789ABCDEFabcdef");
    if (n != KEY_DIGITS || text[n]) return false;
    for (size_t i = 0; i < KEY_BYTES; i++) {
        char digits[] = { text[2 * i], text[2 * i + 1], '\0' };
        key[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

bool is_client_name(const char *name) {
    size_t n = strspn(name, CLIENT_LETTERS);
    return n && n <= CLIENT_MAX && !name[n] && !strchr("._@-", *name);
}

/* ---- The client: what is given ---------------------------------------- */

/* What the command line says or, where it says nothing, the profile. */
static struct given {
    bool udp, both, close, ipv4, ipv6, verbose, help, version;
    const char *host, *interface, *recipient, *keygen;
    unsigned delay, timeout;          /* ms; s */
    unsigned wait, connect, generate; /* 0: not given */
    uint32_t seen;                    /* a bit for each of words[] */
} given = { .delay = 10, .timeout = 10 };

/* Words that only a profile has, then those that are options too, then other
 * options.  A word without a short form has a letter that nobody types. */
#define G(name) offsetof(struct given, name)
static const struct word words[] = {
    { "host", "name", 0, IS_TEXT, 0, G(host), 0 },
    { "ports", "port", 0, IS_KNOCK, 0, 0, 0 },
    { "sequence", "port", 0, IS_KNOCK, 0, 0, 0 },
    { "udp", "no value", 'u', IS_FLAG, 0, G(udp), 0 },
    { "both", "no value", '\1', IS_FLAG, 0, G(both), 0 },
    { "delay", "milliseconds", 'd', IS_NUMBER, 0, G(delay), DELAY_MAX },
    { "interface", "a name or IP", 'i', IS_TEXT, 0, G(interface), 0 },
    { "wait", "a port", 'w', IS_PORT, 0, G(wait), 0 },
    { "timeout", "seconds", 't', IS_NUMBER, 1, G(timeout), TIMEOUT_MAX },
    { "key", "a file", 'k', IS_KEY, 0, 0, 0 },
    { "verbose", "no value", 'v', IS_FLAG, 0, G(verbose), 0 },
    { "connect", "a port", 'W', IS_PORT, 0, G(connect), 0 },
    { "ipv4", "no value", '4', IS_FLAG, 0, G(ipv4), 0 },
    { "ipv6", "no value", '6', IS_FLAG, 0, G(ipv6), 0 },
    { "for", "an address", '\2', IS_TEXT, 0, G(recipient), 0 },
    { "close", "no value", '\3', IS_FLAG, 0, G(close), 0 },
    { "generate", "ports", '\4', IS_NUMBER, 1, G(generate), SEQUENCE_MAX },
    { "keygen", "a client", '\5', IS_TEXT, 0, G(keygen), 0 },
    { "version", "no value", 'V', IS_FLAG, 0, G(version), 0 },
    { "help", "no value", 'h', IS_FLAG, 0, G(help), 0 },
};
enum { WORDS = LENGTH(words), OPTION = 3, IN_PROFILE = 11 };

static struct knock { /* a port to hit */
    const char *text; /* as the user wrote it */
    unsigned port;
    bool udp, tcp; /* if the user wrote it */
} knocks[KNOCKS_MAX];
static unsigned nknocks, npeers;
static struct hmac door;     /* the key of sealed knocks */
static bool sealed, exposed; /* a key is given; others may use its file */
static char where[PATH_MAX + 32]; /* "FILE:LINE: ", "--OPTION: " or "" */
static char searched[TEXT_MAX];   /* the files and the profiles in them */
static char heading[NI_MAXHOST];  /* "[PROFILE]" */

/* Ends with an error message, behind the place that is being read. */
FORMAT(1) static _Noreturn void quit(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    dprintf(STDERR_FILENO, "knock: %s", where);
    vdprintf(STDERR_FILENO, format, ap);
    va_end(ap);
    exit(1);
}

/* The value of a word of digits; dies if the word is anything else. */
static unsigned number_of(const char *text, const char *what, unsigned min,
                          unsigned max) {
    bool digits = *text && !text[strspn(text, "0123456789")];
    unsigned long value = strtoul(text, NULL, 10); /* ULONG_MAX on overflow */
    if (!digits || value < min || value > max)
        quit("%s '%s' is not a whole number from %u to %u\n", what, text, min,
             max);
    return (unsigned)value;
}

/* A port by its number or its name in /etc/services. */
static unsigned port_of(const char *text) {
    const struct servent *service = getservbyname(text, NULL);
    if (service) return ntohs((in_port_t)service->s_port);
    return number_of(text, "port", 1, 65535);
}

/* Adds PORT[:PROTOCOL] or a scanner's PORT/PROTOCOL; cuts, keeps the text. */
static void knock_add(char *text) {
    struct knock *k = &knocks[nknocks++];
    if (nknocks == KNOCKS_MAX) quit("too many ports\n");
    k->text = strsep(&text, ":/");
    k->udp = text && !strcasecmp(text, "udp");
    k->tcp = text && !strcasecmp(text, "tcp");
    if (text && !k->udp && !k->tcp)
        quit("protocol '%s' is not tcp or udp\n", text);
    k->port = port_of(k->text);
}

/* Reads a file of the user's; NULL if it does not exist.  Waits for the writer
 * of a pipe, as of <(pass show knock), if there is one; never for a device. */
static char *file_read(const char *path) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    struct stat st;
    ssize_t n;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return NULL;
    char *text = calloc(1, USER_FILE_MAX + 1), *end = text; /* never freed */
    if (fd < 0 || !text || fstat(fd, &st))
        quit("%s: %s\n", path, strerror(errno));
    bool pipe = S_ISFIFO(st.st_mode);
    if (pipe) fcntl(fd, F_SETFL, 0);
    while ((n = read(fd, end, (size_t)(text + USER_FILE_MAX - end))) > 0)
        end += n;
    if (n < 0) quit("%s: %s\n", path, strerror(errno));
    if (pipe && end == text) quit("%s: nobody writes to this pipe\n", path);
    close(fd);
    exposed = !S_ISCHR(st.st_mode) && st.st_mode & (S_IRWXG | S_IRWXO);
    return text;
}

/* Reads the key of sealed knocks, DOOR:KEY, from a profile or a file. */
static void key_take(char *text) {
    uint8_t key[KEY_BYTES];
    if (*text == '/' || *where == '-') text = file_read(text);
    if (!text) quit("there is no such file\n");
    if (exposed) quit("others may use this file: chmod 600\n");
    if (!strncmp(text, "key = ", 6)) text += 6;
    char *hex = strrchr(text, ':');
    if (hex) *hex++ = '\0';
    text = trim(text); /* as knockd reads a door's name */
    if (!hex || !*text) quit("no DOOR before the key\n");
    if (strlen(text) > DOOR_NAME_MAX) quit("DOOR is too long\n");
    hex[strcspn(hex, " \t\r\n")] = '\0';
    if (!key_parse(hex, key)) quit("the key is not 64 hex digits\n");
    door_key(&door, key, text);
    sealed = true;
    explicit_bzero(hex, KEY_DIGITS);
    explicit_bzero(key, sizeof key);
}

/* Stores the value of an option, or of a directive of a profile. */
static void word_take(const struct word *w, char *value) {
    void *field = (char *)&given + w->field;
    unsigned *number = field;
    given.seen |= 1u << (w - words);
    switch (w->kind) {
    case IS_FLAG: *(bool *)field = true; break;
    case IS_TEXT: *(const char **)field = value; break;
    case IS_KEY: key_take(value); break;
    case IS_KNOCK: knock_add(value); break;
    case IS_PORT: *number = port_of(value); break;
    case IS_NUMBER: *number = number_of(value, w->value, w->min, w->max);
    }
}

/* Reads a line of a profile, of which strtok() has returned the first word. */
static void profile_line(const char *name) {
    const struct word *w = words, *end = words + IN_PROFILE;
    while (w < end && strcasecmp(name, w->name)) w++;
    /* A key's door may have blanks in its name. */
    char *value = strtok(NULL, w->kind == IS_KEY ? "\r" : SEPARATORS);
    if (!value) value = "";
    value += strspn(value, SEPARATORS);
    bool flag = !*value || !strcasecmp(value, "yes");
    bool right = w->kind == IS_FLAG ? flag : *value;
    if (w == end) quit("'%s' is not understood\n", name);
    if (!right) quit("'%s' with '%s' is not understood\n", name, value);
    bool overruled = given.seen >> (w - words) & 1; /* by an option */
    for (; w->kind == IS_KNOCK && value; value = strtok(NULL, SEPARATORS))
        knock_add(value);
    if (w->kind != IS_KNOCK && !overruled) word_take(w, trim(value));
    if (strtok(NULL, SEPARATORS)) quit("'%s' has too many words\n", name);
}

/* Adds to the list of files and profiles that were searched. */
static void searched_add(const char *mark, const char *text) {
    size_t n = strlen(searched);
    snprintf(searched + n, sizeof searched - n, "%s%.2000s", mark, text);
}

/* Reads this section of the file dir/base, unless there are ports already. */
static void profile_read(const char *dir, const char *base) {
    char path[PATH_MAX], *line;
    int wanted = 0, sections = 0;
    if (nknocks || !dir || *dir != '/') return;
    snprintf(path, sizeof path, "%s/%s", dir, base);
    char *text = file_read(path);
    searched_add("\n  ", path);
    searched_add(": ", text ? "" : "there is no such file");
    if (text && exposed)
        dprintf(STDERR_FILENO, "knock: warning: others can use %s\n", path);
    for (int n = 1; (line = strsep(&text, "\n")); n++) {
        snprintf(where, sizeof where, "%s:%d: ", path, n);
        line[strcspn(line, "#")] = '\0';
        char *name = strtok(line, SEPARATORS);
        bool heads = name && *name == '[';
        if (heads) searched_add("", name);
        if (heads) wanted = !strcmp(name, heading);
        else if (name && wanted) profile_line(name);
        if (heads && wanted) sections++;
        if (heads && wanted && sections > 1)
            dprintf(STDERR_FILENO, "knock: warning: %s%s again: both count\n",
                    where, name);
    }
    where[0] = '\0';
}

/* ---- The knock -------------------------------------------------------- */

static struct peer { /* an address of the host that has a route */
    const struct addrinfo *at;
    char name[NI_MAXHOST], own[NI_MAXHOST]; /* its address, and ours */
} peers[2], *peer;           /* of two families with --both; the one in use */
static struct addrinfo *own; /* of -i when that is an address, or NULL */

/* Begins a connection; returns the socket, and in *error 0 or why not. */
static int reach(int type, unsigned port, int *error) {
    struct sockaddr *to = peer->at->ai_addr;
    int fd = socket(to->sa_family, type | SOCK_NONBLOCK, 0), failed = 0;
    const char *via = given.interface;
    if (own) failed = bind(fd, own->ai_addr, own->ai_addrlen);
    else if (via)
        failed = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, via,
                            (socklen_t)strlen(via));
    if (failed) quit("%s: %s\n", via, strerror(errno));
    /* struct sockaddr_in6 has its port at the same place. */
    ((struct sockaddr_in *)(void *)to)->sin_port = htons((in_port_t)port);
    *error = connect(fd, to, peer->at->ai_addrlen) ? errno : 0;
    return fd;
}

/* Makes a peer of an address that has a route.  Returns 0, or the error. */
static int peer_try(const struct addrinfo *at) {
    struct sockaddr_storage from = { 0 };
    socklen_t size = sizeof from;
    int error, numeric = NI_NUMERICHOST;
    peer = &peers[npeers];
    peer->at = at;
    getnameinfo(at->ai_addr, at->ai_addrlen, peer->name, NI_MAXHOST, NULL, 0,
                numeric);
    int fd = reach(SOCK_DGRAM, knocks->port, &error);
    getsockname(fd, (void *)&from, &size);
    getnameinfo((void *)&from, size, peer->own, NI_MAXHOST, NULL, 0, numeric);
    close(fd);
    npeers += !error;
    return error;
}

/* Finds the first address with a route or, with --both, that of each family. */
static void peers_find(void) {
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *all;
    if (given.ipv6) hints.ai_family = AF_INET6;
    if (given.ipv4) hints.ai_family = AF_INET;
    if (given.interface && !getaddrinfo(given.interface, NULL, &hints, &own))
        hints.ai_family = own->ai_family;
    const char *what = hints.ai_family == AF_INET ? "IPv4 " : "IPv6 ";
    if (!hints.ai_family) what = "";
    hints.ai_flags = 0;
    hints.ai_socktype = SOCK_STREAM;
    int error = getaddrinfo(given.host, NULL, &hints, &all);
    if (error)
        quit("'%s' was looked up, but has no %saddress: %s\n", given.host,
             what, gai_strerror(error));
    for (; all && npeers <= given.both; all = all->ai_next)
        if (!npeers || all->ai_family != peers->at->ai_family)
            error = peer_try(all);
    if (!npeers) quit("%s: %s\n", peer->name, strerror(error));
}

/* Sends one SYN, or one datagram of n bytes, whatever comes back. */
static void hit(const struct knock *k, bool udp, const void *data, size_t n) {
    int error, fd = reach(udp ? SOCK_DGRAM : SOCK_STREAM, k->port, &error);
    if (udp && !error && send(fd, data, n, 0) < 0) error = errno;
    if (error && error != EINPROGRESS && error != ECONNREFUSED)
        quit("%s:%s: %s\n", peer->name, k->text, strerror(error));
    close(fd); /* before the kernel sends the SYN again */
}

/* Parses an address that a host can have; IPv4 becomes ::ffff:a.b.c.d. */
static bool host_parse(const char *text, uint8_t a[16]) {
    static const uint8_t v4[12] = { [10] = 0xff, 0xff }, none[16];
    memcpy(a, v4, sizeof v4);
    if (inet_pton(AF_INET, text, a + 12) == 1) return a[12] && a[12] < 224;
    bool good = inet_pton(AF_INET6, text, a) == 1;
    return good && a[0] != 0xff && memcmp(a, none, sizeof none);
}

/* Sends a sealed knock: a few copies, as each may be lost. */
static void hit_sealed(const struct knock *k) {
    struct sealed s = { 0 };
    const char *address = given.recipient;
    struct timespec t;
    if (peer > peers) poll(NULL, 0, BOTH_MS);
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    s.plain.stamp = htobe64(ms);
    s.plain.request = given.close;
    if (address && !strcmp(address, "own")) address = peer->own;
    if (address && !host_parse(address, s.plain.address))
        quit("--for: '%s' is not the address of a host, or own\n", address);
    seal(&door, &s);
    for (int i = 0; i < SEALED_COPIES; i++) {
        hit(k, true, &s, sizeof s);
        poll(NULL, 0, SEALED_MS);
    }
}

/* Hits all ports of the peer, with the delay after each. */
static void knock_peer(void) {
    int out = given.connect ? STDERR_FILENO : STDOUT_FILENO;
    for (const struct knock *k = knocks; k < knocks + nknocks; k++) {
        bool udp = k->udp || given.udp || sealed;
        if (given.verbose)
            dprintf(out, "hitting %s %s:%s\n", udp ? "udp" : "tcp",
                    peer->name, k->text);
        if (sealed) hit_sealed(k);
        else hit(k, udp, "", 1);
        poll(NULL, 0, (int)given.delay);
    }
}

/* ---- The way through the open door ------------------------------------ */

/* Connects to the door's port once it opens, each try longer than the last. */
static int door_enter(unsigned port) {
    int left = (int)given.timeout * 1000, step = FIRST_TRY_MS;
    int error, why = ETIMEDOUT;
    socklen_t size = sizeof error;
    while (left > 0) {
        struct pollfd go = { reach(SOCK_STREAM, port, &error), POLLOUT, 0 };
        if (step > left) step = left;
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
    quit("%s:%u did not open: %s\n", peer->name, port, strerror(why));
}

struct lane {       /* one direction of a join */
    int from, to;   /* descriptors; from is -1 after its end */
    size_t at, end; /* of the bytes read and not yet written */
    char bytes[PIPE_BUF];
};

/* What a lane waits for: room for what it holds, or something to read. */
static struct pollfd lane_wait(const struct lane *l) {
    if (l->at == l->end) return (struct pollfd){ l->from, POLLIN, 0 };
    return (struct pollfd){ l->to, POLLOUT, 0 };
}

/* Writes what the lane holds or, if it is empty, reads; passes an end on.
 * Neither blocks after poll(): a pipe in blocking mode, too, has room for
 * PIPE_BUF bytes or none.  Returns 0, or an error: of a read if end is 0. */
static int lane_move(struct lane *l) {
    ssize_t n;
    if (l->at == l->end) {
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
 * peer that ended its side may be gone: then silence of stdin is an end, too. */
static void join(int fd) {
    struct lane up = { .to = fd }, down = { .from = fd, .to = STDOUT_FILENO };
    int got = 0, sent = 0; /* errors; up.from is 0, stdin */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    while (!got && (up.from >= 0 || down.from >= 0)) {
        struct pollfd ready[] = { lane_wait(&up), lane_wait(&down) };
        bool last = down.from < 0 && up.at == up.end;
        if (!poll(ready, 2, last ? SILENCE_MS : -1)) break;
        if (ready[0].revents) sent = lane_move(&up);
        if (ready[1].revents) got = lane_move(&down);
    }
    if (got && down.end) quit("standard output: %s\n", strerror(got));
    if (got) quit("receiving from %s: %s\n", peer->name, strerror(got));
    if (sent && !up.end) quit("standard input: %s\n", strerror(sent));
    if (sent) quit("sending to %s: %s\n", peer->name, strerror(sent));
}

/* ---- New sequences and keys; start ------------------------------------ */

static void random_take(void *bytes, size_t n) {
    if (getrandom(bytes, n, 0) < 0)
        quit("no random numbers: %s\n", strerror(errno));
}

/* Is a sequence fit: no port below 1024 or twice, not the order of a scan? */
static bool is_fit(const in_port_t *ports, unsigned n) {
    unsigned rises = 0;
    for (unsigned i = 0; i < n; i++) {
        if (ports[i] < 1024) return false;
        for (unsigned j = 0; j < i; j++)
            if (ports[i] == ports[j]) return false;
        rises += i && ports[i] > ports[i - 1];
    }
    return n < 3 || (rises && rises < n - 1);
}

/* Prints a new sequence for knockd.conf and for knock; true if that fails. */
static bool generate(unsigned n) {
    in_port_t ports[SEQUENCE_MAX];
    do random_take(ports, sizeof ports);
    while (!is_fit(ports, n));
    dprintf(1, "sequence = %u", ports[0]);
    for (unsigned i = 1; i < n; i++) dprintf(1, ",%u", ports[i]);
    dprintf(1, "\nknock HOST");
    for (unsigned i = 0; i < n; i++) dprintf(1, " %u", ports[i]);
    return dprintf(1, "\n") < 0;
}

/* Prints a new key for server and profile; true if that fails. */
static bool keygen(const char *client, char *name) {
    uint8_t key[KEY_BYTES];
    char hex[KEY_DIGITS + 1];
    if (name) name = trim(name);
    if (!is_client_name(client))
        quit("'%s' can't be a client: up to %d letters, digits, . _ @ -\n",
             client, CLIENT_MAX);
    if (!name || strlen(name) - 1 >= DOOR_NAME_MAX || strpbrk(name, "#\r\n"))
        quit("--keygen %s needs a door's name: up to %d bytes, without #\n",
             client, DOOR_NAME_MAX);
    random_take(key, sizeof key);
    for (size_t i = 0; i < KEY_BYTES; i++)
        sprintf(hex + 2 * i, "%02x", key[i]);
    return dprintf(1, "%s %s\nkey = %s:%s\n", client, hex, name, hex) < 0;
}

static void options_take(int argc, char **argv) {
    const struct word *w, *first = words + OPTION;
    bool wrong;
    while ((w = option_next(argc, argv, first, WORDS - OPTION, &wrong))) {
        if (wrong) quit("--%s needs %s\n", w->name, w->value);
        snprintf(where, sizeof where, "--%s: ", w->name);
        word_take(w, optarg);
        if (given.help) exit(dprintf(1, "%s", KNOCK_USAGE) < 0);
        if (given.version) exit(dprintf(1, "knock " VERSION "\n") < 0);
        where[0] = '\0';
    }
    if (wrong) quit("the options are:\n%s", KNOCK_USAGE);
}

/* Reads HOST PORT... or PROFILE. */
static void operands_take(char **operands) {
    given.host = *operands;
    while (*++operands) knock_add(*operands);
    snprintf(heading, sizeof heading, "[%s]", given.host);
    profile_read(getenv("XDG_CONFIG_HOME"), "knock.conf");
    profile_read(getenv("HOME"), ".config/knock.conf");
    profile_read(getenv("HOME"), ".knockrc");
    const char *host = given.host, *colon = strchr(host, ':');
    if (colon && !strchr(colon + 1, ':'))
        quit("'%s' is not a host: the port is a word of its own\n", host);
    if (!nknocks)
        quit("no ports, and no profile %s with ports:%s\n", heading,
             searched);
    if (sealed && (nknocks > 1 || knocks->tcp))
        quit("a sealed knock has one port, of UDP\n");
    if (!sealed && (given.close || given.recipient))
        quit("--close and --for need a key: -k FILE, or the profile's\n");
}

int knock_main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* the reader of -v's lines may end */
    options_take(argc, argv);
    if (given.generate) return generate(given.generate);
    if (given.keygen) return keygen(given.keygen, argv[optind]);
    if (optind >= argc) quit("no host\n%s", KNOCK_USAGE);
    operands_take(argv + optind);
    peers_find();
    for (peer = peers; peer < peers + npeers; peer++) knock_peer();
    peer = peers;
    if (given.close) return 0; /* no port opens: nothing to wait for */
    if (given.connect) join(door_enter(given.connect));
    else if (given.wait) door_enter(given.wait);
    return 0;
}
