/* Unit tests of doors with keys: their files, what the sniffer knows of them,
 * what the monitor makes of sealed knocks; part of unit.c. */

/* Keys of two clients. */
#define KEY_A \
    "a0b0c0d0e0f00102a0b0c0d0e0f00102a0b0c0d0e0f00102a0b0c0d0e0f00102"
#define KEY_B \
    "a1b1c1d1e1f11112a1b1c1d1e1f11112A1B1C1D1E1F11112a1b1c1d1e1f11112"
#define VECTOR_KEY \
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* ---- Configuration ----------------------------------------------------- */

/* Reads a door with this file of keys. */
static bool load_keys(struct conf *c, const char *keys, bool test) {
    put_text("keys", keys);
    return load_door(c,
                     "sequence = 62201:udp\nkeys = keys\n"
                     "command = /bin/true %IP%\ncmd_timeout = 5\n"
                     "stop_command = /bin/true %IP%\n",
                     test);
}

static void test_key_files(void) {
    static const struct {
        const char *text, *says; /* NULL: it is good */
        unsigned clients;
    } cases[] = {
        { "anna " KEY_A "\n", NULL, 1 },
        { "anna " KEY_A, NULL, 1 },
        { "# all\n\n \t\nanna\t" KEY_A " # hers\r\n bob  " KEY_B " \n", NULL,
          2 },
        { "", "no client: door 'd' opens for nobody", 0 },
        { "# anna " KEY_A "\n", "no client: door 'd' opens for nobody", 0 },
        { "\nanna\n", "keys:2: the key is not 64 hex digits", 0 },
        { "anna " KEY_A "0\n", "keys:1: the key is not 64 hex digits", 0 },
        { "anna bob " KEY_A "\n", "keys:1: the key is not 64 hex digits", 0 },
        { "an:na " KEY_A "\n", "keys:1: the name has other characters", 0 },
        { "-anna " KEY_A "\n", "keys:1: the name has other characters", 0 },
        { "a234567890123456789012345678901x " KEY_A "\n", "is longer than 31",
          0 },
        { KEY_A "\n", "keys:1: the name has other characters", 0 },
        { "anna " VECTOR_KEY "\n", "it is that of the test vectors", 0 },
        { "anna " KEY_A "\nbob " KEY_B "\nbill " KEY_B "\n",
          "keys:3: bob and bill have the same key", 3 },
    };
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool warns = cases[i].says && strstr(cases[i].says, "no client");
        bool good = load_keys(&c, cases[i].text, true);

        CHECK(good == (!cases[i].says || warns), "%u: %s", i, kept);
        CHECK(c.nclients == cases[i].clients, "%u: %u", i, c.nclients);
        if (!cases[i].says) CHECK(!kept_length, "%u: %s", i, kept);
        else CHECK(has_text(cases[i].says), "%u: %s", i, kept);
        CHECK(!has_text("a0b0c0"), "a key is logged: %s", kept);
        config_free(&c);
    }
    /* -t prints the names, and no key */
    CHECK(load_keys(&c, "anna " KEY_A "\nbob " KEY_B "\n", true));
    CHECK(!strcmp(c.clients[0].name, "anna") &&
          !strcmp(c.clients[1].name, "bob"));
    forget();
    config_print(&c);
    CHECK(has_text("Keys = keys\n") && has_text("# client anna\n") &&
              has_text("# client bob\n") && !has_text("a0b0c0"),
          "%s", kept);
    config_free(&c);
    /* each at its own door */
    put_text("keys2", "carl " KEY_B "\n");
    CHECK(load_text(&c,
                    "[d]\nsequence=1:udp\nkeys=keys\n"
                    "[e]\nsequence=2:udp\nkeys=keys2\n",
                    false));
    forget();
    config_print(&c);
    CHECK(count_text("# client") == 3 &&
              strstr(strstr(kept, "[e]"), "# client carl\n") &&
              !strstr(strstr(kept, "[e]"), "# client anna\n"),
          "%s", kept);
    config_free(&c);
    unlinkat(directory_fd, "keys2", 0);
    /* as many as there may be, and one more */
    char line[] = "anna " KEY_A, again[] = "bob " KEY_B;
    struct door d = { .name = "d" };
    c = (struct conf){ .nclients = CLIENTS_MAX - 1 };
    spot.path = "keys";
    spot.errors = 0;
    forget();
    keys_line(&c, &d, line);
    CHECK(c.nclients == CLIENTS_MAX && !spot.errors, "%s", kept);
    keys_line(&c, &d, again);
    CHECK(c.nclients == CLIENTS_MAX && spot.errors == 1 &&
              has_text("more than 65536 clients"),
          "%s", kept);
    clients_free(&c);
}

/* The same key is found among many. */
static void test_equal_keys(void) {
    static char text[200 * 1003];
    size_t n = 0;
    struct conf c;

    for (unsigned i = 0; i < 1000; i++)
        n += (size_t)sprintf(text + n, "c%u %064x\n", i, i);
    CHECK(load_keys(&c, text, false) && c.nclients == 1000, "%s", kept);
    config_free(&c);
    sprintf(text + n, "x %064x\ny %064x\nz %064x\n", 0, 999, 0);
    CHECK(!load_keys(&c, text, false));
    CHECK(!strcmp(kept, "knockd: keys:1001: c0 and x have the same key\n"
                        "knockd: keys:1002: c999 and y have the same key\n"
                        "knockd: keys:1003: c0 and z have the same key\n"
                        "knockd: keys:1003: x and z have the same key\n"),
          "%s", kept);
    config_free(&c);
}

/* Beyond the last client that there may be, the file is not read. */
static void test_too_many_keys(void) {
    struct door d = { .path = "conf", .name = "d", .keys = "keys" };
    struct conf c = { .doors = &d, .ndoors = 1, .nclients = CLIENTS_MAX - 1 };

    put_text("keys", "anna " KEY_A "\nbob " KEY_B "\ncarl 0\ndora 0\n");
    forget();
    keys_read(&c, &d);
    CHECK(!strcmp(kept, "knockd: keys:2: more than 65536 clients\n"), "%s",
          kept);
    CHECK(c.nclients == CLIENTS_MAX);
    clients_free(&c);
}

/* What is wrong with the file itself. */
static void check_doubt(const char *says) {
    struct conf c;
    bool good =
        load_door(&c, "sequence = 62201:udp\nkeys = keys\ncommand = x\n",
                  false);

    CHECK(!good && has_text(says) && !c.nclients, "%s: %s", says, kept);
    config_free(&c);
}

