/* Unit tests of openings and their commands; part of unit.c. */

/* ---- The monitor: commands ---------------------------------------------- */

/* Commands that were started: the test ends them when it likes, or pass()
 * when their time is over. */
static struct spawned {
    pid_t pid;
    char path[64], text[512], ip[64], door[160], event[16], client[64];
    bool ended;
    int64_t begun, ends;
    int status;
} commands[8192];
static unsigned ncommands;
static pid_t last_pid = 10000;
static struct {
    pid_t pid;
    int number;
} killed;

/* How long a command runs, and how it ends: see pass(). */
static int64_t (*command_ms)(const struct spawned *c);
static int (*command_status)(const struct spawned *c);

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

static pid_t spawn_note(const char *path, char *const *argv,
                        char *const *env) {
    struct spawned *c = &commands[ncommands++ % 8192];
    bool shell = !strcmp(path, "/bin/sh") && !strcmp(argv[1], "-c");
    size_t n = 0;

    c->pid = ++last_pid;
    c->ended = false;
    c->begun = clock_ms;
    snprintf(c->path, sizeof(c->path), "%s", path);
    *c->text = '\0';
    if (shell) snprintf(c->text, sizeof(c->text), "%s", argv[2]);
    for (; !shell && *argv; argv++)
        n += (size_t)snprintf(c->text + n, sizeof(c->text) - n, "%s%s",
                              n ? " " : "", *argv);
    from_environment(c->ip, sizeof(c->ip), env, "KNOCKD_IP");
    from_environment(c->door, sizeof(c->door), env, "KNOCKD_DOOR");
    from_environment(c->event, sizeof(c->event), env, "KNOCKD_EVENT");
    from_environment(c->client, sizeof(c->client), env, "KNOCKD_CLIENT");
    c->ends = clock_ms + (command_ms ? command_ms(c) : 0);
    c->status = command_status ? command_status(c) : 0;
    return c->pid;
}

/* What the loop hears of is read. */
static void poll_all(struct pollfd *fds, nfds_t n) {
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = fds[i].fd >= 0 ? POLLIN : 0;
}

static struct monitor monitor;

/* Forgets all of a monitor but what its files say. */
static void monitor_clear(struct monitor *m) {
    struct share *s;

    for (unsigned i = 0; i < m->nopenings; i++) opening_free(m->openings[i]);
    free(m->openings);
    while ((s = m->shares)) {
        m->shares = s->next;
        free(s);
    }
    free(m->state.text.b);
    if (m->state.path && m->state.fd >= 0) close(m->state.fd);
    free(m->state.path);
    free(m->stamps.text.b);
    if (m->stamps.fd > 2) close(m->stamps.fd);
    if (m->null > 2) close(m->null);
    if (m->packets > 2) close(m->packets);
    memset(m, 0, sizeof(*m));
}

/* A monitor without a sniffer, its state in a file of ours. */
static struct monitor *monitor_new(struct conf *c) {
    struct monitor *m = &monitor;

