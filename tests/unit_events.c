/* Unit tests of the monitor and the sniffer's records; part of unit.c. */

/* ---- The monitor: events ----------------------------------------------- */

/* Forged records, with every field out of its range: each is refused. */
static void test_forged_records(void) {
    static const uint32_t numbers[] = {
        0,  1,  2,  3,   4,   5,     6,          7,          8,
        31, 32, 33, 255, 256, 65536, 0x7fffffff, 0x80000000, 0xffffffff
    };
    static const char *const sources[] = {
        "192.0.2.1",       "0.0.0.0",  "::",          "224.0.0.1",
        "255.255.255.255", "ff02::1",  "2001:db8::1", "198.51.100.1",
        "0.0.0.1",         "127.0.0.1"
    };
    struct monitor *m = shop_open();
    struct net net = { addr_of("192.0.2.0"), 120 };
    unsigned right = 0, wrong_ones = 0;
    struct event e;

    shop[1].allow = (struct nets){ &net, 1 };
    shop[2].seq.n = 32;
    shop[3].seq.n = 0; /* used up */
    for (unsigned only = 0; only < 2; only++)
        for (unsigned i = 0; i < 18 * 18 * 18 * 10; i++) {
            bool good;

            memset(&e, 0, sizeof(e));
            settings.only_ipv4 = only;
            e.kind = numbers[i % 18];
            e.door = numbers[i / 18 % 18];
            e.stage = numbers[i / 18 / 18 % 18];
            e.src = addr_of(sources[i / 18 / 18 / 18]);
            e.value = rnd64();
            m->said = 0;
            good = is_true(m, &e);
            CHECK(good == right_record(m, &e, sizeof(e)),
                  "kind %u, "
                  "door %u, stage %u, %s",
                  e.kind, e.door, e.stage, sources[i / 18 / 18 / 18]);
            *(good ? &right : &wrong_ones) += 1;
        }
    CHECK(right > 1000 && wrong_ones > 10000);
    shop[1].allow.n = 0;
    shop[1].deny = (struct nets){ &net, 1 };
    e = (struct event){ .kind = STAGE, .door = 1, .stage = 1 };
    e.src = addr_of("192.0.2.1");
    m->said = 0;
    m->bad_record = false;
    forget();
    CHECK(!is_true(m, &e) && has_text("address"), "%s", kept);
    e.src = addr_of("192.0.3.1");
    CHECK(is_true(m, &e));
    shop[1].deny.n = 0;
    monitor_end();
}

/* Openings of a door are believed at twice the rate of an honest sniffer, and
 * more of them for a while if we stalled. */
static void test_believed_openings(void) {
    struct monitor *m = shop_open();
    struct event e = {
        .kind = OPEN, .door = 1, .stage = 1, .src = addr_of("192.0.2.1")
    };
    unsigned good = 0, other = 0;

    for (unsigned i = 0; i < 20000; i++) good += is_true(m, &e);
    CHECK(good == 5000 && has_text("bad record from the sniffer: openings\n"),
          "%u", good);
    good = 0;
    for (unsigned ms = 0; ms < 3000; ms++) {
        clock_ms++;
        for (unsigned i = 0; i < 10; i++) good += is_true(m, &e);
        e.door = 0; /* another door is not concerned */
        other += is_true(m, &e);
        e.door = 1;
    }
    CHECK(good == 6000 && other == 3000, "%u %u", good, other);
    monitor_end();
}

/* Records through the channel: what is wrong runs nothing, is said once and
 * does not end anything. */
