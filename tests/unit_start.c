/* Unit tests of logs to other places; the start; part of unit.c. */

/* ---- Logs to other places; the start ----------------------------------- */

/* The next datagram; "" if there is none. */
static const char *received(int fd) {
    static char text[8192];
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* A datagram socket by a name in our directory; its path is left in path. */
static int datagrams(const char *name, char path[108]) {
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    snprintf(un.sun_path, sizeof(un.sun_path), "%.80s/%s", directory, name);
    strcpy(path, un.sun_path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&un, sizeof(un))) abort();
    return fd;
}

static void test_syslog(void) {
    struct monitor *m = shop_open();
    int fd = datagrams("devlog", t_syslog);
    char text[3000];
    const char *got;

    time_t was = time(NULL), now;
    char before[32], after[32];

    out.use_syslog = true;
    say(LOG, "hello\nworld");
    got = received(fd);
    strftime(before, sizeof(before), "<29>%b %e ", localtime(&was));
    now = time(NULL);
    strftime(after, sizeof(after), "<29>%b %e ", localtime(&now));
    CHECK(!strncmp(got, before, strlen(before)) ||
              !strncmp(got, after, strlen(after)),
          "%s, not %s", got, after);
    CHECK(!strncmp(got, "<29>", 4) && got[7] == ' ' && got[10] == ' ' &&
              got[13] == ':' &&
              strstr(got, " knockd: hello?world") == got + 19,
          "%s", got);
    CHECK(!*kept);
    memset(text, 'x', sizeof(text)); /* nobody reads: lost, not waited for */
    text[sizeof(text) - 1] = '\0';
    for (unsigned i = 0; i < 2000; i++) say(LOG, "%s", text);
    close(fd); /* restarted */
    fd = datagrams("devlog", t_syslog);
    say(LOG, "again");
    CHECK(strstr(received(fd), " knockd: again"));
    close(fd);
    unlink(t_syslog);
    say(LOG, "nobody is there");
    CHECK(!*kept);
    close(out.syslog);
    out.syslog = -1;
    out.use_syslog = false;
    (void)m;
    monitor_end();
}

static void test_notify(void) {
    char path[108], longer[200];
    int fd = datagrams("notify", path);

    setenv("NOTIFY_SOCKET", path, 1);
    notify_ready();
    CHECK(!strcmp(received(fd), "READY=1"));
    setenv("NOTIFY_SOCKET", "@nobody-listens-here", 1);
    notify_ready();
    for (unsigned n = 106; n < 110; n++) { /* about as long as one may be */
        memset(longer, 'x', sizeof(longer));
        longer[n] = '\0';
        setenv("NOTIFY_SOCKET", longer, 1);
        notify_ready();
    }
    unsetenv("NOTIFY_SOCKET");
    notify_ready();
    CHECK(!*received(fd));
    close(fd);
    unlinkat(directory_fd, "notify", 0);
}

