/* Unit tests of sets; part of unit.c. */

/* ---- The monitor: sets -------------------------------------------------- */

/* A kernel that has one set: what it is asked, and what it answers. */
static struct {
    int ends[2]; /* knockd's and ours */
    uint8_t about[512];
    size_t nabout;          /* the description of the set */
    int errors[8];          /* of the next changes; then 0 */
    unsigned nerrors, news; /* news: NEWSETELEM */
    unsigned adds, dels, takes, looks;
    bool mute;      /* no answers */
    bool noisy;     /* it says other things before */
    int look_error; /* instead of the description */
    uint32_t seq_off;
    uint32_t seq;     /* of the last request */
    uint8_t taken[4]; /* the address of the last one */
    uint64_t ms;      /* for which the last one was put there */
    uint8_t key[16];  /* the last one that was put or taken */
    size_t nkey;
} kernel;

/* The time of an element that a message of n bytes adds, in ms. */
static uint64_t time_asked(const uint8_t *b, size_t n, bool nft) {
    uint64_t ms = 0;
    uint32_t s = 0;

    b += sizeof(struct netlink_);
    n -= sizeof(struct netlink_);
    b = attr_find(b, n, nft ? NFTA_ELEMENTS : IPSET_DATA, &n);
    if (nft) b = attr_find(b, n, NFTA_LIST_ELEM, &n);
    b = attr_find(b, n, nft ? NFTA_ELEM_TIMEOUT : IPSET_TIMEOUT, &n);
    if (!b || n != (nft ? sizeof(ms) : sizeof(s))) return 0;
    if (nft) memcpy(&ms, b, sizeof(ms));
    else memcpy(&s, b, sizeof(s));
    return nft ? be64toh(ms) : ntohl(s) * 1000ull;
}

/* The address of an element that a message of n bytes adds or removes, of nkey
 * bytes. */
static void key_asked(const uint8_t *b, size_t n, bool nft) {
    b += sizeof(struct netlink_);
    n -= sizeof(struct netlink_);
    b = attr_find(b, n, nft ? NFTA_ELEMENTS : IPSET_DATA, &n);
    if (nft) b = attr_find(b, n, NFTA_LIST_ELEM, &n);
    b = attr_find(b, n, nft ? NFTA_ELEM_KEY : IPSET_IP, &n);
    size_t *bytes = &kernel.nkey;
    const uint8_t *key =
        attr_find(b, n, nft ? NFTA_DATA_VALUE : IPSET_IPV4, bytes);
    CHECK(nft || !key || *bytes == 4);
    if (!key) key = attr_find(b, n, IPSET_IPV6, bytes);
    CHECK(key && (*bytes == 4 || *bytes == 16));
    if (key) memcpy(kernel.key, key, *bytes % 17);
}

static size_t attribute(uint8_t *b, unsigned type, const void *data,
                        size_t n) {
    uint16_t head[2] = { (uint16_t)(4 + n), (uint16_t)type };

    memcpy(b, head, 4);
    memcpy(b + 4, data, n);
    return (4 + n + 3) & ~(size_t)3;
}

static void answer(uint16_t type, uint32_t seq, const void *data, size_t n) {
    uint8_t b[1024] = { 0 };
    struct netlink_ head = { .bytes = (uint32_t)(16 + n),
                             .type = type,
                             .seq = seq + kernel.seq_off };

    if (kernel.mute) return;
    memcpy(b, &head, 16);
    memcpy(b + 16, data, n);
    if (write(kernel.ends[1], b, 16 + n) < 0) abort();
}

static void acknowledge(uint32_t seq, int error) {
    uint32_t body[5] = { 0 - (uint32_t)error };

    answer(NLM_ERROR, seq, body, sizeof(body));
}

