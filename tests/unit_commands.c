/* Unit tests of openings and their commands; part of unit.c. */

/* ---- The monitor: commands --------------------------------------------- */

/* Commands that were started: the test ends them when it likes. */
static struct command {
    pid_t pid;
    char path[64], text[512], ip[64], door[160], event[16];
} commands[8192];
static unsigned ncommands;
static pid_t last_pid = 10000;
static struct {
    pid_t pid;
    int number;
} killed;

static void kill_note(pid_t pid, int number) {
    killed.pid = pid;
    killed.number = number;
}

static void from_environment(char *to, size_t n, char *const *env,
                             const char *name) {
    size_t length = strlen(name);

    *to = '\0';
    for (; *env; env++)
        if (!strncmp(*env, name, length) && (*env)[length] == '=')
            snprintf(to, n, "%s", *env + length + 1);
}

static pid_t spawn_note(const char *path, char *const *argv, char *const *env) {
    struct command *c = &commands[ncommands++ % 8192];
    bool shell = !strcmp(path, "/bin/sh") && !strcmp(argv[1], "-c");
    size_t n = 0;

    c->pid = ++last_pid;
    snprintf(c->path, sizeof(c->path), "%s", path);
    *c->text = '\0';
    if (shell) snprintf(c->text, sizeof(c->text), "%s", argv[2]);
    for (; !shell && *argv; argv++)
        n += (size_t)snprintf(c->text + n, sizeof(c->text) - n, "%s%s",
                              n ? " " : "", *argv);
    from_environment(c->ip, sizeof(c->ip), env, "KNOCKD_IP");
    from_environment(c->door, sizeof(c->door), env, "KNOCKD_DOOR");
    from_environment(c->event, sizeof(c->event), env, "KNOCKD_EVENT");
    return c->pid;
}

static struct monitor monitor;

/* A monitor without a sniffer, its state in a file of ours. */
static struct monitor *monitor_new(struct conf *c) {
    struct monitor *m = &monitor;