/* -l: lines that begin with an address get its name. */
static void test_names(void) {
    static const char *const lines[][2] = {
        { "192.0.2.1: d: Stage 1", "192.0.2.1 (client): d: Stag"
                                   "e 1\n" },
        { "192.0.2.1: d: Stage 2", "192.0.2.1 (client): d: Stag"
                                   "e 2\n" },
        { "192.0.2.2: d: Stage 1", "192.0.2.2: d: Stage 1\n" },
        { "192.0.2.2: d: Stage 2", "192.0.2.2: d: Stage 2\n" },
        { "2001:db8::1: d: OPEN SESAME", "2001:db8::1: d: OPEN SESAME\n" },
        { "d: running command: x", "d: running command: x\n" },
        { "no colon", "no colon\n" },
        { ": x", ": x\n" },
        /* takes too long */
        { "198.51.100.9: d: x", "198.51.100.9: d: x\n" },
        /* for a while no name is looked up then */
        { "192.0.2.1: d: Stage 3", "192.0.2.1: d: Stage 3\n" },
    };
    struct monitor *m = shop_open();
    const char *file;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    t_really = true;
    put_text("names.log", ""); /* what children write counts as well */
    out.file = openat(directory_fd, "names.log", O_WRONLY | O_APPEND);
    out.namer = ends[0];
    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        say(LOG, "%s", lines[i][0]);
    CHECK(!*get_file("names.log", NULL));
    close(ends[0]);
    out.namer = -1;
    t_closes = false;
    CHECK(ENDS(namer(ends[1])) && end_status == 0);
    t_closes = true;
    t_really = false;
    file = get_file("names.log", NULL);
    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        const char *line = strstr(file, lines[i][1]);

        CHECK(line && line >= file + 19 && line[-1] == ' ', "%s", file);
        file = line ? line : file; /* in their order */
    }
    close(ends[1]);
    close(out.file);
    out.file = -1;
    unlinkat(directory_fd, "names.log", 0);
    /* no process for a look-up: the line comes without a name */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    out.file = openat(directory_fd, "names.log",
                      O_WRONLY | O_APPEND | O_CREAT, 0600);
    out.namer = ends[0];
    clock_ms += LOOKUP_PAUSE_MS;
    say(LOG, "192.0.2.1: d: alone");
    close(ends[0]);
    int log = datagrams("devlog", t_syslog);
    out.use_syslog = true;
    out.syslog = 2999; /* the monitor's, which the namer closes */
    t_closes = false;
    fail(FAULT_fork, 1, EAGAIN);
    CHECK(ENDS(namer(ends[1])) && end_status == 0);
    t_closes = true;
    CHECK(strstr(get_file("names.log", NULL), "] 192.0.2.1: d: alone\n"),
          "%s", get_file("names.log", NULL));
    CHECK(strstr(received(log), " knockd: 192.0.2.1: d: alone"));
    out.use_syslog = false;
    out.namer = out.syslog = -1;
    close(log);
    unlink(t_syslog);
    close(ends[1]);
    close(out.file);
    out.file = -1;
    unlinkat(directory_fd, "names.log", 0);
    /* its queue is full: lines are logged here */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends)) abort();
    out.namer = ends[0];
    forget();
    fail(FAULT_send, 1, EAGAIN);
    say(LOG, "not lost");
    CHECK(!strcmp(kept, "not lost\n"));
    say(LOG, "queued");
    CHECK(!has_text("queued"));
    close(ends[0]);
    close(ends[1]);
    out.namer = -1;
    /* nobody looks them up any more: lines come all the same */
    settings.lookup = true;
    fail(FAULT_socketpair, 1, EMFILE);
    namer_start(m);
    CHECK(out.namer == -1);
    namer_start(m);
    CHECK(out.namer >= 0);
    m->namer = 77;
    settings.lookup = false;
    t_ended[0].pid = 77;
    t_nended = 1;
    if (pipe2(signal_ends, O_NONBLOCK)) abort();
    m->signals = signal_ends[0];
    take_signal(m, SIGCHLD);
    CHECK(out.namer == -1);
    close(signal_ends[0]);
    close(signal_ends[1]);
    monitor_end();
}

