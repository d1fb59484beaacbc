/* Unit tests of the sniffer's ring, sandbox and loop; part of unit.c. */

/* ---- The sniffer ------------------------------------------------------- */

/* The states of reading: wait for each packet; rest while many come; wait
 * again after so many empty looks. */
static void test_rest(void) {
    struct sniffer *s = simple(2);

    s->now = 100;
    for (unsigned i = 0; i < 1000; i++) { /* one each 2 ms: no rest */
        s->now += 2;
        CHECK(!rest(s, 1));
    }
    s->now += 10;
    for (unsigned i = 1; i < REST_PACKETS; i++) CHECK(!rest(s, 1));
    CHECK(rest(s, 1) && s->resting);
    s->now += 10;
    CHECK(rest(s, 3)); /* less, but not yet nothing */
    for (unsigned i = 1; i < REST_EMPTY; i++) {
        s->now += 1;
        CHECK(rest(s, 0), "%u", i);
    }
    s->now += 1;
    CHECK(!rest(s, 0) && !s->resting);
    CHECK(!rest(s, 0));
    s->now += 10;
    CHECK(rest(s, FRAMES));
    for (unsigned i = 0; i < 100; i++) {
        s->now += 1;
        CHECK(rest(s, i % 5 == 0)); /* four empty ones are not enough */
    }
}

static union slot the_ring[FRAMES];

/* Puts a SYN into a slot of the ring. */
static void ring_put(uint32_t at, unsigned port, unsigned hatype,
                     const char *from) {
    struct o_hit h = { .knock = { port, false }, .flags = 2, .interface = 3 };
    struct addr src = addr_of(from), dst = addr_of("10.0.0.1");
    uint8_t slot_bytes[FRAME_BYTES] = { 0 }, *ip;
    struct sockaddr_ll ll = { .sll_hatype = (unsigned short)hatype,
                              .sll_ifindex = 3 };
    struct tpacket2_ t;

    memcpy(h.src, &src, 16);
    memcpy(h.dst, &dst, 16);
    frame_of(slot_bytes, &h, next_number++, 4000, &ip);
    memcpy(slot_bytes + 32, &ll, sizeof(ll));
    memcpy(&t, slot_bytes, sizeof(t));
    t.status = 1;
    memcpy(slot_bytes, &t, sizeof(t));
    memcpy(&the_ring[at % FRAMES], slot_bytes, FRAME_BYTES);
}

/* The slot that is read next. */
static uint32_t ring_at(const struct sniffer *s) { return s->at; }

static void test_ring(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1");

    memset(the_ring, 0, sizeof(the_ring));
    s->ring = the_ring;
    CHECK(!ring_read(s));
    s->at = FRAMES - 2;
    for (uint32_t i = 0; i < 3; i++) /* around the end of the ring */
        ring_put(FRAMES - 2 + i, 1000 + i, 1, "192.0.2.1");
    CHECK(ring_read(s) == 3 && said(OPEN) == 1);
    CHECK(!ring_read(s) && ring_at(s) == 1 && s->counters[PACKETS] == 3);
    /* all full: so many at a time */
    for (uint32_t i = 0; i < FRAMES; i++) ring_put(i, 5, 1, "192.0.2.1");
    for (uint32_t n = 0; n < FRAMES; n += FRAMES_AT_ONCE)
        CHECK(ring_read(s) == FRAMES_AT_ONCE);
    CHECK(!ring_read(s));
    /* loopback addresses come by the loopback only */
    ring_put(ring_at(s), 1000, 1, "127.0.0.1");
    CHECK(ring_read(s) == 1 && !heard);
    ring_put(ring_at(s), 1000, 772, "127.0.0.1");
    CHECK(ring_read(s) == 1 && said(STAGE) == 1);
    /* a sniffer that follows another finds the oldest packet, if any */
    s->at = 7;
    ring_find(s);
    CHECK(ring_at(s) == 7);
    ring_put(100, 1000, 772, "127.0.0.1");
    CHECK(!ring_read(s));
    ring_find(s);
    CHECK(ring_at(s) == 100 && ring_read(s) == 1);
    /* -D tells of each */
    settings.debug = true;
    ring_put(ring_at(s), 4321, 1, "192.0.2.1");
    the_ring[ring_at(s)].head.len++; /* an odd one, to tell each bit */
    CHECK(ring_read(s) == 1 && heard == 1 && events->kind == PACKET);
    CHECK(!addr_cmp(&events->src, &a) && events->value >> 48 == 6 &&
          (events->value >> 16 & 0xffff) == 4321 &&
          (events->value & 0xffff) ==
              the_ring[(ring_at(s) + FRAMES - 1) % FRAMES].head.len &&
          (events->value >> 32 & 0xffff) == 4000);
    settings.debug = false;
    for (uint32_t i = 0; i < 3; i++)
        ring_put(FRAMES - 2 + i, 1000 + i, 1, "192.0.2.9");
    ring_find(s);
    CHECK(ring_at(s) == FRAMES - 2 && ring_read(s) == 3 && said(OPEN) == 1);
    heard = 0;
}

