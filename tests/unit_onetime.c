/* Unit tests of one-time sequences; part of unit.c. */

/* ---- One-time sequences ------------------------------------------------ */

static struct door once_door;

/* A door with this one-time file; returns what is left. */
static int once(const char *text) {
    forget();
    once_door =
        (struct door){ .path = "conf", .name = "d", .one_time = "once" };
    if (text) put_text("once", text);
    return one_time(&once_door, false);
}

/* The current sequence is used: what the file says then. */
static const char *spend(int *left) {
    forget();
    *left = one_time(&once_door, true);
    return get_file("once", NULL);
}

static void test_one_time(void) {
    static const struct {
        const char *before, *after;
        int left;       /* at first */
        unsigned first; /* port of the first sequence */
        int equal;      /* lines more that have the first sequence */
    } cases[] = {
        { " 1,2\n 3,4\n", "#1,2\n 3,4\n", 2, 1 },
        { "1,2\n3,4\n", "#,2\n3,4\n", 2, 1 }, /* as 0.8 */
        { "1,2\n3,4", "#,2\n3,4", 2, 1 },
        { "1,2", "#,2", 1, 1 },
        { "\t1,2\r\n 3,4\r\n", "#1,2\r\n 3,4\r\n", 2, 1 },
        { "1,2\r\n3,4\r\n", "#,2\r\n3,4\r\n", 2, 1 },
        { "# c\n\n#9,9\n  5,6:udp\n7,8\n", "# c\n\n#9,9\n# 5,6:udp\n7,8\n", 2,
          5 },
        { " 70000,1\n 1,2\n", " 70000,1\n#1,2\n", 1, 1 },
        { " x\n\n y\n1,2\n3,4\n", " x\n\n y\n#,2\n3,4\n", 2, 1 },
        { " 1,2\n 1,2\n", "#1,2\n#1,2\n", 2, 1, 1 },
        { " 1,2:udp\n 3,4\n1 , 2:UDP\r\n 1,2\n#1,2:udp\n 1,2:udp",
          "#1,2:udp\n 3,4\n# , 2:UDP\r\n 1,2\n#1,2:udp\n#1,2:udp", 5, 1, 2 },
        { " 258,1,2\n 258,1,3\n", "#258,1,2\n 258,1,3\n", 2, 258 },
        { " 1,2\n 1,2,3\n 1\n", "#1,2\n 1,2,3\n 1\n", 3, 1 },
    };
    char text[512];
    int left;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        left = once(cases[i].before);
        CHECK(left == cases[i].left, "%s: %d", cases[i].before, left);
        CHECK(once_door.seq.n && *once_door.seq.knock == cases[i].first, "%s",
              cases[i].before);
        snprintf(text, sizeof(text), "%s", spend(&left));
        CHECK(!strcmp(text, cases[i].after), "'%s' is not '%s'", text,
              cases[i].after);
        CHECK(left == cases[i].left - 1 - cases[i].equal, "%s: %d left",
              cases[i].before, left);
        CHECK(!left == has_text("no more sequences left in the one time "
                                "sequences file for door d --> "
                                "disabling the door"),
              "%s", kept);
        CHECK((left > 0) == (once_door.seq.n > 0));
    }
    /* all of them, to the end and over a restart */
    CHECK(once(" 1,2\n 3,4\n 5,6\n") == 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(*once_door.seq.knock == 1 + 2 * i);
        spend(&left);
        CHECK(left == 2 - (int)i);
        CHECK(once(NULL) == left);
    }
    CHECK(!once_door.seq.n &&
              !strcmp(get_file("once", NULL), "#1,2\n#3,4\n#5,6\n"),
          "%s", get_file("once", NULL));
    CHECK(once("") == 0 && !once_door.seq.n &&
          has_text("no more sequences left"));
    CHECK(once("#1\n\n") == 0);
    CHECK(once(" 1,2,\n") == 0 && has_text("once:1: item 3 of the sequence "
                                           "is empty"),
          "%s", kept);
}

/* A zero byte makes its line wrong, and ends nothing. */
static void test_one_time_zeros(void) {
    static const char text[] = " 1,2\n 3\0,4\n\0\n#\0\n 5,6\n";
    int left;

    once("");
    put_file("once", text, sizeof text - 1);
    CHECK(once(NULL) == 2);
    CHECK(has_text("knockd: once:2: port '3?' is not a number") &&
              has_text("knockd: once:3: port '?' is not a number") &&
              count_text("\n") == 2,
          "%s", kept);
    spend(&left);
    CHECK(left == 1 && *once_door.seq.knock == 5);
    CHECK(!memcmp(get_file("once", NULL), "#1,2\n 3\0,4\n\0\n#\0\n 5,6\n",
                  sizeof text));
}

/* A file that was changed, or can't be written: the sequence is not used
 * again. */