static void kernel_asked(const void *data, size_t n) {
    const uint8_t *b = data;
    struct netlink_ head;
    int error = 0;
    bool add = false, look = false;

    for (size_t at = 0; at < n; at += head.bytes) {
        memcpy(&head, b + at, sizeof(head));
        if (head.bytes < sizeof(head) || head.bytes % 4 ||
            at + head.bytes > n)
            abort();
        bool batch =
            head.type == NFNL_BATCH_BEGIN || head.type == NFNL_BATCH_END;
        bool nft = head.type >> 8 == NFNL_NFT;
        CHECK(head.res_id[1] == (batch ? NFNL_NFT : 0) &&
              !head.family == !nft);
        if (head.type == NFT_NEWSETELEM || head.type == IPSET_ADD)
            kernel.ms = time_asked(b + at, head.bytes, nft);
        add |= head.type == NFT_NEWSETELEM || head.type == IPSET_ADD;
        bool take = head.type == NFT_DELSETELEM || head.type == IPSET_DEL;
        if (take || head.type == NFT_NEWSETELEM || head.type == IPSET_ADD)
            key_asked(b + at, head.bytes, nft);
        kernel.news += head.type == NFT_NEWSETELEM;
        kernel.dels += head.type == NFT_DELSETELEM;
        look |= head.type == NFT_GETSET || head.type == IPSET_LIST;
        if (head.type == NFT_DELSETELEM && !add)
            memcpy(kernel.taken, b + at + head.bytes - 4, 4);
    }
    CHECK(head.seq > kernel.seq); /* a late answer is one to nothing */
    kernel.seq = head.seq;
    if (look) {
        uint8_t body[600] = { 0 };

        kernel.looks++;
        memcpy(body + 4, kernel.about, kernel.nabout);
        if (kernel.look_error) acknowledge(head.seq, kernel.look_error);
        else answer(NFNL_NFT << 8 | 9, head.seq, body, 4 + kernel.nabout);
        return;
    }
    if (add) kernel.adds++;
    else kernel.takes++;
    if (kernel.noisy) {
        answer(NFT_NEWSETELEM, head.seq, "news", 4);
        if (send(kernel.ends[1], "", 0, 0) < 0) abort();
    }
    if (kernel.nerrors) error = kernel.errors[--kernel.nerrors];
    if (error) acknowledge(head.seq, error);
    acknowledge(head.seq, 0);
}

static void describe(uint32_t set_flags, uint32_t type) {
    uint32_t be[2] = { htonl(set_flags), htonl(type) };

    kernel.nabout = attribute(kernel.about, NFTA_SET_FLAGS, &be[0], 4);
    kernel.nabout +=
        attribute(kernel.about + kernel.nabout, NFTA_SET_KEY_TYPE, &be[1], 4);
}

static void describe_ipset(const char *type, uint8_t family, unsigned with) {
    uint8_t data[64] = { 0 };
    uint32_t number = 0;
    size_t n = 0,
           at = attribute(kernel.about, IPSET_TYPE, type, strlen(type) + 1);

    at += attribute(kernel.about + at, IPSET_FAMILY, &family, 1);
    n += attribute(data, 18, &number, 4);
    if (with & 1) n += attribute(data + n, IPSET_TIMEOUT, &number, 4);
    if (with & 2) n += attribute(data + n, IPSET_NETMASK, "\30", 1);
    if (with & 4) n += attribute(data + n, IPSET_BITMASK, &number, 4);
    at += attribute(kernel.about + at, ATTR_NESTED | IPSET_DATA, data, n);
    kernel.nabout = at;
}

/* A monitor whose first door has a set, and a kernel that has it. */
static struct monitor *set_open(const char *words) {
    struct monitor *m = shop_open();

    memset(&kernel, 0, sizeof(kernel));
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, kernel.ends)) abort();
    send_hook = kernel_asked;
    m->sets = kernel.ends[0];
    shop[0].start = shop[0].stop = NULL;
    shop[0].set = words;
    describe(NFT_TIMEOUT, NFT_IPV4_ADDR);
    state_load(m);
    return m;
}

static void set_end(void) {
    send_hook = NULL;
    close(kernel.ends[0]);
    close(kernel.ends[1]);
    monitor_end();
}

