/* Unit tests of what sealed knocks are made of, in knock.c; part of unit.c. */

/* ---- SHA-256 and HMAC ---------------------------------------------------- */

static size_t unhex(const char *text, uint8_t *to) {
    size_t n = strlen(text) / 2;

    for (size_t i = 0; i < n; i++) {
        unsigned byte;

        sscanf(text + 2 * i, "%2x", &byte);
        to[i] = (uint8_t)byte;
    }
    return n;
}

static const char *hex(const uint8_t *bytes, size_t n) {
    static char text[1024];

    for (size_t i = 0; i < n; i++) sprintf(text + 2 * i, "%02x", bytes[i]);
    return text;
}

static const char *sha256_of(const uint8_t *text, size_t n) {
    uint32_t state[8] = { SHA256_H };
    uint8_t hash[HASH_BYTES];

    finish(state, 0, text, n, hash);
    return hex(hash, sizeof(hash));
}

/* FIPS 180-4's examples, and the empty text. */
static void test_sha256(void) {
    static const char *const cases[][2] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8"
              "55" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20"
                 "015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c"
          "1" },
        { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
          "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d"
          "1" }
    };
    static uint8_t many[1000000];

    for (unsigned i = 0; i < 4; i++) {
        const char *text = cases[i][0], *was;

        was = sha256_of((const uint8_t *)text, strlen(text));
        CHECK(!strcmp(was, cases[i][1]), "%s: %s", text, was);
    }
    memset(many, 'a', sizeof(many));
    CHECK(!strcmp(
        sha256_of(many, sizeof(many)),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
}

/* RFC 4231's test cases. Those whose keys are longer than a block get the hash
 * of the key, as RFC 2104 says; nothing in the program has such keys. */
static void test_hmac(void) {
    static const struct {
        const char *key, *text, *hash; /* in hex; repeated: byte * times */
        unsigned key_times, text_times;
    } cases[] = {
        { "0b", "4869205468657265",
          "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
          20, 1 },
        { "4a656665",
          "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
          1, 1 },
        { "aa", "dd",
          "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
          20, 50 },
        { "0102030405060708090a0b0c0d0e0f10111213141516171819", "cd",
          "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
          1, 50 },
        { "0c", "546573742057697468205472756e636174696f6e",
          "a3b6167473100ee06e0c796c2955552b", 20, 1 },
        { "aa",
          "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65"
          "20"
          "4b6579202d2048617368204b6579204669727374",
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
          131, 1 },
        { "aa",
          "5468697320697320612074657374207573696e672061206c617267657220746861"
          "6e"
          "20626c6f636b2d73697a65206b657920616e642061206c6172676572207468616e"
          "20"
          "626c6f636b2d73697a6520646174612e20546865206b6579206e6565647320746f"
          "20"
          "626520686173686564206265666f7265206265696e672075736564206279207468"
          "65"
          "20484d414320616c676f726974686d2e",
          "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
          131, 1 }
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint8_t key[256], text[256], hash[HASH_BYTES];
        size_t nkey = 0, n = 0;
        struct hmac h;

        for (unsigned k = 0; k < cases[i].key_times; k++)
            nkey += unhex(cases[i].key, key + nkey);
        for (unsigned k = 0; k < cases[i].text_times; k++)
            n += unhex(cases[i].text, text + n);
        if (nkey > 64) nkey = unhex(sha256_of(key, nkey), key);
        hmac_key(&h, key, nkey);
        hmac(&h, "", text, n, hash);
        CHECK(!strncmp(hex(hash, sizeof(hash)), cases[i].hash,
                       strlen(cases[i].hash)),
              "case %u: %s", i + 1, hex(hash, sizeof(hash)));
    }
}

/* ---- The golden vectors --------------------------------------------------- */

static const char *const vectors[] = {
#include "knock1/vectors.inc"
};
enum {
    VECTORS = sizeof(vectors) / sizeof(*vectors),
    LOOK = 90,
    KEYS_MOST = 4
};

/* Cuts a line of the vectors into its words; returns how many. */
static unsigned words_of(const char *line, char text[1024], char *word[10]) {
    unsigned n = 0;

    snprintf(text, 1024, "%s", line);
    while (n < 10 && (word[n] = strsep(&text, "\t"))) n++;
    return n;
}

/* Every packet of the reference is made, byte for byte. */
static void test_sealed_made(void) {
    unsigned made = 0;

    for (unsigned i = 0; i < VECTORS; i++) {
        char text[1024], *word[10];
        uint8_t key[KEY_BYTES];
        struct sealed s = { .id = 0 };
        struct hmac d;

        if (words_of(vectors[i], text, word) != 7) continue;
        CHECK(key_parse(word[1], key));
        door_key(&d, key, word[2]);
        s.plain.stamp = htobe64(strtoull(word[3], NULL, 10));
        if (*word[4] != '-') {
            struct addr a = addr_of(word[4]);

            memcpy(s.plain.address, &a, 16);
        }
        s.plain.request = (uint8_t)atoi(word[5]);
        seal(&d, &s);
        CHECK(!strcmp(hex((uint8_t *)&s, sizeof(s)), word[6]), "%s: %s",
              vectors[i], hex((uint8_t *)&s, sizeof(s)));
        made++;
    }
    CHECK(made == 9, "%u", made);
}

/* What a server has: keys at doors, the ids of each, what it remembers. */
static struct {
    struct hmac door[KEYS_MOST], id_key[KEYS_MOST];
    struct stamps stamps[KEYS_MOST];
    uint64_t id[KEYS_MOST][2 * LOOK + 1], period[KEYS_MOST];
    unsigned n;
} server;

static void server_add(const char *key_text, const char *name) {
    uint8_t key[KEY_BYTES], hash[HASH_BYTES];
    unsigned i = server.n++;

    CHECK(key_parse(key_text, key));
    door_key(&server.door[i], key, name);
    hmac(&server.door[i], "knock1 id", "", 0, hash);
    hmac_key(&server.id_key[i], hash, sizeof(hash));
    server.stamps[i] = (struct stamps){ .floor = 0 };
    server.period[i] = UINT64_MAX;
}

/* Is it one of the ids of the periods around now? */
static bool knows_id(unsigned i, uint64_t id, uint64_t now) {
    uint64_t period = now >> PERIOD_BITS;

    for (unsigned k = 0; period != server.period[i] && k <= 2 * LOOK; k++)
        server.id[i][k] = sealed_id(&server.id_key[i], period + k - LOOK);
    server.period[i] = period;
    for (unsigned k = 0; k <= 2 * LOOK; k++)
        if (server.id[i][k] == id) return true;
    return false;
}

/* What becomes of a packet, in the reference's words. */
static const char *verdict_of(const uint8_t *packet, size_t n,
                              const char *source, uint64_t now,
                              uint64_t elapsed) {
    static const char *const reasons[] = {
        [MALFORMED] = "no: request", [FUTURE] = "no: future",
        [REPLAY] = "no: replay",     [PAST] = "no: past",
        [UNUSABLE] = "no: address",  [BEFORE_START] = "no: before the start"
    };
    static char text[64];
    char ip[ADDR_TEXT];
    struct addr from = addr_of(source), a;

    if (n != sizeof(struct sealed)) return "no: length";
    for (unsigned i = 0; i < server.n; i++) {
        struct sealed s;

        memcpy(&s, packet, sizeof(s));
        if (!knows_id(i, s.id, now)) continue;
        enum verdict v =
            sealed_judge(&server.door[i], &server.stamps[i], &s, &from, now,
                         now > elapsed ? now - elapsed : 0, &a);
        if (v == FORGED) continue;
        if (v != GOOD) return reasons[v];
        snprintf(text, sizeof(text), "%s %s",
                 s.plain.request ? "close" : "open", addr_text(&a, ip));
        return text;
    }
    return "no: unknown";
}

/* Every judged step of the reference has its verdict and reason. */
static void test_sealed_judged(void) {
    const char *name = "";
    unsigned steps = 0, cases = 0;

    for (unsigned i = 0; i < VECTORS; i++) {
        char text[1024], *word[10];

        words_of(vectors[i], text, word);
        if (!strcmp(word[0], "case")) {
            name = strchr(vectors[i], '\t') + 1;
            server.n = 0;
            cases++;
        } else if (!strcmp(word[0], "door")) {
            server_add(word[1], word[2]);
        } else if (!strcmp(word[0], "step")) {
            uint8_t packet[256];
            size_t n = *word[1] == '-' ? 0 : unhex(word[1], packet);
            const char *was =
                verdict_of(packet, n, word[4], strtoull(word[2], NULL, 10),
                           strtoull(word[3], NULL, 10));

            CHECK(!strcmp(was, word[5]), "%s: %s, not %s", name, was,
                  word[5]);
            steps++;
        }
    }
    CHECK(cases == 63 && steps == 541, "%u cases, %u steps", cases, steps);
}

/* ---- Keys and names -------------------------------------------------------- */

static void test_keys_parsed(void) {
    static const char good[] =
        "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
    uint8_t key[KEY_BYTES];
    char text[80];

    CHECK(key_parse(good, key) && key[15] == 0xff && key[17] == 0xee);
    for (unsigned i = 0; i <= 64; i++) { /* cut, and each digit spoilt */
        memcpy(text, good, sizeof(good));
        text[i] = '\0';
        CHECK(key_parse(text, key) == (i == 64), "%u", i);
        memcpy(text, good, sizeof(good));
        text[i] = i % 2 ? 'g' : ' ';
        CHECK(!key_parse(text, key), "%u", i);
    }
    snprintf(text, sizeof(text), "%s0", good);
    CHECK(!key_parse(text, key));
}

static void test_client_names(void) {
    static const char *const good[] = { "a", "7", "anna", "anna.b_c@d-e",
                                        "0123456789012345678901234567890" };
    static const char *const bad[] = {
        "",    "-a",  "_a",  ".a",       "@a",
        "a b", "a:b", "a\t", "\303\266", "01234567890123456789012345678901"
    };

    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++)
        CHECK(is_client_name(good[i]), "%s", good[i]);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        CHECK(!is_client_name(bad[i]), "%s", bad[i]);
}
