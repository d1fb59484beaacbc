/*
 * A second judge of sealed knocks, written from the rules of knock1/knock1.py.
 * It shares nothing with knock.c, not even the hash.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ---- SHA-256 and HMAC, step by step as in FIPS 180-4 and RFC 2104 --------- */

static uint32_t j_rotate(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

__extension__ typedef unsigned __int128 j_wide;

/* The first 32 bits of the fraction of a root, the 2nd or 3rd, of a prime. */
static uint32_t j_fraction(unsigned prime, unsigned root) {
    j_wide low = 0, high = (j_wide)1 << 37;

    while (high - low > 1) { /* of the root times 2^32 */
        j_wide middle = (low + high) / 2;
        j_wide power = middle * middle;
        j_wide whole = (j_wide)prime << 64;

        if (root == 3) {
            power = (power >> 16) * middle; /* 37 + 37 + 37 bits */
            whole = (j_wide)prime << 80;
        }
        *(power <= whole ? &low : &high) = middle;
    }
    return (uint32_t)low;
}

static void j_sha256(const uint8_t *text, size_t n, uint8_t out[32]) {
    static uint32_t k[64], first[8];
    uint8_t padded[512] = { 0 };
    uint32_t h[8];
    size_t size = (n + 9 + 63) / 64 * 64;

    for (unsigned p = 2, i = 0; !k[63]; p++) {
        bool prime = true;

        for (unsigned d = 2; d < p; d++) prime = prime && p % d;
        if (!prime) continue;
        if (i < 8) first[i] = j_fraction(p, 2);
        k[i++] = j_fraction(p, 3);
    }
    memcpy(h, first, sizeof(h));
    memcpy(padded, text, n);
    padded[n] = 0x80;
    for (unsigned i = 0; i < 8; i++)
        padded[size - 1 - i] = (uint8_t)((uint64_t)n * 8 >> 8 * i);
    for (size_t at = 0; at < size; at += 64) {
        uint32_t w[64], v[8];

        for (unsigned t = 0; t < 16; t++) {
            const uint8_t *b = padded + at + 4 * t;

            w[t] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
                   (uint32_t)b[2] << 8 | b[3];
        }
        for (unsigned t = 16; t < 64; t++) {
            uint32_t x = w[t - 15], y = w[t - 2];

            w[t] = (j_rotate(y, 17) ^ j_rotate(y, 19) ^ y >> 10) + w[t - 7] +
                   (j_rotate(x, 7) ^ j_rotate(x, 18) ^ x >> 3) + w[t - 16];
        }
        memcpy(v, h, sizeof(v));
        for (unsigned t = 0; t < 64; t++) {
            uint32_t a = v[0], e = v[4];
            uint32_t big1 =
                j_rotate(e, 6) ^ j_rotate(e, 11) ^ j_rotate(e, 25);
            uint32_t big0 =
                j_rotate(a, 2) ^ j_rotate(a, 13) ^ j_rotate(a, 22);
            uint32_t choice = (e & v[5]) ^ (~e & v[6]);
            uint32_t majority = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
            uint32_t t1 = v[7] + big1 + choice + k[t] + w[t];

            memmove(v + 1, v, 7 * sizeof(*v));
            v[4] += t1;
            v[0] = t1 + big0 + majority;
        }
        for (unsigned i = 0; i < 8; i++) h[i] += v[i];
    }
    for (unsigned i = 0; i < 32; i++)
        out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

/* H(key, label | text). */
static void j_hmac(const uint8_t key[32], const char *label, const void *text,
                   size_t n, uint8_t out[32]) {
    uint8_t inner[64 + 300], outer[64 + 32];
    size_t length = strlen(label);

    memset(inner, 0x36, 64);
    memset(outer, 0x5c, 64);
    for (unsigned i = 0; i < 32; i++) inner[i] ^= key[i];
    for (unsigned i = 0; i < 32; i++) outer[i] ^= key[i];
    memcpy(inner + 64, label, length);
    memcpy(inner + 64 + length, text, n);
    j_sha256(inner, 64 + length + n, outer + 64);
    j_sha256(outer, sizeof(outer), out);
}

/* ---- Packets --------------------------------------------------------------- */

enum { J_CLIENTS = 4, J_BURNT = 8, J_LOOK = 90, J_PACKET = 56 };
#define J_SKEW 600000u

/* A key at a door, and what the server remembers of it. */
struct j_client {
    const char *name;
    unsigned door;
    uint8_t d[32], i[32];
    bool here;          /* the key file has it */
    int64_t since;      /* by a clock that never steps: it has been there */
    int64_t since_wall; /* the same by the wall clock */
    uint64_t floor, burnt[J_BURNT + 1][2];
    unsigned nburnt;
    bool seen; /* a packet with a right tag, the last one: */
    uint8_t tag[16], from[16];
    bool used; /* one that was accepted, the last one: */
    uint8_t first[16];
};

static uint64_t j_number(const uint8_t b[8]) {
    uint64_t n = 0;

    for (unsigned i = 0; i < 8; i++) n = n << 8 | b[i];
    return n;
}

static void j_bytes(uint64_t n, uint8_t b[8]) {
    for (unsigned i = 0; i < 8; i++) b[i] = (uint8_t)(n >> (56 - 8 * i));
}

static void j_client_new(struct j_client *c, const char *name, unsigned door,
                         const char *door_name, const uint8_t key[32]) {
    *c = (struct j_client){ .name = name, .door = door };
    j_hmac(key, "knock1 door", door_name, strlen(door_name), c->d);
    j_hmac(c->d, "knock1 id", "", 0, c->i);
}

static void j_id(const struct j_client *c, uint64_t period, uint8_t id[8]) {
    uint8_t hash[32], number[8];

    j_bytes(period, number);
    j_hmac(c->i, "", number, 8, hash);
    memcpy(id, hash, 8);
}

/* Seals the plain part, P, with the id of some period. */
static void j_seal(const struct j_client *c, uint64_t period,
                   const uint8_t plain[32], uint8_t packet[J_PACKET]) {
    uint8_t hash[32], tagged[40];

    j_id(c, period, packet);
    memcpy(tagged, packet, 8);
    memcpy(tagged + 8, plain, 32);
    j_hmac(c->d, "knock1 tag", tagged, 40, hash);
    memcpy(packet + 8, hash, 16);
    j_hmac(c->d, "knock1 mask", packet + 8, 16, hash);
    for (unsigned i = 0; i < 32; i++) packet[24 + i] = plain[i] ^ hash[i];
}

/* The plain part of a packet; false if the tag is not this client's. */
static bool j_open(const struct j_client *c, const uint8_t packet[J_PACKET],
                   uint8_t plain[32]) {
    uint8_t hash[32], tagged[40];

    j_hmac(c->d, "knock1 mask", packet + 8, 16, hash);
    for (unsigned i = 0; i < 32; i++) plain[i] = packet[24 + i] ^ hash[i];
    memcpy(tagged, packet, 8);
    memcpy(tagged + 8, plain, 32);
    j_hmac(c->d, "knock1 tag", tagged, 40, hash);
    return !memcmp(hash, packet + 8, 16);
}

/* Is the id one of the periods around now? Each id is made once. */
static bool j_knows(const struct j_client *c, unsigned index,
                    const uint8_t id[8], uint64_t now) {
    static struct {
        bool made;
        uint64_t period;
        uint8_t id[8];
    } ids[J_CLIENTS][4096];

    for (int i = -J_LOOK; i <= J_LOOK; i++) {
        uint64_t period = (now >> 20) + (uint64_t)(int64_t)i;
        unsigned at = (unsigned)(period % 4096);

        if (!ids[index][at].made || ids[index][at].period != period) {
            j_id(c, period, ids[index][at].id);
            ids[index][at].period = period;
            ids[index][at].made = true;
        }
        if (!memcmp(ids[index][at].id, id, 8)) return true;
    }
    return false;
}

/* ---- The rules ------------------------------------------------------------- */

static bool j_is_v4(const uint8_t a[16]) {
    static const uint8_t start[12] = { [10] = 255, [11] = 255 };

    return !memcmp(a, start, 12);
}

/* May an address be opened? A given one is not this host or this link. */
static bool j_usable(const uint8_t a[16], bool given) {
    static const uint8_t zero[16];

    if (j_is_v4(a)) {
        if (given && (a[12] == 127 || (a[12] == 169 && a[13] == 254)))
            return false;
        return a[12] > 0 && a[12] < 224;
    }
    if (given && !memcmp(a, zero, 12)) return false;
    if (given && a[0] == 0xfe && a[1] >> 6 == 2) return false;
    return a[0] != 255 && memcmp(a, zero, 16) != 0;
}

static bool j_is_burnt(const struct j_client *c, uint64_t stamp) {
    for (unsigned i = 0; i < c->nburnt; i++)
        if (c->burnt[i][0] <= stamp && stamp <= c->burnt[i][1]) return true;
    return false;
}

static void j_burn(struct j_client *c, uint64_t stamp) {
    unsigned at = 0, closest = 0;

    if (j_is_burnt(c, stamp)) return;
    while (at < c->nburnt && c->burnt[at][0] < stamp) at++;
    memmove(c->burnt + at + 1, c->burnt + at,
            (c->nburnt - at) * sizeof(*c->burnt));
    c->burnt[at][0] = c->burnt[at][1] = stamp;
    if (++c->nburnt <= J_BURNT) return;
    for (unsigned i = 0; i < J_BURNT; i++)
        if (c->burnt[i + 1][0] - c->burnt[i][1] <
            c->burnt[closest + 1][0] - c->burnt[closest][1])
            closest = i;
    c->burnt[closest][1] = c->burnt[closest + 1][1];
    memmove(c->burnt + closest + 1, c->burnt + closest + 2,
            (J_BURNT - 1 - closest) * sizeof(*c->burnt));
    c->nburnt = J_BURNT;
}

enum j_verdict {
    J_UNKNOWN, /* also a wrong length and a wrong tag */
    J_REQUEST,
    J_FUTURE,
    J_REPLAY,
    J_PAST,
    J_BEFORE_START,
    J_ADDRESS,
    J_OPEN,
    J_CLOSE
};

/* What becomes of a packet. now: the wall clock, ms; start: of each client,
 * the time until which what was sent is refused. *who, *stamp, *address: of a packet with a right tag. */
static enum j_verdict j_judge(struct j_client *clients, unsigned n,
                              const uint8_t *packet, size_t size,
                              const uint8_t source[16], uint64_t now,
                              const int64_t *start, unsigned *who,
                              uint64_t *stamp, uint8_t address[16]) {
    static const uint8_t zero[16];
    uint8_t p[32];
    struct j_client *c = clients;
    bool given;

    for (*who = 0; *who < n; ++*who, c++)
        if (size == J_PACKET && c->here && j_knows(c, *who, packet, now) &&
            j_open(c, packet, p))
            break;
    if (*who == n) return J_UNKNOWN;
    *stamp = j_number(p);
    given = memcmp(p + 8, zero, 16) != 0;
    memcpy(address, given ? p + 8 : source, 16);
    if (p[24] > 1 || memcmp(p + 25, zero, 7) != 0) return J_REQUEST;
    if (*stamp > now + J_SKEW) {
        j_burn(c, *stamp);
        return J_FUTURE;
    }
    if (j_is_burnt(c, *stamp)) return J_REPLAY;
    if (now > J_SKEW && *stamp < now - J_SKEW) return J_PAST;
    if (*stamp <= c->floor) return J_REPLAY;
    if ((int64_t)*stamp <= start[*who]) return J_BEFORE_START;
    c->floor = *stamp;
    if (!j_usable(address, given)) return J_ADDRESS;
    return p[24] ? J_CLOSE : J_OPEN;
}
