/* Unit tests of the state file; part of unit.c. */

/* ---- The state file ---------------------------------------------------- */

/* Some standing doors, saved; returns the file. */
static const char *save_some(struct monitor *m, size_t *n) {
    for (unsigned i = 0; i < 6; i++) {
        struct addr a = guest_addr(i % 4);

        door_open(m, &shop[i % 2], &a);
        turn(m);
        reap(m, 0, 0);
        clock_ms += 100;
    }
    turn(m);
    return get_file("k.state", n);
}

static void test_state_round_trip(void) {
    struct monitor *m = shop_open();
    char before[4096], file[4096];
    struct addr a = addr_of("192.0.2.1");
    size_t n;

    snprintf(file, sizeof(file), "%s", save_some(m, &n));
    snprintf(before, sizeof(before), "%s", openings_text(m));
    m = shop_open();
    CHECK(!m->openings);
    state_load(m);
    CHECK(!strcmp(openings_text(m), before), "%s is not %s", openings_text(m),
          before);
    CHECK(count_text("left open by an earlier run\n") == 6, "%s", kept);
    CHECK(!strcmp(get_file("k.state", NULL), file));
    CHECK(faccessat(directory_fd, "k.state.new", F_OK, 0));
    /* one that starts counts from now; one that waits is not there */
    m = shop_open();
    unlinkat(directory_fd, "k.state", 0);
    state_load(m);
    door_open(m, &shop[0], &a);
    turn(m);
    door_open(m, &shop[1], &a);
    turn(m);
    CHECK(strstr(get_file("k.state", NULL), "192.0.2.1 a\n") &&
          !strstr(get_file("k.state", NULL), "192.0.2.1 b"));
    m = shop_open();
    state_load(m);
    CHECK(m->openings && !m->openings->next && /* it may still run */
          m->openings->when == clock_ms + 5000 + ORPHAN_MS);
    /* a time that is past is now; one of an earlier boot may be far off */
    for (int past = 0; past < 2; past++) {
        snprintf(file, sizeof(file),
                 STATE_HEAD "open 5 %lld "
                            "192.0.2.1 a\nstop x y\n",
                 (long long)clock_ms + (past ? -1 : 99999999));
        sprintf(file + strlen(file), "sum %016llx\n",
                (unsigned long long)checksum(file, strlen(file)));
        m = shop_open();
        put_text("k.state", file);
        state_load(m);
        CHECK(m->openings &&
              m->openings->when ==
                  (past ? clock_ms - 1 : clock_ms + 5000 + ORPHAN_MS));
    }
    turn(m);
    CHECK(ncommands == 1 && !strcmp(command_text(0), "x y"));
    monitor_end();
}

/* Loads a file that may be damaged: it is refused, put aside and nothing in it
 * is run, or nothing about it has changed. */
static bool refused_or_same(const char *file, size_t n, const char *same) {
    struct monitor *m;

    unlinkat(directory_fd, "k.state.refused", 0);
    m = shop_open();
    put_file("k.state", file, n);
    state_load(m);
    if (!strcmp(openings_text(m), same)) return true;
    return !m->openings && has_text("state file refused: k.state: damaged") &&
           !faccessat(directory_fd, "k.state.refused", F_OK, 0);
}

static void test_state_damage(void) {
    static const int changes[] = { 1, 2, 4, 8, 32, 128, 255 };
    struct monitor *m = shop_open();
    char file[4096], text[4096], before[4096];
    unsigned same = 0;
    size_t n;

    memcpy(file, save_some(m, &n), 4096);
    snprintf(before, sizeof(before), "%s", openings_text(m));
    CHECK(n > 200 && n < 2000);
    for (size_t at = 0; at < n; at++)
        for (unsigned k = 0; k < 7; k++) {
            memcpy(text, file, n);
            text[at] = (char)(text[at] ^ changes[k]);
            CHECK(refused_or_same(text, n, before), "byte %zu", at);
            same += monitor.openings != NULL;
        }
    CHECK(same < 7 * 17, "%u", same); /* only in the sum's own text */
    for (size_t size = 0; size < n; size++)
        CHECK(refused_or_same(file, size, before) && !monitor.openings,
              "cut to %zu", size);
    for (unsigned i = 0; i < 300; i++) {
        size_t at = rnd((unsigned)n), more = rnd(40);

        memcpy(text, file, n);
        memmove(text + at + more, text + at, n - at);
        for (size_t k = 0; k < more; k++) text[at + k] = (char)rnd(256);
        CHECK(refused_or_same(text, n + more, before));
    }
    monitor_end();
}