    while (m->openings) opening_move(m, m->openings, GONE);
    if (m->state) close(m->state_fd);
    free(m->state);
    memset(m, 0, sizeof(*m));
    m->conf = *c;
    m->most_outputs = OUTPUTS_MAX;
    m->cwd = directory_fd;
    m->state = strdup("k.state");
    m->state_fd = m->channel = m->ready_fd = m->netlink = m->signals = -1;
    m->sniffer = 99;
    m->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->packets = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->renew_at = INT64_MAX;
    settings = (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    settings.config = "conf";
    posix_spawnattr_init(&m->attr);
    out.started = true;
    out.detached = false;
    ncommands = 0;
    forget();
    faults[FAULT_pipe2].always = true; /* no output is looked at */
    fail(FAULT_pipe2, 1, EMFILE);
    faults[FAULT_pipe2].always = true;
    return m;
}

static void monitor_end(void) {
    close(monitor.null);
    close(monitor.packets);
    unlinkat(directory_fd, "k.state", 0);
    unlinkat(directory_fd, "k.state.refused", 0);
    faults[FAULT_pipe2].n = 0;
    out.started = false;
    poll_result = 0;
}

/* How many starts have not yet been chosen. */
static unsigned waiting_starts(const struct monitor *m) {
    unsigned n = 0;

    for (const struct opening *o = m->openings; o; o = o->next)
        n += !o->on_record;
    return n;
}

/* The text of the n-th command from the last; "" if there is none. */
static const char *command_text(unsigned n) {
    return n < ncommands ? commands[(ncommands - 1 - n) % 8192].text : "";
}

static struct door shop[4];
static struct conf shop_conf = { .doors = shop, .ndoors = 4, .listen = "any" };

/* Four doors: with a stop, with a slow one, without one, of two families. */
static struct monitor *shop_open(void) {
    for (unsigned i = 0; i < 4; i++)
        shop[i] = (struct door){ .seq = { { 1 }, 1 } };
    shop[0].name = "a";
    shop[0].start = "start a %IP%";
    shop[0].stop = "stop a %IP%";
    shop[0].cmd_timeout = 5;
    shop[1].name = "b b"; /* names may have blanks */
    shop[1].start = "start b %IP%";
    shop[1].stop = "stop b %IP%";
    shop[1].cmd_timeout = 30;
    shop[2].name = "c";
    shop[2].start = "start c %IP%";
    shop[2].cmd_timeout = 10;
    shop[3].name = "d";
    shop[3].start = "start d4 %IP%";
    shop[3].stop = "";
    shop[3].start6 = "start d %IP%";
    shop[3].stop6 = "stop d %IP%";
    shop[3].message = "HELLO";
    shop[3].cmd_timeout = 0;
    return monitor_new(&shop_conf);
}

static void reap(struct monitor *m, unsigned n, int status) {
    command_reap(m, commands[(ncommands - 1 - n) % 8192].pid, status);
}

/* One door, one address, from the knock to the end. */
static void test_opening(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1"), six = addr_of("2001:db8::1");
    int64_t start = clock_ms;

    door_open(m, &shop[0], &a);
    CHECK(has_text("192.0.2.1: a: OPEN SESAME\n") && !ncommands);
    turn(m);
    CHECK(ncommands == 1 && !strcmp(command_text(0), "start a 192.0.2.1"));
    CHECK(has_text("a: running command: start a 192.0.2.1\n"));
    CHECK(!strcmp(commands->ip, "192.0.2.1") && !strcmp(commands->door, "a") &&
          !strcmp(commands->event, "start"));
    CHECK(strstr(get_file("k.state", NULL), "stop stop a 192.0.2.1\n"));
    CHECK(poll_timeout == -1);
    clock_ms += 700; /* a slow one: the time begins at its end */
    forget();
    reap(m, 0, 3 << 8);
    CHECK(has_text("a: command returned non-zero status code (3)\n"));
    turn(m);
    CHECK(poll_timeout == 5000 && m->running == 0);
    clock_ms = start + 700 + 4999;
    turn(m);
    CHECK(ncommands == 1 && poll_timeout == 1);
    clock_ms++;
    turn(m);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    CHECK(!strcmp(commands[1].event, "stop"));
    CHECK(has_text("192.0.2.1: a: command timeout\n") &&
          has_text("a: running command: stop a 192.0.2.1\n"));
    CHECK(strstr(get_file("k.state", NULL), "stop stop a 192.0.2.1\n"));
    reap(m, 0, 9);
    CHECK(has_text("a: command killed by signal 9\n") &&
          !has_text("CLOSE SESAME")); /* who knows */
    CHECK(!m->openings);
    turn(m);
    CHECK(!strstr(get_file("k.state", NULL), "open"));
    /* IPv6: commands of its own; a stop at once */
    forget();
    door_open(m, &shop[3], &six);
    CHECK(has_text("2001:db8::1: d: HELLO\n"));
    turn(m);
    CHECK(!strcmp(command_text(0), "start d 2001:db8::1"));
    reap(m, 0, 0);
    turn(m);
    CHECK(!strcmp(command_text(0), "stop d 2001:db8::1"));
    reap(m, 0, 0);
    /* an empty stop command is none, an empty start command nothing */
    door_open(m, &shop[3], &a);
    turn(m);
    CHECK(!strcmp(command_text(0), "start d4 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->openings);
    shop[3].start6 = "";
    door_open(m, &shop[3], &six);
    turn(m);
    CHECK(ncommands == 5 && !m->openings);
    monitor_end();
}

/* A knock while the door is open: started again, the time begins anew, each
 * start gets its stop. */
static void test_prolonging(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    for (unsigned i = 0; i < 3; i++) {
        door_open(m, &shop[0], &a);
        turn(m);
        reap(m, 0, 0);
        turn(m);
        clock_ms += 4000;
    }
    CHECK(ncommands == 3 && poll_timeout == 5000);
    turn(m);
    CHECK(ncommands == 3);
    clock_ms += 1000;
    for (unsigned i = 0; i < 3; i++) {
        turn(m); /* one after the other */
        CHECK(ncommands == 4 + i && m->running == 1);
        CHECK(!strcmp(command_text(0), "stop a 192.0.2.1"));
        reap(m, 0, 0);
    }
    CHECK(!m->openings);
    monitor_end();
}

/* What is being opened once more does not close meanwhile, not even when its
 * start takes long or waits; then the time begins anew for all of it. */
static void test_renewal(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0);
    turn(m);
    clock_ms += 4000;
    door_open(m, &shop[2], &a); /* another door's command, for long */
    turn(m);
    door_open(m, &shop[0], &a); /* waits for it */
    clock_ms += 10000;
    turn(m);
    CHECK(ncommands == 2);
    reap(m, 0, 0);
    turn(m);
    CHECK(ncommands == 3 && !strncmp(command_text(0), "start a ", 8));
    clock_ms += 10000;
    turn(m);
    reap(m, 0, 0);
    turn(m);
    clock_ms += 4999;
    turn(m);
    CHECK(ncommands == 3);
    clock_ms += 1;
    for (unsigned i = 0; i < 2; i++) {
        turn(m);
        CHECK(ncommands == 4 + i && !strncmp(command_text(0), "stop a ", 7));
        reap(m, 0, 0);
    }
    CHECK(!m->openings);
    monitor_end();
}

/* A standing door wakes the monitor in time, whatever else its address does. */
static void test_wake(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    door_open(m, &shop[0], &a);
    turn(m);
    door_open(m, &shop[2], &a); /* waits for the first */
    turn(m);
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    turn(m);
    CHECK(ncommands == 2);
    CHECK(poll_timeout == 5000, "%d", poll_timeout);
    reap(m, 0, 0);
    turn(m);
    CHECK(poll_timeout == 5000, "%d", poll_timeout);
    clock_ms += 5000;
    turn(m);
    CHECK(!strcmp(command_text(0), "stop a 192.0.2.1"));
    monitor_end();
}

/* No process to be had, or no program. */
static void test_spawn_failures(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");

    door_open(m, &shop[0], &a);
    fail(FAULT_spawn, 1, EAGAIN);
    turn(m);
    CHECK(has_text(
        "a: could not run the command: Resource temporarily unavailable"));
    CHECK(!ncommands && poll_timeout == 0 && waiting_starts(m) == 1 &&
          !m->running);
    turn(m);
    CHECK(!ncommands && poll_timeout == 1000);
    CHECK(!strstr(get_file("k.state", NULL), "open")); /* nothing is */
    clock_ms += 1000;
    turn(m);
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    clock_ms += 5000;
    fail(FAULT_spawn, 1, ENOMEM); /* a stop is tried again until it runs */
    turn(m);
    CHECK(ncommands == 1 && poll_timeout == 0);
    turn(m);
    CHECK(ncommands == 1 && poll_timeout == 1000);
    clock_ms += 1000;
    turn(m);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->openings);
    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0);
    clock_ms += 5000;
    fail(FAULT_spawn, 1, EPERM); /* whatever it was: less often */
    turn(m);
    CHECK(m->openings && ncommands == 3);
    CHECK(poll_timeout == 0); /* whom it was in the way of may go on */
    turn(m);
    CHECK(ncommands == 3 && poll_timeout == RETRY_STOP_MS);
    clock_ms += RETRY_STOP_MS;
    turn(m);
    CHECK(ncommands == 4 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->openings);
    /* at the daemon's end as well, in its place */
    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0);
    m->ending = true;
    fail(FAULT_spawn, 1, EPERM);
    turn(m);
    turn(m);
    CHECK(ncommands == 5 && poll_timeout == RETRY_MS);
    clock_ms += RETRY_MS;
    turn(m);
    CHECK(ncommands == 6 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->openings);
    m->ending = false;
    /* E2BIG: neither later nor by a shell; the stop comes all the same */
    forget();
    door_open(m, &shop[0], &b);
    fail(FAULT_spawn, 1, E2BIG);
    turn(m);
    CHECK(has_text("a: could not run the command: Argument list too long"));
    CHECK(m->openings && m->openings->state == STANDING);
    turn(m);
    CHECK(strstr(get_file("k.state", NULL), "stop stop a 192.0.2.2"));
    clock_ms += 5000;
    turn(m);
    CHECK(!strcmp(command_text(0), "stop a 192.0.2.2"));
    reap(m, 0, 0);
    CHECK(!m->openings && !m->running);
    monitor_end();
}