static void test_set_words(void) {
    static const char *const bad[] = {
        "",
        " ",
        "nft",
        "nft inet",
        "nft inet a",
        "nft inet a b c",
        "nft arp a b",
        "nft INET a b",
        "ipset",
        "ipset a b",
        "iptables a",
        "a",
        "nft  inet  a",
        "ipset a1234567890123456789012345678901",
    };
    struct set s;
    char much[2 * SET_TEXT];

    CHECK(set_read(&s, "nft \t inet  filter knock4") && s.family == 1 &&
          !strcmp(s.table, "filter") && !strcmp(s.name, "knock4"));
    CHECK(set_read(&s, "nft ip6 a b") && s.family == 10);
    CHECK(set_read(&s, "nft ip a b") && s.family == 2);
    CHECK(set_read(&s, "ipset a") && !s.family && !strcmp(s.name, "a"));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        CHECK(!set_read(&s, bad[i]), "%s", bad[i]);
    /* the longest of all fits into a request */
    for (int n = SET_TEXT - 20; n < SET_TEXT + 20; n++) {
        struct monitor *m = set_open("nft inet a b");
        struct addr a = addr_of("2001:db8::1");

        sprintf(much, "nft bridge b %0*d", n - 13, 7);
        CHECK(set_read(&s, much) == (n < SET_TEXT));
        if (n < SET_TEXT) CHECK(!set_write(m, &s, &a, 1) && kernel.news == 2);
        set_end();
    }
}

static void test_set_opening(void) {
    for (int ipset = 0; ipset < 2; ipset++) {
        const char *words = ipset ? "ipset a" : "nft inet t a";
        struct monitor *m = set_open(words);
        struct addr a = addr_of("192.0.2.1");
        char line[64];

        if (ipset) describe_ipset("hash:ip", AF_INET, 1);
        knock_at(m, &shop[0], "192.0.2.1");
        CHECK(has_text("192.0.2.1: a: OPEN SESAME\n") && !ncommands);
        CHECK(kernel.ms == 5000);
        CHECK(kernel.nkey == 4 && !memcmp(kernel.key, "\300\0\2\1", 4));
        CHECK(kernel.looks == 1 && kernel.adds == 1 &&
              kernel.news == (ipset ? 0 : 2) &&
              kernel.dels == (ipset ? 0 : 1));
        CHECK(m->nopenings == 1 && m->openings[0]->state == HELD);
        snprintf(line, sizeof(line), "\nset %s ", words);
        CHECK(strstr(get_file("k.state", NULL), line) != NULL);
        CHECK(poll_timeout == 5000);
        clock_ms += 4000;
        knock_at(m, &shop[0], "192.0.2.1");
        CHECK(kernel.adds == 2 && m->nopenings == 1 && poll_timeout == 5000);
        clock_ms += 5000;
        turn(m);
        CHECK(!m->nopenings && count_text("CLOSE SESAME") == 1 &&
              !has_text("command timeout"));
        CHECK(kernel.takes == 1); /* the kernel's clock may be behind */
        knock_at(m, &shop[0], "192.0.2.1");
        openings_close(m, "a", &a);
        CHECK(kernel.takes == 2 && !m->nopenings);
        CHECK(count_text("CLOSE SESAME") == 2);
        knock_at(m, &shop[0], "192.0.2.1");
        knock_at(m, &shop[0], "192.0.2.2");
        openings_end(m);
        CHECK(kernel.takes == 4 && !m->nopenings);
        /* another door with the same set is still open */
        shop[1].set = words;
        knock_at(m, &shop[0], "192.0.2.1");
        knock_at(m, &shop[1], "192.0.2.1");
        clock_ms += 5000;
        turn(m);
        CHECK(m->nopenings == 1 && kernel.takes == 4);
        openings_end(m);
        CHECK(kernel.takes == 5);
        reap_all(m, 0);
        /* no set for IPv6 */
        forget();
        knock_at(m, &shop[0], "2001:db8::1");
        CHECK(has_text("a: put into no set: the door has no Set_6\n") &&
              !m->nopenings && kernel.adds == 7);
        set_end();
    }
}