    monitor_clear(m);
    m->conf = *c;
    m->most_outputs = OUTPUTS_MAX;
    m->state.path = strdup("k.state");
    m->state.fd = m->channel = m->ready_fd = m->netlink = m->signals = -1;
    m->timer = m->sets = m->stamps.fd = -1;
    m->alarm = m->until = out.sum_up = NEVER;
    t_alarm = 0;
    m->sniffer = 99;
    m->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->packets = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->renew_at = INT64_MAX;
    settings =
        (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    settings.config = "conf";
    posix_spawnattr_init(&m->attr);
    out.started = true;
    out.detached = false;
    ncommands = 0;
    forget();
    m->most_outputs = 0; /* no output is looked at */
    return m;
}

static void monitor_end(void) {
    monitor_clear(&monitor);
    unlinkat(directory_fd, "k.state", 0);
    unlinkat(directory_fd, "k.state.refused", 0);
    out.started = false;
    command_ms = NULL;
    command_status = NULL;
    t_alarm = 0;
    poll_result = 0;
}

/* How many start commands wait. */
static unsigned waiting_starts(const struct monitor *m) {
    return m->n[QUEUED] + m->n[CROWDED];
}

/* The text of the n-th command from the last; "" if there is none. */
static const char *command_text(unsigned n) {
    return n < ncommands ? commands[(ncommands - 1 - n) % 8192].text : "";
}

/* How many of the commands begin like this. */
static unsigned count_commands(const char *text) {
    unsigned n = 0;

    for (unsigned i = ncommands; i-- && i + 8192 >= ncommands;)
        n += !strncmp(commands[i % 8192].text, text, strlen(text));
    return n;
}

static struct door shop[4];
static struct conf shop_conf = { .doors = shop,
                                 .ndoors = 4,
                                 .listen = "any" };

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

static void reap_command(struct monitor *m, struct spawned *c, int status) {
    c->ended = true;
    command_reap(m, c->pid, status);
}

static void reap(struct monitor *m, unsigned n, int status) {
    reap_command(m, &commands[(ncommands - 1 - n) % 8192], status);
}

/* Ends all commands, and those that follow, with a status for stop commands. */
static void reap_all(struct monitor *m, int stop_status) {
    unsigned n = 0;

    while (m->nchildren && n++ < 10000) {
        for (unsigned i = 0; i < ncommands && i < 8192; i++)
            if (!commands[i].ended)
                reap_command(m, &commands[i],
                             strcmp(commands[i].event, "stop") ? 0
                                                               : stop_status);
        turn(m);
    }
    CHECK(!m->nchildren);
}

/* Knocks, and lets turn() do what is due. */
static void knock_at(struct monitor *m, struct door *d, const char *ip) {
    struct addr a = addr_of(ip);

    door_open(m, d, &a);
    turn(m);
}

/* Turns until the monitor would sleep. */
static void turns(struct monitor *m) {
    unsigned n = 0;

    do turn(m);
    while (!poll_timeout && n++ < 10000);
    CHECK(n < 10000, "does not sleep");
}

/* So much time passes; commands run as long as command_ms() says and end as
 * command_status() says. */
static void pass(struct monitor *m, int64_t ms) {
    int64_t until = clock_ms + ms;

    for (;;) {
        turns(m);
        int64_t next = poll_timeout < 0 ? INT64_MAX : clock_ms + poll_timeout;

        for (unsigned i = 0; i < ncommands && i < 8192; i++)
            if (!commands[i].ended) next = min_ms(next, commands[i].ends);
        if (next > until) break;
        if (next > clock_ms) clock_ms = next;
        for (unsigned i = 0; i < ncommands && i < 8192; i++)
            if (!commands[i].ended && commands[i].ends <= clock_ms)
                reap_command(m, &commands[i], commands[i].status);
        if (kept_length > KEPT_MAX / 2) forget();
    }
    clock_ms = until;
    turns(m);
}

/* One door, one address, from the knock to the end. */
static void test_opening(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1"), six = addr_of("2001:db8::1");
    int64_t start = clock_ms;

    setenv("KNOCKD_CLIENT", "of whoever started us", 1);
    door_open(m, &shop[0], &a);
    CHECK(has_text("192.0.2.1: a: OPEN SESAME\n") && !ncommands);
    turn(m);
    CHECK(ncommands == 1 && !strcmp(command_text(0), "start a 192.0.2.1"));
    CHECK(!*commands->client, "%s", commands->client);
    CHECK(has_text("a: running command: start a 192.0.2.1\n"));
    CHECK(!strcmp(commands->ip, "192.0.2.1") &&
          !strcmp(commands->door, "a") && !strcmp(commands->event, "start"));
    CHECK(strstr(get_file("k.state", NULL), "\nstop stop a 192.0.2.1 "));
    CHECK(poll_timeout == -1);
    clock_ms += 700; /* a slow one: the time begins at its end */
    forget();
    reap(m, 0, 3 << 8);
    CHECK(has_text("a: command returned non-zero status code (3)\n"));
    turn(m);
    CHECK(poll_timeout == 5000 && !m->nchildren);
    clock_ms = start + 700 + 4999;
    turn(m);
    CHECK(ncommands == 1 && poll_timeout == 1);
    clock_ms++;
    turn(m);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    CHECK(!strcmp(commands[1].event, "stop"));
    CHECK(has_text("192.0.2.1: a: command timeout\n") &&
          has_text("a: running command: stop a 192.0.2.1\n"));
    CHECK(m->openings[0]->record);
    reap(m, 0, 9);
    CHECK(has_text("a: command killed by signal 9\n") &&
          !has_text("CLOSE SESAME")); /* who knows: once more */
    turn(m);
    CHECK(poll_timeout == 1000);
    clock_ms += 1000;
    turn(m);
    CHECK(ncommands == 3 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->nopenings && has_text("192.0.2.1: a: CLOSE SESAME\n") &&
          count_text("command timeout") == 1);
    turn(m);
    CHECK(poll_timeout == -1);
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
    knock_at(m, &shop[3], "192.0.2.1");
    CHECK(!strcmp(command_text(0), "start d4 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->nopenings);
    shop[3].start6 = "";
    knock_at(m, &shop[3], "2001:db8::1");
    CHECK(ncommands == 6 && !m->nopenings);
    monitor_end();
}

/* A knock while the door is open: the start command runs again, the time
 * begins again, and each start gets its stop. */
static void test_prolonging(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct monitor *m = shop_open();

        for (unsigned i = 0; i < 3; i++) {
            knock_at(m, &shop[0], ip);
            reap(m, 0, 0);
            turn(m);
            clock_ms += 4000;
        }
        CHECK(ncommands == 3 && poll_timeout == 5000 && m->nopenings == 1);
        turn(m);
        CHECK(ncommands == 3);
        clock_ms += 1000;
        for (unsigned i = 0; i < 3; i++) {
            turn(m); /* one after the other */
            CHECK(ncommands == 4 + i && m->nchildren == 1);
            CHECK(!strncmp(command_text(0), "stop a ", 7));
            reap(m, 0, 0);
        }
        CHECK(!m->nopenings && count_text("command timeout") == 1 &&
              count_text("CLOSE SESAME") == 1);
        monitor_end();
    }
}

/* A knock while stop commands run: what is left of them stays to be done, and
 * the door is open. */
static void test_reopening(void) {
    struct monitor *m = shop_open();

    for (unsigned i = 0; i < 3; i++) {
        knock_at(m, &shop[0], "192.0.2.1");
        reap(m, 0, 0);
    }
    clock_ms += 5000;
    turn(m);
    knock_at(m, &shop[0], "192.0.2.1"); /* the first stop runs */
    CHECK(count_commands("stop") == 1 && count_commands("start") == 3);
    reap(m, 0, 0);
    turn(m);
    CHECK(count_commands("stop") == 1 && count_commands("start") == 4);
    CHECK(m->openings[0]->times == 3 && !has_text("CLOSE SESAME"));
    reap(m, 0, 0);
    turn(m);
    CHECK(poll_timeout == 5000);
    /* and while the next stop waits for an earlier command */
    knock_at(m, &shop[2], "192.0.2.1");
    clock_ms += 5000;
    m->children[0].begun = clock_ms;
    turn(m);
    CHECK(m->n[DUE] == 1);
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->n[DUE] == 0 && m->n[QUEUED] == 1);
    reap(m, 0, 0);
    turn(m);
    CHECK(!strcmp(command_text(0), "start a 192.0.2.1"));
    reap(m, 0, 0);
    clock_ms += 5000;
    for (unsigned i = 0; i < 4; i++) {
        turn(m);
        CHECK(!strcmp(command_text(0), "stop a 192.0.2.1"));
        reap(m, 0, 0);
    }
    CHECK(!m->nopenings && count_text("CLOSE SESAME") == 1);
    monitor_end();
}

/* What is being opened once more does not close meanwhile; a start that waits
 * is queued once. */
static void test_renewal(void) {
    struct monitor *m = shop_open();

    knock_at(m, &shop[0], "192.0.2.1");
    reap(m, 0, 0);
    turn(m);
    clock_ms += 4000;
    knock_at(m, &shop[2], "192.0.2.1"); /* another command, for long */
    for (int i = 0; i < 3; i++) knock_at(m, &shop[0], "192.0.2.1");
    CHECK(waiting_starts(m) == 1);
    clock_ms += 1999;
    turn(m);
    CHECK(ncommands == 2 && poll_timeout == 1);
    clock_ms++;
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
    CHECK(m->nopenings == 1); /* the one that hangs */
    monitor_end();
}

/* The closing knock comes last, though its door waits already. */
static void test_last_knock(void) {
    struct monitor *m = shop_open();

    shop[1].stop = NULL; /* "b b" closes what "c" opens */
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1"); /* all these wait */
    knock_at(m, &shop[2], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1");
    for (unsigned i = 0; i < 4; i++) {
        reap(m, 0, 0);
        turn(m);
    }
    CHECK(ncommands == 4 && !strcmp(command_text(2), "start b 192.0.2.1") &&
              !strcmp(command_text(1), "start c 192.0.2.1") &&
              !strcmp(command_text(0), "start b 192.0.2.1"),
          "%s, %s", command_text(1), command_text(0));
    monitor_end();
}

/* When the last command with this text began; -1: never. */
static int64_t began(const char *text) {
    for (unsigned i = ncommands; i-- && i + 8192 >= ncommands;)
        if (!strcmp(commands[i % 8192].text, text))
            return commands[i % 8192].begun;
    return -1;
}

static int64_t three_ms(const struct spawned *c) {
    (void)c;
    return 3;
}

static int64_t a_second(const struct spawned *c) {
    (void)c;
    return 1000;
}

/* Two doors may have one name: what the one opens does not stop the other. */
static void test_doors_of_one_name(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    shop[0].name = shop[1].name = shop[2].name = shop[3].name = "same";
    shop[3].stop6 = NULL;
    for (unsigned i = 0; i < 4; i++) door_open(m, &shop[i], &a);
    command_ms = a_second;
    pass(m, 40000);
    CHECK(count_commands("start a") == 1 && count_commands("start b") == 1 &&
          count_commands("start c") == 1 && count_commands("start d4") == 1);
    CHECK(began("stop a 192.0.2.1") == began("start a 192.0.2.1") + 6000);
    CHECK(began("stop b 192.0.2.1") == began("start b 192.0.2.1") + 31000);
    monitor_end();
}

/* Commands of one address: in the order of the knocks, one after the other,
 * but none holds up the next for more than ORDER_MS. */
static void test_order(void) {
    struct monitor *m = shop_open();

    knock_at(m, &shop[2], "192.0.2.1"); /* hangs for ever */
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[1], "192.0.2.1");
    knock_at(m, &shop[0], "192.0.2.2"); /* another address does not wait */
    CHECK(ncommands == 2 && !strcmp(command_text(0), "start a 192.0.2.2"));
    CHECK(poll_timeout > 0 && poll_timeout <= ORDER_MS);
    clock_ms += ORDER_MS;
    turns(m);
    CHECK(ncommands == 3 && !strcmp(command_text(0), "start a 192.0.2.1"));
    clock_ms += 500;
    reap(m, 0, 0);
    turns(m); /* not for the one that hangs any more */
    CHECK(ncommands == 4 && !strcmp(command_text(0), "start b 192.0.2.1"));
    monitor_end();
    /* 49 forged knocks a second at a door whose command takes a second */
    m = shop_open();
    command_ms = a_second;
    for (unsigned i = 0; i < 20 * 49; i++) {
        struct addr a = addr_of("192.0.2.1");

        door_open(m, &shop[2], &a);
        if (i == 10 * 49) door_open(m, &shop[0], &a);
        pass(m, 20);
        if (count_commands("start a")) break;
    }
    CHECK(count_commands("start a") == 1);
    CHECK(clock_ms - 1000000 < 10000 + 20000, "%d", (int)clock_ms);
    CHECK(waiting_starts(m) <= 1);
    monitor_end();
}

/* Of one opening there are TIMES_MAX rules at most, however often a knock is
 * repeated, and each is taken away again. */
static void test_times(void) {
    struct monitor *m = shop_open();
    unsigned most = 0;

    for (unsigned i = 0; i < 1000; i++) {
        knock_at(m, &shop[0], i % 2 ? "192.0.2.1" : "2001:db8::1");
        reap_all(m, 0);
        for (unsigned k = 0; k < m->nopenings; k++)
            if (m->openings[k]->times > most) most = m->openings[k]->times;
        forget();
    }
    CHECK(most == TIMES_MAX && m->nopenings == 2, "%u", most);
    CHECK(count_commands("start a") == 1000);
    CHECK(count_commands("stop a") == 1000 - 2 * TIMES_MAX);
    clock_ms += 5000;
    turn(m);
    reap_all(m, 0);
    CHECK(count_commands("stop a") == 1000 && !m->nopenings);
    /* one that can't be stopped is started all the same, and counted */
    for (unsigned i = 0; i < TIMES_MAX + 2; i++) {
        knock_at(m, &shop[0], "192.0.2.1");
        reap_all(m, 1 << 8);
    }
    CHECK(m->openings[0]->times == TIMES_MAX + 2);
    monitor_end();
    /* while a stop makes room for the next start, further knocks change nothing;
     * at the end that start is dropped, and said */
    m = shop_open();
    for (unsigned i = 0; i < TIMES_MAX; i++) {
        knock_at(m, &shop[0], "192.0.2.1");
        reap(m, 0, 0);
    }
    CHECK(ncommands == TIMES_MAX && count_commands("start a") == TIMES_MAX);
    for (unsigned i = 0; i < 3; i++) knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->n[CROWDED] == 1 && ncommands == TIMES_MAX + 1 &&
          !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    turn(m);
    CHECK(ncommands == TIMES_MAX + 2 && !m->n[CROWDED] &&
          !strcmp(command_text(0), "start a 192.0.2.1"));
    reap(m, 0, 0);
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->n[CROWDED] == 1);
    openings_end(m);
    CHECK(has_text("a: not run because knockd ends: start a 192.0.2.1\n"));
    reap_all(m, 0);
    CHECK(!m->nopenings && count_commands("start a") == TIMES_MAX + 1 &&
          count_commands("stop a") == TIMES_MAX + 1);
    monitor_end();
    /* and of one that hangs no more run at once */
    m = shop_open();
    for (unsigned i = 0; i < 100; i++) {
        knock_at(m, &shop[2], "192.0.2.1");
        clock_ms += ORDER_MS;
        turn(m);
    }
    CHECK(m->nchildren == TIMES_MAX &&
          has_text("192.0.2.1: c: refused: 16 of its start commands run"));
    monitor_end();
}