static void test_key_doors(void) {
    static const char *const lines[][2] = {
        { "sequence = 1:udp,2:udp\nkeys = keys\n",
          "a door with Keys has one port: Sequence = PORT:udp" },
        { "sequence = 1\nkeys = keys\n",
          "a door with Keys has one port: Sequence = PORT:udp" },
        { "one_time_sequences = once\nkeys = keys\n",
          "Keys and One_Time_Sequences exclude each other" },
    };
    struct conf c;

    put_text("once", "1,2,3\n");
    put_text("keys", "anna " KEY_A "\n");
    for (unsigned i = 0; i < 3; i++) {
        CHECK(!load_door(&c, lines[i][0], false) && has_text(lines[i][1]),
              "%s: %s", lines[i][1], kept);
        config_free(&c);
    }
    CHECK(load_door(&c, "sequence = 1:udp\nkeys = keys\ntcpflags = syn\n",
                    true) &&
              has_text("TCPFlags has no effect: a sealed knock is UDP"),
          "%s", kept);
    config_free(&c);
    CHECK(load_door(&c, "sequence = 1:udp\nkeys = keys\ntcpflags = !ack\n",
                    true) &&
          has_text("TCPFlags has no effect"));
    config_free(&c);
    CHECK(load_text(&c,
                    "[d]\nsequence = 1:udp\nkeys = keys\nset = ipset a\n"
                    "set_6 = ipset b\ncmd_timeout = 5\n"
                    "[e]\nsequence = 5,9,1\ncommand = id -D %IP%\n"
                    "[g]\nsequence = 5:udp\nkeys = keys\ncommand = x\n"
                    "[f]\nsequence = 4:udp\nkeys = keys\n",
                    true) &&
              !has_text("without a key"),
          "%s", kept);
    config_free(&c);
    CHECK(load_text(&c,
                    "[d]\nsequence = 1:udp\nkeys = keys\ncommand = x\n"
                    "[e]\nsequence = 1,2\ncommand = x\n"
                    "[f]\nsequence = 1,2,3\ncommand = y\n",
                    true) &&
              has_text("door 'e' runs the same command without a key") &&
              !has_text("door 'f'"),
          "%s", kept);
    config_free(&c);
    CHECK(load_text(&c,
                    "[d]\nsequence = 1:udp\nkeys = keys\nset = ipset a\n"
                    "[e]\nsequence = 1,2\nset = ipset a\n"
                    "[f]\nsequence = 1,2,3\nset = ipset b\n",
                    true) &&
              has_text("door 'e' has the same Set without a key") &&
              !has_text("door 'f'"),
          "%s", kept);
    config_free(&c);
    /* one key at two doors: their names tell its knocks apart */
    CHECK(load_text(&c,
                    "[d]\nsequence = 1:udp\nkeys = keys\n"
                    "[e]\nsequence = 1:udp\nkeys = keys\n",
                    false) &&
              c.nclients == 2 && c.clients[0].seen != c.clients[1].seen,
          "%s", kept);
    config_free(&c);
    CHECK(fchmodat(directory_fd, "keys", 0640, 0) == 0);
    check_doubt("keys: others may use it: chmod 600");
    CHECK(fchmodat(directory_fd, "keys", 0604, 0) == 0);
    check_doubt("keys: others may use it: chmod 600");
    unlinkat(directory_fd, "keys", 0);
    check_doubt("keys: No such file or directory");
    CHECK(!symlinkat(".", directory_fd, "keys"));
    check_doubt("keys: it is not a file of keys");
    unlinkat(directory_fd, "keys", 0);
    put_text("keys", "");
    put_text("keys", "anna " KEY_A "\n");
    fail(FAULT_read, 3, EIO);
    check_doubt("keys: the file has changed");
    CHECK(!truncate("keys", INT64_C(1) << 42)); /* more than memory */
    check_doubt("keys: it is not a file of keys");
    unlinkat(directory_fd, "keys", 0);
    put_text("keys", "anna " KEY_A "\n");
    if (!geteuid() && !fchownat(directory_fd, "keys", 12345, 0, 0))
        check_doubt("keys: it belongs neither to root nor to this user");
    unlinkat(directory_fd, "keys", 0);
    CHECK(!mkfifoat(directory_fd, "keys", 0600)); /* nobody writes there */
    check_doubt("keys: it is not a file of keys");
    unlinkat(directory_fd, "keys", 0);
    /* a zero byte does not end the file in silence */
    static const char zero[] = "anna " KEY_A "\n\0bob " KEY_B "\n";
    put_file("keys", zero, sizeof(zero) - 1);
    check_doubt("keys: a byte is zero: this is not a text file");
    unlinkat(directory_fd, "keys", 0);
    /* a test without the right to read it is not wrong for that */
    put_text("keys", "anna " KEY_A "\n");
    forget();
    put_text("conf", "[d]\nsequence = 1:udp\nkeys = keys\n");
    settings.test = true;
    fail(FAULT_open, 2, EACCES);
    CHECK(config_load(&c, "conf") && has_text("keys is not checked: "), "%s",
          kept);
    config_free(&c);
    settings.test = false;
    fail(FAULT_open, 2, EACCES);
    CHECK(!config_load(&c, "conf"));
    config_free(&c);
}

/* ---- The sniffer ------------------------------------------------------- */

/* Two doors with keys, the second with a Target, and one without. */
static bool load_sealed(struct conf *c, const char *keys) {
    put_text("keys", keys);
    put_text(
        "others",
        "carl "
        "ffb1c1d1e1f11112a1b1c1d1e1f11112a1b1c1d1e1f11112a1b1c1d1e1f11112"
        "\n");
    return load_text(
        c,
        "[ssh]\nsequence = 62201:udp\nkeys = keys\ncooldown = 3\n"
        "start_command = start %IP%\nstop_command = stop %IP%\n"
        "cmd_timeout = 60\ndeny = 198.51.100.0/24\n"
        "[far]\nsequence = 62202:udp\nkeys = others\ntarget = 10.9.9.9\n"
        "start_command = far %IP%\n"
        "[old]\nsequence = 1000:udp\nstart_command = old %IP%\n",
        false);
}

/* A sniffer with these doors, as it gets them from the monitor. */
static struct sniffer *sealed_sniffer(const struct conf *c) {
    static struct conf none;
    static struct watches *w;
    struct sniffer *s = sniffer_new(&none);
    struct order order = { .kind = NEW_DOORS };
    uint32_t bytes;
    int ends[2];

    free(w);
    w = watches_make(c, &bytes);
    order.bytes = bytes;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    CHECK(write(ends[1], &order, sizeof(order)) == sizeof(order) &&
          write(ends[1], w, bytes) == (ssize_t)bytes);
    s->channel = ends[0];
    obey(s);
    s->channel = CHANNEL;
    close(ends[0]);
    close(ends[1]);
    s->locals->naddrs = 1;
    s->locals->addr[0] = addr_of("10.0.0.1");
    s->nids ? ids_make(s) : (void)0;
    return s;
}

/* A sealed knock of the n-th client, sent this long after now by the wall
 * clock. */
static struct sealed sealed_by(const struct conf *c, unsigned n, int64_t ms) {
    struct sealed s = { .id = 0 };

    s.plain.stamp = htobe64((uint64_t)((int64_t)wall_ms() + ms));
    seal(&c->clients[n].key, &s);
    return s;
}

/* Gives the sniffer a datagram; true if it took it as a sealed knock. */
static bool sealed_sent(struct sniffer *s, const struct sealed *datagram,
                        size_t n, unsigned port, const char *to) {
    union slot slot = { .bytes = { 0 } };
    struct spec spec = { .proto = UDP,
                         .sport = 4000,
                         .dport = port,
                         .seq = next_number++,
                         .payload = (unsigned)n };
    struct packet p;

    spec.src = addr_of("192.0.2.1");
    spec.dst = addr_of(to);
    slot.head.net = 80;
    slot.from.sll_hatype = 1;
    slot.head.len = slot.head.captured =
        (uint32_t)build(slot.bytes + 80, &spec);
    memcpy(slot.bytes + 80 + 28, datagram, n < sizeof(*datagram) ? n : 56);
    CHECK(frame(s, &slot, &p));
    return p.sealed && sealed_take(s, &p);
}

/* How many sealed knocks wait; they are sent, and the last is *e. */
static unsigned sealed_heard(struct sniffer *s, struct event *e) {
    unsigned n = s->nsealed - s->sealed_at;

    while (s->nsealed) sealed_send(s);
    CHECK(heard == n, "%u, not %u", heard, n);
    if (n) *e = events[n - 1];
    events_kept = 0;
    return n;
}

