/* Unit tests of interfaces, signals, reload; part of unit.c. */

/* ---- Interfaces, signals, reload --------------------------------------- */

static struct ifaddrs an_interface(const char *name, const char *text,
                                   bool up, struct sockaddr_storage *room) {
    struct ifaddrs i = { .ifa_name = (char *)name, .ifa_flags = up ? 1 : 0 };
    struct addr a;

    memset(room, 0, sizeof(*room));
    if (!text) return i;
    a = addr_of(text);
    if (is_v4(&a)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)room;

        v4->sin_family = AF_INET;
        memcpy(&v4->sin_addr, a.b + 12, 4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)room;

        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_addr, &a, 16);
    }
    i.ifa_addr = (struct sockaddr *)room;
    return i;
}

/* Tells which of these addresses are local, one bit each. */
static unsigned local_bits(const struct locals *l) {
    static const char *const texts[] = { "127.0.0.1", "10.0.0.1", "10.0.0.2",
                                         "fd00::1", "192.0.2.9" };
    unsigned bits = 0;

    for (unsigned i = 0; i < 5; i++) {
        struct addr a = addr_of(texts[i]);

        if (bsearch(&a, l->addr, l->naddrs, sizeof(a), addr_cmp))
            bits |= 1u << i;
    }
    return bits;
}