/* Close = DOOR: what that door has open for the address is closed now, and the
 * start command that belongs to Close runs after that. */
static void test_close(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct monitor *m = shop_open();
        struct addr a = addr_of(ip);

        shop[2].close = "a";
        shop[0].cmd_timeout = shop[1].cmd_timeout = 3600;
        command_ms = three_ms;
        for (unsigned i = 0; i < 3; i++) {
            knock_at(m, &shop[0], ip);
            pass(m, 10);
        }
        knock_at(m, &shop[1], ip);
        knock_at(m, &shop[0], "192.0.2.9");
        pass(m, 10);
        knock_at(m, &shop[2], ip);
        pass(m, 50);
        CHECK(count_commands("stop a") == 3 &&
              count_commands("start c") == 1);
        CHECK(!strncmp(command_text(0), "start c", 7));
        CHECK(m->n[HELD] == 2 && count_text("CLOSE SESAME") == 1 &&
              !has_text("command timeout"));
        /* a start command that waits is dropped; one that runs is waited for */
        command_ms = a_second;
        knock_at(m, &shop[1], ip);
        door_open(m, &shop[0], &a);
        door_open(m, &shop[2], &a);
        pass(m, 5000);
        CHECK(count_commands("start a") == 4 && m->n[HELD] == 2 &&
              count_commands("start c") == 2);
        knock_at(m, &shop[0], ip);
        door_open(m, &shop[2], &a);
        pass(m, 5000);
        CHECK(!strncmp(command_text(1), "stop a", 6) &&
              !strncmp(command_text(0), "start c", 7));
        /* nothing is open: only its own command runs; and without one nothing */
        knock_at(m, &shop[2], ip);
        pass(m, 2000);
        CHECK(count_commands("stop a") == 4 &&
              count_commands("start c") == 4);
        shop[2].start = NULL;
        knock_at(m, &shop[0], ip);
        pass(m, 2000);
        door_open(m, &shop[2], &a);
        pass(m, 2000);
        CHECK(count_commands("stop a") == 5 &&
              count_commands("start c") == 4);
        monitor_end();
    }
}

/* A stop command that fails runs again after 1, 10 and 60 seconds. */
static void test_rounds(void) {
    static const int pauses[] = { 1000, 10000, 60000 };

    for (int v6 = 0; v6 < 2; v6++) {
        struct monitor *m = shop_open();

        for (unsigned i = 0; i < 3; i++) {
            knock_at(m, &shop[0], v6 ? "2001:db8::1" : "192.0.2.1");
            reap(m, 0, 0);
        }
        clock_ms += 5000;
        turn(m);
        reap(m, 0, 0); /* one of three is undone, and no more */
        turn(m);
        for (unsigned i = 0; i < 3; i++) {
            reap(m, 0, 4 << 8);
            turn(m);
            CHECK(poll_timeout == pauses[i], "%d", poll_timeout);
            CHECK(m->openings[0]->times == 2 && m->openings[0]->record);
            clock_ms += pauses[i];
            turn(m);
            CHECK(count_commands("stop") == 3 + i);
        }
        reap(m, 0, 4 << 8);
        CHECK(!m->nopenings && !has_text("CLOSE SESAME") &&
                  has_text(": a: given up, the door may still be open: the "
                           "stop command has failed 4 times: stop a "),
              "%s", kept);
        turn(m);
        CHECK(poll_timeout == -1);
        /* one that works in its third round */
        knock_at(m, &shop[0], v6 ? "2001:db8::1" : "192.0.2.1");
        reap(m, 0, 0);
        clock_ms += 5000;
        turn(m);
        for (unsigned i = 0; i < 2; i++) {
            reap(m, 0, 4 << 8);
            clock_ms += pauses[i];
            turn(m);
        }
        reap(m, 0, 0);
        CHECK(!m->nopenings && count_text("CLOSE SESAME") == 1);
        monitor_end();
    }
}