/* Hanging commands: so many at once, so many wait, the rest is refused; stops
 * are not. */
static void test_queue(void) {
    struct monitor *m = shop_open();
    struct addr a;
    unsigned started_so_far;

    a = addr_of("192.0.2.1");
    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0); /* one stands open */
    forget();
    for (uint32_t i = 0; i < 5000; i++) {
        a = numbered(i);
        door_open(m, &shop[2], &a);
        if (i % 4 == 0) turn(m);
        if (kept_length > 50000) forget();
    }
    forget();
    turn(m);
    CHECK(m->running == STARTS_MAX);
    CHECK(waiting_starts(m) == QUEUE_MAX, "%u", waiting_starts(m));
    a = addr_of("192.0.2.9");
    door_open(m, &shop[0], &a);
    CHECK(has_text("192.0.2.9: a: refused: 4096 commands wait, "), "%s", kept);
    started_so_far = ncommands;
    clock_ms += 5000; /* the stop is due: there is a place for it */
    turn(m);
    CHECK(ncommands == started_so_far + 1 &&
          !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    turn(m);
    CHECK(ncommands == started_so_far + 1);
    reap(m, 1, 0);
    turn(m);
    CHECK(m->running == STARTS_MAX && ncommands == started_so_far + 2);
    for (unsigned i = 0; m->running && i < 10000; i++) {
        command_reap(m, commands[i].pid, 0);
        forget();
        turn(m);
    }
    CHECK(!m->running && !waiting_starts(m));
    CHECK(ncommands >= 2 + STARTS_MAX + QUEUE_MAX);
    monitor_end();
}