static void test_set_and_commands(void) {
    struct monitor *m = set_open("nft inet t a");

    shop[0].start = "start a %IP%";
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(kernel.adds == 1 && ncommands == 1);
    clock_ms += 3000; /* the set does not wait for a slow command */
    reap(m, 0, 0);
    turn(m);
    CHECK(m->openings[0]->state == HELD && poll_timeout == 2000);
    clock_ms += 2000;
    turn(m);
    CHECK(!m->nopenings && ncommands == 1 && kernel.takes == 1);
    /* one that ends later than the time of the set */
    knock_at(m, &shop[0], "192.0.2.1");
    clock_ms += 7000;
    reap(m, 0, 0);
    turn(m);
    CHECK(!m->nopenings && count_text("CLOSE SESAME") == 2);
    /* what the set refuses runs nothing */
    kernel.look_error = ENOENT;
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(ncommands == 2 && !m->nopenings);
    kernel.look_error = 0;
    /* a stop command, with a start command and without one */
    shop[0].stop = "stop a %IP%";
    for (int i = 0; i < 2; i++) {
        unsigned before = ncommands, takes = kernel.takes;

        knock_at(m, &shop[0], "192.0.2.1");
        if (!i) reap(m, 0, 0);
        turn(m);
        CHECK(m->openings[0]->state == HELD);
        clock_ms += 5000;
        turn(m);
        CHECK(ncommands == before + 2 - (unsigned)i &&
              !strcmp(command_text(0), "stop a 192.0.2.1"));
        knock_at(m, &shop[0], "192.0.2.1"); /* while it closes */
        reap_all(m, 0);
        CHECK(m->openings[0]->state == HELD && m->openings[0]->times == 1,
              "%d %u", m->openings[0]->state, m->openings[0]->times);
        CHECK(kernel.takes == takes + 1);
        openings_end(m);
        CHECK(kernel.takes == takes + 2);
        turn(m);
        reap_all(m, 0);
        CHECK(!m->nopenings && !strcmp(command_text(0), "stop a 192.0.2.1"));
        shop[0].start = NULL;
    }
    /* a reload takes the start command away: its rules go all the same */
    shop[0].start = "start a %IP%";
    for (int i = 0; i < 4; i++) {
        if (i == 3) shop[0].start = NULL;
        knock_at(m, &shop[0], "192.0.2.1");
        reap_all(m, 0);
    }
    forget();
    unsigned before = ncommands;
    clock_ms += 5000;
    turn(m);
    reap_all(m, 0);
    CHECK(ncommands == before + 3 && !m->nopenings, "%u", ncommands - before);
    set_end();
}

static void test_set_faults(void) {
    static const struct {
        int error, look; /* of the change, or of the look before */
        const char *text;
    } faulty[] = {
        { 0, ENOENT,
          "there is no such set; it is made by: nft 'add table inet t; "
          "add set inet t a { type ipv4_addr; flags timeout; }'\n" },
        { 0, EPERM, "no CAP_NET_ADMIN: " },
        { 0, EINVAL, "the kernel lacks nf_tables or ip_set: " },
        { 0, ENOMEM, NULL },
        { EPERM, 0, "its table has an owner" },
        { ENFILE, 0, "it has no room" },
        { IPSET_FULL, 0, "it has no room" },
        { ENOENT, 0, "there is no such set" },
        { EBUSY, 0, NULL },
        { ENOBUFS, 0, NULL },
        { INT32_MIN, 0, "" },
    };
    char text[128];

    for (unsigned i = 0; i < sizeof(faulty) / sizeof(*faulty); i++) {
        struct monitor *m = set_open("nft inet t a");

        for (int twice = 0; twice < 2; twice++) {
            kernel.nerrors = faulty[i].error ? 2 : 0;
            kernel.errors[0] = kernel.errors[1] = faulty[i].error;
            kernel.look_error = faulty[i].look;
            knock_at(m, &shop[0], "192.0.2.1");
            const char *says = faulty[i].text;
            if (!says) says = strerror(faulty[i].error + faulty[i].look);
            snprintf(text, sizeof(text), "192.0.2.1: a: set nft inet t a: %s",
                     says);
            CHECK(has_text(text), "%s: %s", text, kept);
            CHECK(m->nopenings == (unsigned)twice); /* an older one stays */
            forget();
            kernel.nerrors = 0;
            kernel.look_error = 0;
            knock_at(m, &shop[0], "192.0.2.1");
            CHECK(m->nopenings == 1 && !has_text("set nft"));
        }
        /* an error that is gone is none */
        kernel.nerrors = 1;
        kernel.errors[0] = ENOENT;
        knock_at(m, &shop[0], "192.0.2.2");
        CHECK(m->nopenings == 2 && !has_text("set nft"));
        /* what is not there is out; what can't be taken out is said */
        kernel.nerrors = 1;
        kernel.errors[0] = ENOENT;
        openings_end(m);
        CHECK(!m->nopenings && !has_text("set nft"));
        knock_at(m, &shop[0], "192.0.2.2");
        kernel.nerrors = 2;
        kernel.errors[0] = kernel.errors[1] = ENOMEM;
        openings_end(m);
        CHECK(!m->nopenings && has_text(strerror(ENOMEM)));
        set_end();
    }
    /* no socket to be had, nothing can be sent */
    struct monitor *m = set_open("nft inet t a");

    m->sets = -1;
    fail(FAULT_socket, 1, EPROTONOSUPPORT);
    faults[FAULT_socket].always = true;
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(has_text("the kernel lacks nf_tables") && !m->nopenings);
    faults[FAULT_socket].n = 0;
    m->sets = kernel.ends[0];
    fail(FAULT_send, 1, ENOBUFS);
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->nopenings == 1); /* once more */
    set_end();
}