/* The rounds begin anew with a stop command that works, and when somebody closes
 * the door again. */
static void test_rounds_anew(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        struct monitor *m = shop_open();
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct addr a = addr_of(ip);

        for (unsigned i = 0; i < 8; i++) {
            knock_at(m, &shop[0], ip);
            reap(m, 0, 0);
        }
        clock_ms += 5000;
        turn(m);
        for (unsigned i = 0; i < 8; i++) { /* every second one fails */
            reap(m, 0, 4 << 8);
            turn(m);
            CHECK(poll_timeout == 1000, "%d", poll_timeout);
            clock_ms += 1000;
            turn(m);
            reap(m, 0, 0);
            turn(m);
        }
        CHECK(!m->nopenings && count_text("CLOSE SESAME") == 1);
        knock_at(m, &shop[0], ip);
        reap(m, 0, 0);
        for (unsigned i = 0; i < 6; i++) {
            openings_close(m, shop[0].name, &a);
            turn(m);
            reap(m, 0, 4 << 8);
            turn(m);
            CHECK(m->nopenings && poll_timeout == 1000, "%d", poll_timeout);
        }
        monitor_end();
    }
}

/* How long the state file says that door a stays open, in ms; -1: it is not. */
static int64_t file_says(void) {
    static char text[1 << 16];
    struct records rs = { .n = 0 };
    int64_t left = -1;
    size_t n;

    memcpy(text, get_file("k.state", &n), sizeof(text));
    if (!records_read(&rs, text, n)) return -1;
    for (unsigned i = 0; i < rs.n; i++)
        if (rs.list[i].times && !strcmp(rs.list[i].door, "a"))
            left = rs.list[i].deadline - clock_ms;
    free(rs.list);
    return left;
}

/* A door that somebody closes is due for the next daemon, too; but not while its
 * start command runs, which that daemon would not know of. */
static void test_closing_record(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        struct monitor *m = shop_open();
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct addr a = addr_of(ip);

        knock_at(m, &shop[0], ip);
        openings_close(m, "a", &a);
        turn(m);
        CHECK(file_says() == 5000 + ORPHAN_MS, "%d", (int)file_says());
        reap(m, 0, 0);
        turn(m);
        CHECK(file_says() == 0 && count_commands("stop a") == 1);
        reap(m, 0, 0);
        turn(m);
        CHECK(file_says() == -1);
        knock_at(m, &shop[0], ip); /* open */
        reap(m, 0, 0);
        turn(m);
        CHECK(file_says() == 5000);
        openings_close(m, "a", &a);
        turn(m);
        CHECK(file_says() == 0 && count_commands("stop a") == 2);
        reap(m, 0, 0);
        knock_at(m, &shop[0], ip); /* open, and to be opened again */
        reap(m, 0, 0);
        knock_at(m, &shop[1], ip);
        knock_at(m, &shop[0], ip);
        turn(m);
        CHECK(m->n[QUEUED] == 1 && file_says() == 5000);
        openings_close(m, "a", &a);
        turn(m);
        CHECK(m->n[DUE] == 1 && file_says() == 0, "%d", (int)file_says());
        monitor_end();
    }
}

/* A door that is open wakes the monitor in time, whatever else its address
 * does; nothing else wakes it. */
static void test_wake(void) {
    struct monitor *m = shop_open();

    turn(m);
    CHECK(poll_timeout == -1 && !t_alarm);
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[2], "192.0.2.1"); /* waits for the first */
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    turn(m);
    CHECK(ncommands == 2);
    CHECK(poll_timeout == 5000, "%d", poll_timeout);
    reap(m, 0, 0);
    turn(m);
    CHECK(t_alarm == clock_ms + 5000); /* of a clock that no suspend stops */
    clock_ms += 86400000;
    turn(m);
    CHECK(!strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    turn(m);
    CHECK(!t_alarm && poll_timeout == -1);
    monitor_end();
}

/* No process to be had, or no program. */
static void test_spawn_failures(void) {
    struct monitor *m = shop_open();

    fail(FAULT_spawn, 1, EAGAIN);
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(has_text(
        "a: could not run the command: Resource temporarily unavailable"));
    CHECK(!ncommands && poll_timeout == 1000 && waiting_starts(m) == 1 &&
          !m->nchildren);
    CHECK(!m->openings[0]->record); /* nothing is open */
    clock_ms += 1000;
    turn(m);
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    clock_ms += 5000;
    for (unsigned i = 0; i < 20; i++) { /* a stop is tried until it runs */
        fail(FAULT_spawn, 1, ENOMEM);
        turn(m);
        CHECK(ncommands == 1 && poll_timeout > 0 && poll_timeout <= 1000);
        clock_ms += 1000;
    }
    turn(m);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->nopenings);
    knock_at(m, &shop[0], "192.0.2.1");
    reap(m, 0, 0);
    clock_ms += 5000;
    fail(FAULT_spawn, 1, EPERM); /* whatever it was: a round that failed */
    turn(m);
    CHECK(m->nopenings && ncommands == 3);
    turn(m);
    CHECK(ncommands == 3 && poll_timeout == 1000);
    clock_ms += 1000;
    turn(m);
    CHECK(ncommands == 4 && !strcmp(command_text(0), "stop a 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(!m->nopenings);
    /* E2BIG: neither later nor by a shell; the stop comes all the same */
    forget();
    fail(FAULT_spawn, 1, E2BIG);
    knock_at(m, &shop[0], "192.0.2.2");
    CHECK(has_text("a: could not run the command: Argument list too long"));
    CHECK(m->nopenings && m->openings[0]->state == HELD);
    turn(m);
    CHECK(strstr(get_file("k.state", NULL), "stop stop a 192.0.2.2"));
    clock_ms += 5000;
    turn(m);
    CHECK(!strcmp(command_text(0), "stop a 192.0.2.2"));
    reap(m, 0, 0);
    CHECK(!m->nopenings && !m->nchildren);
    monitor_end();
}

/* All doors together have as many openings as there may be: one that nothing
 * closes needs no room, another one waits for it, and closes nothing of
 * others. */
static void test_no_room(void) {
    struct monitor *m = shop_open();

    m->n[HELD] = OPENINGS_MAX;
    knock_at(m, &shop[2], "192.0.2.1");
    CHECK(ncommands == 1 && !strcmp(command_text(0), "start c 192.0.2.1"));
    knock_at(m, &shop[0], "192.0.2.2");
    CHECK(ncommands == 1 && waiting_starts(m) == 1);
    m->n[HELD] = 0;
    turn(m);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "start a 192.0.2.2"));
    reap_all(m, 0);
    monitor_end();
}