static void test_interfaces(void) {
    static const struct {
        const char *list, *waiting;
        unsigned bits, interfaces;
        bool any;
    } cases[] = {
        { "any", "", 31, 0, true },
        { "ANY", "", 31, 0, true },
        { "eth0", "", 14, 1, false },
        { "lo", "", 1, 1, false },
        { "eth0,lo", "", 15, 2, false },
        { " eth0 ,\tlo ", "", 15, 2, false },
        { "eth", "eth does not exist", 0, 0, false },
        { "eth00", "eth00 does not exist", 0, 0, false },
        { "eth1", "eth1 is down", 16, 1, false },
        { "eth2", "eth2 has no address", 0, 1, false },
        { "eth2,lo,x", "eth2 has no address, x does not exist", 1, 2, false },
        { "any,lo", "", 31, 1, true },
        { "lo,ANY", "", 31, 1, true },
        { "any,eth1,x", "eth1 is down, x does not exist", 31, 1, true },
    };
    struct sockaddr_storage room[8];
    struct ifaddrs list[8];
    static struct monitor *m;
    static struct locals l;
    static char waiting[TEXT_MAX], many[200000];

    list[0] = an_interface("lo", "127.0.0.1", true, &room[0]);
    list[1] = an_interface("eth0", "10.0.0.1", true, &room[1]);
    list[2] = an_interface("eth0:1", "10.0.0.2", true, &room[2]);
    list[3] = an_interface("eth0", "fd00::1", true, &room[3]);
    list[4] = an_interface("eth1", "192.0.2.9", false, &room[4]);
    list[5] = an_interface("eth2", NULL, true, &room[5]);
    list[6] = an_interface("eth:9", "192.0.2.77", true, &room[6]);
    list[7] = list[6];
    list[7].ifa_addr = NULL;
    for (unsigned i = 0; i < 7; i++) list[i].ifa_next = &list[i + 1];
    t_interfaces = list;
    t_index_names[0] = "lo";
    t_index_names[1] = "eth0";
    t_index_names[2] = "eth1";
    t_index_names[3] = "eth2";
    m = shop_open();
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        m->conf.listen = cases[i].list;
        CHECK(locals_read(m, &l, waiting));
        CHECK(!strcmp(waiting, cases[i].waiting), "%s: %s", cases[i].list,
              waiting);
        CHECK(l.any == cases[i].any && l.ninterfaces == cases[i].interfaces,
              "%s", cases[i].list);
        CHECK(local_bits(&l) == cases[i].bits, "%s: %u", cases[i].list,
              local_bits(&l));
        CHECK(l.any
                  ? l.naddrs == 6 /* each once */
                  : l.naddrs == (unsigned)__builtin_popcount(cases[i].bits));
    }
    /* -t prints them */
    settings.test = true;
    m->conf.listen = "eth0,lo";
    forget();
    CHECK(locals_read(m, &l, waiting) &&
              !strcmp(kept, "# eth0 10.0.0.1\n# eth0:1 10.0.0.2\n"
                            "# eth0 fd00::1\n# lo 127.0.0.1\n"),
          "%s", kept);
    settings.test = false;
    /* an error of the kernel's is no answer */
    t_index_error = ENFILE;
    m->conf.listen = "eth0,x,lo";
    CHECK(!locals_read(m, &l, waiting) && l.ninterfaces == 1);
    t_index_error = ENODEV;
    /* as many addresses as are known, and one more: it is said */
    static struct ifaddrs crowd_of[ADDRESSES_MAX + 1];
    for (unsigned i = 0; i <= ADDRESSES_MAX; i++) {
        crowd_of[i] = list[1];
        crowd_of[i].ifa_next = i < ADDRESSES_MAX ? &crowd_of[i + 1] : NULL;
    }
    m->conf.listen = "eth0";
    for (unsigned more = 0; more < 2; more++) {
        t_interfaces = crowd_of + 1 - more;
        CHECK(locals_read(m, &l, waiting));
        CHECK(l.naddrs == ADDRESSES_MAX && l.full == more, "%u", more);
    }
    t_interfaces = list;
    settings.only_ipv4 = true;
    m->conf.listen = "eth0";
    CHECK(locals_read(m, &l, waiting) && local_bits(&l) == 6);
    /* more names, and longer ones, than anybody has */
    for (unsigned k = 0; k < 3; k++) {
        size_t n = 0;

        for (unsigned i = 0; i < (k ? 20000 : 1); i++)
            n += (size_t)sprintf(many + n, "%s%s", i ? "," : "",
                                 k == 1 ? "eth0" : "x");
        if (k == 0) memset(many, 'x', 100000);
        if (k == 0) many[100000] = '\0';
        m->conf.listen = many;
        CHECK(locals_read(m, &l, waiting));
        CHECK(strlen(waiting) < TEXT_MAX && l.ninterfaces <= INTERFACES_MAX &&
              l.naddrs <= ADDRESSES_MAX);
    }
    /* changes are said, and told to the sniffer */
    m->conf.listen = "eth1";
    *m->waiting_for = '\0';
    m->sniffer = -1;
    forget();
    locals_changed(m);
    CHECK(!strcmp(kept, "waiting: eth1 is down\n"), "%s", kept);
    locals_changed(m);
    CHECK(count_text("\n") == 1);
    list[4].ifa_flags = 1;
    locals_changed(m);
    CHECK(has_text("listening on eth1 again\n"));
    fail(FAULT_getifaddrs, 1, ENOMEM);
    locals_changed(m);
    CHECK(count_text("\n") == 2);
    /* no answer: asked again in the next turn, which comes by itself */
    list[4].ifa_flags = 0;
    m->sniffer_again = NEVER;
    CHECK(next_wake(m, clock_ms) == clock_ms + RETRY_MS);
    turn(m);
    CHECK(count_text("eth1 is down\n") == 2, "%s", kept);
    CHECK(next_wake(m, clock_ms) != clock_ms + RETRY_MS);
    /* the kernel's message is read, the interfaces are, too */
    int ends[2];
    char word[8];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)) abort();
    m->netlink = ends[0];
    for (unsigned i = 0; i < 3; i++) CHECK(write(ends[1], "new", 3) == 3);
    list[4].ifa_flags = 1;
    poll_hook = poll_all;
    poll_result = 1;
    turn(m);
    poll_hook = NULL;
    poll_result = 0;
    CHECK(count_text("listening on eth1 again\n") == 2, "%s", kept);
    CHECK(recv(ends[0], word, sizeof(word), MSG_DONTWAIT) < 0);
    close(ends[0]);
    close(ends[1]);
    m->netlink = -1;
    /* at the start all must exist */
    forget();
    out.started = false;
    m->conf.listen = "eth0,eth7";
    room[7].ss_family = AF_PACKET;
    list[7].ifa_name = "wlan0";
    list[7].ifa_addr = (struct sockaddr *)&room[7];
    CHECK(ENDS(interfaces_open(m)) && end_status == 1 &&
              has_text("no such interface: eth7 does not exist; this host "
                       "has: eth2 wlan0\n"),
          "%s", kept);
    size_t used = 0;
    for (unsigned i = 0; i <= INTERFACES_MAX; i++)
        used += (size_t)sprintf(many + used, "%s", i ? ",lo" : "lo");
    m->conf.listen = many;
    forget();
    CHECK(ENDS(interfaces_open(m)) && end_status == 1 &&
              has_text("no such interface: lo is one too many; this host"),
          "%s", kept);
    many[used - 3] = '\0';
    CHECK(!ENDS(interfaces_open(m)));
    m->conf.listen = "eth1,eth2";
    CHECK(!ENDS(interfaces_open(m)));
    CHECK(!strcmp(m->waiting_for, "eth2 has no address"));
    fail(FAULT_bind, 1, EPERM);
    CHECK(!ENDS(interfaces_open(m)) && has_text("will go unnoticed"));
    fail(FAULT_getifaddrs, 1, ENOMEM);
    CHECK(ENDS(interfaces_open(m)) && has_text("could not read the inter"));
    monitor_end();
}

