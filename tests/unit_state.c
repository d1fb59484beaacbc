/* Unit tests of the state file; part of unit.c. */

/* ---- The state file ----------------------------------------------------- */

/* Some open doors, saved; returns the file. */
static const char *save_some(struct monitor *m, size_t *n) {
    unlinkat(directory_fd, "k.state", 0);
    state_load(m);
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

/* A file of version 3 from lines without sums. */
static void put_lines(const char *lines) {
    static char text[1 << 16];
    size_t n = (size_t)sprintf(text, STATE_HEAD);

    while (*lines) {
        size_t length = strcspn(lines, "\n");

        n += (size_t)sprintf(text + n, "%.*s %016llx\n", (int)length, lines,
                             (unsigned long long)checksum(lines, length));
        lines += length + 1;
    }
    put_file("k.state", text, n);
}

/* A file of version 2. */
static void put_version_2(const char *lines) {
    char text[4096];

    snprintf(text, sizeof(text), STATE_HEAD_2 "%s", lines);
    sprintf(text + strlen(text), "sum %016llx\n",
            (unsigned long long)checksum(text, strlen(text)));
    put_text("k.state", text);
}

static struct monitor *load_lines(const char *lines) {
    struct monitor *m = shop_open();

    put_lines(lines);
    state_load(m);
    return m;
}

static void test_state_round_trip(void) {
    struct monitor *m = shop_open();
    char before[4096], line[200];
    size_t n;

    /* the sums of FNV-1a (RFC 9923): those of files that other versions write */
    CHECK(checksum("", 0) == 0xcbf29ce484222325 &&
          checksum("a", 1) == 0xaf63dc4c8601ec8c &&
          checksum("foobar", 6) == 0x85944171f73967e8);
    save_some(m, &n);
    snprintf(before, sizeof(before), "%s", openings_text(m));
    m = shop_open();
    CHECK(!m->nopenings);
    state_load(m);
    CHECK(!strcmp(openings_text(m), before), "%s is not %s", openings_text(m),
          before);
    CHECK(count_text("left open by an earlier run\n") == 4, "%s", kept);
    CHECK(faccessat(directory_fd, "k.state.new", F_OK, 0));
    /* one that starts counts from now; one that waits is not there */
    m = shop_open();
    unlinkat(directory_fd, "k.state", 0);
    state_load(m);
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1");
    CHECK(strstr(get_file("k.state", NULL), " 5 1 192.0.2.1 - a ") &&
          !strstr(get_file("k.state", NULL), "192.0.2.1 - b"));
    m = shop_open();
    state_load(m);
    CHECK(m->nopenings == 1 && /* it may still run */
          m->openings[0]->when == clock_ms + 5000 + ORPHAN_MS);
    /* a time that is past is now; one of an earlier boot may be far off */
    for (int past = 0; past < 2; past++) {
        snprintf(line, sizeof(line),
                 "open %lld 5 2 192.0.2.1 anna a\nstop x y\n",
                 (long long)clock_ms + (past ? -1 : 99999999));
        m = load_lines(line);
        CHECK(m->nopenings && m->openings[0]->times == 2 &&
              !strcmp(m->openings[0]->client, "anna"));
        CHECK(m->openings[0]->when ==
              (past ? clock_ms - 1 : clock_ms + 5000 + ORPHAN_MS));
    }
    turn(m);
    CHECK(ncommands == 1 && !strcmp(command_text(0), "x y"));
    monitor_end();
}

/* Lines are appended as long as less than half of the file is gone. */
static void test_state_grows(void) {
    struct monitor *m = shop_open();
    struct stat first, now;
    unsigned replaced = 0, most = 0;
    char before[4096];

    state_load(m);
    fstatat(directory_fd, "k.state", &first, 0);
    for (unsigned i = 0; i < 2000; i++) {
        knock_at(m, &shop[i % 2], i % 3 ? "192.0.2.1" : "fd00::7");
        reap(m, 0, 0);
        if (i % 50 == 0) clock_ms += 40000;
        turn(m);
        reap_all(m, 0);
        fstatat(directory_fd, "k.state", &now, 0);
        replaced += now.st_ino != first.st_ino;
        first = now;
        if (now.st_size > most) most = (unsigned)now.st_size;
        forget();
    }
    CHECK(replaced > 2 && replaced < 200, "%u", replaced);
    CHECK(most < 40000, "%u", most);
    snprintf(before, sizeof(before), "%s", openings_text(m));
    m = shop_open();
    state_load(m);
    CHECK(!strcmp(openings_text(m), before), "%s is not %s", openings_text(m),
          before);
    /* one that somebody removes is there again with the next change */
    knock_at(m, &shop[0], "192.0.2.1");
    reap(m, 0, 0);
    unlinkat(directory_fd, "k.state", 0);
    knock_at(m, &shop[0], "192.0.2.2");
    CHECK(strstr(get_file("k.state", NULL), " 192.0.2.1 - a ") &&
          strstr(get_file("k.state", NULL), " 192.0.2.2 - a "));
    monitor_end();
}

/* What 1.0.0 wrote: equal entries are one, with the latest deadline. */
static void test_state_version_2(void) {
    struct monitor *m = shop_open();

    put_version_2("open 30 1005000 192.0.2.1 b b\nstop stop b 192.0.2.1\n"
                  "open 30 1009000 192.0.2.1 b b\nstop stop b 192.0.2.1\n"
                  "open 30 1007000 192.0.2.1 b b\nstop stop b 192.0.2.1\n"
                  "open 30 1007000 fd00::1 b b\nstop stop b fd00::1\n");
    state_load(m);
    CHECK(!strcmp(openings_text(m),
                  "4 fd00::1 - b b 'stop b fd00::1' 30 1 7000;"
                  "4 192.0.2.1 - b b 'stop b 192.0.2.1' "
                  "30 3 9000;"),
          "%s", openings_text(m));
    CHECK(!strncmp(get_file("k.state", NULL), STATE_HEAD, 15));
    command_ms = three_ms;
    pass(m, 10000);
    CHECK(!m->nopenings && ncommands == 4);
    monitor_end();
}

/* Loads a file that may be damaged: it is refused, put aside and nothing in it
 * is run, or what it says is the same. */
static bool refused_or_same(const char *file, size_t n, const char *same) {
    struct monitor *m;

    unlinkat(directory_fd, "k.state.refused", 0);
    m = shop_open();
    put_file("k.state", file, n);
    state_load(m);
    if (!strcmp(openings_text(m), same)) return true;
    return !m->nopenings &&
           has_text("state file refused: k.state: damaged") &&
           !faccessat(directory_fd, "k.state.refused", F_OK, 0);
}

/* What a file that ends after n bytes says: the lines that are whole count. */
static const char *cut_text(const char *file, size_t n) {
    struct monitor *m = shop_open();

    while (n && file[n - 1] != '\n') n--;
    put_file("k.state", file, n);
    state_load(m);
    return openings_text(m);
}

static void test_state_damage(void) {
    static const int changes[] = { 1, 2, 4, 8, 32, 128, 255 };
    struct monitor *m = shop_open();
    char file[8192], text[8192], before[4096], cut[4096];
    size_t n, last;

    memcpy(file, save_some(m, &n), 8192);
    snprintf(before, sizeof(before), "%s", openings_text(m));
    CHECK(n > 200 && n < 4000);
    for (last = n - 1; file[last - 1] != '\n';) last--;
    for (size_t at = 0; at < n; at++)
        for (unsigned k = 0; k < 7; k++) {
            memcpy(text, file, n);
            text[at] = (char)(text[at] ^ changes[k]);
            if (at == n - 1) continue; /* its end: as if it was cut off */
            CHECK(refused_or_same(text, n, before), "byte %zu ^ %d: %s", at,
                  changes[k], kept);
        }
    for (size_t size = 15; size <= n; size++) {
        snprintf(cut, sizeof(cut), "%s", cut_text(file, size));
        m = shop_open();
        put_file("k.state", file, size);
        state_load(m);
        CHECK(!has_text("refused") && !strcmp(openings_text(m), cut),
              "cut to %zu", size);
    }
    for (size_t size = 1; size < 15; size++)
        CHECK(refused_or_same(file, size, "x"), "cut to %zu", size);
    for (unsigned i = 0; i < 300; i++) {
        size_t at = rnd((unsigned)last), more = rnd(40);

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
        "open 1 5 1 192.0.2.1 - a\nstart x\n",
        "open 1 5 1 192.0.2.1 -\nstop x\n",
        "open 1 5 1 192.0.2.1\nstop x\n",
        "open 1 5 1 host - a\nstop x\n",
        "open 1 x 1 192.0.2.1 - a\nstop x\n",
        "open 1 5 0 192.0.2.1 - a\nstop x\n",
        "open\nstop x\n",
        "open 1 5\n",
        "close 1 5 1 192.0.2.1 - a\nstop x\n",
        "stop x\n",
        "x\n",
        "open 1 5 1 192.0.2.1 - a\nstop x\nstop y\n",
        "open 1 5 1 192.0.2.1 - a\nopen 1 5 1 192.0.2.1 - a\nstop x\n",
        "open 1 5 1 192.0.2.1 - a\nstop x\ngone 2\n",
        "open 1 5 1 192.0.2.1 - a\nstop x\ngone 0\n",
        "open 1 99999999999 1 192.0.2.1 - a\nstop x\n",
        "open 1 -1 1 192.0.2.1 - a\nstop x\n",
        "open 1 5 1 192.0.2.1 - a\nstop \n",
    };
    static char file[4096], name[300];
    struct monitor *m = load_lines("");

    CHECK(!m->nopenings && !has_text("refused"));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        m = load_lines(bad[i]);
        CHECK(!m->nopenings && has_text("refused"), "%s: %s", bad[i], kept);
    }
    memset(name, 'n', 128);
    snprintf(file, sizeof(file), "open 1 5 1 ::1 - %s\nstop x\n", name);
    CHECK(!load_lines(file)->nopenings && has_text("refused"));
    name[CLIENT_MAX + 1] = '\0'; /* no client has such a name */
    snprintf(file, sizeof(file), "open 1 5 1 ::1 %s a\nstop x\n", name);
    CHECK(!load_lines(file)->nopenings && has_text("refused"));
    name[CLIENT_MAX] = '\0';
    snprintf(file, sizeof(file), "open 1 5 1 ::1 %s a\nstop x\n", name);
    CHECK(load_lines(file)->nopenings == 1 && !has_text("refused"));
    m = shop_open(); /* a line that is shorter than a sum */
    put_text("k.state", STATE_HEAD "open 1 5 1 192\n");
    state_load(m);
    CHECK(!m->nopenings && has_text("refused"));
    m = shop_open();
    put_version_2("open 5 1 192.0.2.1 a\n"); /* no line of it is ever cut */
    state_load(m);
    CHECK(!m->nopenings && has_text("refused"));
    /* what is gone is gone; of two records of one opening the later holds */
    m = load_lines("open 1009000 5 3 192.0.2.1 - a\nstop x\n"
                   "open 1009000 5 1 192.0.2.2 - a\nstop x\n"
                   "open 1008000 5 2 192.0.2.1 - a\nstop x\ngone 2\n");
    CHECK(!strcmp(openings_text(m), "4 192.0.2.1 - a 'x' 5 2 8000;"), "%s",
          openings_text(m));
    monitor_end();
}

