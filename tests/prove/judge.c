/* judge(): each key, packet, clock and memory of a key, with any function for HMAC (see
 * hash.h). A packet has the verdict that docs/knock1.md says, here in a second
 * implementation; one whose tag is not that of HMAC is forged. Each stamp may be burnt
 * or not; the list of burnt stamps is not looked at.
 *
 * with: s/^void hmac(/void real_hmac(/
 * with: s/^void hmac_key(/void real_hmac_key(/
 * with: s/^static bool is_burnt(/static bool real_is_burnt(/
 * with: s/^static void burn(/static void real_burn(/
 * options: --unwind 65
 * plant: s|i < sizeof s->tag; i++) other|i < 15; i++) other|
 * plant: s|if (is_burnt(stamps, stamp)) return REPLAY;||
 * plant: s|stamp <= stamps->floor|stamp < stamps->floor|
 * plant: s/if (s->plain.request > 1 || /if (/
 */
#include "config.h"
static bool is_burnt(const struct stamps *s, uint64_t stamp);
static void burn(struct stamps *s, uint64_t stamp);
void hmac(const struct hmac *key, const char *label, const void *bytes,
          size_t n, uint8_t hash[HASH_BYTES]);
void hmac_key(struct hmac *h, const void *key, size_t n);
#include "knock.c"
#include "hash.h"

uint64_t nondet_u64(void);
bool nondet_bool(void);

/* 146 million years in ms. */
#define LONG ((uint64_t)1 << 62)

static bool burnt;       /* is the packet's stamp burnt? any answer */
static unsigned nburned; /* calls of burn() */
static uint64_t burned;

static bool is_burnt(const struct stamps *s, uint64_t stamp) {
    (void)s;
    (void)stamp;
    return burnt;
}

static void burn(struct stamps *s, uint64_t stamp) {
    (void)s;
    nburned++;
    burned = stamp;
}

/* Opens a packet as docs/knock1.md says; true if the tag is right. */
static bool open_packet(const struct hmac *door, struct sealed *s) {
    uint8_t hash[HASH_BYTES], bytes[40], *plain = (uint8_t *)&s->plain;
    bool right = true;
    hmac(door, "knock1 mask", s->tag, 16, hash);
    for (int i = 0; i < 32; i++) plain[i] ^= hash[i];
    memcpy(bytes, &s->id, 8);
    memcpy(bytes + 8, plain, 32);
    hmac(door, "knock1 tag", bytes, 40, hash);
    for (int i = 0; i < 16; i++) right &= hash[i] == s->tag[i];
    return right;
}

static enum verdict right_verdict(const struct sealed *s,
                                  const struct stamps *old, uint64_t now,
                                  uint64_t start) {
    const uint8_t *b = (const uint8_t *)&s->plain;
    uint64_t stamp = 0;
    bool zero = true;
    for (int i = 0; i < 8; i++) stamp = stamp << 8 | b[i];
    for (int i = 25; i < 32; i++) zero &= !b[i];
    if (b[24] > 1 || !zero) return MALFORMED;
    if (stamp > now + 600000) return FUTURE;
    if (burnt) return REPLAY;
    if (now > 600000 && stamp < now - 600000) return PAST;
    if (stamp <= old->floor) return REPLAY;
    if (stamp <= start) return BEFORE_START;
    return GOOD;
}

void harness(void) {
    struct hmac door;           /* any content */
    struct stamps stamps, old;  /* the same */
    struct sealed packet, mine; /* the same */
    uint64_t now = nondet_u64(), start = nondet_u64();
    __CPROVER_assume(now < LONG);
    burnt = nondet_bool();
    old = stamps;
    mine = packet;
    bool right = open_packet(&door, &mine);
    enum verdict v = judge(&door, &stamps, &packet, now, start);
    __CPROVER_assert(right == (v != FORGED), "the tag decides");
    if (right)
        __CPROVER_assert(v == right_verdict(&mine, &old, now, start),
                         "the verdict is that of the rules");
    uint64_t stamp = be64toh(packet.plain.stamp);
    __CPROVER_assert(nburned == (v == FUTURE), "only the future is burnt");
    if (nburned) __CPROVER_assert(burned == stamp, "its stamp is burnt");
    __CPROVER_assert(stamps.floor == (v == GOOD ? stamp : old.floor),
                     "the last accepted stamp is remembered");
}