/* Runs knockd_main() with these words; its status. */
static int run_main(const char *words) {
    static char text[4096], *argv[32], *rest_of;
    static int argc;

    snprintf(text, sizeof(text), "%s", words);
    argv[0] = "knockd";
    for (argc = 1, rest_of = text; argc < 30; argc += *argv[argc] != '\0')
        if (!(argv[argc] = strsep(&rest_of, " "))) break;
    optind = 0; /* from the start */
    forget();
    out.started = out.detached = false;
    settings =
        (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    t_closes = false;
    if (!ENDS(end_status = knockd_main(argc, argv))) end_caught = false;
    t_closes = true;
    out.started = out.detached = false;
    settings =
        (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    out.file = -1;
    return end_status;
}

static void test_command_line(void) {
    static const struct {
        const char *words;
        int status;
        const char *says;
    } cases[] = {
        { "-h", 0, "usage: knockd [options]\n" },
        { "--help", 0, "usage: knockd [options]\n" },
        { "-V", 0, "knockd " VERSION "\n" },
        { "--version", 0, "knockd " VERSION "\n" },
        { "--vers", 0, "knockd " VERSION "\n" },
        { "-x", 1, "usage: knockd [options]\n" },
        { "--nothing", 1, "usage: knockd [options]\n" },
        { "-c", 1, "usage: knockd [options]\n" },
        { "stray", 1, "knockd: unexpected operand 'stray'\nusage: " },
        { "-t -c /no/such/file", 1,
          "knockd: could not open /no/such/fil"
          "e: No such file or directory\n" },
    };
    char words[PATH_MAX + 64];
    int err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

    dup2(null, STDERR_FILENO); /* what getopt() says itself */
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int status = run_main(cases[i].words);

        CHECK(status == cases[i].status && has_text(cases[i].says),
              "%s: %d, %s", cases[i].words, status, kept);
    }
    dup2(err, STDERR_FILENO);
    close(err);
    close(null);
    put_text("conf", "[d]\nsequence=5,1,9,7\ncommand=x %IP%\n"
                     "stop_command=y\n");
    snprintf(words, sizeof(words), "-tc %s/conf", directory);
    CHECK(run_main(words) == 0 && has_text("[d]\nSequence = 5,1,9,7\n") &&
              has_text("conf:3: warning: can't run x"),
          "%s", kept);
    put_text("conf", "[d]\nsequence=5,1,9,x\n");
    CHECK(run_main(words) == 1 && has_text("port 'x'") &&
              !has_text("Sequence ="),
          "%s", kept);
    snprintf(words, sizeof(words), "--config=%s/conf", directory);
    CHECK(run_main(words) == 1 && has_text("port 'x'"));
}

/* --status, from the state file beside the pidfile. */
static void test_status(void) {
    char words[3 * PATH_MAX];

    put_text("conf", "[options]\npidfile=k.pid\n[d]\nsequence=5,1,9,7\n");
    snprintf(words, sizeof(words), "-S -s -c %s/conf", directory);
    unlinkat(directory_fd, "k.state", 0);
    CHECK(run_main(words) == 0 && !*kept, "%s", kept);
    put_lines("open 1003500 30 1 192.0.2.1 - back door\nstop x\n"
              "open 1003500 30 2 2001:db8::1 annabel c\nstop x\n"
              "open 999000 30 16 192.0.2.2 - back door\nstop x\n"
              "open 999000 30 1 192.0.2.3 - back door\nstop x\ngone 4\n");
    CHECK(run_main(words) == 0 &&
              !strcmp(kept, "back door\t192.0.2.1\t-\t4\tstop\n"
                            "c\t2001:db8::1\tannabel\t4\tstop\n"
                            "back door\t192.0.2.2\t-\t0\tstop\n"),
          "%s", kept);
    /* on a terminal: columns, below their names */
    t_terminal = true;
    CHECK(run_main(words) == 0 &&
              !strcmp(kept,
                      "DOOR       ADDRESS      CLIENT   SECONDS  HOW\n"
                      "back door  192.0.2.1    -              4  stop\n"
                      "c          2001:db8::1  annabel        4  stop\n"
                      "back door  192.0.2.2    -              0  stop\n"),
          "%s", kept);
    t_terminal = false;
    put_version_2("open 3600 3000000 192.0.2.1 b b\nstop x\n");
    CHECK(run_main(words) == 0 &&
              !strcmp(kept, "b b\t192.0.2.1\t-\t2000\tstop\n"),
          "%s", kept);
    put_text("k.state", "nonsense\n");
    CHECK(run_main(words) == 1 && has_text("k.state is damaged"), "%s", kept);
    put_text("k.state", "");
    CHECK(run_main(words) == 0 && !*kept);
    unlinkat(directory_fd, "k.state", 0);
    CHECK(!mkdirat(directory_fd, "k.state", 0700));
    CHECK(run_main(words) == 1 && has_text("could not read k.state"));
    unlinkat(directory_fd, "k.state", AT_REMOVEDIR);
}

/* -t looks for what would end a start with the same options, or hinder it. */
static void test_test(void) {
    static const struct {
        const char *options, *words;
        int status;
        const char *says, *says_not;
    } cases[] = {
        { "", "-i eth0", 0, "# interfaces: eth0\n[options]\n", "waiting" },
        { "", "-i eth0", 0, "\n# OK\n", "errors" },
        { "", "-i eth0,eth1", 0,
          "# interfaces: eth0,eth1; waiting: eth1 is down\n", "errors" },
        { "", "-i eth7", 1, "no such interface: eth7 does not exist",
          "# interfaces" },
        { "", "-i eth7", 1, "knockd: errors: 1\n", "# OK" },
        /* the log: an error where it ends a start, with -d */
        { "logfile=no/such/log\n", "-d", 1,
          "knockd: could not write no/such/log: No such file", "# OK" },
        { "logfile=no/such/log\n", "", 0,
          "warning: could not write no/such/log: No such file", "errors" },
        { "logfile=/dev/stdout\n", "-d", 0, "# OK\n", "could not write" },
        { "logfile=new\n", "-d", 0, "# OK\n", "could not write" },
        { "", "-g no/such/log", 0, "could not write no/such/log", "errors" },
        { "logfile=old\n", "-g no/such/log", 0, "# OK\n", "could not write" },
        /* the pidfile, of -d alone; the state file beside it */
        { "", "-d -p no/such/k.pid", 1,
          "knockd: could not write no/such/k.pid: No such file", "# OK" },
        { "", "-p no/such/k.pid", 0,
          "warning: could not write no/such/k.state: No such file", "k.pid" },
        { "", "-p old", 0, "# another knockd runs with pid file old\n",
          "errors" },
        { "[k]\nsequence=5:udp\nkeys=keys\n", "", 0, "# client anna\n",
          "errors" },
    };
    struct sockaddr_storage room[2];
    struct ifaddrs list = an_interface("eth0", "10.0.0.1", true, &room[0]),
                   other = an_interface("eth1", "10.0.0.2", false, &room[1]);
    char text[512], words[3 * PATH_MAX];
    struct flock lock = { .l_type = F_WRLCK };

    list.ifa_next = &other;
    t_interfaces = &list;
    t_index_names[1] = "eth0";
    t_index_names[2] = "eth1";
    put_text("old", "1\n");
    put_text("keys", "anna b0b1b2b3b4b5b6b7b0b1b2b3b4b5b6b7b0b1b2b3b4b5b6b7"
                     "b0b1b2b3b4b5b6b7\n");
    int fd = openat(directory_fd, "old", O_RDWR);
    CHECK(!fcntl(fd, F_OFD_SETLK, &lock));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool pid = strstr(cases[i].words, "-p");

        snprintf(text, sizeof(text), "[options]\n%s[d]\nsequence=5,1,9,7\n",
                 cases[i].options);
        put_text("conf", text);
        snprintf(words, sizeof(words), "-t -c conf %s %s", cases[i].words,
                 pid ? "" : "-p k.pid");
        int status = run_main(words);

        CHECK(status == cases[i].status && has_text(cases[i].says) &&
                  !has_text(cases[i].says_not),
              "%s %s: %d, %s", cases[i].options, words, status, kept);
    }
    close(fd);
    unlinkat(directory_fd, "old", 0);
    CHECK(faccessat(directory_fd, "new", F_OK, 0)); /* it makes nothing */
    t_interfaces = NULL;
}