/* Without an answer the address may be there: it is taken out in the end. */
static void test_set_answers(void) {
    struct monitor *m = set_open("nft inet t a");

    knock_at(m, &shop[0], "192.0.2.1");
    forget();
    kernel.mute = true;
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(
        has_text("the kernel has not answered: the address may be there\n"));
    knock_at(m, &shop[0], "192.0.2.2");
    CHECK(m->nopenings == 2);
    openings_end(m);
    CHECK(!m->nopenings && kernel.takes == 4); /* each twice */
    /* answers to something else are none */
    kernel.mute = false;
    kernel.seq_off = 7;
    forget();
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(has_text("the kernel has not answered"));
    kernel.seq_off = 0;
    forget();
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(!has_text("set nft"));
    /* more of them than anybody wants */
    kernel.seq_off = 7;
    for (unsigned i = 0; i < 2 * SET_ANSWERS_MAX + 10; i++)
        send(kernel.ends[1], "short", 5, MSG_DONTWAIT);
    knock_at(m, &shop[0], "192.0.2.1");
    /* answers are lost: the address may be there */
    kernel.seq_off = 0;
    forget();
    fail(FAULT_recv, 1, ENOBUFS);
    faults[FAULT_recv].always = true;
    knock_at(m, &shop[0], "192.0.2.7");
    faults[FAULT_recv].n = 0;
    CHECK(has_text("the kernel has not answered") && m->nopenings == 2, "%s",
          kept);
    set_end();
}

/* Whatever a description says, it is read within its bounds; and only a set of
 * the right kind is used. */
static void test_set_descriptions(void) {
    static const struct {
        uint32_t set, type;
        int fault;
    } nft[] = {
        { NFT_TIMEOUT, NFT_IPV4_ADDR, 0 },
        { NFT_TIMEOUT | 0x120, NFT_IPV4_ADDR, 0 },
        { NFT_TIMEOUT | NFT_INTERVAL, NFT_IPV4_ADDR, IS_INTERVAL },
        { NFT_CONSTANT, NFT_IPV4_ADDR, IS_CONSTANT },
        { NFT_TIMEOUT | 8, NFT_IPV4_ADDR, IS_MAP },
        { NFT_TIMEOUT | 0x40, NFT_IPV4_ADDR, IS_MAP },
        { 0, NFT_IPV4_ADDR, NO_TIMEOUT },
        { NFT_TIMEOUT, NFT_IPV6_ADDR, OTHER_TYPE },
        { NFT_TIMEOUT, 19, OTHER_TYPE },
        { NFT_TIMEOUT, 7 << 6 | 13, OTHER_TYPE },
    };
    static const struct {
        const char *type;
        uint8_t family;
        unsigned with;
        int fault;
    } ipsets[] = {
        { "hash:ip", AF_INET, 1, 0 },
        { "hash:net", AF_INET, 1, 0 },
        { "bitmap:ip", AF_INET, 1, 0 },
        { "hash:ip", AF_INET, 0, NO_TIMEOUT },
        { "hash:ip", AF_INET, 3, IS_MASKED },
        { "hash:ip", AF_INET, 5, IS_MASKED },
        { "hash:ip", AF_INET6, 1, OTHER_TYPE },
        { "hash:ip,port", AF_INET, 1, OTHER_TYPE },
        { "hash:ip,mark", AF_INET, 1, OTHER_TYPE },
        { "list:set", 0, 1, OTHER_TYPE },
    };
    struct monitor *m = set_open("nft inet t a");
    struct set s;
    uint8_t whole[512];
    size_t n = 0;

    set_read(&s, "nft inet t a");
    for (unsigned i = 0; i < sizeof(nft) / sizeof(*nft); i++) {
        describe(nft[i].set, nft[i].type);
        CHECK(set_look(m, &s, true) == nft[i].fault, "%u", i);
    }
    set_read(&s, "ipset a");
    for (unsigned i = 0; i < sizeof(ipsets) / sizeof(*ipsets); i++) {
        describe_ipset(ipsets[i].type, ipsets[i].family, ipsets[i].with);
        CHECK(set_look(m, &s, true) == ipsets[i].fault, "%u", i);
    }
    for (int ipset = 0; ipset < 2; ipset++) {
        set_read(&s, ipset ? "ipset a" : "nft inet t a");
        if (ipset) describe_ipset("hash:ip", AF_INET, 1);
        else describe(NFT_TIMEOUT, NFT_IPV4_ADDR);
        n = kernel.nabout;
        memcpy(whole, kernel.about, n);
        for (size_t cut = 0; cut <= n; cut++) {
            struct request q = { .set = &s, .v4 = true, .looks = true };
            struct netlink_ head = { .bytes = (uint32_t)(sizeof(head) + n),
                                     .type = 9 };
            uint8_t *b = malloc(sizeof(head) + cut);

            memcpy(b, &head, sizeof(head));
            memcpy(b + sizeof(head), whole, cut);
            int said = answers_read(&q, b, sizeof(head) + cut, NO_ANSWER);

            CHECK(cut < n ? said >= OTHER_TYPE && said <= NO_TIMEOUT : !said,
                  "%zu of %zu: %d", cut, n, said);
            for (unsigned byte = 0; byte < 256; byte++) {
                size_t at = rnd((unsigned)(sizeof(head) + cut));
                uint8_t old = b[at];

                b[at] = (uint8_t)byte;
                answers_read(&q, b, sizeof(head) + cut, NO_ANSWER);
                b[at] = old;
            }
            free(b);
        }
    }
    set_end();
}