/* Well summed, but not what a state file holds. */
static void test_state_content(void) {
    static const char *const bad[] = {
        "open 5 1 192.0.2.1 a\n",
        "open 5 1 192.0.2.1 a\nstart x\n",
        "open 5 1 192.0.2.1\nstop x\n",
        "open 5 1 host a\nstop x\n",
        "open x 1 192.0.2.1 a\nstop x\n",
        "open\nstop x\n",
        "open 5\n",
        "close 5 1 192.0.2.1 a\nstop x\n",
        "stop x\n",
        "x\n",
        "open 5 1 192.0.2.1 a\nstop x\nopen 5 1\nstop x\n",
        "open 99999999999 1 192.0.2.1 a\nstop x\n",
        "open -1 1 192.0.2.1 a\nstop x\n",
    };
    static char file[4096], name[300];
    struct monitor *m = shop_open();

    for (unsigned i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
        snprintf(file, sizeof(file), STATE_HEAD "%s", i ? bad[i - 1] : "");
        sprintf(file + strlen(file), "sum %016llx\n",
                (unsigned long long)checksum(file, strlen(file)));
        m = shop_open();
        put_text("k.state", file);
        state_load(m);
        CHECK(!m->openings && has_text("refused") == (i > 0), "%s: %s", file,
              kept);
    }
    memset(name, 'n', 128);
    snprintf(file, sizeof(file), STATE_HEAD "open 5 1 ::1 %s\nstop x\n", name);
    sprintf(file + strlen(file), "sum %016llx\n",
            (unsigned long long)checksum(file, strlen(file)));
    m = shop_open();
    put_text("k.state", file);
    state_load(m);
    CHECK(!m->openings && has_text("refused"));
    monitor_end();
}

/* A stop command that is empty is no stop: nothing is run for it. */
static void test_state_empty_stop(void) {
    char file[256] = STATE_HEAD "open 5 1 192.0.2.1 a\nstop \n";
    struct monitor *m = shop_open();

    sprintf(file + strlen(file), "sum %016llx\n",
            (unsigned long long)checksum(file, strlen(file)));
    put_text("k.state", file);
    state_load(m);
    for (const struct opening *o = m->openings; o; o = o->next)
        CHECK(o->stop && *o->stop);
    monitor_end();
}

/* Files that are not ours alone, and places where nothing can be written. */
static void test_state_places(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");
    char file[4096];
    size_t n;
    int fd;

    memcpy(file, save_some(m, &n), 4096);
    for (unsigned i = 0; i < 4; i++) {
        m = shop_open();
        unlinkat(directory_fd, "k.state", 0);
        put_file("other", file, n);
        if (i == 0) /* a link */
            CHECK(!symlinkat("other", directory_fd, "k.state"));
        else if (i == 1) CHECK(!mkdirat(directory_fd, "k.state", 0700));
        else if (i == 2) CHECK(!mkfifoat(directory_fd, "k.state", 0600));
        else put_file("k.state", file, n);
        if (i == 3) CHECK(!fchmodat(directory_fd, "k.state", 0620, 0));
        state_load(m);
        CHECK(!m->openings && has_text("state file refused: k.state: "),
              "%u: %s", i, kept);
        CHECK(!strncmp(get_file("k.state", NULL), STATE_HEAD, 15));
        if (i == 1) unlinkat(directory_fd, "k.state.refused", AT_REMOVEDIR);
        unlinkat(directory_fd, "k.state.refused", 0);
    }
    /* another knockd has it */
    m = shop_open();
    put_file("k.state", file, n);
    fd = openat(directory_fd, "k.state", O_RDONLY);
    CHECK(!flock(fd, LOCK_EX));
    state_load(m);
    CHECK(!m->openings && !m->state && has_text("another knockd uses k.state"));
    close(fd);
    door_open(m, &shop[0], &a); /* works without */
    turn(m);
    CHECK(ncommands == 1);
    /* nothing can be written: said once, doors work */
    for (unsigned i = 0; i < 3; i++) {
        static const int calls[] = { FAULT_open, FAULT_write, FAULT_rename };

        m = shop_open();
        unlinkat(directory_fd, "k.state", 0);
        state_load(m);
        CHECK(!*kept, "%s", kept);
        fail(calls[i], 1, ENOSPC);
        faults[calls[i]].always = true;
        door_open(m, &shop[0], &a);
        turn(m);
        reap(m, 0, 0);
        CHECK(count_text("could not write k.state: No space left") == 1, "%s",
              kept);
        CHECK(ncommands == 1);
        CHECK(faccessat(directory_fd, "k.state.new", F_OK, 0));
        faults[calls[i]].n = 0;
        turn(m); /* tried again by itself, each second */
        clock_ms += poll_timeout;
        turn(m);
        CHECK(strstr(get_file("k.state", NULL), "stop stop a 192.0.2.1"));
        clock_ms += 5000;
        turn(m);
        CHECK(ncommands == 2 && !strcmp(command_text(0), "stop a 192.0.2.1"));
        reap(m, 0, 0);
    }
    unlinkat(directory_fd, "other", 0);
    monitor_end();
}

static void test_state_path(void) {
    static const char *const cases[][2] = {
        { "/var/run/knockd.pid", "/run/knockd.state" },
        { "/run/k.pid", "/run/k.state" },
        { "k", "k.state" },
        { ".pid", ".pid.state" },
        { "x.pid.d", "x.pid.d.state" },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *path = state_path(cases[i][0]);

        CHECK(!strcmp(path, cases[i][1]), "%s", path);
        free(path);
    }
}
