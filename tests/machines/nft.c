/*
 * nft for a machine that has none (tests/machines.sh):
 *
 *	nft make        makes the table inet knock with the sets ssh4 and ssh6
 *	nft list        a line for each address in them: ADDRESS MILLISECONDS-LEFT
 *
 * It shares nothing with knockd.c: what it lists is what the kernel has.  Numbers are
 * those of linux/netfilter/nf_tables.h, which not every compiler has.
 *
 * SPDX-License-Identifier: ISC
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    NETFILTER = 12,
    REQUEST = 1,
    ACK = 4,
    DUMP = 0x300,
    CREATE = 0x400,
    ERROR = 2,
    DONE = 3,
    BATCH_BEGIN = 16,
    BATCH_END = 17,
    NFT = 10,
    NEW_TABLE = NFT << 8 | 0,
    NEW_SET = NFT << 8 | 9,
    NEW_ELEMENT = NFT << 8 | 12,
    GET_ELEMENTS = NFT << 8 | 13,
    INET = 1,
    TIMEOUT_FLAG = 0x10,
    TYPE = 0x3fff /* without flags */
};

/* Attributes: of a set, of a list of elements, of an element. */
enum { TABLE = 1, NAME, FLAGS, KEY_TYPE, KEY_BYTES, SET_ID = 10 };
enum { ELEMENTS = 3 };
enum { KEY = 1, EXPIRATION = 5 };

struct message {
    uint32_t bytes;
    uint16_t type, flags;
    uint32_t seq, port;
    uint8_t family, version, resource[2];
};

struct attribute {
    uint16_t bytes, type;
};

static _Alignas(8) uint8_t out[1024], in[65536];
static size_t n, at; /* of out; its last message */

static void attribute(unsigned type, const void *data, size_t bytes) {
    struct attribute a = { (uint16_t)(sizeof a + bytes), (uint16_t)type };
    memcpy(out + n, &a, sizeof a);
    memcpy(out + n + sizeof a, data, bytes);
    n += (sizeof a + bytes + 3) & ~(size_t)3;
    uint32_t all = (uint32_t)(n - at);
    memcpy(out + at, &all, sizeof all);
}

static void number(unsigned type, uint32_t value) {
    value = htonl(value);
    attribute(type, &value, sizeof value);
}

static void message(unsigned type, unsigned flags, unsigned family) {
    struct message m = { .bytes = sizeof m,
                         .type = (uint16_t)type,
                         .flags = (uint16_t)(REQUEST | flags),
                         .family = (uint8_t)family };
    if (!family) m.resource[1] = NFT;
    at = n;
    memcpy(out + n, &m, sizeof m);
    n += sizeof m;
}

static void set(const char *name, unsigned type, unsigned bytes, unsigned id) {
    message(NEW_SET, CREATE | ACK, INET);
    attribute(TABLE, "knock", sizeof "knock");
    attribute(NAME, name, strlen(name) + 1);
    number(FLAGS, TIMEOUT_FLAG);
    number(KEY_TYPE, type);
    number(KEY_BYTES, bytes);
    number(SET_ID, id);
}

/* The attribute of that type among bytes of them; *bytes: its own. */
static const uint8_t *find(const uint8_t *p, size_t *bytes, unsigned type) {
    const uint8_t *end = p + *bytes;
    struct attribute a;
    while (p && p + sizeof a <= end) {
        memcpy(&a, p, sizeof a);
        *bytes = a.bytes - sizeof a;
        if ((a.type & TYPE) == type) return p + sizeof a;
        if (a.bytes < sizeof a) break;
        p += (a.bytes + 3u) & ~3u;
    }
    return NULL;
}

/* Prints the elements of a list. */
static void show(const uint8_t *p, size_t bytes) {
    const uint8_t *end = p + bytes;
    while (p && p < end) {
        size_t inner = (size_t)(end - p), key_bytes, time_bytes;
        const uint8_t *e = find(p, &inner, 1);
        if (!e) return;
        char text[INET6_ADDRSTRLEN];
        uint32_t left[2] = { 0, 0 };
        key_bytes = time_bytes = inner;
        const uint8_t *key = find(e, &key_bytes, KEY);
        const uint8_t *time = find(e, &time_bytes, EXPIRATION);
        if (key) key = find(key, &key_bytes, 1);
        if (time) memcpy(left, time, sizeof left);
        if (key && inet_ntop(key_bytes == 4 ? AF_INET : AF_INET6, key, text,
                             sizeof text))
            printf("%s %llu\n", text,
                   (unsigned long long)ntohl(left[0]) << 32 | ntohl(left[1]));
        p = e + ((inner + 3) & ~(size_t)3);
    }
}

/* Sends what there is and reads the answers, to the end of a dump or until there
 * are none.  Returns 0 or the first error. */
static int ask(int fd) {
    struct message m;
    int32_t error = 0;
    if (send(fd, out, n, 0) < 0) return errno;
    n = 0;
    for (;;) {
        ssize_t got = recv(fd, in, sizeof in, MSG_DONTWAIT);
        if (got <= 0) return -error;
        const uint8_t *p = in, *end = in + got;
        while (p + sizeof m <= end) {
            memcpy(&m, p, sizeof m);
            size_t bytes = m.bytes - sizeof m;
            if (m.type == DONE) return 0;
            if (m.type == ERROR && !error) memcpy(&error, p + 16, sizeof error);
            if (m.type == NEW_ELEMENT) {
                const uint8_t *list = find(p + sizeof m, &bytes, ELEMENTS);
                if (list) show(list, bytes);
            }
            p += (m.bytes + 3u) & ~3u;
        }
    }
}

static int list(int fd, const char *name) {
    message(GET_ELEMENTS, DUMP, INET);
    attribute(TABLE, "knock", sizeof "knock");
    attribute(2, name, strlen(name) + 1);
    return ask(fd);
}

int main(int argc, char **argv) {
    int fd = socket(AF_NETLINK, SOCK_RAW, NETFILTER), error;
    if (fd < 0) {
        perror("nft: socket");
        return 1;
    }
    if (argc == 2 && !strcmp(argv[1], "make")) {
        message(BATCH_BEGIN, 0, 0);
        message(NEW_TABLE, CREATE | ACK, INET);
        attribute(TABLE, "knock", sizeof "knock");
        set("ssh4", 7, 4, 1); /* nft's types: ipv4_addr, ipv6_addr */
        set("ssh6", 8, 16, 2);
        message(BATCH_END, 0, 0);
        error = ask(fd);
    } else {
        error = list(fd, "ssh4");
        if (!error) error = list(fd, "ssh6");
    }
    if (error) fprintf(stderr, "nft: %s\n", strerror(error));
    return error != 0;
}