static void test_ids(void) {
    struct conf c;
    struct event e = { .kind = 0 };

    t_wall = 1700000000000;
    CHECK(load_sealed(&c, "anna " KEY_A "\nbob " KEY_B "\n") &&
              c.nclients == 3,
          "%s", kept);
    struct sniffer *s = sealed_sniffer(&c);
    for (unsigned i = 0; i < 2; i++) {
        struct sealed d = sealed_by(&c, i, 0);

        CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
        CHECK(sealed_heard(s, &e) == 1 && e.kind == SEALED && e.door == i &&
              !memcmp(&e.sealed, &d, sizeof(d)));
        CHECK(is_v4(&e.src) && e.src.b[15] == 1);
        /* other ports, addresses, lengths, ids: strays */
        CHECK(!sealed_sent(s, &d, 56, 62202, "10.0.0.1"));
        CHECK(!sealed_sent(s, &d, 56, 1000, "10.0.0.1"));
        CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.2"));
        CHECK(!sealed_sent(s, &d, 55, 62201, "10.0.0.1"));
        CHECK(!sealed_sent(s, &d, 57, 62201, "10.0.0.1"));
        CHECK(!sealed_sent(s, &d, 0, 62201, "10.0.0.1"));
        d.id ^= 1;
        CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
        CHECK(!sealed_heard(s, &e));
    }
    struct sealed d = sealed_by(&c, 2, 0); /* a door with a Target */
    CHECK(sealed_sent(s, &d, 56, 62202, "10.9.9.9") &&
          sealed_heard(s, &e) == 1 && e.door == 2);
    CHECK(!sealed_sent(s, &d, 56, 62202, "10.0.0.1"));
    /* the other door goes on as before */
    CHECK(!sealed_sent(s, &d, 3, 1000, "10.0.0.1"));
    /* time goes on: for each period of a day each way, and no further */
    for (unsigned k = 0; k < 300; k++) {
        static const int64_t periods[] = { 0, 1, -1, 2, -2, 90, -90 };
        unsigned last = quick ? 3 : 7;

        clock_ms += k == 150 ? -(INT64_C(50) << PERIOD_BITS)
                             : INT64_C(1) << PERIOD_BITS;
        ids_make(s);
        memset(s->sealed, 0, sizeof(s->sealed));
        for (unsigned i = 0; i < 3; i++) s->readers[i].odd = 0;
        for (unsigned i = 0; i < last; i++) {
            d = sealed_by(&c, i % 2,
                          periods[i] * (INT64_C(1) << PERIOD_BITS));
            CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"), "%u: %d", k,
                  (int)periods[i]);
        }
        CHECK(sealed_heard(s, &e) == last);
        d = sealed_by(&c, 0, INT64_C(91) << PERIOD_BITS);
        CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
        d = sealed_by(&c, 0, -(INT64_C(91) << PERIOD_BITS));
        CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
    }
    config_free(&c);
    /* no key at all */
    CHECK(load_text(&c, "[old]\nsequence = 1000:udp\ncommand = x\n", false));
    s = sealed_sniffer(&c);
    CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
    config_free(&c);
    t_wall = 0;
}

/* Of other periods there are a few a second for each client; the queue takes
 * so many, and what it does not take is counted. */
static void test_ids_limited(void) {
    struct conf c;
    struct event e;

    t_wall = 1700000000000;
    CHECK(load_sealed(&c, "anna " KEY_A "\nbob " KEY_B "\n"));
    struct sniffer *s = sealed_sniffer(&c);
    struct sealed d = sealed_by(&c, 0, INT64_C(5) << PERIOD_BITS);
    for (unsigned i = 0; i < ODD_IDS_A_SECOND + 20; i++)
        CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
    CHECK(sealed_heard(s, &e) == ODD_IDS_A_SECOND);
    d = sealed_by(&c, 1,
                  -5 * (INT64_C(1) << PERIOD_BITS)); /* another client */
    CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1") &&
          sealed_heard(s, &e) == 1);
    /* the periods beside the present one are not limited */
    for (int side = -1; side <= 1; side++) {
        d = sealed_by(&c, 0, side * (INT64_C(1) << PERIOD_BITS));
        for (unsigned i = 0; i < ODD_IDS_A_SECOND + 20; i++)
            CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
        CHECK(sealed_heard(s, &e) == ODD_IDS_A_SECOND + 20, "%d", side);
    }
    s->counters[LOST] = 0;
    for (unsigned i = 0; i < SEALED_MAX + 7; i++)
        CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
    CHECK(s->nsealed == SEALED_MAX && s->counters[LOST] == 7);
    CHECK(sealed_heard(s, &e) == SEALED_MAX);
    /* the monitor is gone */
    CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
    fail(FAULT_write, 1, EPIPE);
    CHECK(ENDS(sealed_send(s)) && end_status == 1);
    config_free(&c);
    t_wall = 0;
}

/* ---- The monitor ------------------------------------------------------- */

/* A monitor with the doors above; its clients have had their keys for ten
 * seconds. */
static char stamps_name[] = "stamps";

static struct monitor *sealed_monitor(const char *keys) {
    static struct conf c;
    struct monitor *m;

    CHECK(load_sealed(&c, keys), "%s", kept);
    m = monitor_new(&c);
    m->clock = -1;
    m->stamps.path = stamps_name;
    forget();
    memories_take(m, &m->conf);
    clock_ms += 10000;
    return m;
}

static void sealed_monitor_end(struct monitor *m) {
    config_free(&m->conf);
    free(m->memories);
    if (m->clock >= 0) close(m->clock);
    monitor_end();
}

/* The sniffer reports a datagram of the n-th client. */
static void sealed_from(struct monitor *m, const char *source, unsigned n,
                        const struct sealed *d) {
    struct event e = { .kind = SEALED, .door = n, .sealed = *d };

    e.src = addr_of(source);
    forget();
    CHECK(is_true(m, &e));
    event_take(m, &e);
    turn(m);
}

/* The n-th client knocks: a new datagram, with a request, for an address. */
static void sealed_request(struct monitor *m, const char *source, unsigned n,
                           int64_t ms, unsigned request,
                           const char *address) {
    struct sealed d = { .id = 0 };

    d.plain.stamp = htobe64((uint64_t)((int64_t)wall_ms() + ms));
    d.plain.request = (uint8_t)request;
    if (address) {
        struct addr a = addr_of(address);

        memcpy(d.plain.address, &a, 16);
    }
    seal(&m->conf.clients[n].key, &d);
    sealed_from(m, source, n, &d);
}