/* IPv6 addresses, in sets of both kinds. */
static void test_set_v6(void) {
    for (int ipset = 0; ipset < 2; ipset++) {
        struct monitor *m = set_open(NULL);
        struct addr six = addr_of("2001:db8::7");
        char text[256];

        shop[0].set6 = ipset ? "ipset a" : "nft ip6 t a";
        describe(NFT_TIMEOUT, NFT_IPV6_ADDR);
        if (ipset) describe_ipset("hash:ip", AF_INET6, 1);
        knock_at(m, &shop[0], "2001:db8::7");
        CHECK(kernel.adds == 1 && m->nopenings == 1, "%s", kept);
        CHECK(kernel.nkey == 16 && !memcmp(kernel.key, &six, 16));
        memset(kernel.key, 0, sizeof(kernel.key));
        openings_end(m);
        CHECK(kernel.takes == 1 && !m->nopenings);
        CHECK(kernel.nkey == 16 && !memcmp(kernel.key, &six, 16));
        forget();
        knock_at(m, &shop[0], "192.0.2.1");
        CHECK(has_text("a: put into no set: the door has no Set\n") &&
                  kernel.adds == 1,
              "%s", kept);
        /* how such a set is made */
        kernel.look_error = ENOENT;
        knock_at(m, &shop[0], "2001:db8::7");
        snprintf(text, sizeof(text),
                 "there is no such set; it is made by: %s\n",
                 ipset ? "ipset create a hash:ip family inet6 timeout 0"
                       : "nft 'add table ip6 t; add set ip6 t a { type "
                         "ipv6_addr; flags timeout; }'");
        CHECK(has_text(text), "%s: %s", text, kept);
        set_end();
    }
    /* of an ipset for IPv4 */
    struct monitor *m = set_open("ipset a");

    kernel.look_error = ENOENT;
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(has_text("made by: ipset create a hash:ip timeout 0\n"), "%s",
          kept);
    set_end();
}

/* The kernel's other words are none of ours; a signal is no error. */
static void test_set_noise(void) {
    struct monitor *m = set_open("nft inet t a");

    kernel.noisy = true;
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->nopenings == 1 && !has_text("set nft"), "%s", kept);
    kernel.noisy = false;
    fail(FAULT_recv, 1, EINTR);
    knock_at(m, &shop[0], "192.0.2.2");
    CHECK(m->nopenings == 2 && kernel.adds == 2 && !has_text("set nft"));
    /* answers were lost: asked once more */
    fail(FAULT_recv, 2, ENOBUFS);
    knock_at(m, &shop[0], "192.0.2.3");
    CHECK(m->nopenings == 3 && kernel.adds == 4 && !has_text("set nft"), "%u",
          kernel.adds);
    set_end();
}

