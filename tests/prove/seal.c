/* seal() and hit_sealed(): each key, each clock, --close or not, and any address or
 * none for --for. Three datagrams of 56 bytes are sent, and they are those that
 * docs/knock1.md says, with any function for HMAC (see hash.h).
 *
 * with: s/^void hmac(/void real_hmac(/
 * with: s/^void hmac_key(/void real_hmac_key(/
 * with: s/^static void hit(/static void real_hit(/
 * stub: poll
 * options: --unwind 65
 * plant: s|>> PERIOD_BITS)|>> (PERIOD_BITS + 1))|
 * plant: s|struct tagged text = { s->id, s->plain };|struct tagged text = { 0, s->plain };|
 * plant: s|hit(k, true, &s, sizeof s);|hit(k, true, \&s, sizeof s - 1);|
 */
#include "config.h"
struct knock;
static void hit(const struct knock *k, bool udp, const void *data, size_t n);
void hmac(const struct hmac *key, const char *label, const void *bytes,
          size_t n, uint8_t hash[HASH_BYTES]);
void hmac_key(struct hmac *h, const void *key, size_t n);
#include "knock.c"
#include "hash.h"

uint32_t nondet_u32(void);
int64_t nondet_i64(void);
bool nondet_bool(void);
int nondet_int(void);

static struct timespec wall;
static uint8_t address[16]; /* what the packet is to have */
static unsigned hits;

/* Any time of the next 30,000 years. */
int clock_gettime(clockid_t id, struct timespec *t) {
    __CPROVER_assert(id == CLOCK_REALTIME, "the wall clock");
    wall.tv_sec = nondet_i64();
    wall.tv_nsec = nondet_i64();
    __CPROVER_assume(wall.tv_sec >= 0 && wall.tv_sec < 1000000000000);
    __CPROVER_assume(wall.tv_nsec >= 0 && wall.tv_nsec < 1000000000);
    *t = wall;
    return 0;
}

/* Any answer: is the text "own"? */
int strcmp(const char *a, const char *b) { return a && b ? nondet_int() : 0; }

/* Any address of the family, or none. */
int inet_pton(int family, const char *text, void *to) {
    uint8_t *b = to;
    int n = family == AF_INET ? 4 : 16;
    if (nondet_bool()) return 0;
    __CPROVER_assert(__CPROVER_r_ok(text, 1), "a text");
    for (int i = 0; i < n; i++) b[i] = nondet_u8();
    if (family == AF_INET) address[10] = address[11] = 0xff;
    for (int i = 0; i < n; i++) address[16 - n + i] = b[i];
    return 1;
}

/* Opens the first copy: every field is what it is to be. Others are the same. */
static void hit(const struct knock *k, bool udp, const void *data, size_t n) {
    static uint8_t first[56];
    const uint8_t *b = data;
    uint8_t d[HASH_BYTES], hash[HASH_BYTES], period[8], text[40];
    struct hmac id_key;
    uint64_t ms = 0, right;
    (void)k;
    __CPROVER_assert(udp && n == 56, "a datagram of 56 bytes");
    for (int i = 0; hits && i < 56; i++)
        __CPROVER_assert(b[i] == first[i], "a copy");
    if (hits++) return;
    memcpy(first, b, 56);
    for (int i = 0; i < 16; i++) text[i] = b[8 + i];
    hmac(&door, "knock1 mask", text, 16, hash);
    for (int i = 0; i < 8; i++) text[i] = b[i];
    for (int i = 0; i < 32; i++) text[8 + i] = b[24 + i] ^ hash[i];
    for (int i = 0; i < 8; i++) ms = ms << 8 | text[8 + i];
    right = (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
    __CPROVER_assert(ms == right, "the clock");
    for (int i = 0; i < 16; i++)
        __CPROVER_assert(text[16 + i] == address[i], "the address");
    __CPROVER_assert(text[32] == given.close, "the request");
    for (int i = 33; i < 40; i++) __CPROVER_assert(!text[i], "zero");
    hmac(&door, "knock1 tag", text, 40, hash);
    for (int i = 0; i < 16; i++)
        __CPROVER_assert(b[8 + i] == hash[i], "the tag");
    hmac(&door, "knock1 id", "", 0, d);
    hmac_key(&id_key, d, HASH_BYTES);
    for (int i = 0; i < 8; i++)
        period[i] = (uint8_t)(right >> 20 >> (56 - 8 * i));
    hmac(&id_key, "", period, 8, hash);
    for (int i = 0; i < 8; i++) __CPROVER_assert(b[i] == hash[i], "the id");
}

void harness(void) {
    static const char *const recipients[] = { NULL, "own", "address" };
    struct hmac any;
    uint32_t i = nondet_u32();
    __CPROVER_assume(i < LENGTH(recipients));
    door = any;
    given.close = nondet_bool();
    given.recipient = recipients[i];
    peer = &peers[nondet_bool()];
    hit_sealed(knocks);
    __CPROVER_assert(hits == SEALED_COPIES, "each copy is sent");
}