static int signal_ends[2];

/* A signal, as it comes from the signalfd. */
static void take_signal(struct monitor *m, uint32_t number) {
    struct signalfd_siginfo info = { .ssi_signo = number };

    if (write(signal_ends[1], &info, sizeof(info)) != sizeof(info)) abort();
    signals_take(m);
}

static void test_signals(void) {
    static struct conf c;
    struct monitor *m;
    struct addr a = addr_of("192.0.2.1");
    struct event counted = { .kind = COUNTED, .stage = OPENS, .value = 3 };
    struct order order;
    int ends[2];
    const struct door *door;

    t_interfaces = NULL;
    CHECK(load_text(&c, "[one]\nsequence=1,2\n", false));
    shop_open();
    m = monitor_new(&c);
    if (pipe2(signal_ends, O_NONBLOCK) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        abort();
    m->signals = signal_ends[0];
    m->channel = ends[0];
    *m->waiting_for = '\0';
    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0); /* stands open over all of this */
    take_signal(m, SIGUSR1);
    CHECK(read(ends[1], &order, sizeof(order)) > 0 && order.kind == COUNT);
    CHECK(!has_text("counters: "));
    CHECK(write(ends[1], &counted, sizeof(counted)) > 0 &&
          record_take(m) == 1);
    CHECK(has_text("counters: packets 0, ") &&
          has_text("opens 3, grants 1, "));
    /* a bad file changes nothing */
    put_text("conf", "[one]\nsequence=0\n");
    forget();
    door = m->conf.doors;
    take_signal(m, SIGHUP);
    CHECK(has_text("re-reading config file: conf\n") &&
          has_text("conf:2: port '0' is not a number") &&
          has_text("conf has errors: nothing changes\n"));
    CHECK(m->conf.doors == door && m->channel == ends[0] && m->sniffer == 99);
    /* where the sniffer's doors are the same it goes on with its attempts */
    put_text("conf", "# other words\n[ONE]\nsequence=1,2\ncommand=x\n");
    killed.pid = 0;
    take_signal(m, SIGHUP);
    CHECK(!strcmp(m->conf.doors->name, "ONE") && m->channel == ends[0] &&
          m->sniffer == 99 && !killed.pid);
    m->renew_at = 0; /* it waits for a one-time sequence */
    CHECK(!same_doors(m, &m->conf));
    m->renew_at = INT64_MAX;
    CHECK(same_doors(m, &m->conf));
    /* a good one is taken at once, by another sniffer */
    put_text("conf", "[options]\ninterface=x\n[two]\nsequence=3\n[once]\n"
                     "one_time_sequences=once\n");
    put_text("once", " 7,8\n");
    killed.pid = 0;
    forget();
    take_signal(m, SIGHUP);
    CHECK(killed.pid == 99 && m->sniffer == 4242 && m->conf.ndoors == 2 &&
              !strcmp(m->conf.doors->name, "two") &&
              !strcmp(m->conf.listen, "x") &&
              *m->conf.doors[1].seq.knock == 7,
          "%s", kept);
    CHECK(m->nopenings && m->openings[0]->state == HELD);
    /* another port: another sniffer */
    put_text("conf", "[two]\nsequence=4\n[once]\n"
                     "one_time_sequences=once\n");
    killed.pid = 0;
    take_signal(m, SIGHUP);
    CHECK(killed.pid == 4242 && *m->conf.doors->seq.knock == 4);
    /* the same once more: it goes on, with its one-time sequence */
    killed.pid = 0;
    take_signal(m, SIGHUP);
    CHECK(!killed.pid && *m->conf.doors[1].seq.knock == 7);
    /* no door at all is a mistake, unless there was none before */
    put_text("conf", "# nothing\n");
    forget();
    take_signal(m, SIGHUP);
    CHECK(has_text("conf has no doors left: nothing changes\n") &&
          m->conf.ndoors == 2 && !killed.pid);
    struct conf full = m->conf;
    m->conf = (struct conf){ .listen = "any" };
    forget();
    take_signal(m, SIGHUP);
    CHECK(!has_text("nothing changes") && !m->conf.ndoors);
    config_free(&m->conf);
    m->conf = full;
    m->sniffer = 4242;
    /* children: a command, the sniffer, one that nobody knows */
    clock_ms += 5000;
    turn(m);
    CHECK(ncommands == 2);
    m->ready = true;
    t_ended[0].pid = commands[1].pid;
    t_ended[1].pid = 4242;
    t_ended[1].status = 9;
    t_ended[2].pid = 5;
    t_nended = 3;
    take_signal(m, SIGCHLD);
    CHECK(!m->nopenings && m->sniffer == -1 &&
          has_text("the sniffer died (signal 9)"));
    CHECK(!m->ending);
    take_signal(m, SIGTERM);
    CHECK(m->ending);
    m->ending = false;
    take_signal(m, SIGINT);
    CHECK(m->ending);
    forget();
    take_signal(m, SIGHUP);
    CHECK(!*kept);
    signals_take(m); /* nothing there */
    close(ends[1]);
    close(signal_ends[0]);
    close(signal_ends[1]);
    config_free(&m->conf);
    monitor_end();
}