/* What is open, as text. */
static const char *openings_text(const struct monitor *m) {
    static char text[4096];
    size_t n = 0;

    *text = '\0';
    for (const struct opening *o = m->openings; o; o = o->next)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "%d %s %s '%s' %u %lld;", o->state, o->ip,
                              o->door, o->stop ? o->stop : "-", o->timeout,
                              (long long)(o->when - clock_ms));
    return text;
}

/* The rules of a firewall: how often each door stands open for each address;
 * and what has not yet had its end. */
enum { GUESTS = 4 };
static struct model {
    int rules[4][GUESTS];
    struct {
        enum { QUEUED, RUNS, OPEN_, CLOSES } state;
        bool stop; /* the command that is queued or runs */
        unsigned door, guest;
        int64_t due, again;
        pid_t pid;
    } item[512];
    unsigned n;
} model;

/* Puts an item behind all others. */
static void model_last(unsigned i) {
    __typeof__(*model.item) moved = model.item[i];

    memmove(&model.item[i], &model.item[i + 1],
            (--model.n - i) * sizeof(moved));
    model.item[model.n++] = moved;
}

static void model_remove(unsigned i) {
    memmove(&model.item[i], &model.item[i + 1],
            (--model.n - i) * sizeof(*model.item));
}

static bool has_stop(unsigned door, unsigned guest) {
    return door < 2 || (door == 3 && guest % 2);
}

static void model_prolong(unsigned door, unsigned guest) {
    for (unsigned i = 0; i < model.n; i++)
        if (model.item[i].state == OPEN_ && model.item[i].door == door &&
            model.item[i].guest == guest)
            model.item[i].due =
                clock_ms + (int64_t)shop[door].cmd_timeout * 1000;
}

/* Is the door about to be opened for this guest once more? */
static bool model_renewed(unsigned i) {
    for (unsigned k = 0; k < model.n; k++)
        if (model.item[k].state != OPEN_ && !model.item[k].stop &&
            model.item[k].door == model.item[i].door &&
            model.item[k].guest == model.item[i].guest)
            return true;
    return false;
}

/* What is due becomes queued, behind the rest; at the end everything does. */
static void model_due(bool ending) {
    for (unsigned i = 0, n = model.n; i < n; i++) {
        if (model.item[i].state != OPEN_ ||
            (!ending && (model.item[i].due > clock_ms || model_renewed(i))))
            continue;
        model.item[i].state = QUEUED;
        model.item[i].stop = true;
        model.item[i].again = 0;
        model_last(i--);
        n--;
    }
}

/* May the item's command run: is it the first that its guest waits for? */
static bool model_may(unsigned i) {
    if (model.item[i].state != QUEUED || model.item[i].again > clock_ms)
        return false;
    for (unsigned k = 0; k < i; k++)
        if (model.item[k].guest == model.item[i].guest &&
            model.item[k].state != OPEN_)
            return false;
    return true;
}

/* The end of a command: what it does to the firewall and what comes next. */
static void model_end(unsigned i) {
    unsigned door = model.item[i].door, guest = model.item[i].guest;
    int *rules = &model.rules[door][guest];

    *rules += model.item[i].stop ? (*rules > 0 ? -1 : 0) : 1;
    if (model.item[i].stop || !has_stop(door, guest)) {
        model_remove(i);
        return;
    }
    model.item[i].state = OPEN_;
    model_last(i);
    model_prolong(door, guest);
}