static void test_one_time_faults(void) {
    static const int calls[] = { FAULT_pwrite, FAULT_fsync, FAULT_open };
    int left;

    CHECK(once(" 1,2\n 3,4\n") == 2);
    put_text("once", " 5,6\n");
    spend(&left);
    CHECK(left < 0 && !once_door.seq.n);
    CHECK(has_text("door d: can't mark the sequence as used in once: "
                   "door disabled"),
          "%s", kept);
    /* one of two equal lines can't be marked */
    for (int i = 1; i <= 2; i++) {
        CHECK(once(" 1,2\n 3,4\n 1,2\n") == 3);
        fail(FAULT_pwrite, i, EIO);
        spend(&left);
        CHECK(left < 0 && !once_door.seq.n && has_text("can't mark"), "%s",
              kept);
        fail(FAULT_pwrite, 0, 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK(once(" 1,2\n 3,4\n") == 2);
        fail(calls[i], 1, EIO);
        spend(&left);
        CHECK(left < 0 && !once_door.seq.n && *kept, "%u: %d", i, left);
        fail(calls[i], 0, 0);
    }
    unlinkat(directory_fd, "once", 0);
    CHECK(once(NULL) == -1 && has_text("once: No such file or directory"));
}

/* Random files: every valid sequence is used once, in their order, whatever
 * stands between them; nothing else in the file changes. */
static void test_one_time_at_random(void) {
    for (unsigned i = 0; i < times(300, 20000); i++) {
        static const char *const others[] = {
            "", "# x", "9,", "abc", "#7,8", "70000", " ", "1,2:x"
        };
        char text[4096], after[4096];
        unsigned port[12], n = 0, lines = 1 + rnd(12);
        size_t at = 0, to = 0;
        int left;

        for (unsigned k = 0; k < lines; k++) {
            const char *end_of_line =
                k + 1 < lines || one_in(2) ? (one_in(4) ? "\r\n" : "\n") : "";
            const char *blank = one_in(2) ? "" : one_in(2) ? " " : "\t";

            if (one_in(3)) {
                const char *other = others[rnd(8)];

                at += (size_t)sprintf(text + at, "%s%s", other, end_of_line);
                to += (size_t)sprintf(after + to, "%s%s", other, end_of_line);
                continue;
            }
            size_t mark = to;

            port[n++] = 1 + rnd(60000);
            at += (size_t)sprintf(text + at, "%s%u,%u%s", blank, port[n - 1],
                                  port[n - 1] + k, end_of_line);
            to += (size_t)sprintf(after + to, "%s%u,%u%s", blank, port[n - 1],
                                  port[n - 1] + k, end_of_line);
            after[mark] = '#';
        }
        text[at] = after[to] = '\0';
        CHECK(once(text) == (int)n, "%s", text);
        for (unsigned k = 0; k < n; k++) {
            CHECK(once_door.seq.n == 2 && *once_door.seq.knock == port[k],
                  "%s", text);
            spend(&left);
            CHECK(left == (int)(n - k - 1), "%s", text);
        }
        CHECK(!strcmp(get_file("once", NULL), after),
              "'%s' is not "
              "'%s'",
              get_file("once", NULL), after);
    }
}

/* Through the monitor: the sniffer gets the next one, the log says how many are
 * left, and a door whose file can't be marked runs nothing. */
static void test_one_time_door(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");
    struct order order;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    m->channel = ends[0];
    put_text("once", " 1,2\n 3,4\n 5,6\n 7,8\n 9,10\n 11,12\n 13,14\n");
    shop[0].one_time = "once";
    CHECK(one_time(&shop[0], false) == 7);
    for (unsigned i = 0; i < 7; i++) {
        char low[64];

        forget();
        door_open(m, &shop[0], &a);
        CHECK(read(ends[1], &order, sizeof(order)) > 0);
        CHECK(order.kind == NEW_SEQUENCE && order.door == 0);
        CHECK(i == 6 ? !order.seq.n
                     : order.seq.n == 2 && *order.seq.knock == 3 + 2 * i);
        sprintf(low, "a: %u one-time sequences left\n", 6 - i);
        CHECK(has_text(low) == (i < 6 && 6 - i <= ONE_TIME_LOW), "%s", kept);
        turn(m);
        CHECK(ncommands == 1 + i);
        reap(m, 0, 0);
    }
    /* Too many at once: the sniffer gets its next sequence later, and until then
     * no opening of this door is believed. */
    struct event e = { .kind = OPEN, .stage = 2, .src = a };

    put_text("once", " 1,2\n 3,4\n 5,6\n 7,8\n");
    CHECK(one_time(&shop[0], false) == 4);
    door_open(m, &shop[0], &a);
    door_open(m, &shop[0], &a);
    CHECK(read(ends[1], &order, sizeof(order)) > 0);
    CHECK(read(ends[1], &order, sizeof(order)) > 0 && *order.seq.knock == 5);
    CHECK(is_true(m, &e));
    door_open(m, &shop[0], &a);
    CHECK(recv(ends[1], &order, sizeof(order), MSG_DONTWAIT) < 0);
    CHECK(!is_true(m, &e) &&
          has_text("bad record from the sniffer: sequence"));
    turn(m);
    CHECK(poll_timeout > 0 && poll_timeout <= 1000, "%d", poll_timeout);
    clock_ms += poll_timeout;
    turn(m);
    CHECK(read(ends[1], &order, sizeof(order)) > 0 && *order.seq.knock == 7);
    CHECK(is_true(m, &e));
    CHECK(ncommands == 8); /* a start command that waits is queued once */
    reap(m, 0, 0);
    put_text("once", " 1,2\n");
    shop[0].seq = (struct sequence){ { 1, 2 }, 2 };
    fail(FAULT_pwrite, 1, EIO);
    door_open(m, &shop[0], &a);
    turn(m);
    CHECK(ncommands == 8 && has_text("can't mark"), "%s", kept);
    fail(FAULT_pwrite, 0, 0);
    close(ends[0]);
    close(ends[1]);
    m->channel = -1;
    /* a channel that is gone: the sniffer is replaced */
    killed.pid = 0;
    order_send(m, &order, NULL);
    CHECK(killed.pid == 99 && killed.number == SIGKILL);
    monitor_end();
}