static void test_channel(void) {
    struct monitor *m = shop_open();
    struct event e = {
        .kind = OPEN, .door = 0, .stage = 1, .src = addr_of("192.0.2.1")
    };
    int ends[2];
    char junk[300];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    m->channel = ends[0];
#define SEND(n) CHECK(write(ends[1], &e, n) > 0 && record_take(m) >= 0)
    SEND(sizeof(e));
    turn(m);
    CHECK(ncommands == 1 && has_text("192.0.2.1: a: OPEN SESAME\n"));
    forget();
    e.kind = STAGE;
    SEND(sizeof(e));
    /* several in a record; those of the record before are not taken again */
    struct event both[2] = { e, e };
    both[1].stage = 7;
    CHECK(write(ends[1], both, sizeof(both)) == sizeof(both) &&
          record_take(m) == 2);
    SEND(sizeof(e));
    CHECK(count_text("Stage 1\n") == 3 && count_text("Stage 7\n") == 1, "%s",
          kept);
    forget();
    SEND(sizeof(e));
    e.kind = TIMEOUT;
    e.stage = 2;
    SEND(sizeof(e));
    e.kind = SUPPRESSED;
    e.value = 12;
    SEND(sizeof(e));
    e.kind = DROPS;
    SEND(sizeof(e));
    CHECK(!strcmp(kept,
                  "192.0.2.1: a: Stage 1\n192.0.2.1: a: sequence "
                  "timeout (stage 2)\n12 messages suppressed\n12 packets "
                  "lost: too fast\n"),
          "%s", kept);
    forget();
    e.kind = OPEN;
    e.stage = 2;
    SEND(sizeof(e));
    e.stage = 1;
    e.door = 4;
    SEND(sizeof(e));
    SEND(7);
    memset(junk, 0xa5, sizeof(junk));
    for (unsigned i = 1; i < 300; i++)
        CHECK(write(ends[1], junk, i) > 0 && record_take(m) >= 0);
    turn(m);
    CHECK(ncommands == 1 && count_text("\n") == 1 &&
              has_text("bad record from the sniffer: stage\n"),
          "%s", kept);
    /* too many lines: not all are logged; an opening always is */
    clock_ms += 5000;
    forget();
    e = (struct event){ .kind = STAGE, .stage = 1, .src = e.src };
    for (unsigned i = 0; i < 3000; i++) SEND(sizeof(e));
    CHECK(count_text("Stage 1") <
          STALL_MS / (1000 / (KINDS * LINES_PER_SECOND)) + 10);
    forget();
    e.kind = OPEN;
    SEND(sizeof(e));
    CHECK(has_text("OPEN SESAME"));
    forget();
    clock_ms += 1000;
    m->asked = true;
    for (unsigned i = 0; i < COUNTERS; i++) {
        e = (struct event){ .kind = COUNTED, .stage = i, .value = i * 10 };
        CHECK(!*kept);
        SEND(sizeof(e));
    }
    e.stage = COUNTERS;
    m->bad_record = true;
    SEND(sizeof(e));
    CHECK(has_text("counters: packets 0, drops 10, hits 20, attempts 30, "
                   "evictions 40, cancelled 50, opens 60, grants 1, "),
          "%s", kept);
    forget();
    clock_ms += 1000;
    e = (struct event){ .kind = PACKET,
                        .src = addr_of("::1"),
                        .dst = addr_of("10.0.0.1"),
                        .value =
                            6ull << 48 | 1234ull << 32 | 7000ull << 16 | 60 };
    SEND(sizeof(e));
    CHECK(has_text(": tcp: ::1:1234 -> 10.0.0.1:7000 60 bytes\n"), "%s",
          kept);
    e.value = 17ull << 48;
    SEND(sizeof(e));
    CHECK(has_text(": udp: ::1:0 -> 10.0.0.1:0 0 bytes\n"), "%s", kept);
    /* nobody has asked for counters: they are added in silence */
    forget();
    e = (struct event){ .kind = COUNTED, .stage = COUNTERS - 1, .value = 5 };
    SEND(sizeof(e));
    CHECK(!*kept && m->counters[COUNTERS - 1] == 65);
    /* a door without a stop command is nothing that is open */
    knock_at(m, &shop[2], "192.0.2.7");
    CHECK(m->nopenings == 2);
    counters_say(m);
    CHECK(has_text(", grants 1, "), "%s", kept);
    /* it is ready; once more */
    e = (struct event){ .kind = READY };
    forget();
    SEND(sizeof(e));
    SEND(sizeof(e));
    CHECK(m->ready && count_text("starting up, listening on any\n") == 1);
    /* as many in a record as there may be, and one more: none is taken */
    static struct event many[EVENTS_MAX + 1];
    for (unsigned i = 0; i <= EVENTS_MAX; i++)
        many[i] = (struct event){ .kind = COUNTED, .value = 1 };
    m->bad_record = false;
    m->counters[0] = 0;
    clock_ms += 10000;
    for (unsigned n = EVENTS_MAX; n <= EVENTS_MAX + 1; n++) {
        CHECK(write(ends[1], many, n * sizeof(*many)) > 0);
        CHECK(record_take(m) == (n > EVENTS_MAX ? 0 : EVENTS_MAX));
        CHECK(m->counters[0] == EVENTS_MAX, "%u", n);
    }
    CHECK(has_text("bad record from the sniffer: size\n"));
    CHECK(record_take(m) < 0 && m->channel == ends[0]); /* nothing there */
    /* it ends before it has read all that it was told */
    CHECK(write(ends[0], "x", 1) == 1);
    close(ends[1]);
    CHECK(record_take(m) == 0 && m->channel == ends[0]);
    CHECK(record_take(m) < 0 && m->channel == -1);
    monitor_end();
}