static struct addr guest_addr(unsigned guest) {
    return addr_of(guest == 0   ? "192.0.2.1"
                   : guest == 1 ? "2001:db8::1"
                   : guest == 2 ? "192.0.2.2"
                                : "2001:db8::2");
}

static void model_command(char *text, size_t n, unsigned door, unsigned guest,
                          bool stop) {
    char ip[ADDR_TEXT];
    struct addr a = guest_addr(guest);

    snprintf(text, n, "%s %c%s %s", stop ? "stop" : "start", "abcd"[door],
             door == 3 && guest % 2 == 0 ? "4" : "", addr_text(&a, ip));
}

/* Does the state file list all that has a rule, or may get one? */
static bool on_record(void) {
    static char text[1 << 16];
    unsigned lines = 0, items = 0;

    snprintf(text, sizeof(text), "%s", get_file("k.state", NULL));
    for (const char *p = text; (p = strstr(p, "\nstop ")); p++) lines++;
    for (unsigned i = 0; i < model.n; i++) {
        char want[128] = "\nstop ", all[] = "\n";
        const char *p = text;
        unsigned listed = 0, needed = 0;

        if (!has_stop(model.item[i].door, model.item[i].guest) ||
            (model.item[i].state == QUEUED && !model.item[i].stop))
            continue;
        items++;
        model_command(want + 6, sizeof(want) - 7, model.item[i].door,
                      model.item[i].guest, true);
        strcat(want, all);
        for (; (p = strstr(p, want)); p++) listed++;
        for (unsigned k = 0; k < model.n; k++)
            needed += model.item[k].door == model.item[i].door &&
                      model.item[k].guest == model.item[i].guest &&
                      (model.item[k].state != QUEUED || model.item[k].stop);
        if (listed < needed) return false;
    }
    return lines >= items;
}

/* The turns of both at this time: the same commands start. A start that can't
 * is tried again before anything else of its guest's, a stop after it. */
static void model_turn(struct monitor *m, unsigned round) {
    unsigned before = ncommands, started_now = 0, turns = 0;
    int64_t wake = INT64_MAX;
    char text[128], failure[300];
    bool failed = false;

    forget();
    do turn(m);
    while (poll_timeout == 0 && turns++ < 3);
    CHECK(turns < 3, "round %u: does not sleep", round);
    model_due(m->ending);
    for (unsigned i = 0; i < model.n; i++) {
        if (!model_may(i)) continue;
        model_command(text, sizeof(text), model.item[i].door,
                      model.item[i].guest, model.item[i].stop);
        snprintf(failure, sizeof(failure), "command: %s\n%s: could not", text,
                 shop[model.item[i].door].name);
        bool fails_now = !failed && has_text(failure);

        failed |= fails_now;
        for (unsigned k = before; k < ncommands && !fails_now; k++)
            if (!model.item[i].pid && !strcmp(commands[k % 8192].text, text)) {
                model.item[i].pid = commands[k % 8192].pid;
                model.item[i].state = RUNS;
                started_now++;
                break;
            }
        CHECK(model.item[i].pid || fails_now, "round %u: '%s' does not run",
              round, text);
        if (model.item[i].pid) continue;
        model.item[i].again = clock_ms + RETRY_MS;
        if (!model.item[i].stop) continue;
        model.item[i].state = OPEN_;
        model.item[i].stop = false;
        model.item[i].due = clock_ms + RETRY_MS;
        model_last(i--);
    }
    CHECK(started_now == ncommands - before, "round %u: %u started, not %u",
          round, ncommands - before, started_now);
    for (unsigned i = 0; i < model.n; i++)
        if (model.item[i].state == OPEN_ && !model_renewed(i))
            wake = min_ms(wake, model.item[i].due);
    CHECK(wake == INT64_MAX ||
              (poll_timeout >= 0 && poll_timeout <= wake - clock_ms),
          "round %u: sleeps %d, not %d", round, poll_timeout,
          (int)(wake - clock_ms));
    CHECK(on_record(), "round %u: %s", round, get_file("k.state", NULL));
}

static void model_reap(struct monitor *m, unsigned i) {
    int status = one_in(3) ? (int)rnd(3) << 8 : one_in(9) ? 15 : 0;

    command_reap(m, model.item[i].pid, status);
    model.item[i].pid = 0;
    model_end(i);
}

/* SIGKILL: the commands that run end by themselves, the next monitor knows
 * what the file says. */
static struct monitor *model_crash(void) {
    struct monitor *m;