/* Files that are not ours alone, and places where nothing can be written. */
static void test_state_places(void) {
    struct monitor *m = shop_open();
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
        CHECK(!m->nopenings && has_text("state file refused: k.state: "),
              "%u: %s", i, kept);
        CHECK(!strncmp(get_file("k.state", NULL), STATE_HEAD, 15));
        if (i == 1) unlinkat(directory_fd, "k.state.refused", AT_REMOVEDIR);
        unlinkat(directory_fd, "k.state.refused", 0);
    }
    /* somebody else's, though only root could have made it */
    if (!geteuid()) {
        m = shop_open();
        unlinkat(directory_fd, "k.state", 0);
        put_file("k.state", file, n);
        CHECK(!fchownat(directory_fd, "k.state", 12345, 0, 0));
        state_load(m);
        CHECK(!m->nopenings && has_text("state file refused: k.state: not a "
                                        "regular file of this user"));
        unlinkat(directory_fd, "k.state.refused", 0);
    }
    /* one that can't be read this time may be a good one: no start */
    static const int passing[] = {
        EAGAIN, EINTR, EIO, ENOMEM, EMFILE, ENFILE
    };
    for (unsigned i = 0; i < 6; i++) {
        m = shop_open();
        unlinkat(directory_fd, "k.state", 0);
        put_file("k.state", file, n);
        fail(FAULT_read, 1, passing[i]);
        CHECK(ENDS(state_load(m)) && end_status == 1 &&
                  has_text("could not read k.state: "),
              "%s", kept);
        CHECK(faccessat(directory_fd, "k.state.refused", F_OK, 0));
    }
    /* and one that never can be is none */
    m = shop_open();
    fail(FAULT_read, 1, EINVAL);
    state_load(m);
    CHECK(!m->nopenings && has_text("state file refused: k.state: Invalid"));
    unlinkat(directory_fd, "k.state.refused", 0);
    /* nowhere to be written: said, and doors work */
    m = shop_open();
    free(m->state.path);
    m->state.path = strdup("no/such/k.state");
    state_load(m);
    CHECK(!has_text("refused") &&
          has_text("could not write no/such/k.state: No such file"));
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(ncommands == 1);
    /* another knockd has it */
    m = shop_open();
    put_file("k.state", file, n);
    fd = openat(directory_fd, "k.state", O_RDONLY);
    CHECK(!flock(fd, LOCK_EX));
    state_load(m);
    CHECK(!m->nopenings && !m->state.path &&
          has_text("another knockd uses k.state"));
    close(fd);
    knock_at(m, &shop[0], "192.0.2.1"); /* works without */
    CHECK(ncommands == 1);
    /* nothing can be written: said once, doors work */
    for (unsigned i = 0; i < 4; i++) {
        static const int calls[] = { FAULT_open, FAULT_write, FAULT_rename,
                                     FAULT_flock };

        m = shop_open();
        unlinkat(directory_fd, "k.state", 0);
        state_load(m);
        CHECK(!*kept, "%s", kept);
        if (i != 1) unlinkat(directory_fd, "k.state", 0);
        fail(calls[i], 1, ENOSPC);
        faults[calls[i]].always = true;
        knock_at(m, &shop[0], "192.0.2.1");
        reap(m, 0, 0);
        turn(m);
        CHECK(count_text("could not write k.state: No space left") == 1, "%s",
              kept);
        CHECK(ncommands == 1);
        CHECK(faccessat(directory_fd, "k.state.new", F_OK, 0));
        faults[calls[i]].n = 0;
        CHECK(poll_timeout <= 1000); /* tried again by itself */
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
    static const char *const cases[][3] = {
        { "/var/run/knockd.pid", "/run/knockd.state", "stamps" },
        { "/run/k.pid", "/run/k.state", "run-k.stamps" },
        { "//a/b/k.pid", "//a/b/k.state", "a-b-k.stamps" },
        { "/run/a-b.pid", "/run/a-b.state", "run-a%b.stamps" },
        { "/run/a/b.pid", "/run/a/b.state", "run-a-b.stamps" },
        { "k", "k.state", "k.stamps" },
        { ".pid", ".pid.state", ".pid.stamps" },
        { "x.pid.d", "x.pid.d.state", "x.pid.d.stamps" },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *path = name_after(cases[i][0], STATE_PATH, "", ".state");

        CHECK(!strcmp(path, cases[i][1]), "%s", path);
        free(path);
        path =
            name_after(cases[i][0], STAMPS_PATH, STAMPS_DIR "/", ".stamps");
        CHECK(!strncmp(path, STAMPS_DIR "/", sizeof STAMPS_DIR) &&
                  !strcmp(path + sizeof STAMPS_DIR, cases[i][2]),
              "%s", path);
        free(path);
    }
}