/* A turn reads so many full records and goes on with other things; nothing of
 * the rest is lost. */
static void test_records_in_turns(void) {
    static struct event many[EVENTS_MAX];
    struct monitor *m = shop_open();
    int ends[2], size = 1 << 20;

    for (unsigned i = 0; i < EVENTS_MAX; i++)
        many[i] = (struct event){ .kind = COUNTED, .value = 1 };
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    m->channel = ends[0];
    for (unsigned i = 0; i < RECORDS_A_TURN + 3; i++) {
        if (i == RECORDS_A_TURN + 1) many[0].value = 1000; /* not full */
        CHECK(send(ends[1], many,
                   (i <= RECORDS_A_TURN ? EVENTS_MAX : 1) * sizeof(*many),
                   MSG_DONTWAIT) > 0,
              "%u", i);
    }
    poll_hook = poll_all;
    poll_result = 1;
    for (unsigned i = 0; i < 4; i++) {
        static const uint64_t sums[] = {
            RECORDS_A_TURN * EVENTS_MAX,
            (RECORDS_A_TURN + 1) * EVENTS_MAX + 1000,
            (RECORDS_A_TURN + 1) * EVENTS_MAX + 2000,
            (RECORDS_A_TURN + 1) * EVENTS_MAX + 2000,
        };

        m->said = 0;
        turn(m);
        CHECK(m->counters[0] == sums[i], "%u: %u", i,
              (unsigned)m->counters[0]);
    }
    poll_hook = NULL;
    poll_result = 0;
    close(ends[0]);
    close(ends[1]);
    monitor_end();
}

/* Lines of no door, which a hijacked sniffer could send without end. */
static void test_believed_lines(void) {
    struct monitor *m = shop_open();
    struct event e = { .kind = DROPS, .value = 1 };
    const unsigned second = KINDS * LINES_PER_SECOND;
    unsigned good = 0;

    for (unsigned i = 0; i < 20000; i++) good += is_true(m, &e);
    CHECK(good == second * STALL_MS / 1000, "%u", good);
    CHECK(count_text("bad record from the sniffer: rate\n") == 1);
    clock_ms += 1000;
    for (unsigned i = 0; i < 20000; i++) good += is_true(m, &e);
    CHECK(good == second * (STALL_MS / 1000 + 1), "%u", good);
    monitor_end();
}

static void send_doors_slowly(const void *data, size_t n) {
    (void)data;
    (void)n;
    clock_ms += 1500;
}