/* Two sets of one address: what ends in one stays in the other. A door whose
 * set is full of others' start commands opens all the same. */
static void test_two_sets(void) {
    struct monitor *m = set_open("nft inet t a");

    shop[1] = shop[0];
    shop[1].set = "nft inet t b";
    shop[1].cmd_timeout = 9;
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1"); /* of the same name */
    CHECK(m->nopenings == 2 && kernel.adds == 2);
    clock_ms += 5000;
    turn(m);
    CHECK(m->nopenings == 1 && kernel.takes == 1);
    clock_ms += 4000;
    turn(m);
    CHECK(!m->nopenings && kernel.takes == 2);
    m->n[QUEUED] += QUEUE_MAX;
    forget();
    knock_at(m, &shop[0], "192.0.2.1");
    m->n[QUEUED] -= QUEUE_MAX;
    CHECK(m->nopenings == 1 && !has_text("refused"), "%s", kept);
    set_end();
}

/* The sets of a configuration are looked at: at the start, at SIGHUP, for -t. */
static void test_set_review(void) {
    static const struct {
        int look;       /* the kernel's error, or */
        uint32_t flags; /* what the set is */
        bool mute, wrong;
        const char *says;
    } cases[] = {
        { 0, NFT_TIMEOUT, false, false, NULL },
        { ENOENT, 0, false, false,
          "conf:3: warning: set nft inet t a: there is no such set" },
        { EINVAL, 0, false, true,
          "conf:3: set nft inet t a: the kernel lack" },
        { EPERM, 0, false, true, "conf:3: set nft inet t a: no CAP" },
        { 0, 0, false, true,
          "conf:3: set nft inet t a: without timeout an address would stay "
          "for ever; it is made by: nft 'add table inet t; add set" },
        { 0, NFT_TIMEOUT | NFT_INTERVAL, false, true,
          "conf:3: set nft inet t a: with flag interval" },
        { 0, NFT_TIMEOUT, true, false,
          "conf:3: warning: set nft inet t a: the kernel has not answered" },
    };
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct monitor *m = set_open(NULL);

        CHECK(load_door(&c,
                        "sequence=1,2\nset=nft inet t a\ncmd_timeout=5\n"
                        "[e]\nsequence=1\n",
                        false));
        kernel.look_error = cases[i].look;
        kernel.mute = cases[i].mute;
        describe(cases[i].flags, NFT_IPV4_ADDR);
        forget();
        sets_review(m, &c);
        CHECK(c.errors == cases[i].wrong && kernel.looks == 1, "%u: %s", i,
              kept);
        CHECK(cases[i].says ? has_text(cases[i].says) : !*kept, "%u: %s", i,
              kept);
        config_free(&c);
        set_end();
    }
    /* Set_6 has its own line; a test that may not look is not wrong for that */
    struct monitor *m = set_open(NULL);

    CHECK(load_door(&c,
                    "sequence=1,2\nset=nft inet t a\ncmd_timeout=5\n"
                    "set_6=ipset six",
                    false));
    kernel.look_error = EPERM;
    forget();
    settings.test = true;
    sets_review(m, &c);
    settings.test = false;
    CHECK(!c.errors &&
              has_text("conf:3: warning: not checked: set nft inet t a: "
                       "no CAP_NET_ADMIN") &&
              has_text("conf:5: warning: not checked: set ipset six: "),
          "%s", kept);
    config_free(&c);
    set_end();
}

/* Attributes: the one that is looked for, with nothing behind it or in it. */
static void test_attributes(void) {
    static const struct {
        uint16_t words[8];     /* lengths and types are in host order */
        size_t n, found, size; /* found: where, or 0 */
    } cases[] = {
        { { 4, 7 }, 4, 4, 0 },
        { { 4, 7 }, 3, 0, 0 },
        { { 5, 7, 1 }, 5, 4, 1 },
        { { 5, 7, 1 }, 4, 0, 0 },
        { { 5, 6, 1, 0, 4, 7 }, 12, 12, 0 },
        { { 8, 6, 1, 1, 8, 7 | 1 << 15 }, 16, 12, 4 },
        { { 3, 6, 4, 7 }, 8, 0, 0 },
        { { 0, 7 }, 4, 0, 0 },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint8_t *b = malloc(cases[i].n);
        size_t n = 0;

        memcpy(b, cases[i].words, cases[i].n);
        const uint8_t *at = attr_find(b, cases[i].n, 7, &n);
        CHECK(cases[i].found ? at == b + cases[i].found && n == cases[i].size
                             : !at,
              "%u", i);
        free(b);
    }
}

