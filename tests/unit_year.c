/* Unit tests of time: a year of knocks, restarts, clock steps and suspends, with
 * clocks of our own, against models; part of unit.c. */

/* ---- The world ------------------------------------------------------------ */

#define HOUR INT64_C(3600000)
#define DAY (24 * HOUR)

enum { YEAR_DOORS = 2, YEAR_SOURCES = 3 };

/* What has to be so, by rules of its own. */
static struct year {
    struct door door[YEAR_DOORS + 1]; /* the last one has Keys */
    struct conf conf;
    struct client client;
    struct sniffer *sniffer;
    struct o_door plain[YEAR_DOORS];
    struct oracle oracle;
    struct addr source[YEAR_SOURCES];
    int64_t closes[YEAR_DOORS + 1][YEAR_SOURCES]; /* 0: is not open */
    int64_t truth;        /* the time it really is, ms since 1970 */
    uint64_t floor, sent; /* stamps: the last taken, the client's last */
    unsigned from;        /* the source that sent it; none since a start */
    uint64_t burnt[4096]; /* of the future, refused for ever */
    unsigned nburnt;
    /* The latest start, resume, or steps of a second in all: since boot and since
     * 1970; the wall clock ahead of the one that stops in a suspend. */
    int64_t since, since_wall, ahead;
    unsigned packets, opened, closed, expired;
    unsigned verdicts[UNUSABLE + 1], restarts, reboots, steps, suspends;
} year;

static const unsigned year_timeout[] = { 3600, 7 * 86400, 600 };

static void year_doors(void) {
    static const char *const names[] = { "hour", "week", "sealed" };
    for (unsigned i = 0; i <= YEAR_DOORS; i++) {
        struct door *d = &year.door[i];
        *d = (struct door){ .name = names[i],
                            .start = "start %IP%",
                            .stop = "stop %IP%",
                            .tcp = { SYN, 0 },
                            .seq_timeout = 10,
                            .cmd_timeout = year_timeout[i],
                            .stray_limit = 8 };
        d->keys = i == YEAR_DOORS ? "keys" : NULL;
        d->seq.n = d->keys ? 1 : 3;
        for (unsigned k = 0; k < d->seq.n; k++)
            d->seq.knock[k] = d->keys ? TO_UDP | 5000 : 1000 * (i + 1) + k;
        if (d->keys) continue;
        struct o_door *o = &year.plain[i];
        *o =
            (struct o_door){ .n = 3, .want = SYN, .timeout = 10, .limit = 8 };
        for (unsigned k = 0; k < 3; k++) o->seq[k].port = d->seq.knock[k];
    }
}

/* Nothing is left of a daemon but its files. */
static void year_end(void) {
    free(monitor.memories);
    free(monitor.stamps.path);
    monitor.memories = NULL;
    monitor.stamps.path = NULL;
    monitor_clear(&monitor);
}

static int64_t year_wall(void) { return clock_ms + t_wall; }

static void year_notice(void) {
    year.since = clock_ms;
    year.since_wall = year_wall();
    year.ahead = t_wall + t_slept;
}

/* The daemon looks at its clocks; smaller steps add up. */
static void year_look(struct monitor *m) {
    if (llabs(t_wall + t_slept - year.ahead) >= 1000) year_notice();
    clock_look(m);
}

/* A daemon that starts: a sniffer and a monitor, who know what the files say. */
static struct monitor *year_start(void) {
    struct conf doors = { .doors = year.door, .ndoors = YEAR_DOORS + 1 };
    year_end();
    year_doors();
    struct monitor *m = monitor_new(&year.conf);
    m->stamps.path = strdup("k.stamps");
    memories_take(m, &m->conf);
    state_load(m);
    year.sniffer =
        sniffer_new(&doors); /* no keys: it tells sealed ones apart */
    year.sniffer->locals->naddrs = 1;
    *year.sniffer->locals->addr = addr_of("10.0.0.1");
    o_clear(&year.oracle);
    year_notice();
    year.from = YEAR_SOURCES;
    return m;
}

/* ---- Time passes ------------------------------------------------------------ */

/* The openings whose time is over close; the monitor does what is due. */
static void year_turn(struct monitor *m) {
    for (unsigned i = 0; i < (YEAR_DOORS + 1) * YEAR_SOURCES; i++) {
        int64_t *at = &year.closes[i / YEAR_SOURCES][i % YEAR_SOURCES];
        if (!*at || *at > clock_ms) continue;
        *at = 0;
        year.closed++;
    }
    ncommands = 0; /* all that ran have ended */
    pass(m, 0);
}