/* What could not be closed in time is named, as far as a line holds. */
static void test_left_open(void) {
    static char names[40][DOOR_NAME_MAX + 1];
    struct monitor *m = shop_open();
    struct door d = { .start = "x", .stop = "y", .cmd_timeout = 1 };

    for (unsigned i = 0; i < 40; i++) {
        struct addr a = addr_of("192.0.2.1");

        sprintf(names[i], "%0*u", DOOR_NAME_MAX, i);
        d.name = names[i];
        struct opening *o = opening_new(m, &d, &a);
        o->times = 1;
        opening_move(m, o, i == 39 ? HELD : FAILED, NEVER);
    }
    forget();
    left_open_say(m);
    CHECK(has_text("openings not closed in time: 40 (000"), "%s", kept);
    CHECK(count_text(", 00") >= 14 && !has_text(names[39]), "%s", kept);
    CHECK(has_text("; the next start of knockd closes them\n"));
    monitor_end();
}

/* No pipe for what a command prints: it runs without one; said once, and again
 * after one that had a pipe. */
static void test_no_pipe(void) {
    struct monitor *m = shop_open();

    m->most_outputs = OUTPUTS_MAX;
    for (unsigned i = 0; i < 5; i++) {
        char ip[] = "192.0.2.1";

        ip[8] = (char)('1' + i);
        if (i != 2) fail(FAULT_pipe2, 1, EMFILE);
        knock_at(m, &shop[0], ip);
        CHECK(ncommands == i + 1 && m->noutputs == (i >= 2), "%u", i);
        CHECK(count_text("output is not logged: ") == (i < 2    ? 1u
                                                       : i == 2 ? 1u
                                                                : 2u),
              "%u: %s", i, kept);
    }
    CHECK(m->noutputs == 1);
    close(m->outputs[0].fd);
    monitor_end();
}

static int64_t for_ever(const struct spawned *c) {
    (void)c;
    return INT64_MAX / 2;
}

/* A stranger has the only start command that lasts. */
static int64_t door_c_hangs(const struct spawned *c) {
    return *c->door == 'c' ? INT64_MAX / 4 : 3;
}

static struct addr stranger(uint32_t i, bool v6) {
    struct addr a = addr_of(v6 ? "2001:db8:1::" : "198.18.0.0");

    a.b[13] = (uint8_t)(a.b[13] + (i >> 16));
    a.b[14] = (uint8_t)(i >> 8);
    a.b[15] = (uint8_t)i;
    return a;
}

/* Whatever strangers do at one door, another one opens within a second, and
 * closes. */
static void test_nobody_takes_all(void) {
    static int64_t (*const lasts[])(const struct spawned *) = {
        for_ever, door_c_hangs, three_ms, a_second
    };

    for (unsigned k = 0; k < 8; k += quick ? 3 : 1) {
        struct monitor *m = shop_open();
        bool v6 = k % 2;

        command_ms = lasts[k / 2];
        shop[2].cmd_timeout = 3600;
        if (k >= 4) shop[2].stop = "stop c %IP%";
        for (uint32_t i = 0; i < 20000; i++) {
            struct addr a = stranger(i, v6);

            door_open(m, &shop[2], &a);
            if (i % 64 == 0) pass(m, 64);
        }
        CHECK(m->n[QUEUED] <= QUEUE_MAX / 2 &&
                  m->nchildren <= CHILDREN_MAX / 2,
              "%u %u", m->n[QUEUED], m->nchildren);
        CHECK(open_of(m->n) <= OPENINGS_MAX / 2, "%u", open_of(m->n));
        int64_t knocked = clock_ms;
        struct addr a = addr_of(v6 ? "fd00::1" : "192.0.2.1");

        door_open(m, &shop[0], &a);
        pass(m, 2000);
        int64_t began_at =
            began(v6 ? "start a fd00::1" : "start a 192.0.2.1");

        CHECK(began_at >= 0 && began_at <= knocked + 1000, "%u: after %d ms",
              k, (int)(began_at - knocked));
        if (k / 2 == 1 || k / 2 == 2) {
            pass(m, 8000);
            CHECK(began(v6 ? "stop a fd00::1" : "stop a 192.0.2.1") <=
                      knocked + 5100 + 1000,
                  "%u", k);
        }
        monitor_end();
    }
}

/* A stranger floods a door, and forges the address of somebody who has another
 * one open: that one closes in time, and opens again. */
static void test_flood_in_a_name(void) {
    static int64_t (*const lasts[])(const struct spawned *) = { door_c_hangs,
                                                                a_second };

    for (unsigned k = 0; k < 2; k++) {
        struct monitor *m = shop_open();
        struct addr honest = addr_of("192.0.2.1");
        unsigned floods = 0;

        command_ms = lasts[k];
        for (uint32_t i = 0; i < 20000; i++) {
            struct addr a = stranger(i, false);

            door_open(m, &shop[2], &a);
            if (i == 10000) knock_at(m, &shop[0], "192.0.2.1");
            if (i % 64) continue;
            floods += m->n[QUEUED] > 100;
            door_open(m, &shop[2], &honest);
            pass(m, 64);
        }
        CHECK(floods > 200, "%u", floods);
        int64_t opened = began("start a 192.0.2.1");
        int64_t closed = began("stop a 192.0.2.1");

        CHECK(opened >= 0 && closed >= 0 && closed < opened + 9000, "%u: %d",
              k, (int)(closed - opened));
        clock_ms += 10; /* began() tells of the last */
        int64_t knocked = clock_ms;

        knock_at(m, &shop[0], "192.0.2.1");
        pass(m, 4000);
        CHECK(count_commands("start a") == 2 &&
                  began("start a 192.0.2.1") >= knocked,
              "%u", k);
        monitor_end();
    }
}

/* Open, close, open, close: all commands run, in the order of the knocks, also
 * behind a command that lasts; and strangers make no long queue of this. */
static void test_command_twice(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct monitor *m = shop_open();
        struct addr a = addr_of(ip);

        command_ms = three_ms;
        shop[0].stop = NULL;
        shop[1].start = "start a -D %IP%";
        shop[1].stop = NULL;
        door_open(m, &shop[2], &a);
        command_ms = a_second;
        turns(m);
        for (unsigned i = 0; i < 5; i++) { /* knock twice, as people do */
            for (unsigned k = 0; k < 3; k++) door_open(m, &shop[0], &a);
            for (unsigned k = 0; k < 2; k++) door_open(m, &shop[1], &a);
        }
        command_ms = three_ms;
        pass(m, 5000);
        CHECK(ncommands == 11, "%u", ncommands);
        for (unsigned i = 0; i < 10; i++) { /* the last one first */
            bool closing = !strncmp(command_text(i), "start a -D ", 11);

            CHECK(closing == (i % 2 == 0), "%u: %s", i, command_text(i));
        }
        CHECK(!m->nopenings);
        command_ms = for_ever;
        for (unsigned i = 0; i < 200; i++) door_open(m, &shop[i % 3], &a);
        CHECK(m->n[QUEUED] <= TIMES_MAX + 3, "%u", m->n[QUEUED]);
        for (unsigned i = 0; i < 200; i++) {
            pass(m, 300);
            door_open(m, &shop[i % 3], &a);
        }
        CHECK(m->nchildren <= 3 * 2 * TIMES_MAX &&
                  m->n[QUEUED] <= TIMES_MAX + 3,
              "%u, %u", m->nchildren, m->n[QUEUED]);
        monitor_end();
    }
}

static int64_t six_seconds(const struct spawned *c) {
    return strstr(c->text, " c ") ? 6000 : 30;
}