/* -D prints so many packets a second, and the log is told so often of lost ones;
 * the counters have all. */
static void test_told_packets(void) {
    struct sniffer *s = simple(2);

    memset(the_ring, 0, sizeof(the_ring));
    s->ring = the_ring;
    settings.debug = true;
    for (unsigned i = 0; i < LINES_PER_SECOND + 5; i++)
        ring_put(i, 4321, 1, "192.0.2.1");
    while (ring_read(s)) {}
    CHECK(said(PACKET) == LINES_PER_SECOND && s->suppressed == 5);
    settings.debug = false;
    for (unsigned i = 0; i < LINES_PER_SECOND + 5; i++) {
        t_drops = 2;
        drops_tell(s);
    }
    CHECK(said(DROPS) == LINES_PER_SECOND && s->suppressed == 10);
    CHECK(s->counters[LOST] == 2 * (LINES_PER_SECOND + 5));
    drops_tell(s);
    CHECK(!heard && s->suppressed == 10);
}

/* The packet socket: each step may fail; -1 then, and why. */
static void test_packet_socket(void) {
    static const struct {
        int call, n, error;
    } cases[] = {
        { FAULT_socket, 1, EPERM },
        { FAULT_setsockopt, 2, EINVAL }, /* the ring's version */
        { FAULT_setsockopt, 3, ENOMEM }, /* the ring */
        { FAULT_attach, 1, ENOMEM },
        { FAULT_bind, 1, ENODEV },
    };

    t_ring = open("/dev/null", O_RDWR);
    int next = dup(t_ring);
    close(next);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        errno = 0;
        fail(cases[i].call, cases[i].n, cases[i].error);
        CHECK(packet_socket() == -1 && errno == cases[i].error, "%u: %s", i,
              strerror(errno));
        fail(cases[i].call, 0, 0);
    }
    fail(FAULT_setsockopt, 1, EINVAL); /* an old kernel: does no harm */
    int fd = packet_socket();
    CHECK(fd == next, "%d", fd); /* the others are closed */
    CHECK(filter_length == 1 && filter[0].code == RET && !filter[0].k);
    close(fd);
    close(t_ring);
    t_ring = -1;
}

/* Whatever a slot claims, nothing beyond the slot is read (the sanitizer would
 * see that), and nothing is heard. */
static void test_ring_poisoned(void) {
    static const uint16_t nets[] = {
        0, 1, 31, 255, 256, 257, 0x7fff, 0xffff
    };
    static const uint32_t lengths[] = { 0, 19, 256, 60000, 0xffffffff };
    struct sniffer *s = simple(1);

    s->ring = malloc(sizeof(the_ring));
    if (!s->ring) abort();
    memset(s->ring, 0x45, sizeof(the_ring));
    for (unsigned i = 0; i < FRAMES; i++) s->ring[i].head.status = 0;
    s->at = FRAMES - 1; /* beyond this slot there is no other */
    for (unsigned i = 0; i < 8 * 5 * 5; i++) {
        struct tpacket2_ t = { .status = 1,
                               .net = nets[i % 8],
                               .len = lengths[i / 8 % 5],
                               .captured = lengths[i / 40] };

        s->at = FRAMES - 1;
        memcpy(&s->ring[FRAMES - 1], &t, sizeof(t));
        CHECK(ring_read(s) == 1 && !heard, "%u", i);
    }
    free(s->ring);
}

/* Each step of the sandbox that is forbidden has its bit; the others are
 * done. */