/* The end of a sniffer, by our wish or by itself. */
static unsigned drained;
static int drain_end;

static void poll_drain(struct pollfd *fds, nfds_t n) {
    struct event e = { .kind = COUNTED, .value = 1 };

    (void)fds;
    (void)n;
    drained++;
    clock_ms += 100;
    CHECK(write(drain_end, &e, sizeof(e)) > 0);
}

static void test_sniffer_ends(void) {
    struct monitor *m = shop_open();
    struct event e = { .kind = OPEN,
                       .stage = 1,
                       .src = addr_of("192.0.2.1") };
    int ends[2];

    /* what it said before it ended counts */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    m->channel = ends[0];
    CHECK(write(ends[1], &e, sizeof(e)) > 0);
    close(ends[1]);
    poll_result = 1;
    sniffer_stop(m);
    CHECK(has_text("192.0.2.1: a: OPEN SESAME\n") && killed.pid == 99);
    CHECK(m->channel == -1 && m->sniffer == -1);
    /* one that goes on talking is not listened to for ever */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    m->channel = ends[0];
    m->sniffer = 77;
    drain_end = ends[1];
    drained = 0;
    poll_hook = poll_drain;
    sniffer_stop(m);
    CHECK(killed.pid == 77 && drained == DRAIN_MS / 100, "%u", drained);
    poll_hook = NULL;
    poll_result = 0;
    close(ends[1]);
    /* it dies while its counters are waited for: ours are said */
    m->ready = m->asked = true;
    forget();
    sniffer_died(m, 9);
    CHECK(has_text("counters: packets ") && !m->asked);
    /* asked when there is none: said at once */
    forget();
    counters_ask(m);
    CHECK(has_text("counters: packets ") && !m->asked);
    /* where the keys can't be kept from it, there is no other one */
    m->ready = false;
    forget();
    CHECK(ENDS(sniffer_died(m, KEYS_STATUS << 8)) && end_status == 1 &&
              has_text("(status 3): Keys need execveat(2)\n"),
          "%s", kept);
    /* the first one can't be started: the end */
    forget();
    m->packets = m->null;
    m->sniffer = -1;
    fail(FAULT_fork, 1, EAGAIN);
    CHECK(ENDS(sniffer_start(m)) && end_status == 1 &&
          has_text("could not start the sniffer: "));
    /* one that does not read its doors in time hangs, and is killed */
    m->ready = true;
    m->sniffer = 55;
    m->channel = m->null;
    static char much[3 * PIECE_BYTES];
    struct order o = { .kind = NEW_DOORS, .bytes = sizeof(much) };
    send_hook = send_doors_slowly;
    killed.pid = 0;
    order_send(m, &o, much);
    CHECK(killed.pid == 55 && killed.number == SIGKILL);
    killed.pid = 0;
    o.bytes = 1;
    order_send(m, &o, much);
    CHECK(!killed.pid);
    /* one that has ended gets no signal: SIGCHLD follows */
    fail(FAULT_send, 2, EPIPE);
    order_send(m, &o, much);
    send_hook = NULL;
    CHECK(!killed.pid);
    m->channel = -1;
    monitor_end();
}

/* started() with our own descriptors 0 to 2, which it replaces, put back. */
static void start_detached(struct monitor *m) {
    int kept_fds[3];

    for (int fd = 0; fd < 3; fd++) kept_fds[fd] = dup(fd);
    started(m, 0);
    for (int fd = 0; fd < 3; fd++) {
        dup2(kept_fds[fd], fd);
        close(kept_fds[fd]);
    }
}

/* The sniffer: what it tells of itself at first, how it is ended, that it is
 * replaced when it dies. */