static void test_sealed_opens(void) {
    t_wall = 1700000000000;
    struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    struct sealed d = sealed_by(&m->conf, 0, 0);

    sealed_from(m, "192.0.2.1", 0, &d);
    CHECK(has_text("192.0.2.1: ssh: key of anna\n") &&
              has_text("192.0.2.1: ssh: OPEN SESAME\n"),
          "%s", kept);
    CHECK(ncommands == 1 && !strcmp(command_text(0), "start 192.0.2.1"));
    CHECK(!strcmp(commands->client, "anna"), "%s", commands->client);
    reap(m, 0, 0);
    sealed_from(m, "192.0.2.1", 0, &d); /* its copies: not a word */
    sealed_from(m, "192.0.2.1", 0, &d);
    CHECK(!kept_length && ncommands == 1, "%s", kept);
    sealed_from(m, "203.0.113.9", 0, &d);
    CHECK(has_text(
              "203.0.113.9: ssh: anna: replayed, first from 192.0.2.1\n"),
          "%s", kept);
    CHECK(ncommands == 1 && m->nopenings == 1);
    /* a cooldown: the key holds, the door does not open again */
    clock_ms += 1000;
    sealed_request(m, "192.0.2.2", 1, 0, 0, NULL);
    CHECK(!kept_length && ncommands == 1, "%s", kept);
    clock_ms += 2000;
    sealed_request(m, "192.0.2.2", 1, 0, 0, "2001:db8::7");
    CHECK(has_text("192.0.2.2: ssh: key of bob for 2001:db8::7\n") &&
              has_text("2001:db8::7: ssh: OPEN SESAME\n"),
          "%s", kept);
    CHECK(ncommands == 2 && !strcmp(command_text(0), "start 2001:db8::7"));
    reap(m, 0, 0);
    /* closing has no cooldown; another address's door stays open */
    clock_ms += 10;
    sealed_request(m, "192.0.2.9", 0, 0, 1, "192.0.2.1");
    CHECK(has_text("192.0.2.9: ssh: key of anna for 192.0.2.1\n"), "%s",
          kept);
    CHECK(ncommands == 3 && !strcmp(command_text(0), "stop 192.0.2.1"));
    reap(m, 0, 0);
    CHECK(m->nopenings == 1 && m->n[HELD] == 1);
    sealed_request(m, "2001:db8::7", 1, 20, 1, NULL);
    CHECK(!strcmp(command_text(0), "stop 2001:db8::7"));
    reap(m, 0, 0);
    CHECK(!m->nopenings);
    /* the second door */
    sealed_request(m, "192.0.2.1", 2, 0, 0, NULL);
    CHECK(has_text("192.0.2.1: far: key of carl\n") &&
          !strcmp(command_text(0), "far 192.0.2.1"));
    reap(m, 0, 0);
    counters_say(m); /* closings and replays are not opens */
    CHECK(has_text(", opens 3, grants 0, commands 5, "), "%s", kept);
    /* what a sniffer must not send */
    struct event e = { .kind = SEALED,
                       .door = 3,
                       .src = addr_of("192.0.2.1") };
    forget();
    CHECK(!is_true(m, &e) && has_text("bad record from the sniffer: client"));
    m->bad_record = false;
    e.door = 0;
    e.src = addr_of("0.0.0.0");
    CHECK(!is_true(m, &e) &&
          has_text("bad record from the sniffer: address"));
    e = (struct event){ .kind = OPEN,
                        .stage = 1,
                        .src = addr_of("192.0.2.1") };
    m->bad_record = false;
    CHECK(!is_true(m, &e) && has_text("door with keys"));
    settings.only_ipv4 = true;
    e = (struct event){ .kind = SEALED, .src = addr_of("2001:db8::1") };
    CHECK(!is_true(m, &e));
    e.src = addr_of("192.0.2.1");
    CHECK(is_true(m, &e));
    settings.only_ipv4 = false;
    sealed_monitor_end(m);
    t_wall = 0;
}

/* A packet in the first part of two, which has a sealed knock's length. */
static void test_sealed_part(void) {
    struct conf c;
    struct event e;
    union slot slot = { .bytes = { 0 } };
    struct packet p;

    t_wall = 1700000000000;
    CHECK(load_sealed(&c, "anna " KEY_A "\n"));
    struct sniffer *s = sealed_sniffer(&c);
    struct sealed d = sealed_by(&c, 0, 0);
    struct spec spec = { .proto = UDP,
                         .sport = 4000,
                         .dport = 62201,
                         .payload = sizeof(d),
                         .src = addr_of("192.0.2.1"),
                         .dst = addr_of("10.0.0.1") };
    for (int part = 0; part < 2; part++) {
        spec.fragment = part ? 0x2000 : 0;
        slot.head.net = 80;
        slot.from.sll_hatype = 1;
        slot.head.len = slot.head.captured =
            (uint32_t)build(slot.bytes + 80, &spec);
        memcpy(slot.bytes + 80 + 28, &d, sizeof(d));
        CHECK(frame(s, &slot, &p));
        CHECK(!p.sealed == part);
        if (p.sealed) CHECK(sealed_take(s, &p));
        CHECK(sealed_heard(s, &e) == !part);
    }
    /* of those that are limited, new ones count in the next second */
    d = sealed_by(&c, 0, INT64_C(5) << PERIOD_BITS);
    for (unsigned second = 0; second < 2; second++) {
        for (unsigned i = 0; i < ODD_IDS_A_SECOND + 20; i++)
            CHECK(sealed_sent(s, &d, 56, 62201, "10.0.0.1"));
        CHECK(sealed_heard(s, &e) == ODD_IDS_A_SECOND);
        s->now += 1000;
        limit(s);
    }
    config_free(&c);
    /* a door whose file has no client: every datagram is a stray */
    CHECK(load_text(&c, "[d]\nsequence=62201:udp\nkeys=none\n", false) == 0);
    config_free(&c);
    put_text("keys", "# nobody\n");
    CHECK(load_text(&c, "[d]\nsequence=62201:udp\nkeys=keys\n", false));
    s = sealed_sniffer(&c);
    CHECK(!sealed_sent(s, &d, 56, 62201, "10.0.0.1") && !sealed_heard(s, &e));
    config_free(&c);
    t_wall = 0;
}

/* A sniffer with clients, in its loop: what it polls for, and for how long. */
static struct sniffer knower;
static const struct conf *known_doors;
static union slot *known_ring;
static unsigned known_step;

/* Puts a sealed knock into a slot of the ring. */
static void known_put(uint32_t at, int64_t ms) {
    struct sealed d = sealed_by(known_doors, 0, ms);
    struct spec spec = { .proto = UDP,
                         .sport = 4000,
                         .dport = 62201,
                         .seq = next_number++,
                         .payload = sizeof(d) };
    union slot slot = { .bytes = { 0 } };

    spec.src = addr_of("192.0.2.1");
    spec.dst = addr_of("10.0.0.1");
    slot.head.net = 80;
    slot.from.sll_hatype = 1;
    slot.head.len = slot.head.captured =
        (uint32_t)build(slot.bytes + 80, &spec);
    memcpy(slot.bytes + 80 + 28, &d, sizeof(d));
    slot.head.status = TP_USER;
    known_ring[at] = slot;
}

static void known_live(struct pollfd *fds, nfds_t n) {
    poll_result = 0;
    if (n == 2) fds[1].revents = 0;
    switch (known_step++) {
    case 0:
        CHECK(life_events[READY] == 0 && fds[0].events == POLLIN && n == 2);
        known_put(0, 0);
        break;
    case 1: /* it waits until the monitor has room */
        CHECK(fds[0].events == (POLLIN | POLLOUT));
        life_hear();
        CHECK(life_events[READY] == 1 && !life_events[SEALED]);
        fds[0].revents = POLLOUT;
        poll_result = 1;
        break;
    case 2: /* more packets than it reads before it looks at other things */
        CHECK(fds[0].events == POLLIN && poll_timeout == -1);
        life_hear();
        CHECK(life_events[SEALED] == 1);
        for (uint32_t i = 0; i < FRAMES; i++) {
            ring_put(i, 5, 1, "192.0.2.1");
            known_ring[i] = the_ring[i];
        }
        break;
    case 3: CHECK(poll_timeout == 0 && n == 1, "%d", poll_timeout); break;
    case 4: /* the ring is empty: it looks again and again for a while */
    case 5:
    case 6:
    case 7:
        CHECK(poll_timeout == REST_MS && n == 1, "%d", poll_timeout);
        clock_ms += REST_MS;
        break;
    case 8:
        CHECK(poll_timeout == -1 && n == 2, "%d", poll_timeout);
        /* another sniffer has read up to a later packet */
        known_put(1000, 1);
        fds[1].revents = POLLIN;
        poll_result = 1;
        break;
    case 9:
        knower.suppressed = 7; /* it wakes to tell that */
        knower.second = clock_ms;
        break;
    case 10:
        CHECK(poll_timeout == 1000, "%d", poll_timeout);
        clock_ms += 1000;
        fds[0].revents = POLLOUT;
        poll_result = 1;
        break;
    default:
        life_hear();
        CHECK(life_events[SEALED] == 2 && life_events[SUPPRESSED] == 1);
        shutdown(life_ends[0], SHUT_WR);
        fds[0].revents = POLLIN | POLLHUP;
        poll_result = 1;
    }
}