static void test_sandbox(void) {
    static const struct {
        int call;
        unsigned bits;
    } cases[] = {
        { FAULT_chroot, 2 },    { FAULT_setgroups, 4 },
        { FAULT_setresgid, 4 }, { FAULT_setresuid, 4 },
        { FAULT_capset, 8 },    { FAULT_setrlimit, 32 },
    };
    uint32_t none[6] = { 0 };

    memset(t_capabilities, 1, sizeof(t_capabilities));
    execed = true;
    CHECK(sandbox() == (SECCOMP_ARCH ? 0 : 64));
    execed = false;
    CHECK((sandbox() & 128) == 128);
    execed = true;
    CHECK(!memcmp(t_capabilities, none, sizeof(none)));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        fail(cases[i].call, 1, EPERM);
        CHECK((sandbox() & 63) == cases[i].bits, "%u", i);
    }
    for (int i = 1; i <= 3; i++) { /* any of the limits */
        fail(FAULT_setrlimit, i, EPERM);
        CHECK((sandbox() & 63) == 32, "%d", i);
    }
    fail(FAULT_prctl, 4, EINVAL); /* this kernel has three capabilities */
    CHECK(!(sandbox() & 63));
    fail(FAULT_chdir, 1, EACCES);
    CHECK((sandbox() & 63) == 2);
    fail(FAULT_chdir, 2, EACCES);
    CHECK((sandbox() & 63) == 2);
    fail(FAULT_prctl, 1, EPERM);
    faults[FAULT_prctl].always = true; /* no prctl at all */
    CHECK(sandbox() == (1 | 16 | 32 | 64));
    faults[FAULT_prctl].n = 0;
    fail(FAULT_mkdir, 1, EROFS); /* there are other places */
    CHECK(!(sandbox() & 63));
    fail(FAULT_mkdir, 1, EROFS);
    faults[FAULT_mkdir].always = true;
    CHECK((sandbox() & 63) == 2);
    faults[FAULT_mkdir].n = 0;
}

/* The sniffer's life, from its tables to the end of its channel: here its poll
 * says what happens. */
static struct monitor *life_of;
static unsigned life, life_events[KINDS];
static uint64_t life_attempts, life_lost;
static int life_ends[2];

/* Sends an order and its data in pieces of n bytes. */
static void give_order(struct order order, const void *data, size_t n) {
    CHECK(write(life_ends[0], &order, sizeof(order)) == sizeof(order));
    for (const char *at = data; order.bytes;
         order.bytes -= (uint32_t)n, at += n) {
        if (n > order.bytes) n = order.bytes;
        CHECK(write(life_ends[0], at, n) == (ssize_t)n);
    }
}

/* Takes what the sniffer has told. */
static void life_hear(void) {
    static struct event record[EVENTS_MAX];
    ssize_t n;

    while ((n = recv(life_ends[0], record, sizeof(record), MSG_DONTWAIT)) > 0)
        for (const struct event *e = record; e < record + n / sizeof(*e);
             e++) {
            life_events[e->kind]++;
            if (e->kind == COUNTED && e->stage == ATTEMPTS)
                life_attempts += e->value;
            if (e->kind == COUNTED && e->stage == LOST) life_lost += e->value;
        }
}

/* Does a SYN to the door's first port pass the filter? */
static bool filter_passes(const char *from, const char *to) {
    struct spec s = { .proto = TCP,
                      .flags = 2,
                      .dport = 1000,
                      .src = addr_of(from),
                      .dst = addr_of(to) };
    struct meta meta = { .hatype = 1, .ifindex = 3 };
    unsigned steps;
    uint8_t b[512];

    s.v6 = !is_v4(&s.src);
    meta.protocol = s.v6 ? 0x86dd : 0x0800;
    return bpf_run(b, build(b, &s), &meta, &steps);
}