static void test_sniffer_of_monitor(void) {
    struct monitor *m = shop_open();
    struct event e = { .kind = READY, .value = 5, .src = mapped };
    int ready[2], reader;
    char byte;

    if (pipe(ready)) abort();
    reader = ready[0];
    m->sniffer = -1;
    strcpy(m->waiting_for, "eth9 is down");
    sniffer_start(m);
    CHECK(m->sniffer == 4242 && m->channel >= 0);
    started(m, e.value);
    CHECK(has_text("starting up, listening on any\n") &&
              !has_text("listening on any...\n") &&
              has_text("warning: the sniffer runs without: bounding set, "
                       "own user and group id\n") &&
              has_text("waiting: eth9 is down\n"),
          "%s", kept);
    forget();
    started(m, 127);
    CHECK(!*kept);
    /* a hijacked one says more than there is */
    m->ready = false;
    started(m, UINT64_MAX);
    CHECK(has_text("seccomp filter, memory of its own\n"), "%s", kept);
    sniffer_died(m, 31); /* by SIGSYS */
    CHECK(has_text("the sniffer died (signal 31): starting another\n"));
    CHECK(m->sniffer == -1 && m->channel == -1);
    turn(m); /* not at once */
    CHECK(m->sniffer == -1 && poll_timeout == 1000, "%d", poll_timeout);
    /* its ring has gone with it; a new socket is needed first */
    CHECK(m->packets == -1);
    clock_ms += 1000;
    forget();
    fail(FAULT_socket, 1, EPERM);
    turn(m);
    CHECK(m->sniffer == -1 && m->packets == -1 && m->channel == -1);
    CHECK(!strcmp(kept, "could not start the sniffer: Operation not "
                        "permitted\n"),
          "%s", kept);
    clock_ms += 1000;
    fail(FAULT_socket, 1, EPERM);
    turn(m);
    CHECK(count_text("\n") == 1); /* said once */
    clock_ms += 1000;
    t_ring = m->null;
    fail(FAULT_fork, 1, EAGAIN);
    turn(m);
    CHECK(m->packets >= 0 && m->channel == -1);
    CHECK(m->sniffer == -1 && has_text("could not start the sniffer: Res"));
    clock_ms += 1000;
    fail(FAULT_socketpair, 1, EMFILE);
    turn(m);
    CHECK(m->sniffer == -1 && has_text(strerror(EMFILE)));
    clock_ms += 1000;
    turn(m);
    CHECK(m->sniffer == 4242);
    killed.pid = 0;
    poll_result = 0;
    t_ring = -1;
    sniffer_stop(m);
    CHECK(killed.pid == 4242 && m->sniffer == -1 && m->channel == -1);
    /* -d: the other process learns that all is well */
    m->ready = false;
    m->ready_fd = ready[1];
    settings.verbose = true;
    poll_result = 0;
    *m->waiting_for = '\0';
    start_detached(m);
    settings.verbose = false;
    CHECK(read(reader, &byte, 1) == 1 && out.detached);
    CHECK(has_text("listening on any...\n"), "%s", kept);
    out.detached = false;
    close(reader);
    if (pipe(ready)) abort();
    close(ready[0]);
    m->ready_fd = ready[1];
    /* nobody waits for that any more; there is no way to the root directory */
    m->ready = false;
    fail(FAULT_chdir, 1, EACCES);
    start_detached(m);
    CHECK(has_text("chdir: Permission denied\n"), "%s", kept);
    close(ready[1]);
    out.detached = false;
    m->ready = false;
    CHECK(ENDS(sniffer_died(m, 256)) && end_status == 1);
    monitor_end();
}