    for (unsigned i = model.n; i--;) {
        unsigned door = model.item[i].door, guest = model.item[i].guest;

        if (model.item[i].state == RUNS && model.item[i].stop) {
            if (one_in(2) && model.rules[door][guest])
                model.rules[door][guest]--;
        } else if (model.item[i].state == RUNS) {
            model.rules[door][guest]++;
        }
        if (!has_stop(door, guest) ||
            (model.item[i].state == QUEUED && !model.item[i].stop)) {
            model_remove(i);
            continue;
        }
        model.item[i].state = OPEN_;
        model.item[i].pid = 0;
    }
    m = &monitor;
    while (m->openings) { /* forgotten */
        struct opening *o = m->openings;

        m->openings = o->next;
        free(o->door);
        free(o->start);
        free(o->stop);
        free(o);
    }
    close(m->null);
    m = monitor_new(&shop_conf);
    state_load(m);
    /* the deadlines of the file: none later than a whole time from now */
    model.n = 0;
    for (struct opening *o = m->openings; o; o = o->next) {
        unsigned door = 0, guest = 0;

        while (door < 3 && strcmp(shop[door].name, o->door) != 0) door++;
        while (guest < 3) {
            struct addr a = guest_addr(guest);
            char ip[ADDR_TEXT];

            if (!strcmp(addr_text(&a, ip), o->ip)) break;
            guest++;
        }
        CHECK(o->state == STANDING &&
              o->when <= clock_ms + (int64_t)shop[door].cmd_timeout * 1000 +
                             ORPHAN_MS);
        model.item[model.n].state = OPEN_;
        model.item[model.n].stop = false;
        model.item[model.n].door = door;
        model.item[model.n].guest = guest;
        model.item[model.n].pid = 0;
        model.item[model.n].again = 0;
        model.item[model.n++].due = o->when;
    }
    return m;
}

/* Is there an item behind each rule that a stop command would take away? */
static bool all_rules_known(void) {
    for (unsigned door = 0; door < 4; door++)
        for (unsigned guest = 0; guest < GUESTS; guest++) {
            int known = 0;

            for (unsigned i = 0; i < model.n; i++)
                known +=
                    model.item[i].door == door && model.item[i].guest == guest;
            if (has_stop(door, guest) && known < model.rules[door][guest])
                return false;
        }
    return true;
}

/* Random knocks, ends of commands, failures, crashes and time, against a
 * model: the same commands in the same order, no rule left at the end. */
static void test_openings_at_random(void) {
    for (unsigned round = 0; round < times(400, 10000); round++) {
        struct monitor *m = shop_open();

        memset(&model, 0, sizeof(model));
        for (unsigned step = 0; step < 60; step++) {
            unsigned what = rnd(20), i = rnd(model.n);

            if (what < 7 && model.n < 400) {
                struct addr a = guest_addr(i = rnd(GUESTS));
                unsigned d = rnd(4);

                door_open(m, &shop[d], &a);
                memset(&model.item[model.n], 0, sizeof(*model.item));
                model.item[model.n].door = d;
                model.item[model.n++].guest = i;
            } else if (what < 14 && model.n && model.item[i].state == RUNS) {
                model_reap(m, i);
            } else if (what < 17) {
                clock_ms += one_in(2) ? rnd(8000) : rnd(40000);
            } else if (what == 17) {
                fail(FAULT_spawn, 1, one_in(2) ? EAGAIN : ENOMEM);
            } else if (what == 18 && one_in(4)) {
                m = model_crash();
                CHECK(all_rules_known(), "round %u", round);
            }
            model_turn(m, round);
        }
        fail(FAULT_spawn, 0, 0);
        m->ending = true;
        for (unsigned i = model.n; i--;) /* starts that wait are left */
            if (model.item[i].state == QUEUED && !model.item[i].stop)
                model_remove(i);
        for (unsigned k = 0; m->openings && k < 2000; k++) {
            model_turn(m, round);
            for (unsigned i = 0; i < model.n; i++)
                if (model.item[i].state == RUNS) {
                    model_reap(m, i);
                    break;
                }
            clock_ms += 100;
        }
        CHECK(!m->openings && !model.n && !m->running, "round %u: %s, %u",
              round, openings_text(m), model.n);
        for (unsigned d = 0; d < 4; d++)
            for (unsigned g = 0; g < GUESTS; g++)
                CHECK(!has_stop(d, g) || !model.rules[d][g],
                      "round %u: door %u stays open", round, d);
        monitor_end();
        if (bad_checks) break;
    }
}