static void test_set_room(void) {
    struct monitor *m = set_open("nft inet t a");
    char ip[ADDR_TEXT];
    unsigned before = 0;

    shop[0].cmd_timeout = 1000;
    for (unsigned i = 0; i < OPENINGS_MAX; i++) {
        struct addr a;

        snprintf(ip, sizeof(ip), "10.1.%u.%u", i / 256, i % 256);
        a = addr_of(ip);
        opening_knock(m, &shop[0], &a);
        if (before == m->nopenings) break;
        before = m->nopenings;
        forget();
    }
    CHECK(before == OPENINGS_MAX / 2 && kernel.takes == 1, "%u", before);
    CHECK(!memcmp(kernel.taken, "\12\1\0\0", 4)); /* its oldest */
    CHECK(has_text("10.1.0.0: a: CLOSE SESAME\n"));
    /* one that is open is not made room for */
    knock_at(m, &shop[0], "10.1.0.1");
    CHECK(kernel.takes == 1 && m->nopenings == before);
    set_end();
    /* stop commands that are slower than the knocks: no more openings */
    m = set_open("nft inet t a");
    shop[0].cmd_timeout = 1000;
    shop[0].stop = "stop %IP%";
    for (unsigned i = 0; i < OPENINGS_MAX / 2 + 20; i++) {
        snprintf(ip, sizeof(ip), "10.1.%u.%u", i / 256, i % 256);
        struct addr a = addr_of(ip);
        opening_knock(m, &shop[0], &a);
    }
    CHECK(m->nopenings == before, "%u", m->nopenings);
    CHECK(m->n[DUE] == 1 && kernel.takes == 1, "%u", m->n[DUE]);
    CHECK(has_text("refused: stop commands of others are still to run"));
    forget();
    turn(m); /* the oldest is closed */
    reap_all(m, 0);
    CHECK(m->nopenings == before - 1, "%u", m->nopenings);
    knock_at(m, &shop[0], "10.9.9.9");
    CHECK(m->nopenings == before && has_text("10.9.9.9: a: OPEN SESAME"));
    set_end();
}

static void test_set_state(void) {
    struct monitor *m;
    char lines[512];

    snprintf(lines, sizeof(lines),
             "open %lld 5 1 192.0.2.1 anna a\nset nft inet t a\n"
             "open %lld 5 2 192.0.2.2 - a\nstop s\nset ipset a\n"
             "open %lld 5 1 2001:db8::1 - a\nset nft inet t b\n",
             (long long)clock_ms + 2000, (long long)clock_ms + 3000,
             (long long)clock_ms + 4000);
    m = load_lines(lines);
    CHECK(m->nopenings == 3 && count_text("left open by") == 3);
    forget();
    settings.pidfile = "k.pid";
    status(m);
    CHECK(has_text("\t192.0.2.1\tanna\t2\tnft\n") &&
              has_text("\t192.0.2.2\t-\t3\tipset\n") &&
              has_text("\t2001:db8::1\t-\t4\tnft\n"),
          "%s", kept);
    CHECK(strstr(get_file("k.state", NULL), "\nstop s ") &&
          strstr(get_file("k.state", NULL), "\nset ipset a "));
    clock_ms += 4000;
    turn(m); /* closes by itself */
    CHECK(m->nopenings == 1 && ncommands == 1);
    reap_all(m, 0);
    CHECK(!m->nopenings);
    /* words that are no set; a set twice, or before its opening */
    CHECK(!load_lines("open 1 5 1 192.0.2.1 - a\nset nft x\n")->nopenings &&
          has_text("damaged"));
    CHECK(!load_lines("open 1 5 1 192.0.2.1 - a\nset ipset a\nset ipset a\n")
               ->nopenings &&
          has_text("damaged"));
    CHECK(!load_lines("set ipset a\n")->nopenings && has_text("damaged"));
    monitor_end();
}