/* What RFC 3629, section 4, calls a character of n bytes; 0 for none. */
static unsigned rfc_3629(const uint8_t *p) {
    static const uint8_t rows[][5] = {
        /* bytes, the first from, to, the second from, to; others 80-BF */
        { 1, 0x00, 0x7f, 0x00, 0xff }, { 2, 0xc2, 0xdf, 0x80, 0xbf },
        { 3, 0xe0, 0xe0, 0xa0, 0xbf }, { 3, 0xe1, 0xec, 0x80, 0xbf },
        { 3, 0xed, 0xed, 0x80, 0x9f }, { 3, 0xee, 0xef, 0x80, 0xbf },
        { 4, 0xf0, 0xf0, 0x90, 0xbf }, { 4, 0xf1, 0xf3, 0x80, 0xbf },
        { 4, 0xf4, 0xf4, 0x80, 0x8f },
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const uint8_t *r = rows[i];
        bool good = p[0] >= r[1] && p[0] <= r[2];

        if (r[0] > 1) good = good && p[1] >= r[3] && p[1] <= r[4];
        for (unsigned k = 2; k < r[0]; k++)
            good = good && p[k] >= 0x80 && p[k] <= 0xbf;
        if (good) return r[0];
    }
    return 0;
}

/* Every first byte with bytes behind it from the edges of all ranges. */
static void test_characters(void) {
    static const uint8_t edges[] = { 0,    ' ',  0x7f, 0x80, 0x8f, 0x90,
                                     0x9f, 0xa0, 0xbf, 0xc0, 0xff };
    enum { N = sizeof(edges) };

    for (unsigned i = 0; i < 256 * N * N * N; i++) {
        uint8_t text[] = { (uint8_t)(i % 256), edges[i / 256 % N],
                           edges[i / 256 / N % N], edges[i / 256 / N / N],
                           0 };
        unsigned want = rfc_3629(text);
        bool c0 = *text < ' ' && *text != '\t';
        bool c1 = *text == 0xc2 && text[1] < 0xa0;

        if (c0 || c1 || *text == 0x7f) want = 0;
        CHECK(character(text) == want, "%02x %02x %02x %02x: %u", text[0],
              text[1], text[2], text[3], character(text));
    }
}

/* A terminal gets the time, in a colour that tells what a line is; and lines
 * that a file gets, too. */
static void test_terminal(void) {
    static const struct {
        enum severity severity;
        char colour;
    } cases[] = { { LOG, '6' }, { OPENED, '2' }, { TROUBLE, '3' } };
    struct monitor *m = shop_open();

    out.terminal = true;
    for (int verbose = 0; verbose < 2; verbose++)
        for (int file = 0; file < 2; file++)
            for (unsigned i = 0; i < 3; i++) {
                char head[] = "\033[3xm";

                settings.verbose = verbose;
                if (file) out.file = m->null;
                forget();
                say(cases[i].severity, "hello");
                head[3] = cases[i].colour;
                CHECK(!strncmp(kept, head, 5) && kept[7] == ':' &&
                          kept[10] == ':' &&
                          !strcmp(kept + 13, "\033[0m  hello\n"),
                      "%s", kept);
                out.file = -1;
            }
    forget();
    say(QUIET, "not with -v");
    CHECK(!*kept);
    out.terminal = false;
    settings.verbose = false;
    out.file = m->null;
    say(LOG, "only in the file");
    CHECK(!*kept);
    out.file = -1;
    out.use_syslog = true; /* nobody is there */
    say(LOG, "only in syslog");
    CHECK(!*kept);
    out.use_syslog = false;
    close(out.syslog);
    out.syslog = -1;
    monitor_end();
}