/* Which commands need a shell, and which program is started. */
static void test_shell(void) {
    static const struct {
        const char *command;
        bool shell;
    } cases[] = {
        { "/sbin/iptables -I INPUT -s 1.2.3.4 -j ACCEPT", false },
        { "true", false },
        { "  a   b\tc ", false },
        { "a -x=y", false },
        { "a b=c", false },
        { "a=b", true },
        { "A=1 b", true },
        { "nft add element inet f s { 1.2.3.4 }", false },
        { "nft add element inet f s { 1.2.3.4 timeout 1h }", false },
        { "iptables ! -s 1.2.3.4", false },
        { "! true", true },
        { "a {b", true },
        { "a b}", true },
        { "a {}", true },
        { "a !b", true },
        { "{ a; }", true },
        { "a %b 1:2,3@4+5^6", false },
        { "a|b", true },
        { "a & b", true },
        { "a;b", true },
        { "a<b", true },
        { "a>b", true },
        { "(a)", true },
        { "a $b", true },
        { "a `b`", true },
        { "a\\b", true },
        { "a \"b\"", true },
        { "a 'b'", true },
        { "a *", true },
        { "a ?", true },
        { "a [b]", true },
        { "a # b", true },
        { "a ~", true },
        { "\xc3\xa4", false },
    };
    static const struct {
        const char *command;
        int first, second; /* errors of the two attempts */
        int result;
        const char *path, *text;
    } runs[] = {
        { "a b", 0, 0, 0, "a", "a b" },
        { "a;b", 0, 0, 0, "/bin/sh", "a;b" },
        { "  a   b\tc ", 0, 0, 0, "a", "a b c" },
        { "", 0, 0, 0, "/bin/sh", "" },
        { "a b", ENOENT, 0, 0, "/bin/sh", "a b" },
        { "a b", ENOEXEC, 0, 0, "/bin/sh", "a b" },
        { ". b", EACCES, 0, 0, "/bin/sh", ". b" },
        { "/x/a b", ENOENT, 0, 0, "/bin/sh", "/x/a b" },
        { "/x/a b", EACCES, 0, 0, "/bin/sh", "/x/a b" },
        { "/x/a b", ENOEXEC, 0, 0, "/bin/sh", "/x/a b" },
        { "a b", EAGAIN, 0, EAGAIN, "", "" },
        { "a b", ENOENT, ENOENT, ENOENT, "", "" },
        { "a;b", EAGAIN, 0, EAGAIN, "", "" },
    };
    pid_t pid;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        CHECK(needs_shell(cases[i].command) == cases[i].shell, "'%s'",
              cases[i].command);
    for (unsigned i = 0; i < sizeof(runs) / sizeof(*runs); i++) {
        ncommands = 0;
        fail(FAULT_spawn, runs[i].first ? 1 : 0, runs[i].first);
        if (runs[i].second) faults[FAULT_spawn].always = true;
        int error = spawn((char *)runs[i].command, NULL, NULL, &pid);

        fail(FAULT_spawn, 0, 0);
        CHECK(error == runs[i].result, "'%s': %d", runs[i].command, error);
        CHECK(ncommands == (error == 0) &&
                  (error || (!strcmp(commands->path, runs[i].path) &&
                             !strcmp(commands->text, runs[i].text))),
              "'%s': %s, %s", runs[i].command, commands->path, commands->text);
    }
}

/* Nothing but an address gets into a command. */
static void test_expand(void) {
    static const char *const cases[][2] = {
        { "a %IP% b %IP%", "a 192.0.2.1 b 192.0.2.1" },
        { "", "" },
        { "%IP%", "192.0.2.1" },
        { "%%IP%%", "%192.0.2.1%" },
        { "%IP%IP%", "192.0.2.1IP%" },
        { "%ip% %IP", "%ip% %IP" },
        { "%s%n%d", "%s%n%d" },
        { "%IP%%IP%", "192.0.2.1192.0.2.1" },
    };
    static char many[40001];
    char *text, ip[ADDR_TEXT];
    struct addr a;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        text = expand(cases[i][0], "192.0.2.1");
        CHECK(!strcmp(text, cases[i][1]), "'%s'", text);
        free(text);
    }
    for (unsigned i = 0; i < 10000; i++) memcpy(many + 4 * i, "%IP%", 4);
    text = expand(many, "192.0.2.1");
    CHECK(strlen(text) == 90000);
    free(text);
    for (unsigned i = 0; i < times(20000, 1000000); i++) {
        uint64_t half[2] = { rnd64(), rnd64() };

        memcpy(&a, half, 16);
        if (one_in(3)) memset(&a, 0, rnd(16));
        text = expand("%IP%", addr_text(&a, ip));
        CHECK(strspn(text, "0123456789abcdef:.") == strlen(text) && *text,
              "'%s'", text);
        free(text);
    }
}