static void test_sealed_life(void) {
    static struct locals locals = { .any = 1, .naddrs = 1 };
    struct order doors = { .kind = NEW_DOORS },
                 where = { .kind = NEW_LOCALS,
                           .bytes = (uint32_t)locals_bytes(&locals) };
    struct conf c;
    int ring = openat(directory_fd, "ring", O_RDWR | O_CREAT | O_TRUNC, 0600);

    t_wall = 1700000000000;
    CHECK(load_sealed(&c, "anna " KEY_A "\n"));
    struct watches *w = watches_make(&c, &doors.bytes);
    CHECK(!ftruncate(ring, sizeof(the_ring)));
    known_ring = mmap(NULL, sizeof(the_ring), PROT_READ | PROT_WRITE,
                      MAP_SHARED, ring, 0);
    known_doors = &c;
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, life_ends));
    knower = (struct sniffer){ .packets = ring, .channel = life_ends[1] };
    *locals.addr = addr_of("10.0.0.1");
    memset(life_events, 0, sizeof(life_events));
    known_step = 0;
    poll_hook = known_live;
    t_closes = false;
    give_order(doors, w, PIECE_BYTES);
    give_order(where, &locals, PIECE_BYTES);
    CHECK(ENDS(sniff(&knower)) && end_status == 0);
    CHECK(known_step >= 11, "%u", known_step);
    t_closes = true;
    poll_hook = NULL;
    poll_result = 0;
    free(w);
    config_free(&c);
    munmap(known_ring, sizeof(the_ring));
    close(life_ends[0]);
    close(life_ends[1]);
    close(ring);
    unlinkat(directory_fd, "ring", 0);
    t_wall = 0;
}

/* Of many clients the sniffer knows the ids of fewer periods, but one each way
 * of all. */
static void test_ids_of_many(void) {
    static struct key keys[40000];
    static const struct {
        uint32_t clients, periods;
    } cases[] = { { 0, 181 },   { 1, 181 },   { 362, 181 }, { 363, 179 },
                  { 13107, 5 }, { 13108, 3 }, { 21845, 3 }, { 40000, 3 } };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sniffer s = { .nreaders = 0 };

        if (cases[i].clients > 400) /* their keys take time */
            fail(FAULT_mmap, 1, ENOMEM);
        bool ended = ENDS(readers_init(&s, keys, cases[i].clients));
        CHECK(ended == (cases[i].clients > 400));
        CHECK(s.periods == cases[i].periods &&
                  s.nids == s.periods * cases[i].clients,
              "%u: %u", cases[i].clients, s.periods);
        if (ended || !s.nids) continue;
        munmap(s.readers, s.nreaders * sizeof *s.readers);
        munmap(s.ids, s.nids * sizeof *s.ids);
        munmap(s.id_buckets, s.nids * sizeof *s.id_buckets);
        munmap(s.id_marks, s.nids * sizeof *s.id_marks);
    }
    out.started = false;
}

/* Another daemon has the stamps file: a sealed knock opens all the same, and
 * nothing is written. */
static void test_no_stamps(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");

    m->stamps.path = NULL;
    m->watching = false;
    memories_take(m, &m->conf);
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(ncommands == 1 && faccessat(directory_fd, "stamps", F_OK, 0));
    reap(m, 0, 0);
    /* one stamp for two requests: the second is a replay, and its own */
    sealed_request(m, "192.0.2.1", 0, 0, 1, NULL);
    CHECK(has_text("192.0.2.1: ssh: anna: replayed\n"), "%s", kept);
    /* addresses near those that are refused */
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, "fec0::1");
    CHECK(ncommands == 2, "%s", kept);
    reap(m, 0, 0);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, "fd80::1");
    CHECK(ncommands == 3, "%s", kept);
    reap(m, 0, 0);
    sealed_monitor_end(m);
    /* one that can't be read is said */
    CHECK(!mkdirat(directory_fd, "stamps", 0700));
    static struct conf c;
    static char stamps[] = "stamps";
    CHECK(load_sealed(&c, "anna " KEY_A "\n"));
    m = monitor_new(&c);
    m->clock = -1;
    m->stamps.path = stamps;
    memories_take(m, &m->conf);
    CHECK(has_text("could not read stamps: Is a directory: used sealed "
                   "knocks may open again\n"),
          "%s", kept);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", AT_REMOVEDIR);
    /* more ranges than are kept; keys in any order */
    char text[1000];
    CHECK(load_sealed(&c, "anna " KEY_A "\n"));
    size_t n = (size_t)sprintf(text, "seen %016llx 5",
                               (unsigned long long)c.clients[0].seen);
    for (unsigned i = 1; i <= BURNT_MAX + 2; i++)
        n += (size_t)sprintf(text + n, " %u-%u", 10 * i, 10 * i + 5);
    sprintf(text + n, "\nseen 0000000000000002 5\nseen 0000000000000001 6\n");
    config_free(&c);
    put_text("stamps", text);
    m = sealed_monitor("anna " KEY_A "\n");
    CHECK(m->nmemories == 4, "%u",
          m->nmemories); /* and the door's with a Target */
    CHECK(m->conf.clients[0].of->stamps.nburnt == BURNT_MAX &&
          m->conf.clients[0].of->stamps.floor == 5 &&
          m->conf.clients[0].of->stamps.burnt[7].high == 85);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