/* When the next opening closes. */
static int64_t year_next(void) {
    int64_t next = INT64_MAX;
    for (unsigned i = 0; i < (YEAR_DOORS + 1) * YEAR_SOURCES; i++) {
        int64_t at = year.closes[i / YEAR_SOURCES][i % YEAR_SOURCES];
        if (at) next = min_ms(next, at);
    }
    return next;
}

/* Is each opening there that should be, and no other one? */
static void year_check(const struct monitor *m, const char *when) {
    unsigned open = 0;
    for (unsigned d = 0; d <= YEAR_DOORS; d++)
        for (unsigned i = 0; i < YEAR_SOURCES; i++) {
            bool there = false;
            for (unsigned k = 0; k < m->nopenings; k++)
                there |=
                    !strcmp(m->openings[k]->share->name, year.door[d].name) &&
                    !addr_cmp(&m->openings[k]->src, &year.source[i]);
            CHECK(there == (year.closes[d][i] > 0),
                  "%s, at %lld ms: door %u, source %u: due %lld", when,
                  (long long)clock_ms, d, i, (long long)year.closes[d][i]);
            open += there;
        }
    CHECK(m->nopenings == open);
}

/* ms pass; asleep, if nobody runs. Each opening is there until the millisecond
 * before its end. */
static void year_pass(struct monitor *m, int64_t ms, bool asleep) {
    int64_t until = clock_ms + ms;
    year.truth += ms;
    while (!asleep && year_next() <= until) {
        clock_ms = year_next() - 1;
        year_turn(m);
        year_check(m, "before an end");
        clock_ms++;
        year_turn(m);
        year_check(m, "at an end");
    }
    if (asleep) t_slept += ms;
    clock_ms = until;
    if (asleep) year_look(m); /* as the timer wakes the daemon */
    year_turn(m);
    year.sniffer->now = clock_ms;
    expire_now(year.sniffer);
    o_expire(&year.oracle, clock_ms);
}

/* ---- Knocks ------------------------------------------------------------------ */

/* Both matchers have said the same; the monitor hears of it. */
static void year_events(struct monitor *m) {
    unsigned n[3] = { 0 }, told[3] = { 0 };
    for (unsigned i = 0; i < heard; i++) {
        const struct event *e = &events[i];
        n[e->kind == OPEN      ? O_OPEN
          : e->kind == TIMEOUT ? O_TIMEOUT
                               : O_STAGE]++;
        event_take(m, e);
        for (unsigned k = 0; k < YEAR_SOURCES && e->kind == OPEN; k++)
            if (!addr_cmp(&e->src, &year.source[k]))
                year.closes[e->door][k] =
                    clock_ms + year_timeout[e->door] * INT64_C(1000);
    }
    for (unsigned i = 0; i < year.oracle.nevents; i++)
        told[year.oracle.event[i].kind]++;
    CHECK(!memcmp(n, told, sizeof n),
          "at %lld ms: %u stages, %u open, %u timeouts, not %u, %u, %u",
          (long long)clock_ms, n[0], n[1], n[2], told[0], told[1], told[2]);
    year.opened += n[O_OPEN];
    year.expired += n[O_TIMEOUT];
    heard = year.oracle.nevents = 0;
    year_turn(m);
}

static void year_packet(struct monitor *m, unsigned source, unsigned port) {
    struct packet p = syn_from(&year.source[source], port);
    struct o_hit h = { .time = clock_ms,
                       .knock.port = port,
                       .flags = SYN,
                       .id = p.number,
                       .interface = 1,
                       .local = true };
    memcpy(h.src, &p.src, 16);
    year.sniffer->now = clock_ms;
    unlimited(year.sniffer);
    match(year.sniffer, &p);
    o_match(&year.oracle, &h);
    year.packets++;
    year_events(m);
}

/* The first n of a door's three knocks, so far apart. */
static void year_knock(struct monitor *m, unsigned n, int64_t gap) {
    unsigned source = rnd(YEAR_SOURCES), door = rnd(YEAR_DOORS);
    for (unsigned i = 0; i < n; i++) {
        if (i) year_pass(m, gap, false);
        year_packet(m, source, year.door[door].seq.knock[i]);
    }
}