/* One forged knock at each of many doors whose commands last: the commands of
 * the address's own door begin in a few seconds, and one after the other. */
static void test_many_doors_in_a_name(void) {
    for (int v6 = 0; v6 < 2; v6++) {
        const char *ip = v6 ? "2001:db8::1" : "192.0.2.1";
        struct monitor *m = shop_open();
        struct addr a = addr_of(ip);
        struct door many[20];
        char name[20][8], text[64];

        command_ms = six_seconds;
        knock_at(m, &shop[0], ip);
        pass(m, 4900); /* its stop command is due in a moment */
        for (unsigned i = 0; i < 20; i++) {
            sprintf(name[i], "m%u", i);
            many[i] = shop[2];
            many[i].name = name[i];
            door_open(m, &many[i], &a);
        }
        pass(m, 1000);
        door_open(m, &shop[1], &a);
        pass(m, 20000);
        CHECK(count_commands("start c") == 20);
        sprintf(text, "start a %s", ip);
        int64_t due = began(text) + 30 + 5000;

        sprintf(text, "stop a %s", ip);
        int64_t late = began(text) - due;

        CHECK(late >= 0 && late < ORDER_MS + 20 * HASTE_MS, "%d", (int)late);
        sprintf(text, "start b %s", ip);
        CHECK(began(text) >= due + late + 30, "%d",
              (int)(began(text) - due - late));
        monitor_end();
    }
}

/* A door whose share of openings is full: its own oldest one is closed when
 * the new one is about to start, and not before. */
static void test_oldest_closes(void) {
    struct monitor *m = shop_open();
    const unsigned half = (OPENINGS_MAX - RUN_MAX) / 2;

    command_ms = three_ms;
    shop[0].cmd_timeout = 3600;
    for (uint32_t i = 0; i < half; i++) {
        struct addr a = stranger(i, false);

        door_open(m, &shop[0], &a);
        if (i % 512 == 511 || i == half - 1) pass(m, 512);
    }
    CHECK(m->n[HELD] == half && !count_commands("stop"), "%u", m->n[HELD]);
    command_ms = for_ever; /* another door takes all slots */
    for (uint32_t i = 0; i < RUN_MAX; i++) {
        struct addr a = stranger(i, true);

        door_open(m, &shop[2], &a);
    }
    turns(m);
    command_ms = three_ms;
    knock_at(m, &shop[0], "192.0.2.1");
    pass(m, 500);
    CHECK(m->n[HELD] == half && !count_commands("stop"));
    pass(m, 1000);
    CHECK(m->n[HELD] == half && count_commands("stop") == 1);
    CHECK(began("stop a 198.18.0.0") >= 0 && began("start a 192.0.2.1") >= 0);
    monitor_end();
}

/* 16,000 openings that are due at the same time: an honest start comes soon,
 * and the work of a turn does not grow with what is open. */
static void test_all_due(void) {
    for (int doors = 1; doors <= 2; doors++) {
        struct monitor *m = shop_open();
        const unsigned n = OPENINGS_MAX / (quick ? 16 : 2) / (unsigned)doors;

        command_ms = three_ms;
        for (unsigned i = 0; i < 2; i++) shop[i].cmd_timeout = 3600;
        shop[2].stop = "stop c %IP%";
        shop[2].cmd_timeout = 3600;
        for (uint32_t i = 0; i < n; i++)
            for (int d = 0; d < doors; d++) {
                struct addr a = stranger(i, false);
                struct opening *o = opening_new(m, &shop[d], &a);

                o->times = 1;
                opening_move(m, o, HELD, clock_ms + 1000);
            }
        pass(m, 1100);
        CHECK(m->n[DUE] > n / 2);
        knock_at(m, &shop[2], "192.0.2.1");
        int64_t knocked = clock_ms;

        pass(m, 1000);
        CHECK(began("start c 192.0.2.1") >= 0 &&
              began("start c 192.0.2.1") <= knocked + 1000);
        pass(m, 20000);
        CHECK(m->nopenings == 1, "%u", m->nopenings);
        monitor_end();
    }
}

/* Lines about a door: so many of each topic in a second, then their number. */
static void test_lines_of_a_door(void) {
    struct monitor *m = shop_open();
    struct event e = { .kind = STAGE,
                       .stage = 1,
                       .src = addr_of("192.0.2.1") };

    clock_ms = 2000000;
    command_ms = three_ms;
    m->conf.doors[0].seq.n = 2;
    for (unsigned i = 0; i < 500; i++) {
        struct addr a = stranger(i, false);

        event_take(m, &e);
        door_open(m, &shop[2], &a);
        if (i % 100 == 0) pass(m, 3);
    }
    CHECK(count_text(": a: Stage 1\n") == LINES_PER_SECOND);
    CHECK(count_text(": c: OPEN SESAME\n") == LINES_PER_SECOND);
    knock_at(m, &shop[0], "192.0.2.1"); /* these have lines of their own */
    knock_at(m, &shop[1], "192.0.2.1");
    CHECK(has_text(": a: OPEN SESAME\n") && has_text(": b b: OPEN SESAME\n"));
    pass(m, 20);
    CHECK(has_text("a: running command: start a "));
    CHECK(!has_text("suppressed"));
    pass(m, 1000);
    CHECK(has_text("a: 480 messages suppressed\n"), "%s", kept);
    CHECK(count_text("messages suppressed\n") >= 2);
    event_take(m, &e);
    CHECK(count_text(": a: Stage 1\n") == LINES_PER_SECOND + 1);
    monitor_end();
}

/* What is open, as text. */
static const char *openings_text(const struct monitor *m) {
    static char text[4096];
    size_t n = 0;

    *text = '\0';
    for (unsigned d = 0; d < 4; d++) /* the heap's order is its own matter */
        for (unsigned i = 0; i < m->nopenings; i++) {
            const struct opening *o = m->openings[i];

            if (strcmp(o->share->name, shop[d].name) != 0) continue;
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                                  "%d %s %s %s '%s' %u %u %lld;", o->state,
                                  o->ip, o->client, o->share->name,
                                  o->stop ? o->stop : "-", o->timeout,
                                  o->times, (long long)(o->when - clock_ms));
        }
    return text;
}

/* The openings, said once more and more simply: an item for each door and each
 * guest; and the rules of a firewall, so many for each item. */
enum { GUESTS = 4 };
static struct model {
    struct item {
        enum { NOTHING, TO_START, TO_STOP } wants;
        bool there, made_room, closing;
        int rules, times, rounds, starts, stops;
        int64_t due, again, ticket, queued;
        int64_t later[TIMES_MAX]; /* tickets of its command, once more */
        int64_t later_queued[TIMES_MAX];
        int nlater;
    } item[4][GUESTS];
    struct {
        pid_t pid;
        unsigned door, guest;
        bool stop;
        int64_t begun;
    } child[64];
    unsigned nchildren;
    int64_t tickets, pause;
    bool ending;
} model;