static void test_sealed_refused(void) {
    static const struct {
        int64_t ms;
        unsigned request;
        const char *source, *address, *says;
    } cases[] = {
        { 600001, 0, "192.0.2.1", NULL, "anna: clock 600 s ahead" },
        { 1500000, 0, "192.0.2.1", NULL, "anna: clock 1,500 s ahead" },
        { INT64_MIN, 0, "192.0.2.1", NULL,
          "anna: clock 9223372036854,775 s ahead" },
        { -600001, 0, "192.0.2.1", NULL, "anna: clock 600 s behind" },
        { -3000000, 1, "192.0.2.1", NULL, "anna: clock 3,000 s behind" },
        { 0, 2, "192.0.2.1", NULL, "anna: bad request" },
        { 0, 255, "192.0.2.1", NULL, "anna: bad request" },
        { -10000, 0, "192.0.2.1", NULL,
          "anna: sent before the start: wait 1 s" },
        { -15999, 0, "192.0.2.1", NULL,
          "anna: sent before the start: wait 6 s" },
        { 1, 0, "192.0.2.1", "127.0.0.1", "anna: no opening for 127.0.0.1" },
        { 2, 0, "192.0.2.1", "169.254.1.1",
          "anna: no opening for 169.254.1.1" },
        { 3, 0, "192.0.2.1", "fe80::1", "anna: no opening for fe80::1" },
        { 4, 0, "192.0.2.1", "::1", "anna: no opening for ::1" },
        { 5, 0, "192.0.2.1", "::7", "anna: no opening for ::7" },
        { 6, 0, "192.0.2.1", "224.0.0.1", "anna: no opening for 224.0.0.1" },
        { 7, 0, "192.0.2.1", "198.51.100.7",
          "anna: no opening for 198.51.100.7" },
        { 8, 0, "198.51.100.7", "192.0.2.1",
          "anna: no opening for 192.0.2.1" },
        { 9, 1, "198.51.100.7", NULL, "anna: no opening for 198.51.100.7" },
    };
    struct sealed d;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char line[200];

        t_wall = 1700000000000;
        unlinkat(directory_fd, "stamps", 0);
        struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
        sealed_request(m, cases[i].source, 0, cases[i].ms, cases[i].request,
                       cases[i].address);
        snprintf(line, sizeof(line), "%s: ssh: %s\n", cases[i].source,
                 cases[i].says);
        CHECK(has_text(line) && count_text("\n") == 1, "%s: %s", line, kept);
        CHECK(!ncommands && !m->nopenings);
        /* what is not refused: the edges */
        forget();
        sealed_request(m, "192.0.2.1", 1, i % 2 ? 600000 : -9999, 0,
                       i % 2 ? "169.255.0.1" : NULL);
        CHECK(has_text("OPEN SESAME") && ncommands == 1, "%u: %s", i, kept);
        reap(m, 0, 0);
        sealed_monitor_end(m);
    }
    /* a tag that is not right: not a word, but counted */
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");
    for (unsigned i = 0; i < 56; i++) {
        d = sealed_by(&m->conf, 0, 0);
        ((uint8_t *)&d)[i] ^= 0x10;
        sealed_from(m, "192.0.2.1", 0, &d);
        CHECK(!kept_length && m->forged == i + 1, "%u: %s", i, kept);
    }
    d = sealed_by(&m->conf, 1, 0); /* another client's key */
    sealed_from(m, "192.0.2.1", 0, &d);
    CHECK(!kept_length && m->forged == 57 && !ncommands);
    counters_say(m);
    CHECK(has_text(", forged 57\n"), "%s", kept);
    /* an earlier stamp than the last one, from the same address */
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, -5001, 0, NULL);
    CHECK(has_text("192.0.2.1: ssh: anna: replayed\n"), "%s", kept);
    sealed_request(m, "192.0.2.1", 0, -4999, 0, NULL);
    CHECK(ncommands == 2);
    reap(m, 0, 0);
    sealed_monitor_end(m);
    t_wall = 0;
}

/* The wall clock is set, or the host sleeps: nothing that was sent before is
 * accepted, nor is a stamp of the future when its time comes. */
static void test_sealed_clock_set(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");

    m->conf.doors[0].cooldown = 0;
    sealed_request(m, "192.0.2.1", 0, -5000, 0, NULL);
    CHECK(ncommands == 1);
    reap(m, 0, 0);
    clock_ms += 10000;
    t_wall -= 999; /* adjusted by less than a second: nothing */
    sealed_request(m, "192.0.2.1", 0, -5000, 0, NULL);
    CHECK(ncommands == 2, "%s", kept);
    reap(m, 0, 0);
    t_wall -= 3600000; /* an hour back */
    sealed_request(m, "192.0.2.1", 1, -1, 0, NULL);
    CHECK(has_text("bob: sent before the start: wait 1 s\n"), "%s", kept);
    clock_ms += 1500;
    sealed_request(m, "192.0.2.1", 1, -1499, 0, NULL);
    CHECK(ncommands == 3, "%s", kept);
    reap(m, 0, 0);
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL); /* behind its last one */
    CHECK(has_text("anna: replayed\n"), "%s", kept);
    t_wall += 3600000; /* and right again */
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("anna: sent before the start: wait 1 s\n"), "%s", kept);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.3", 0, 1, 0, NULL);
    CHECK(has_text("OPEN SESAME"), "%s", kept);
    reap_all(m, 0);
    /* a stamp of the future is burnt: its time comes, and it is no use */
    struct sealed d = sealed_by(&m->conf, 1, 3600000);
    sealed_from(m, "192.0.2.1", 1, &d);
    CHECK(has_text("bob: clock 3,600 s ahead\n"), "%s", kept);
    clock_ms += 3600000;
    reap_all(m, 0);
    sealed_from(m, "192.0.2.2", 1, &d);
    CHECK(has_text("192.0.2.2: ssh: bob: replayed"), "%s", kept);
    /* the host slept */
    clock_ms += 100000;
    t_slept += 90000;
    forget();
    sealed_request(m, "192.0.2.4", 0, -50000, 0, NULL);
    CHECK(has_text("anna: sent before the start: wait 51 s\n"), "%s", kept);
    reap_all(m, 0);
    sealed_monitor_end(m);
    t_wall = t_slept = 0;
}

/* Steps of the wall clock by less than a second, at once after the start and later:
 * what was sent before the start is refused, and what was sent later opens. */