/* Signals come through a pipe. */
static void signals_by_pipe(struct monitor *m) {
    if (pipe2(signal_ends, O_NONBLOCK)) abort();
    m->signals = signal_ends[0];
}

static void signals_end(void) {
    close(signal_ends[0]);
    close(signal_ends[1]);
    poll_hook = NULL;
    poll_result = 0;
}

/* The end: doors are closed at once, whatever their time. */
static void test_end(void) {
    struct monitor *m = shop_open();
    struct addr b = addr_of("192.0.2.2");
    struct signalfd_siginfo info = { .ssi_signo = SIGTERM };
    int ends[2];

    knock_at(m, &shop[1], "192.0.2.1");
    reap(m, 0, 0);
    knock_at(m, &shop[1], "192.0.2.2");
    door_open(m, &shop[0], &b); /* waits; is not run any more */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    signals_by_pipe(m);
    m->channel = ends[0];
    close(ends[1]); /* the sniffer has ended */
    m->pid_path = strdup("pid");
    put_text("pid", "1\n");
    CHECK(write(signal_ends[1], &info, sizeof(info)) == sizeof(info));
    poll_hook = poll_all;
    poll_result = 1;
    turn(m);
    CHECK(m->ending && m->channel == -1 &&
          m->until == clock_ms + SHUTDOWN_MS);
    signals_end();
    forget();
    openings_end(m);
    turn(m);
    CHECK(ncommands == 3 && !strcmp(command_text(0), "stop b 192.0.2.1"));
    CHECK(has_text("a: not run because knockd ends: start a 192.0.2.2\n"),
          "%s", kept);
    reap(m, 0, 0);
    reap_command(m, &commands[1], 0);
    turn(m);
    CHECK(ncommands == 4 && !strcmp(command_text(0), "stop b 192.0.2.2"));
    reap(m, 0, 0);
    CHECK(!m->nopenings);
    settings.verbose = true;
    CHECK(!run(m));
    settings.verbose = false;
    CHECK(has_text("waiting for child processes...\n") &&
          !has_text("shutting down\n") && has_text("closing...\n"));
    CHECK(!run(m));
    CHECK(has_text("shutting down\n"));
    CHECK(faccessat(directory_fd, "pid", F_OK, 0) &&
          faccessat(directory_fd, "k.state", F_OK, 0));
    free(m->pid_path);
    /* without a state file there is none to remove */
    m->pid_path = NULL;
    free(m->state.path);
    m->state.path = NULL;
    put_text("k.state", "another daemon's");
    CHECK(!run(m) && !faccessat(directory_fd, "k.state", F_OK, 0));
    unlinkat(directory_fd, "k.state", 0);
    monitor_end();
}