static bool has_stop(unsigned door, unsigned guest) {
    return door < 2 || (door == 3 && guest % 2);
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

/* The ticket of the last place that an item's command has in the queue. */
static int64_t last_ticket(const struct item *t) {
    return t->nlater ? t->later[t->nlater - 1] : t->ticket;
}

static void model_knock(unsigned door, unsigned guest) {
    struct item *t = &model.item[door][guest];
    bool last = true, waits = t->wants == TO_START;
    int queue = 0;

    for (unsigned d = 0; d < 4; d++) {
        struct item *o = &model.item[d][guest];

        if (o->wants) queue += 1 + o->nlater;
        if (!has_stop(d, guest) && o->starts && !o->wants) queue++;
        if (has_stop(d, guest) && o->starts && !o->wants && !o->closing &&
            o->due == INT64_MAX)
            queue++;
        if (o->wants && last_ticket(o) > last_ticket(t)) last = false;
    }
    if (t->starts >= TIMES_MAX || (waits && last)) return;
    if (waits && !has_stop(door, guest)) {
        t->nlater += queue < TIMES_MAX;
        if (t->nlater) {
            t->later[t->nlater - 1] = ++model.tickets;
            t->later_queued[t->nlater - 1] = clock_ms;
            return;
        }
    }
    t->there = true;
    t->rounds = 0;
    t->wants = TO_START;
    t->queued = clock_ms;
    t->made_room = t->closing = false;
    t->due = t->again = INT64_MAX;
    t->ticket = ++model.tickets;
}

/* A command has begun: the item wants nothing more, or the same once more. */
static void model_next(struct item *t) {
    t->wants = NOTHING;
    if (!t->nlater) return;
    t->wants = TO_START;
    t->ticket = t->later[0];
    t->queued = t->later_queued[0];
    t->nlater--;
    for (int i = 0; i < t->nlater; i++) {
        t->later[i] = t->later[i + 1];
        t->later_queued[i] = t->later_queued[i + 1];
    }
}

static void model_close(struct item *t) {
    if (!t->there || t->wants == TO_STOP || (t->closing && t->stops)) return;
    t->wants = t->times ? TO_STOP : NOTHING;
    t->nlater = 0;
    t->rounds = 0;
    t->queued = clock_ms;
    t->closing = t->there = t->times > 0;
    t->due = t->again = INT64_MAX;
    t->ticket = ++model.tickets;
}

/* Those that wait, by their times; of doors without a stop times count
 * nothing. */
static void model_due(void) {
    struct item *first;

    do {
        first = NULL;
        for (unsigned i = 0; i < 4 * GUESTS; i++) {
            struct item *t = &model.item[i / GUESTS][i % GUESTS];
            int64_t when = min_ms(t->due, t->again);
            int64_t best =
                first ? min_ms(first->due, first->again) : clock_ms;

            if (when < best ||
                (when == best && (!first || t->ticket < first->ticket)))
                first = t;
        }
        if (!first) return;
        int rounds = first->rounds;
        model_close(first);
        first->rounds = rounds; /* they go on */
    } while (first);
}

/* Are more commands young than there are slots for certain? */
static bool model_is_full(void) {
    unsigned young = 0;

    for (unsigned i = 0; i < model.nchildren; i++)
        young += model.child[i].begun > clock_ms - RUN_MS;
    return model.nchildren > 40 || young > RUN_MAX - GUESTS;
}

/* Is it the turn of this item's command? */
static bool model_turns(unsigned door, unsigned guest) {
    const struct item *t = &model.item[door][guest];

    if (!t->wants || model.pause > clock_ms) return false;
    bool late = clock_ms >= t->queued + ORDER_MS;

    for (unsigned i = 0; i < model.nchildren; i++)
        if (model.child[i].guest == guest &&
            clock_ms - model.child[i].begun < (late ? HASTE_MS : ORDER_MS))
            return false;
    for (unsigned d = 0; d < 4; d++)
        if (model.item[d][guest].wants &&
            model.item[d][guest].ticket < t->ticket)
            return false;
    return true;
}

static void model_start_ends(unsigned door, unsigned guest) {
    struct item *t = &model.item[door][guest];

    t->starts--;
    if (t->starts || t->wants || t->closing || !t->there) return;
    if (has_stop(door, guest))
        t->due = clock_ms + (int64_t)shop[door].cmd_timeout * 1000;
    else t->there = false;
}

static void model_stop_ends(unsigned door, unsigned guest, bool good) {
    static const int64_t pauses[] = { 1000, 10000, 60000 };
    struct item *t = &model.item[door][guest];

    t->stops--;
    if (good && t->rules) t->rules--;
    if (good && t->times) t->rounds = 0;
    if (good && t->times) t->times--;
    if (!t->closing || t->stops) return;
    if (!t->times) {
        int rules = t->rules;

        *t = (struct item){ .due = INT64_MAX, .again = INT64_MAX };
        t->rules = rules;
    } else if (t->wants) return;
    else if (good) t->wants = TO_STOP;
    else if (model.ending) t->again = clock_ms + RETRY_MS;
    else if (t->rounds < 3) t->again = clock_ms + pauses[t->rounds++];
    else { /* given up, and said so */
        *t = (struct item){ .due = INT64_MAX, .again = INT64_MAX };
    }
}

/* Finds the command among those that have begun now; false if it has not. */
static bool model_began(unsigned before, const char *text, pid_t *pid) {
    for (unsigned k = before; k < ncommands; k++)
        if (!strcmp(commands[k % 8192].text, text)) {
            *pid = commands[k % 8192].pid;
            return true;
        }
    return false;
}

/* Does the state file list all that has a rule, or may get one? */
static bool on_record(void) {
    static char text[1 << 16];
    struct records rs = { .n = 0 };
    bool good;
    size_t n;

    memcpy(text, get_file("k.state", &n), sizeof(text));
    good = records_read(&rs, text, n);
    for (unsigned d = 0; d < 4 && good; d++)
        for (unsigned g = 0; g < GUESTS; g++) {
            const struct item *t = &model.item[d][g];
            struct addr a = guest_addr(g);
            unsigned listed = 0;

            for (unsigned i = 0; i < rs.n; i++)
                if (!strcmp(rs.list[i].door, shop[d].name) &&
                    !addr_cmp(&rs.list[i].src, &a))
                    listed += rs.list[i].times;
            if (has_stop(d, g) && t->there && (int)listed != t->times)
                good = false;
        }
    free(rs.list);
    return good;
}

/* The turns of both at this time: the same commands begin. */
static void model_turn(struct monitor *m, unsigned round) {
    unsigned before = ncommands, begun = 0;
    bool failing = faults[FAULT_spawn].n, failed = false;
    int64_t wake = INT64_MAX;
    char text[128], failure[300];

    forget();
    turns(m);
    model_due();
    for (unsigned d = 0; d < 4; d++)
        for (unsigned g = 0; g < GUESTS; g++) {
            struct item *t = &model.item[d][g];
            bool stop = t->wants == TO_STOP;
            pid_t pid = 0;

            if (!model_turns(d, g)) continue;
            if (!stop && has_stop(d, g) && t->times >= TIMES_MAX &&
                !t->made_room)
                stop = true;
            model_command(text, sizeof(text), d, g, stop);
            snprintf(failure, sizeof(failure), "command: %s\n%s: could not",
                     text, shop[d].name);
            if (failing && has_text(failure)) {
                failed = true;
                continue;
            }
            if (!model_began(before, text, &pid) && failing) continue;
            CHECK(pid, "round %u: '%s' does not run", round, text);
            model.child[model.nchildren].pid = pid;
            model.child[model.nchildren].door = d;
            model.child[model.nchildren].guest = g;
            model.child[model.nchildren].stop = stop;
            model.child[model.nchildren++].begun = clock_ms;
            begun++;
            if (stop) t->stops++;
            else t->starts++;
            if (!stop && has_stop(d, g)) t->times++, t->rules++;
            if (stop && t->wants == TO_START) t->made_room = true;
            else model_next(t);
        }
    if (failed) model.pause = clock_ms + RETRY_MS;
    CHECK(begun == ncommands - before, "round %u: %u began, not %u", round,
          ncommands - before, begun);
    for (unsigned d = 0; d < 4; d++)
        for (unsigned g = 0; g < GUESTS; g++)
            wake = min_ms(wake, min_ms(model.item[d][g].due,
                                       model.item[d][g].again));
    CHECK(wake == INT64_MAX ||
              (poll_timeout >= 0 && poll_timeout <= wake - clock_ms),
          "round %u: sleeps %d, not %d", round, poll_timeout,
          (int)(wake - clock_ms));
    CHECK(on_record(), "round %u: %s", round, get_file("k.state", NULL));
}

static void model_reap(struct monitor *m, unsigned i) {
    int status = one_in(3) ? (int)rnd(3) << 8 : one_in(9) ? 15 : 0;
    __typeof__(*model.child) c = model.child[i];

    model.child[i] = model.child[--model.nchildren];
    command_reap(m, c.pid, status);
    if (c.stop) model_stop_ends(c.door, c.guest, !status);
    else model_start_ends(c.door, c.guest);
}

static struct item *item_of(const struct opening *o) {
    for (unsigned d = 0; d < 4; d++)
        for (unsigned g = 0; g < GUESTS; g++) {
            struct addr a = guest_addr(g);

            if (!strcmp(o->share->name, shop[d].name) &&
                !addr_cmp(&o->src, &a))
                return &model.item[d][g];
        }
    abort();
}

/* SIGKILL: the commands that run end by themselves, the next monitor knows
 * what the file says. */
static struct monitor *model_crash(void) {
    struct monitor *m = &monitor;

    for (unsigned i = 0; i < model.nchildren; i++) {
        struct item *t =
            &model.item[model.child[i].door][model.child[i].guest];

        if (model.child[i].stop && t->rules && one_in(2)) t->rules--;
    }
    m = monitor_new(&shop_conf);
    state_load(m);
    for (unsigned i = 0; i < 4 * GUESTS; i++) {
        struct item *t = &model.item[i / GUESTS][i % GUESTS];

        *t = (struct item){ .rules = has_stop(i / GUESTS, i % GUESTS)
                                         ? t->rules
                                         : 0,
                            .due = INT64_MAX,
                            .again = INT64_MAX };
    }
    for (unsigned i = 0; i < m->nopenings; i++) {
        const struct opening *o = m->openings[i];
        struct item *t = item_of(o);

        CHECK(o->state == HELD && !t->there &&
              o->when <= clock_ms + o->timeout * INT64_C(1000) + ORPHAN_MS);
        t->there = true;
        t->times = (int)o->times;
        t->due = o->when;
        t->ticket = (int64_t)o->ticket;
    }
    for (unsigned i = 0; i < 4 * GUESTS; i++)
        CHECK(model.item[i / GUESTS][i % GUESTS].rules <=
                  model.item[i / GUESTS][i % GUESTS].times,
              "a rule that nobody knows of");
    model.nchildren = 0;
    model.pause = 0;
    model.tickets = (int64_t)m->tickets;
    return m;
}

/* Random knocks, ends of commands, failures, crashes and time, against the
 * model: the same commands in the same order, no rule left at the end. */
static void test_openings_at_random(void) {
    for (unsigned round = 0; round < times(400, 10000); round++) {
        struct monitor *m = shop_open();

        memset(&model, 0, sizeof(model));
        for (unsigned d = 0; d < 4; d++)
            for (unsigned g = 0; g < GUESTS; g++)
                model.item[d][g].due = model.item[d][g].again = INT64_MAX;
        unlinkat(directory_fd, "k.state", 0);
        state_load(m);
        for (unsigned step = 0; step < 100; step++) {
            unsigned what = rnd(20);

            fail(FAULT_spawn, 0, 0);
            if (what < 8) {
                unsigned d = rnd(4), g = rnd(GUESTS);
                struct addr a = guest_addr(g);

                door_open(m, &shop[d], &a);
                model_knock(d, g);
            } else if (what < 14 && model.nchildren) {
                model_reap(m, rnd(model.nchildren));
            } else if (what < 17) {
                clock_ms += one_in(2) ? rnd(8000) : rnd(40000);
            } else if (what == 17) {
                fail(FAULT_spawn, 1, one_in(2) ? EAGAIN : ENOMEM);
            } else if (what == 18 && one_in(4)) {
                m = model_crash();
            }
            model_turn(m, round);
            if (model_is_full()) break;
        }
        fail(FAULT_spawn, 0, 0);
        m->ending = model.ending = true;
        m->until = NEVER;
        for (unsigned i = 0; i < m->nopenings; i++)
            model_close(item_of(m->openings[i]));
        openings_end(m);
        for (unsigned k = 0; m->nopenings && k < 5000; k++) {
            model_turn(m, round);
            if (model.nchildren) model_reap(m, rnd(model.nchildren));
            clock_ms += 100;
        }
        CHECK(!m->nopenings, "round %u: %s", round, openings_text(m));
        while (model.nchildren) model_reap(m, 0);
        CHECK(!m->nchildren);
        for (unsigned d = 0; d < 4; d++)
            for (unsigned g = 0; g < GUESTS; g++)
                CHECK(!has_stop(d, g) || !model.item[d][g].rules,
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
              "'%s': %s, %s", runs[i].command, commands->path,
              commands->text);
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
    struct output o = { .share = share_of(shop_open(), "d") };
    int ends[2];
    char text[3000];

    out.started = true;
    clock_ms = 5000000;
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
    clock_ms += 1000;
    o = (struct output){ .share = share_of(&monitor, "d") };
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
    waits = n > 4 && !(fcntl(fds[n - 1].fd, F_GETFL) & O_NONBLOCK);
    for (nfds_t i = 4; i < n; i++) fds[i].revents = POLLIN;
}

static void test_output_in_loop(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1");

    m->most_outputs = OUTPUTS_MAX;
    poll_hook = poll_outputs;
    poll_result = 1;
    door_open(m, &shop[2], &a);
    turn(m);
    CHECK(npolled == 6 && polled[5].fd >= 0 && polled[5].events == POLLIN);
    CHECK(m->noutputs == 0); /* nobody holds the other end */
    CHECK(!waits);           /* a command may read its own output before us */
    reap(m, 0, 0);
    fail(FAULT_spawn, 1, E2BIG); /* nobody holds the other end either */
    door_open(m, &shop[2], &a);
    turn(m);
    CHECK(npolled == 6 && !m->noutputs && !m->nopenings);
    poll_hook = NULL;
    poll_result = 0;
    /* a door gets what is free: its output is lost then, which it says once */
    m->most_outputs = 8;
    forget();
    for (uint32_t i = 0; i < 7; i++) {
        a = stranger(i, i % 2);
        door_open(m, &shop[2], &a);
        turn(m);
    }
    CHECK(m->noutputs == 4 && m->shares->outputs == 4);
    CHECK(ncommands == 8 && count_text("c: output is not logged: ") == 1);
    knock_at(m, &shop[0], "192.0.2.1");
    CHECK(m->noutputs == 5 && !has_text("a: output is not logged"));
    monitor_end();
}