static void test_sealed_small_steps(void) {
    static const int steps[] = { -999, -700, -1, 0, 1, 700, 999 };
    for (unsigned i = 0; i < 2 * sizeof steps / sizeof *steps; i++) {
        int64_t wall, step = steps[i / 2];
        t_wall = 1700000000000;
        unlinkat(directory_fd, "stamps", 0);
        struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
        clock_ms -= 10000;
        wall = clock_ms + t_wall; /* of the start */
        if (i % 2) clock_ms += 9000;
        t_wall += step;
        wall -= clock_ms + t_wall;
        sealed_request(m, "192.0.2.1", 0, wall - 600, 0, NULL);
        CHECK(has_text("anna: sent before the start: wait ") && !ncommands,
              "%d: %s", (int)step, kept);
        sealed_request(m, "192.0.2.1", 0, wall, 0, NULL);
        CHECK(has_text("anna: sent before the start: wait ") && !ncommands,
              "%d: %s", (int)step, kept);
        if (step > 0) wall += step;
        sealed_request(m, "192.0.2.1", 1, wall + 1, 0, NULL);
        CHECK(has_text("key of bob\n") && ncommands == 1, "%d: %s", (int)step,
              kept);
        reap_all(m, 0);
        sealed_monitor_end(m);
    }
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

static void test_stamps(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    struct sealed d = sealed_by(&m->conf, 0, 0),
                  ahead = sealed_by(&m->conf, 1, 700000);
    uint64_t stamp = wall_ms();
    char line[200];

    CHECK(!*get_file("stamps", NULL));
    sealed_from(m, "192.0.2.1", 0, &d);
    sealed_from(m, "192.0.2.1", 1, &ahead);
    snprintf(line, sizeof(line), " %llu\n", (unsigned long long)stamp);
    CHECK(strstr(get_file("stamps", NULL), line), "%s",
          get_file("stamps", NULL));
    snprintf(line, sizeof(line), " 0 %llu-%llu\n",
             (unsigned long long)stamp + 700000,
             (unsigned long long)stamp + 700000);
    CHECK(strstr(get_file("stamps", NULL), line), "%s",
          get_file("stamps", NULL));
    reap_all(m, 0);
    sealed_monitor_end(m);
    /* the clock goes back over a restart: the file knows better */
    t_wall -= 5000;
    m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    sealed_from(m, "203.0.113.1", 0, &d);
    CHECK(has_text("203.0.113.1: ssh: anna: replayed\n") && !ncommands, "%s",
          kept);
    clock_ms += 700000;
    sealed_from(m, "203.0.113.1", 1, &ahead);
    CHECK(has_text("bob: replayed\n") && !ncommands, "%s", kept);
    sealed_monitor_end(m);
    /* of a key that nobody has any more: 30 days, or what it is */
    m = sealed_monitor("bob " KEY_B "\n");
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(count_text("OPEN SESAME") == 1);
    CHECK(!strncmp(get_file("stamps", NULL), "seen ", 5));
    unsigned lines = 0;
    for (const char *at = get_file("stamps", NULL); *at; at++)
        lines += *at == '\n';
    CHECK(lines == 2, "%u", lines);
    reap_all(m, 0);
    clock_ms += (STAMPS_DAYS + 1) * INT64_C(86400000);
    sealed_monitor_end(m);
    m = sealed_monitor("bob " KEY_B "\n");
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    lines = 0;
    for (const char *at = get_file("stamps", NULL); *at; at++)
        lines += *at == '\n';
    CHECK(lines == 1, "%u", lines);
    reap_all(m, 0);
    /* it can't be written: said once */
    unlinkat(directory_fd, "stamps", 0);
    fail(FAULT_rename, 1, ENOSPC);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("could not write stamps: No space left on device: used "
                   "sealed knocks may open again\n") &&
              has_text("OPEN SESAME"),
          "%s", kept);
    reap_all(m, 0);
    fail(FAULT_rename, 1, ENOSPC);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(!has_text("could not write") && has_text("OPEN SESAME"), "%s",
          kept);
    reap_all(m, 0);
    clock_ms += 5000;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(!has_text("could not write"), "%s", kept);
    reap_all(m, 0);
    sealed_monitor_end(m);
    /* a file of nonsense is none; what is right in it counts */
    struct conf c;
    CHECK(load_sealed(&c, "anna " KEY_A "\n"));
    snprintf(line, sizeof(line),
             "x\n\nseen\nseen 1\nsaw 1 2\nseen 1 2 3\nseen 1 2 3-4 5\n"
             "seen %016llx 5 18000000000000-18000000000009\n",
             (unsigned long long)c.clients[0].seen);
    config_free(&c);
    put_text("stamps", line);
    m = sealed_monitor("anna " KEY_A "\n");
    CHECK(m->nmemories == 2, "%u", m->nmemories);
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(ncommands == 1 && strstr(get_file("stamps", NULL),
                                   " 18000000000000-18000000000009\n"),
          "%s", get_file("stamps", NULL));
    reap_all(m, 0);
    sealed_monitor_end(m);
    /* no key is old for a clock that begins in 1970 */
    t_wall = -clock_ms;
    put_text("stamps", "seen 0000000000000001 5\n");
    m = sealed_monitor("anna " KEY_A "\n");
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(strstr(get_file("stamps", NULL), "seen 0000000000000001 5\n"), "%s",
          get_file("stamps", NULL));
    reap_all(m, 0);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* The file number of the stamps. */
static unsigned long stamps_inode(void) {
    struct stat st;
    return fstatat(directory_fd, "stamps", &st, 0) ? 0
                                                   : (unsigned long)st.st_ino;
}

static unsigned stamps_lines(void) {
    unsigned n = 0;
    for (const char *at = get_file("stamps", NULL); *at; at++)
        n += *at == '\n';
    return n;
}

/* The file grows by a line for each knock, and its last line holds. */
static void test_stamps_grow(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    unsigned replaced = 0;
    uint64_t floor = 0;

    m->conf.doors[0].cooldown = 0;
    for (unsigned i = 0; i < 300; i++) {
        unsigned long inode = stamps_inode();
        char line[64];
        clock_ms += 10;
        floor = wall_ms();
        sealed_request(m, i % 2 ? "192.0.2.1" : "192.0.2.2", i % 2, 0, 0,
                       NULL);
        replaced += i && stamps_inode() != inode;
        snprintf(line, sizeof line, " %llu\n", (unsigned long long)floor);
        CHECK(strstr(get_file("stamps", NULL), line), "%u: %s", i, line);
        CHECK(stamps_lines() <= STATE_SLACK + 5, "%u lines", stamps_lines());
        reap_all(m, 0);
    }
    CHECK(replaced > 1 && replaced < 8, "%u", replaced);
    /* its name is gone: another file has both keys */
    unlinkat(directory_fd, "stamps", 0);
    clock_ms += 10;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(stamps_lines() == 2, "%s", get_file("stamps", NULL));
    reap_all(m, 0);
    for (unsigned i = 0; i < 3; i++) {
        clock_ms += 10;
        sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
        reap_all(m, 0);
    }
    CHECK(stamps_lines() == 5, "%s", get_file("stamps", NULL));
    floor = wall_ms();
    sealed_monitor_end(m);
    /* the last line of a key holds after a restart, and at a reload */
    m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    CHECK(m->conf.clients[0].of->stamps.floor == floor && m->nmemories == 3,
          "%u memories", m->nmemories);
    memories_take(m, &m->conf);
    CHECK(m->conf.clients[0].of->stamps.floor == floor && m->nmemories == 3);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* A line is cut at each length: it is none, those before it hold, and the next line
 * is no part of it. */
static void test_stamps_half_line(void) {
    char whole[200];

    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");
    m->conf.doors[0].cooldown = 0;
    uint64_t floor = wall_ms();
    for (unsigned i = 0; i < 2; i++) {
        sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
        reap_all(m, 0);
        clock_ms += 10;
    }
    snprintf(whole, sizeof(whole), "%s", get_file("stamps", NULL));
    size_t n = strlen(whole), line = n / 2;
    CHECK(whole[line - 1] == '\n');
    sealed_monitor_end(m);
    for (size_t left = line; left < n; left++) {
        put_file("stamps", whole, left);
        m = sealed_monitor("anna " KEY_A "\n");
        CHECK(has_text("stamps is damaged: used sealed knocks may open "
                       "again\n") == (left > line),
              "%zu: %s", left, kept);
        CHECK(m->conf.clients[0].of->stamps.floor == floor, "%zu", left);
        sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
        CHECK(has_text("OPEN SESAME"), "%s", kept);
        CHECK(strlen(get_file("stamps", NULL)) == line, "%zu: %s", left,
              get_file("stamps", NULL));
        reap_all(m, 0);
        sealed_monitor_end(m);
    }
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* No room for a line, nor for another file: a warning, once, and each knock tries. */
static void test_stamps_no_room(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");
    m->conf.doors[0].cooldown = 0;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    reap_all(m, 0);
    /* no room for the line: another file */
    fail(FAULT_write, 1, ENOSPC);
    clock_ms += 10;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("OPEN SESAME") && !has_text("could not"), "%s", kept);
    CHECK(stamps_lines() == 1, "%s", get_file("stamps", NULL));
    reap_all(m, 0);
    fail(FAULT_write, 1, ENOSPC);
    for (unsigned i = 0; i < 3; i++) {
        clock_ms += 10;
        fail(FAULT_rename, 1, ENOSPC);
        sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
        CHECK(has_text("OPEN SESAME"), "%s", kept);
        CHECK(has_text("could not write stamps: No space left on device: "
                       "used sealed knocks may open again") == !i,
              "%u: %s", i, kept);
        CHECK(stamps_lines() == 1, "%s", get_file("stamps", NULL));
        reap_all(m, 0);
    }
    fail(FAULT_rename, 0, 0);
    clock_ms += 10;
    uint64_t floor = wall_ms();
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("OPEN SESAME") && !has_text("could not"), "%s", kept);
    CHECK(stamps_lines() == 1, "%s", get_file("stamps", NULL));
    reap_all(m, 0);
    sealed_monitor_end(m);
    m = sealed_monitor("anna " KEY_A "\n");
    CHECK(m->conf.clients[0].of->stamps.floor == floor);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* A damaged line locks nobody out, is said once, and costs no other line. */
static void test_stamps_damaged(void) {
    static const char *const bad[] = {
        "seen %s -5",
        "seen %s 17OOOOOOOOOOO",
        "seen %s ",
        "seen %s",
        "seen %s 5 7",
        "seen %s 5 7-",
        "seen %s 5 -7",
        "seen %s 5 7-9x",
        "seen %s +5",
        "seen %s 0x5",
        "seen %s  5",
        "seen %s 5 ",
        "seen x%s 5",
        "seen %s",
        "sees %s 5",
        "seen %sg 5",
        "",
        "seen %s 5\r",
        "seen %s 18446744073709551616",
        "seen %s 99999999999999999999999",
        "seen %s 5 1-18446744073709551616",
        "seen %s 5\1", /* a zero byte, as a power failure leaves them */
        "\1\1\1\1",
    };
    char id[2][20], line[200], text[1000];
    struct conf c;

    t_wall = 1700000000000;
    CHECK(load_sealed(&c, "anna " KEY_A "\nbob " KEY_B "\n"));
    for (unsigned i = 0; i < 2; i++)
        sprintf(id[i], "%016llx", (unsigned long long)c.clients[i].seen);
    config_free(&c);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, sizeof line, bad[i], id[0]);
#pragma GCC diagnostic pop
        int n = snprintf(text, sizeof text, "seen %s 4\n%s\n%s\nseen %s 6\n",
                         id[0], line, line, id[1]);

        for (int at = 0; at < n; at++)
            if (text[at] == 1) text[at] = '\0';
        put_file("stamps", text, (size_t)n);
        CHECK(load_sealed(&c, "anna " KEY_A "\nbob " KEY_B "\n"));
        struct monitor *m = monitor_new(&c);
        m->clock = -1;
        m->stamps.path = stamps_name;
        forget();
        memories_take(m, &m->conf);
        CHECK(!strcmp(kept, "stamps is damaged: used sealed knocks may open "
                            "again\n"),
              "%s: %s", line, kept);
        CHECK(m->conf.clients[0].of->stamps.floor == 4 &&
                  !m->conf.clients[0].of->stamps.nburnt &&
                  m->conf.clients[1].of->stamps.floor == 6,
              "%s", line);
        clock_ms += 10000;
        sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
        CHECK(has_text("OPEN SESAME"), "%s: %s", line, kept);
        CHECK(stamps_lines() == 2, "%s", get_file("stamps", NULL));
        reap_all(m, 0);
        sealed_monitor_end(m);
    }
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* The power failed before the stamps were on the disk: whatever is left of
 * them, the start refuses what was sent before. */
static void test_stamps_torn(void) {
    char whole[200], torn[200];

    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");
    struct sealed d = sealed_by(&m->conf, 0, 0);
    sealed_from(m, "192.0.2.1", 0, &d);
    CHECK(has_text("OPEN SESAME"), "%s", kept);
    snprintf(whole, sizeof(whole), "%s", get_file("stamps", NULL));
    reap_all(m, 0);
    sealed_monitor_end(m);
    for (size_t left = 0; left < strlen(whole); left++)
        for (size_t n = left; n <= sizeof(torn); n += sizeof(torn) - left) {
            memset(torn, 0, sizeof(torn));
            memcpy(torn, whole, left);
            put_file("stamps", torn, n);
            clock_ms += 1;
            m = sealed_monitor("anna " KEY_A "\n");
            sealed_from(m, "203.0.113.1", 0, &d);
            CHECK(has_text("203.0.113.1: ssh: anna: ") && !ncommands,
                  "%zu of %zu: %s", left, n, kept);
            sealed_monitor_end(m);
            clock_ms -= 10000;
        }
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* A cooldown goes on, whatever is read meanwhile. */
static void test_sealed_cooldown(void) {
    t_wall = 1700000000000;
    unlinkat(directory_fd, "stamps", 0);
    struct monitor *m = sealed_monitor("anna " KEY_A "\n");
    struct conf new;

    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("OPEN SESAME"), "%s", kept);
    reap_all(m, 0);
    CHECK(load_sealed(&new, "anna " KEY_A "\n"));
    memories_take(m, &new);
    config_free(&m->conf);
    m->conf = new;
    clock_ms += 2999;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(!kept_length, "%s", kept);
    clock_ms += 1;
    sealed_request(m, "192.0.2.1", 0, 0, 0, NULL);
    CHECK(has_text("OPEN SESAME"), "%s", kept);
    reap_all(m, 0);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}

/* A configuration without a client closes what it has open, and no other. */
static void test_clients_change(void) {
    t_wall = 1700000000000;
    struct monitor *m = sealed_monitor("anna " KEY_A "\nbob " KEY_B "\n");
    struct conf new;
    struct door *d = &m->conf.doors[0];

    d->cooldown = 0;
    struct sealed used = sealed_by(&m->conf, 0, 0);
    sealed_from(m, "192.0.2.1", 0, &used);
    sealed_request(m, "192.0.2.2", 1, 0, 0, NULL);
    knock_at(m, &m->conf.doors[2], "192.0.2.3");
    reap_all(m, 0);
    CHECK(m->n[HELD] == 2 && ncommands == 3, "%u", m->n[HELD]);
    CHECK(load_sealed(&new, "bob " KEY_B "\n"));
    memories_take(m, &new);
    forget();
    clients_remove(m, &new);
    CHECK(has_text("192.0.2.1: ssh: anna is not a client any more\n") &&
              count_text("\n") == 1,
          "%s", kept);
    turns(m);
    CHECK(!strcmp(command_text(0), "stop 192.0.2.1"));
    reap_all(m, 0);
    CHECK(m->n[HELD] == 1);
    config_free(&m->conf);
    m->conf = new;
    /* bob's memory goes on, with it what was used */
    sealed_request(m, "192.0.2.8", 0, 0, 0, NULL);
    CHECK(has_text("bob: replayed, first from 192.0.2.2\n"), "%s", kept);
    clock_ms += 10;
    sealed_request(m, "192.0.2.2", 0, 0, 0, NULL);
    CHECK(has_text("key of bob\n"), "%s", kept);
    reap_all(m, 0);
    /* anna gets her key again: what she sent without it is too old */
    clock_ms += 60000;
    CHECK(load_sealed(&new, "anna " KEY_A "\nbob " KEY_B "\n"));
    memories_take(m, &new);
    clients_remove(m, &new);
    config_free(&m->conf);
    m->conf = new;
    clock_ms += 1000;
    sealed_request(m, "192.0.2.1", 0, -30000, 0, NULL);
    CHECK(has_text("anna: sent before the start: wait 30 s\n"), "%s", kept);
    sealed_from(m, "192.0.2.9", 0, &used); /* and what was used stays used */
    CHECK(has_text("192.0.2.9: ssh: anna: replayed, first"), "%s", kept);
    sealed_request(m, "192.0.2.1", 0, -999, 0, NULL);
    CHECK(has_text("key of anna\n"), "%s", kept);
    reap_all(m, 0);
    sealed_monitor_end(m);
    unlinkat(directory_fd, "stamps", 0);
    t_wall = 0;
}