/* ---- Sealed knocks ----------------------------------------------------------- */

static bool year_burnt(uint64_t stamp) {
    for (unsigned i = 0; i < year.nburnt; i++)
        if (year.burnt[i] == stamp) return true;
    return false;
}

/* What has to become of a stamp (docs/knock1.md), and what it changes. */
static enum verdict year_verdict(uint64_t stamp) {
    uint64_t wall = (uint64_t)year_wall();
    uint64_t back = (uint64_t)(clock_ms - year.since);
    if (stamp > wall + SKEW_MS) {
        if (!year_burnt(stamp) && year.nburnt < 4096)
            year.burnt[year.nburnt++] = stamp;
        return FUTURE;
    }
    if (year_burnt(stamp)) return REPLAY;
    if (stamp + SKEW_MS < wall) return PAST;
    if (stamp <= year.floor) return REPLAY;
    if (stamp <= (uint64_t)year.since_wall) return BEFORE_START;
    if (stamp + back <= wall) return BEFORE_START;
    year.floor = stamp;
    return GOOD;
}

/* The stamps refused for ever are more than the program keeps one by one, and it
 * has made ranges of them: is this one between two? */
static bool year_between(uint64_t stamp) {
    bool above = false, below = false;
    for (unsigned i = 0; i < year.nburnt; i++) {
        above |= year.burnt[i] < stamp;
        below |= year.burnt[i] > stamp;
    }
    return year.nburnt > BURNT_MAX && above && below;
}

static enum verdict year_said(void) {
    if (has_text("key of pc")) return GOOD;
    if (has_text("s ahead")) return FUTURE;
    if (has_text("s behind")) return PAST;
    if (has_text("replayed")) return REPLAY;
    if (has_text("sent before the start")) return BEFORE_START;
    return UNUSABLE;
}

/* The client's packet with this stamp reaches the daemon. */
static void year_sealed(struct monitor *m, uint64_t stamp) {
    unsigned source = rnd(YEAR_SOURCES);
    struct event e = { .kind = SEALED, .src = year.source[source] };
    uint64_t floor = year.floor;
    bool copied = stamp == year.sent && source == year.from;
    e.sealed.plain.stamp = htobe64(stamp);
    seal(&m->conf.clients->key, &e.sealed);
    enum verdict right = year_verdict(stamp);
    forget();
    CHECK(is_true(m, &e));
    event_take(m, &e);
    enum verdict was = year_said();
    if (copied) { /* of the packet just before: nothing is said */
        CHECK(was == UNUSABLE);
        was = right;
    }
    if (was == REPLAY && right != REPLAY && year_between(stamp)) {
        year.floor = floor;
        right = REPLAY;
    }
    CHECK(was == right, "stamp %llu at %lld: %d, not %d: %s",
          (unsigned long long)stamp, (long long)year_wall(), (int)was,
          (int)right, kept);
    if (right == GOOD && !copied)
        year.closes[YEAR_DOORS][source] =
            clock_ms + year_timeout[YEAR_DOORS] * INT64_C(1000);
    year.verdicts[right]++;
    year.sent = stamp;
    year.from = source;
    forget();
    year_turn(m);
}

/* ---- What happens to a host -------------------------------------------------- */

static struct monitor *year_crash(void) {
    year.restarts++;
    return year_start();
}

/* The clock that runs since boot begins again. The state file is gone with /run,
 * and the rules too; or it lies on a disk, and so do the rules. */
static struct monitor *year_reboot(void) {
    bool kept_file = one_in(2);
    int64_t wall = year_wall();
    int64_t off = rnd(3600000);
    year_end();
    if (!kept_file) unlinkat(directory_fd, "k.state", 0);
    clock_ms = 5000 + rnd(60000);
    t_slept = 0;
    year.truth += off;
    t_wall = wall + off - clock_ms;
    for (unsigned i = 0; i < (YEAR_DOORS + 1) * YEAR_SOURCES; i++) {
        unsigned d = i / YEAR_SOURCES;
        int64_t *at = &year.closes[d][i % YEAR_SOURCES];
        int64_t most = clock_ms + year_timeout[d] * INT64_C(1000) + ORPHAN_MS;
        if (*at) *at = kept_file ? min_ms(*at, most) : 0;
    }
    year.reboots++;
    return year_start();
}