static unsigned long long end_turns;
static bool end_twice;

/* While run() sleeps, time passes and commands end. */
static void poll_passing(struct pollfd *fds, nfds_t n) {
    struct monitor *m = &monitor;
    int64_t next = t_alarm ? t_alarm : INT64_MAX;
    struct signalfd_siginfo info = { .ssi_signo = SIGTERM };

    (void)n;
    end_turns++;
    if (end_twice && clock_ms > 1500 + 1000000) {
        CHECK(write(signal_ends[1], &info, sizeof(info)) > 0);
        fds[0].revents = POLLIN;
        poll_result = 1;
        return;
    }
    for (unsigned i = 0; i < ncommands && i < 8192; i++)
        if (!commands[i].ended) next = min_ms(next, commands[i].ends);
    if (next > clock_ms) clock_ms = min_ms(next, clock_ms + 60000);
    for (unsigned i = 0; i < ncommands && i < 8192; i++)
        if (!commands[i].ended && commands[i].ends <= clock_ms)
            reap_command(m, &commands[i], commands[i].status);
    if (kept_length > KEPT_MAX / 2) forget();
}

/* run() of a daemon that is told to end now; its exit status. */
static int end_now(struct monitor *m) {
    signals_by_pipe(m);
    forget();
    poll_hook = poll_passing;
    m->ending = true;
    m->until = clock_ms + SHUTDOWN_MS;
    int status = run(m);

    signals_end();
    return status;
}

static int64_t long_ms(const struct spawned *c) {
    return !strcmp(c->event, "stop") ? 300 : 3;
}

static int64_t hanging_stop(const struct spawned *c) {
    return !strcmp(c->event, "stop") ? 14000 : 3;
}

static int64_t hanging_start(const struct spawned *c) {
    return !strcmp(c->event, "start") ? 60000 : 3;
}

/* A lock is held for the first 3 seconds. */
static int locked_status(const struct spawned *c) {
    bool stop = !strcmp(c->event, "stop");

    return stop && c->begun < 1003000 ? 4 << 8 : 0;
}

