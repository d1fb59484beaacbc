/* Any function in place of HMAC: the hash of a text with a key is anything, and is the
 * same whenever both are the same. A text is the label and the bytes behind it. A key
 * that is made of a hash is this hash. The harness includes knock.c before, with the
 * names of these two functions free. */
enum { CALLS = 8, TEXT = 50 }; /* CBMC says if a harness needs more */

uint8_t nondet_u8(void);

static struct call {
    struct hmac key;
    size_t n;
    uint8_t text[TEXT], hash[HASH_BYTES];
} calls[CALLS];
static unsigned ncalls;

static bool same_call(const struct call *a, const struct call *b) {
    bool same = true;
    if (a->n != b->n) return false; /* CBMC knows both */
    for (int i = 0; i < 8; i++)
        same &= a->key.inner[i] == b->key.inner[i] &&
                a->key.outer[i] == b->key.outer[i];
    for (size_t i = 0; i < a->n; i++) same &= a->text[i] == b->text[i];
    return same;
}

void hmac(const struct hmac *key, const char *label, const void *bytes,
          size_t n, uint8_t hash[HASH_BYTES]) {
    struct call *c = &calls[ncalls];
    *c = (struct call){ .key = *key };
    for (; label[c->n]; c->n++) c->text[c->n] = (uint8_t)label[c->n];
    for (size_t i = 0; i < n; i++)
        c->text[c->n++] = ((const uint8_t *)bytes)[i];
    for (int i = 0; i < HASH_BYTES; i++) c->hash[i] = nondet_u8();
    for (unsigned k = 0; k < ncalls; k++) {
        bool same = same_call(c, &calls[k]);
        for (int i = 0; i < HASH_BYTES; i++)
            if (same) c->hash[i] = calls[k].hash[i];
    }
    for (int i = 0; i < HASH_BYTES; i++) hash[i] = c->hash[i];
    ncalls++;
}

void hmac_key(struct hmac *h, const void *key, size_t n) {
    __CPROVER_assert(n == HASH_BYTES, "this key is a hash");
    *h = (struct hmac){ { 0 }, { 0 } };
    memcpy(h->inner, key, HASH_BYTES);
}