/* Somebody sets the wall clock, or NTP puts it right. */
static void year_step(struct monitor *m) {
    const int64_t to[] = {
        1000,                               /* 1970 */
        INT64_C(2147483648) * 1000,         /* 2038: 32 bits with a sign */
        INT64_C(4294967296) * 1000,         /* 2106: 32 bits without */
        year_wall() - HOUR - rnd(90) * DAY, /* back, by any time */
        year_wall() + HOUR + rnd(90) * DAY, /* forward */
        year_wall() - rnd(1000),            /* less than a second */
        year_wall() + rnd(1000)
    };
    int64_t wall = to[rnd(7)];
    if (wall < 1000) wall = 1000;
    t_wall = wall - clock_ms;
    year.steps++;
    year_look(m);
    year_turn(m);
}

static void year_right(struct monitor *m) {
    t_wall = year.truth - clock_ms;
    year_look(m);
}

/* The host sleeps: nobody closes anything until it wakes. */
static void year_suspends(struct monitor *m) {
    year.suspends++;
    year_pass(m, rnd(3 * 86400000), true);
}

/* One thing of many happens. */
static struct monitor *year_event(struct monitor *m) {
    unsigned what = rnd(40);
    if (what < 12) year_knock(m, 3, 10 + rnd(2000));
    else if (what < 15) year_knock(m, 1 + rnd(2), 500); /* given up */
    else if (what < 17) year_knock(m, 3, 5001);         /* too slow */
    else if (what < 28) year_sealed(m, (uint64_t)year.truth);
    else if (what < 30) year_sealed(m, (uint64_t)(year.truth + rnd(1100000)));
    else if (what < 32) year_sealed(m, (uint64_t)(year.truth - rnd(1100000)));
    else if (what < 34) year_sealed(m, year.sent); /* a copy, recorded */
    else if (what < 36) m = year_crash();
    else if (what < 37) m = year_reboot();
    else if (what < 38) year_step(m);
    else if (what < 39) year_suspends(m);
    else year_right(m);
    if (what >= 34) year_sealed(m, (uint64_t)(year.truth - rnd(700000)));
    return m;
}

/* A year, with something about every 40 minutes. */
static void test_year(void) {
    static const char key[] =
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    uint8_t bytes[KEY_BYTES];
    o_clear(&year.oracle);
    memset(&year, 0, sizeof year);
    year.conf = (struct conf){ .doors = year.door,
                               .ndoors = YEAR_DOORS + 1,
                               .clients = &year.client,
                               .nclients = 1 };
    year.client =
        (struct client){ .name = "pc", .door = YEAR_DOORS, .seen = 7 };
    CHECK(key_parse(key, bytes));
    door_key(&year.client.key, bytes, "sealed");
    year.oracle.door = year.plain;
    year.oracle.ndoors = YEAR_DOORS;
    for (unsigned i = 0; i < YEAR_SOURCES; i++)
        year.source[i] = addr_of(i == 2 ? "2001:db8::1"
                                 : i    ? "192.0.2.2"
                                        : "192.0.2.1");
    year.truth = INT64_C(1790000000000); /* of 2026 */
    t_wall = year.truth - clock_ms;
    struct monitor *m = year_start();
    int64_t start = year.truth;
    while (year.truth < start + 365 * DAY && bad_checks < 5) {
        year_pass(m, 131000 + rnd(5000000), false);
        year_events(m);
        year.oracle.nseen = year.oracle.nused = 0; /* marks are older */
        m = year_event(m);
        year_check(m, "after an event");
    }
    CHECK(year.opened > 1000 && year.expired > 100 && year.closed > 1000);
    for (unsigned v = GOOD; v < UNUSABLE; v++)
        CHECK(year.verdicts[v] > 2 || v == FORGED || v == MALFORMED);
    note("a year: %u packets, %u openings, %u closed, %u attempts timed out, "
         "%u restarts, %u reboots, %u clock steps, %u suspends",
         year.packets, year.opened, year.closed, year.expired, year.restarts,
         year.reboots, year.steps, year.suspends);
    note("sealed: %u taken; refused: future %u, replay %u, past %u, before "
         "the "
         "start %u",
         year.verdicts[GOOD], year.verdicts[FUTURE], year.verdicts[REPLAY],
         year.verdicts[PAST], year.verdicts[BEFORE_START]);
    year_end();
    monitor_end();
    unlinkat(directory_fd, "k.stamps", 0);
    t_wall = t_slept = 0;
}