/* Restores what the sniffer's descriptors were: 0 and 1 are ours, too. */
static int standard[3];

static void standard_keep(void) {
    fflush(stdout);
    for (int i = 0; i < 3; i++) standard[i] = dup(i);
}

static void standard_restore(void) {
    for (int i = 0; i < 3; i++) dup2(standard[i], i);
    for (int i = 0; i < 3; i++) close(standard[i]);
}

static void poll_hang_up(struct pollfd *fds, nfds_t n) {
    (void)n;
    life_hear();
    shutdown(life_ends[0], SHUT_WR);
    fds[0].revents = POLLIN | POLLHUP;
    poll_result = 1;
}

/* One file, three programs: its name says which; and the sniffer, in a child of
 * the monitor. */
static void test_programs(void) {
    static char *sniffer_words[] = { SNIFFER_NAME, NULL };
    static char *client_words[] = { "knock", NULL };
    struct locals locals = { .any = 1 };
    struct order doors = { .kind = NEW_DOORS },
                 where = { .kind = NEW_LOCALS,
                           .bytes = (uint32_t)locals_bytes(&locals) };
    struct watches *w;
    char *name = program_invocation_short_name;
    struct monitor *m = shop_open();

    t_ring = openat(directory_fd, "ring", O_RDWR | O_CREAT, 0600);
    CHECK(!ftruncate(t_ring, RING_BYTES));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, life_ends));
    simple(2);
    w = watches_make(&one_conf, &doors.bytes);
    give_order(doors, w, PIECE_BYTES);
    give_order(where, &locals, PIECE_BYTES);
    memset(life_events, 0, sizeof(life_events));
    standard_keep();
    dup2(life_ends[1], 0);
    dup2(t_ring, 1);
    poll_hook = poll_hang_up;
    t_closes = false;
    bool ended = ENDS(knockd_main(1, sniffer_words));
    t_closes = true;
    poll_hook = NULL;
    poll_result = 0;
    standard_restore();
    CHECK(ended && end_status == 0 && life_events[READY] == 1);
    CHECK(execed);
    close(life_ends[0]);
    close(life_ends[1]);
    free(w);
    /* no execveat() in the kernel: a copy, unless it would have the keys */
    for (unsigned clients = 0; clients < 2; clients++) {
        m->conf.nclients = clients;
        close(m->packets);
        m->packets = -1;
        m->sniffer = -1;
        standard_keep();
        t_closes = false;
        t_forks[0] = 0;
        t_nforks = 1;
        fail(FAULT_read, 1, EIO); /* the copy hears nothing, and ends */
        t_range_from = 0;
        errno = ENOSYS;
        ended = ENDS(sniffer_start(m));
        t_closes = true;
        standard_restore();
        fail(FAULT_read, 0, 0);
        CHECK(ended && end_status == (clients ? KEYS_STATUS : 0), "%d",
              end_status);
        CHECK(clients || t_range_from, "the copy has all that is open");
        m->sniffer = -1;
    }
    m->conf.nclients = 0;
    /* the client */
    program_invocation_short_name = "knock";
    CHECK(knockd_main(1, client_words) == 1);
    program_invocation_short_name = name;
    /* the process that looks names up, in a child: here nobody talks to it */
    settings.lookup = true;
    t_forks[0] = 0;
    t_nforks = 1;
    t_closes = false;
    fail(FAULT_recv, 1, EIO);
    CHECK(ENDS(namer_start(m)) && end_status == 0);
    t_closes = true;
    close(t_ring);
    t_ring = -1;
    unlinkat(directory_fd, "ring", 0);
    monitor_end();
}