static void live(struct pollfd *fds, nfds_t n) {
    poll_result = 0;
    switch (life++) {
    case 0: /* the first knock; nothing wakes it */
        CHECK(poll_timeout == -1 && n == 2);
        ring_put(0, 1000, 1, "192.0.2.1");
        memcpy(mmap(NULL, sizeof(the_ring), PROT_READ | PROT_WRITE,
                    MAP_SHARED, life_of->packets, 0),
               the_ring, FRAME_BYTES);
        break;
    case 1: /* it wakes for its timeout, at its last look at that */
        CHECK(poll_timeout == 10000, "%d", poll_timeout);
        clock_ms += 10000;
        break;
    case 2:
        CHECK(poll_timeout == -1, "%d", poll_timeout);
        give_order((struct order){ .kind = NEW_SEQUENCE,
                                   .seq = one_door.seq },
                   NULL, 1);
        fds[0].revents = POLLIN;
        poll_result = 1;
        break;
    case 3:          /* what has been counted is told when it is asked for */
        t_drops = 3; /* also those that the log was not told of */
        give_order((struct order){ .kind = COUNT }, NULL, 1);
        fds[0].revents = POLLIN;
        poll_result = 1;
        break;
    case 4: /* one knock more */
        life_hear();
        CHECK(life_attempts == 1 && life_lost == 3);
        CHECK(filter_passes("192.0.2.1", "10.0.0.1") &&
              !filter_passes("2001:db8::1", "fd00::1")); /* -4 */
        ring_put(1, 1000, 1, "192.0.2.2");
        memcpy(mmap(NULL, sizeof(the_ring), PROT_READ | PROT_WRITE,
                    MAP_SHARED, life_of->packets, 0),
               the_ring, 2 * FRAME_BYTES);
        break;
    case 5: /* no address any more */
        give_order((struct order){ .kind = NEW_LOCALS,
                                   .bytes = offsetof(struct locals, addr) },
                   &(struct locals){ .any = 1 }, PIECE_BYTES);
        fds[0].revents = POLLIN;
        poll_result = 1;
        break;
    default:
        life_hear();
        shutdown(life_ends[0], SHUT_WR);
        fds[0].revents = POLLIN | POLLHUP;
        poll_result = 1;
    }
}

static void test_life(void) {
    static struct sniffer s;
    static struct locals locals = { .any = 1, .naddrs = 2 };
    struct order doors = { .kind = NEW_DOORS },
                 where = { .kind = NEW_LOCALS,
                           .bytes = (uint32_t)locals_bytes(&locals) };
    struct watches *w;
    uint32_t bytes;
    struct monitor *m = shop_open();
    unsigned before = filters;
    int ring = openat(directory_fd, "ring", O_RDWR | O_CREAT | O_TRUNC, 0600);

    CHECK(ring >= 0 && !ftruncate(ring, sizeof(the_ring)));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, life_ends));
    memset(the_ring, 0, sizeof(the_ring));
    life = 0;
    life_of = m;
    m->packets = ring;
    s = (struct sniffer){ .packets = ring, .channel = life_ends[1] };
    locals.addr[0] = addr_of("10.0.0.1");
    locals.addr[1] = addr_of("fd00::1");
    simple(2); /* its door */
    settings.only_ipv4 = true;
    w = watches_make(&one_conf, &bytes);
    settings.only_ipv4 = false; /* as of a new program */
    doors.bytes = bytes;
    poll_hook = live;
    t_closes = false;
    t_guard = true;
    give_order(doors, w, 100);
    give_order(where, &locals, 7);
    CHECK(ENDS(sniff(&s)) && end_status == 0);
    settings.only_ipv4 = false;
    t_guard = false;
    t_closes = true;
    /* there is room in each table for all that it must hold */
    s.marks[2 * MARK_SETS - 1][MARKS_IN_SET - 1] = 0;
    s.buckets[ATTEMPTS_MAX - 1] = NULL;
    s.ports[KNOCKS - 1].known = false;
    s.stages[SEQUENCE_MAX].stage = 0;
    s.attempts[ATTEMPTS_MAX - 1].stage = 0;
    s.ring[FRAMES - 1].head.status = 0;
    poll_hook = NULL;
    poll_result = 0;
    life_hear();
    close(life_ends[0]);
    CHECK(life_attempts == 2); /* one of them is told at the end */
    CHECK(life >= 5 && s.locals->naddrs == 0);
    CHECK(filters == before + 3 + (SECCOMP_ARCH != 0), "%u",
          filters - before);
    CHECK(life_events[READY] == 1 && life_events[STAGE] == 2 &&
          life_events[TIMEOUT] == 1);
    close(life_ends[1]);
    /* no memory, no random numbers, no monitor: it ends */
    t_closes = false;
    out.started = false;
    fail(FAULT_mmap, 2, ENOMEM);
    CHECK(ENDS(sniffer_init(&s)) && end_status == 1 && has_text("mmap: ") &&
          has_text(strerror(ENOMEM)));
    fail(FAULT_getrandom, 1, ENOSYS);
    CHECK(ENDS(sniffer_init(&s)) && end_status == 1);
    s.channel = CHANNEL;
    fail(FAULT_write, 1, EPIPE);
    tell(&s, OPEN)->stage = 1;
    CHECK(ENDS(events_send(&s)) && end_status == 1);
    out.started = true;
    free(w);
    t_closes = true;
    m->sniffer = -1;
    close(ring);
    unlinkat(directory_fd, "ring", 0);
    monitor_end();
}