/* What commands print: line by line, with the door's name, bounded, without
 * control characters. */
static void test_output(void) {
    struct output o = { .door = "d" };
    int ends[2];
    char text[3000];

    out.started = true;
    if (pipe(ends)) abort();
    o.fd = ends[0];
    forget();
    CHECK(write(ends[1], "one\ntwo\n\nthr", 12) == 12);
    CHECK(output_read(&o, POLLIN) && !strcmp(kept, "d: one\nd: two\nd: \n"),
          "%s", kept);
    CHECK(write(ends[1], "ee\n\x1b[31m\r\tx\x7f\n", 13) == 13);
    CHECK(output_read(&o, POLLIN) && has_text("d: three\nd: ?[31m?\tx?\n"),
          "%s", kept);
    forget();
    memset(text, 'y', sizeof(text)); /* long lines are cut in pieces */
    CHECK(write(ends[1], text, OUTPUT_LINE_MAX * 2 + 5) > 0);
    CHECK(output_read(&o, POLLIN) && count_text("\n") == 2 &&
          kept_length == 2 * (OUTPUT_LINE_MAX + 4));
    for (unsigned i = 0; i < 100; i++) CHECK(write(ends[1], "\n", 1) == 1);
    forget();
    CHECK(output_read(&o, POLLIN));
    CHECK(count_text("\n") == 50 - 7 + 1 &&
              has_text("d: (further output is not logged)\n"),
          "%s", kept);
    CHECK(write(ends[1], "end", 3) == 3);
    close(ends[1]);
    CHECK(output_read(&o, POLLIN | POLLHUP));
    CHECK(!output_read(&o, POLLHUP)); /* nothing is left to read */
    CHECK(fcntl(ends[0], F_GETFD) < 0);
    /* the last line may have no end */
    o = (struct output){ .door = "d" };
    if (pipe(ends)) abort();
    o.fd = ends[0];
    forget();
    CHECK(write(ends[1], "end", 3) == 3);
    close(ends[1]);
    CHECK(output_read(&o, POLLIN) && !output_read(&o, POLLIN) &&
          has_text("d: end\n"));
    out.started = false;
}

/* A command's output is read by the loop, for as long as it can come. */
static struct pollfd *polled;
static nfds_t npolled;
static bool waits; /* would a read of the last one wait? */

static void poll_outputs(struct pollfd *fds, nfds_t n) {
    polled = fds;
    npolled = n;
    waits = n > 3 && !(fcntl(fds[n - 1].fd, F_GETFL) & O_NONBLOCK);
    for (nfds_t i = 3; i < n; i++) fds[i].revents = POLLIN;
}

static void test_output_in_loop(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    faults[FAULT_pipe2].n = 0;
    poll_hook = poll_outputs;
    poll_result = 1;
    door_open(m, &shop[2], &a);
    turn(m);
    CHECK(npolled == 4 && polled[3].fd >= 0 && polled[3].events == POLLIN);
    CHECK(m->noutputs == 0); /* nobody holds the other end */
    CHECK(!waits);           /* a command may read its own output before us */
    reap(m, 0, 0);
    m->noutputs = OUTPUTS_MAX; /* no place: its output is lost, not it */
    for (unsigned i = 0; i < OUTPUTS_MAX; i++) m->outputs[i].fd = -1;
    poll_hook = NULL;
    poll_result = 0;
    door_open(m, &shop[2], &a);
    turn(m);
    CHECK(ncommands == 2 && m->noutputs == OUTPUTS_MAX);
    m->noutputs = 0;
    fail(FAULT_spawn, 1, E2BIG); /* nobody holds the other end either */
    poll_hook = poll_outputs;
    poll_result = 1;
    reap(m, 0, 0);
    door_open(m, &shop[2], &a);
    turn(m);
    CHECK(npolled == 4 && !m->noutputs && !m->openings);
    poll_hook = NULL;
    poll_result = 0;
    monitor_end();
}