/* Capabilities of a file, such as setcap cap_net_raw+p gives, become effective;
 * what else there is stays. */
static void test_capabilities(void) {
    static const uint32_t before[6] = { 0, 0x3000, 7, 1, 0x40, 9 };
    static const uint32_t after[6] = { 0x3000, 0x3000, 7, 0x40, 0x40, 9 };

    memcpy(t_capabilities, before, sizeof(before));
    raise_capabilities();
    CHECK(!memcmp(t_capabilities, after, sizeof(after)));
}

/* Commands inherit no descriptor but those that are named, however many there
 * are. */
static void test_close_others(void) {
    static const int keep[3] = { 7, 2000, 1500 };

    for (int i = 0; i < 3; i++) {
        t_closes = false;
        memset(t_closed, 0, sizeof(t_closed));
        close_others(keep[i], keep[(i + 1) % 3], keep[(i + 2) % 3]);
        t_closes = true;
        for (int fd = 0; fd < (int)sizeof(t_closed); fd++)
            CHECK(t_closed[fd] == (fd >= 3 && fd <= 2000 && fd != 7 &&
                                   fd != 1500 && fd != 2000),
                  "%d", fd);
        CHECK(t_range_from == 2001);
    }
    t_closes = false;
    close_others(-1, -1, 5);
    t_closes = true;
    CHECK(t_range_from == 1024);
}

static char pidfile[100]; /* what is in it while the daemon runs */

/* Ends the daemon as soon as it waits. */
static void poll_end(struct pollfd *fds, nfds_t n) {
    poll_result = n > 1;
    if (n <= 1) return;
    snprintf(pidfile, sizeof(pidfile), "%s", get_file("k.pid", NULL));
    raise(SIGTERM); /* blocked: it comes by the descriptor */
    CHECK(fds[0].fd > STDERR_FILENO);
    fds[0].revents = POLLIN;
}