static void test_lines(void) {
    struct monitor *m = shop_open();
    char text[5000], name[128];
    struct conf c = shop_conf;
    struct stat made = { 0 };
    const char *got;

    /* control characters; a line too long */
    forget();
    say(LOG, "a\nb\x01\x1b[0m\x7f\t%s", "\xc3\xa4");
    CHECK(!strcmp(kept, "a?b??[0m?\t\xc3\xa4\n"), "%s", kept);
    forget();
    say(LOG, "a\xc2\x9b"
             "31m\xc2\xa0\xe2\x9b\x84"); /* CSI; no control */
    CHECK(!strcmp(kept, "a??31m\xc2\xa0\xe2\x9b\x84\n"), "%s", kept);
    forget();
    say(LOG, "\x9b"
             "31m \xe4 \xe2\x9b, \xed\xa0\x80 \xf0\x9f\x98\x80\xf0\x9f");
    CHECK(!strcmp(kept, "?31m ? ??, ??? \xf0\x9f\x98\x80??\n"), "%s", kept);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    forget();
    say(LOG, "%s", text);
    CHECK(kept_length == TEXT_MAX);
    out.started = false;
    forget();
    say(LOG, "x");
    CHECK(!strcmp(kept, "knockd: x\n"));
    forget();
    say(OUT, "x");
    CHECK(!strcmp(kept, "x\n"));
    out.started = true;
    /* a file; reopened; a broken path */
    time_t was = time(NULL), now;
    char before[32], after[32];

    c.logfile = "log";
    unlinkat(directory_fd, "log", 0);
    m->conf = c;
    mode_t mask = umask(0);
    log_open(m);
    umask(mask);
    CHECK(!stat("log", &made) && (made.st_mode & 07777) == 0640, "%o",
          made.st_mode); /* it tells who knocks, and how */
    forget();
    say(LOG, "hello");
    got = get_file("log", NULL);
    CHECK(!*kept && got[0] == '[' && strlen(got) == 25 &&
              !strcmp(got + 17, "] hello\n"),
          "%s", got);
    strftime(before, sizeof(before), "%Y-%m-%d %H:%M", localtime(&was));
    now = time(NULL);
    strftime(after, sizeof(after), "%Y-%m-%d %H:%M", localtime(&now));
    CHECK(!strncmp(got + 1, before, 16) || !strncmp(got + 1, after, 16),
          "%s, not %s", got, after);
    /* what is in it stays */
    put_text("log", "first\n");
    log_open(m);
    say(LOG, "second");
    CHECK(!strncmp(get_file("log", NULL), "first\n[", 7) &&
              strstr(get_file("log", NULL), "] second\n"),
          "%s", get_file("log", NULL));
    unlinkat(directory_fd, "log", 0);
    settings.verbose = true;
    log_open(m);
    say(LOG, "two");
    settings.verbose = false;
    CHECK(strstr(get_file("log", NULL), "] two\n"));
    CHECK(has_text("closing log file: log\n") && has_text("two\n") &&
              has_text("re-opening log file: log\n"),
          "%s", kept);
    forget();
    snprintf(name, sizeof(name), "no/such/log");
    m->conf.logfile = name;
    log_open(m);
    CHECK(!*kept &&
              strstr(get_file("log", NULL),
                     "could not open log file no/such/log: No such file"),
          "%s", kept);
    m->conf.logfile = NULL;
    settings.logfile = "/dev/stderr";
    settings.verbose = true;
    log_open(m);
    CHECK(out.file >= 3 && has_text("closing log file: log\n"), "%s", kept);
    forget();
    log_open(m); /* that one needs no reopening */
    CHECK(!*kept, "%s", kept);
    settings.verbose = false;
    settings.logfile = NULL;
    log_open(m);
    CHECK(out.file == -1);
    settings.logfile = "/dev/stdout";
    log_open(m);
    CHECK(out.file >= 3);
    close(out.file);
    out.file = -1;
    settings.logfile = NULL;
    *m->log_path = '\0';
    /* none at the start: -d ends, without it stderr does; none before either */
    m->conf.logfile = name;
    log_open(m);
    CHECK(out.file == -1 && has_text("could not open log file no/such/log"));
    out.started = false;
    settings.daemon = true;
    CHECK(ENDS(log_open(m)) && end_status == 1);
    settings.daemon = false;
    out.started = true;
    m->conf.logfile = NULL;
    log_open(m);
    /* stderr, unless there is another place */
    forget();
    say(QUIET, "x");
    CHECK(!strcmp(kept, "x\n"));
    forget();
    out.detached = true;
    say(LOG, "x");
    CHECK(!*kept);
    out.detached = false;
    unlinkat(directory_fd, "log", 0);
    monitor_end();
}