/* So many openings, all open. */
static struct monitor *open_many(unsigned n,
                                 int64_t (*ms)(const struct spawned *)) {
    struct monitor *m = shop_open();

    clock_ms = 1000000;
    command_ms = ms;
    unlinkat(directory_fd, "k.state", 0);
    state_load(m);
    shop[0].cmd_timeout = 3600;
    for (uint32_t i = 0; i < n; i++) {
        struct addr a = stranger(i, i % 2);
        struct opening *o = opening_new(m, &shop[i % 2], &a);

        o->times = 1;
        opening_move(m, o, HELD, clock_ms + 100000);
    }
    return m;
}

/* The end, with thousands of doors, slow and hanging stop commands, with ones
 * that fail, and with start commands that run. */
static void test_end_of_many(void) {
    struct monitor *m = open_many(3500, three_ms);
    int64_t began_at = clock_ms;

    CHECK(end_now(m) == 0 && ncommands == 3500);
    CHECK(clock_ms < began_at + SHUTDOWN_MS, "%d",
          (int)(clock_ms - began_at));
    CHECK(faccessat(directory_fd, "k.state", F_OK, 0));
    m = open_many(243, long_ms);
    CHECK(end_now(m) == 0 && ncommands == 243, "%u", ncommands);
    /* not in time: said, and kept for the next start */
    m = open_many(3, hanging_stop);
    CHECK(end_now(m) == 1 && clock_ms == 1000000 + SHUTDOWN_MS);
    CHECK(has_text("openings not closed in time: 3 (b b, a); ") ||
              has_text("openings not closed in time: 3 (a, b b); "),
          "%s", kept);
    CHECK(has_text("the next start of knockd closes them\n"));
    m = shop_open();
    state_load(m);
    CHECK(m->nopenings == 3);
    /* nor can they be kept: no disk, or another daemon's file */
    for (unsigned i = 0; i < 2; i++) {
        m = open_many(3, hanging_stop);
        unlinkat(directory_fd, "k.state", 0);
        fail(FAULT_rename, 1, ENOSPC);
        faults[FAULT_rename].always = i == 0;
        if (i == 1) free(m->state.path);
        if (i == 1) m->state.path = NULL;
        CHECK(end_now(m) == 1);
        CHECK(has_text("; they are not saved: close them by hand\n") &&
                  !has_text("next start"),
              "%s", kept);
        fail(FAULT_rename, 0, 0);
    }
    /* one that fails runs again, once a second */
    m = open_many(20, three_ms);
    command_status = locked_status;
    CHECK(end_now(m) == 0 && ncommands >= 60, "%u", ncommands);
    command_status = NULL;
    /* a start command that runs is not waited for, its stop comes */
    m = open_many(0, hanging_start);
    knock_at(m, &shop[0], "192.0.2.1");
    knock_at(m, &shop[2], "192.0.2.2"); /* nobody waits for this one */
    CHECK(end_now(m) == 0 && began("stop a 192.0.2.1") == 1000000 + ORDER_MS);
    CHECK(clock_ms < 1000000 + ORDER_MS + 100);
    /* hanging commands of all kinds: never more than there may be */
    m = open_many(400, for_ever);
    for (uint32_t i = 0; i < 2 * CHILDREN_MAX; i++) {
        struct addr a = stranger(i, false);

        door_open(m, &shop[2 + i % 2], &a);
        if (i % RUN_MAX == 0) pass(m, RUN_MS);
    }
    CHECK(m->nchildren > CHILDREN_MAX / 2 && m->nchildren < CHILDREN_MAX);
    CHECK(end_now(m) == 1 && m->nchildren == CHILDREN_MAX, "%u",
          m->nchildren);
    /* a second signal */
    m = open_many(3, hanging_stop);
    end_twice = true;
    knock_at(m, &shop[2], "192.0.2.2");
    for (unsigned i = 0; i < ncommands; i++)
        commands[i].ends = clock_ms + 1600;
    CHECK(end_now(m) == 1 && clock_ms < 1000000 + SHUTDOWN_MS, "%d",
          (int)(clock_ms - 1000000));
    end_twice = false;
    CHECK(end_turns < 100000);
    monitor_end();
}