/* From the command line to the end, in this very process. */
static void test_whole_run(void) {
    struct sockaddr_storage room;
    struct ifaddrs list = an_interface("eth0", "10.0.0.1", true, &room);
    char words[3 * PATH_MAX], path[108];
    sigset_t before;

    t_ring = openat(directory_fd, "ring", O_RDWR | O_CREAT, 0600);
    t_interfaces = &list;
    t_index_names[1] = "eth0";
    sigprocmask(SIG_SETMASK, NULL, &before);
    put_text("conf", "[options]\nlogfile=log\n[d]\nsequence=5,1,9,7\n");
    fail(FAULT_socket, 1, EPERM);
    snprintf(words, sizeof(words), "-c %s/conf -p %s/k.pid", directory,
             directory);
    CHECK(run_main(words) == 1 &&
              has_text("opening a packet socket needs CAP_NET_RAW"),
          "%s", kept);
    fail(FAULT_socket, 1, EAFNOSUPPORT);
    CHECK(run_main(words) == 1 &&
              has_text("opening a packet socket: Address family"),
          "%s", kept);
    fail(FAULT_bind, 1, ENODEV);
    CHECK(run_main(words) == 1 && has_text("packet socket: No such dev"),
          "%s", kept);
    snprintf(words, sizeof(words), "-c %s/conf -p %s/k.pid -i eth5",
             directory, directory);
    CHECK(run_main(words) == 1 &&
              has_text("no such interface: eth5 does not exist"),
          "%s", kept);
    snprintf(words, sizeof(words),
             "-d -c %s/conf -p %s/k.pid -i eth0 -v -4 "
             "-D -l -g x",
             directory, directory);
    put_text("conf", "[d]\nsequence=5,1,9,7\n");
    poll_hook = poll_end;
    poll_result = 1;
    t_forks[0] = 0; /* it detaches; the sniffer is none of ours */
    t_nforks = 1;
    put_text("k.pid", "1234567\nno pid file\n");
    CHECK(run_main(words) == 1 && has_text("/k.pid is no pid file"), "%s",
          kept);
    CHECK(strstr(get_file("k.pid", NULL), "no pid file"));
    snprintf(path, sizeof(path), "-t %s", words);
    CHECK(run_main(path) == 1 && has_text("/k.pid is no pid file"), "%s",
          kept);
    put_text("k.pid", "12345678901234567890123456789012\n"); /* too long */
    CHECK(run_main(path) == 1 && has_text("/k.pid is no pid file"), "%s",
          kept);
    t_nforks = 1;
    put_file("k.pid", "12345 \r\n\0\0", 10); /* an old one, after a crash */
    mode_t mask = umask(0);
    signal(SIGHUP, SIG_IGN); /* as nohup does */
    CHECK(run_main(words) == 0, "%d %s", end_status, kept);
    CHECK(signal(SIGHUP, SIG_DFL) == SIG_DFL);
    mode_t given = umask(mask); /* for what commands make */
    CHECK(given == 022, "%o", given);
    snprintf(path, sizeof(path), "%d\n", (int)getpid());
    CHECK(!strcmp(pidfile, path), "%s", pidfile);
    poll_hook = NULL;
    poll_result = 0;
    CHECK(has_text("closing...\n") && strstr(get_file("x", NULL), "") &&
              faccessat(directory_fd, "k.pid", F_OK, 0) &&
              faccessat(directory_fd, "k.state", F_OK, 0),
          "%s", kept);
    /* a service manager would kill what detaches */
    int manager = datagrams("notify", path);
    setenv("NOTIFY_SOCKET", path, 1);
    poll_hook = poll_end;
    poll_result = 1;
    umask(027);
    CHECK(run_main(words) == 0 &&
              has_text("warning: -d does not detach under a service manager"),
          "%s", kept);
    given = umask(mask);
    CHECK(given == 027, "%o", given); /* whoever set one meant it */
    poll_hook = NULL;
    poll_result = 0;
    unsetenv("NOTIFY_SOCKET");
    close(manager);
    unlink(path);
    /* no place for the pidfile, or no room in it */
    for (unsigned i = 0; i < 2; i++) {
        if (i) CHECK(!symlinkat("/dev/full", directory_fd, "k.pid"));
        else CHECK(!mkdirat(directory_fd, "k.pid", 0700));
        t_nforks = 1;
        CHECK(run_main(words) == 1 && has_text("could not create pid file "),
              "%s", kept);
        unlinkat(directory_fd, "k.pid", i ? 0 : AT_REMOVEDIR);
    }
    /* another knockd has the pidfile */
    put_text("k.pid", "1\n");
    struct flock lock = { .l_type = F_WRLCK };
    int fd = openat(directory_fd, "k.pid", O_RDWR);

    CHECK(!fcntl(fd, F_OFD_SETLK, &lock));
    t_nforks = 1;
    CHECK(run_main(words) == 1 && has_text("another knockd runs with pid"),
          "%s", kept);
    CHECK(!strcmp(get_file("k.pid", NULL), "1\n"));
    close(fd);
    /* could not detach; the first process waits for the second */
    fail(FAULT_fork, 1, EAGAIN);
    CHECK(run_main(words) == 1 && has_text("could not detach"), "%s", kept);
    unlinkat(directory_fd, "k.pid", 0);
    t_nforks = 1;
    fail(FAULT_getrandom, 1, ENOSYS);
    CHECK(run_main(words) == 1 && has_text("getrandom: Function not impl"),
          "%s", kept);
    fail(FAULT_pipe2, 1, EMFILE);
    CHECK(run_main(words) == 1 && has_text("could not detach"), "%s", kept);
    fail(FAULT_read, 3, EINTR); /* behind the two of the configuration */
    CHECK(run_main(words) == 1 && !*kept, "%s", kept);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(t_ring);
    t_interfaces = NULL;
    unlinkat(directory_fd, "ring", 0);
    unlinkat(directory_fd, "k.pid", 0);
    unlink("x"); /* the log of -g */
}
