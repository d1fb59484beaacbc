/* Unit tests of the client, knock.c; part of unit.c. Its sockets are ours. */

/* ---- The client ---------------------------------------------------------- */

static int64_t client_begins; /* ms */

/* Runs knock with these words, which a blank separates; its status. */
static int client(const char *line) {
    static char text[4096], *argv[1200], *rest_of;
    int argc = 1, status = -1;

    snprintf(text, sizeof(text), "%s", line);
    argv[0] = "knock";
    for (rest_of = text; (argv[argc] = strsep(&rest_of, " "));)
        argc += *argv[argc] != '\0';
    given = (struct given){ .delay = 10, .timeout = 10 };
    nknocks = npeers = t_nreached = t_nsent = 0;
    where[0] = searched[0] = '\0';
    sealed = exposed = false;
    own = NULL;
    peer = peers;
    optind = 0;
    opterr = 0;
    t_outcome = 0;
    client_begins = clock_ms;
    forget();
    if (ENDS(status = client_main(argc, argv))) return end_status;
    return status;
}

/* What was hit after the look for a route, as "tcp 7000 at 0, udp ...". */
static const char *client_hits(void) {
    static char text[4096];
    size_t n = 0;

    *text = '\0';
    for (unsigned i = 1; i < t_nreached && i < 64; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s %u at %d",
                              n ? ", " : "",
                              t_reached[i].type == SOCK_DGRAM ? "udp" : "tcp",
                              t_reached[i].port,
                              (int)(t_reached[i].at - client_begins));
    return text;
}

static void test_client_ports(void) {
    static const struct {
        const char *words, *says;
    } bad[] = {
        { "0", "port '0' is not a whole number from 1 to 65535" },
        { "65536", "port '65536' is not a whole number from 1 to 65535" },
        { "7000x", "port '7000x' is not a whole number" },
        { "-- -1", "port '-1' is not a whole number" },
        { "7000:", "protocol '' is not tcp or udp" },
        { ":udp", "port '' is not a whole number" },
        { "7000:icmp", "protocol 'icmp' is not tcp or udp" },
        { "7000:udp:x", "protocol 'udp:x' is not tcp or udp" },
        { "99999999999999999999", "is not a whole number from 1 to 65535" },
    };
    static const char *const good[][2] = {
        { "1 65535", "tcp 1 at 0, tcp 65535 at 10" },
        { "7000:udp 7001:UDP 7002:Tcp", "udp 7000 at 0, udp 7001 at 10, tcp "
                                        "7002 at 20" },
        { "7000/udp 7001/tcp", "udp 7000 at 0, tcp 7001 at 10" },
        { "-u 7000 7001:tcp", "udp 7000 at 0, udp 7001 at 10" },
        { "007000 ssh", "tcp 7000 at 0, tcp 22 at 10" },
    };
    char line[6000];
    size_t n;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(line, sizeof(line), "127.0.0.1 %s", bad[i].words);
        CHECK(client(line) == 1 && has_text(bad[i].says) && !t_nreached,
              "%s: %s", line, kept);
    }
    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
        snprintf(line, sizeof(line), "127.0.0.1 %s", good[i][0]);
        CHECK(client(line) == 0 && !*kept &&
                  !strcmp(client_hits(), good[i][1]),
              "%s: %s%s", line, client_hits(), kept);
    }
    /* as many as there may be */
    for (unsigned ports = KNOCKS_MAX - 1; ports <= KNOCKS_MAX; ports++) {
        n = (size_t)sprintf(line, "-d0 ::1");
        for (unsigned i = 0; i < ports; i++)
            n += (size_t)sprintf(line + n, " 7");
        CHECK(client(line) == (ports == KNOCKS_MAX));
        CHECK(has_text("too many ports") == (ports == KNOCKS_MAX), "%s",
              kept);
        CHECK(t_nreached == (ports == KNOCKS_MAX ? 0 : ports + 1));
    }
}

static int refused(const struct reached *r) {
    return r->type == SOCK_STREAM ? ECONNREFUSED : 0;
}

static int unreachable(const struct reached *r) {
    return r->port == 7001 ? ENETUNREACH : refused(r);
}

static int no_route(const struct reached *r) {
    (void)r;
    return ENETUNREACH;
}

static void test_client_hits(void) {
    /* one datagram with a byte; an answer of the peer does not matter */
    CHECK(client("127.0.0.1 7000:udp") == 0 && t_nsent == 1 && t_sent == 1 &&
          !*t_datagram);
    CHECK(clock_ms ==
          client_begins + 10); /* the delay, after the last, too */
    t_answer = refused;
    CHECK(client("-d 500 127.0.0.1 7000 7001:udp 7002") == 0 &&
              !strcmp(client_hits(),
                      "tcp 7000 at 0, udp 7001 at 500, tcp 7002 at 1000"),
          "%s", client_hits());
    CHECK(!*kept && clock_ms == client_begins + 1500);
    t_answer = unreachable;
    CHECK(client("127.0.0.1 7000 7001 7002") == 1 &&
              has_text("knock: 127.0.0.1:7001: Network ") &&
              has_text("unreachable\n"), /* libc's words differ */
          "%s", kept);
    CHECK(t_nreached == 3);
    t_answer = no_route;
    CHECK(client("127.0.0.1 7000") == 1 && t_nreached == 1 &&
              has_text("knock: 127.0.0.1: Network ") &&
              has_text("unreachable\n"),
          "%s", kept);
    t_answer = NULL;
    /* -v; a family; hosts that are none */
    CHECK(client("-v 127.0.0.1 7000 7001:udp") == 0 &&
              !strcmp(kept, "hitting tcp 127.0.0.1:7000\n"
                            "hitting udp 127.0.0.1:7001\n"),
          "%s", kept);
    CHECK(client("-v -6 ::1 7000") == 0 &&
              !strcmp(kept, "hitting tcp ::1:7000\n"),
          "%s", kept);
    CHECK(client("-6 127.0.0.1 7000") == 1 &&
              has_text(
                  "'127.0.0.1' was looked up, but has no IPv6 address: "),
          "%s", kept);
    CHECK(client("-4 ::1 7000") == 1 &&
              has_text("'::1' was looked up, but has no IPv4 address: "),
          "%s", kept);
    CHECK(client("127.0.0.1:22 7000") == 1 &&
              has_text("'127.0.0.1:22' is not a host: the port is a word of"),
          "%s", kept);
    /* from an address: its family counts */
    CHECK(client("-i ::1 127.0.0.1 7000") == 1 &&
              has_text("has no IPv6 address"),
          "%s", kept);
    CHECK(client("-i no-such-interface 127.0.0.1 7000") == 1 &&
              has_text("no-such-interface: "),
          "%s", kept);
}

/* A key file as --keygen makes it, and what is no key file. */
#define CLIENT_KEY \
    "b0b1b2b3b4b5b6b7b0b1b2b3b4b5b6b7b0b1b2b3b4b5b6b7b0b1b2b3b4b5b6b7"

static void test_client_sealed(void) {
    static const char *const good[] = { "key = ssh door:" CLIENT_KEY "\n",
                                        "\tssh door :" CLIENT_KEY,
                                        "ssh door:" CLIENT_KEY " \r\n" };
    static const char *const bad[][2] = {
        { CLIENT_KEY "\n", "--key: no DOOR before the key\n" },
        { ":" CLIENT_KEY "\n", "--key: no DOOR before the key\n" },
        { " :" CLIENT_KEY "\n", "--key: no DOOR before the key\n" },
        { "ssh:" CLIENT_KEY "0\n", "--key: the key is not 64 hex digits\n" },
        { "", "--key: no DOOR before the key\n" },
    };
    static const struct {
        const char *words, *address;
        uint8_t request;
    } requests[] = {
        { "", NULL, 0 },
        { "--close", NULL, 1 },
        { "--for 192.0.2.7", "192.0.2.7", 0 },
        { "--for 2001:db8::7 --close", "2001:db8::7", 1 },
    };
    uint8_t key[KEY_BYTES];
    struct hmac door_of;
    char line[200];

    t_wall = 1700000000000;
    key_parse(CLIENT_KEY, key);
    door_key(&door_of, key, "ssh door");
    for (unsigned i = 0; i < 3 * 4; i++) {
        struct stamps stamps = { .floor = 0 };
        struct addr a = { { 0 } };
        struct sealed s;

        put_text("key", good[i % 3]);
        snprintf(line, sizeof(line), "-k key %s 127.0.0.1 62201",
                 requests[i / 3].words);
        CHECK(client(line) == 0 && !*kept, "%s", kept);
        CHECK(!strcmp(client_hits(), "udp 62201 at 0, udp 62201 at 50, udp "
                                     "62201 at 100"),
              "%s", client_hits());
        CHECK(t_nsent == SEALED_COPIES && t_sent == sizeof(s));
        memcpy(&s, t_datagram, sizeof(s));
        CHECK(judge(&door_of, &stamps, &s, wall_ms(), 0) == GOOD, "%u", i);
        if (requests[i / 3].address) a = addr_of(requests[i / 3].address);
        CHECK(s.plain.request == requests[i / 3].request &&
              !memcmp(s.plain.address, &a, 16));
        CHECK(be64toh(s.plain.stamp) == (uint64_t)(client_begins + t_wall));
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        put_text("key", bad[i][0]);
        CHECK(client("-k key 127.0.0.1 62201") == 1 && has_text(bad[i][1]) &&
                  !has_text("b0b1") && !t_nreached,
              "%u: %s", i, kept);
    }
    CHECK(!symlinkat("loop", directory_fd, "loop"));
    CHECK(client("-k loop 127.0.0.1 62201") == 1 &&
              has_text("--key: loop: ") && !t_nreached,
          "%s", kept);
    unlinkat(directory_fd, "loop", 0);
    put_text("key", good[0]);
    CHECK(client("-k key 127.0.0.1 62201 62202") == 1 &&
              has_text("a sealed knock has one port"),
          "%s", kept);
    CHECK(
        client("-k key --for nobody 127.0.0.1 62201") == 1 &&
        has_text("--for: 'nobody' is not the address of a host, or own\n") &&
        !t_nsent);
    for (unsigned i = 0; i < 2; i++)
        CHECK(client(i ? "--close ::1 7" : "--for ::1 ::1 7") == 1 &&
                  has_text("--close and --for need a key: ") && !t_nreached,
              "%s", kept);
    /* closing waits for no port */
    t_door_opens = INT64_MAX;
    CHECK(client("-k key --close -w 22 127.0.0.1 62201") == 0 &&
          t_nreached == 4);
    for (unsigned i = 0; i < 2; i++) {
        fchmodat(directory_fd, "key", i ? 0604 : 0640, 0);
        CHECK(client("-k key 127.0.0.1 62201") == 1 &&
                  has_text("--key: others may use this file: chmod 600\n"),
              "%s", kept);
    }
    unlinkat(directory_fd, "key", 0);
    CHECK(client("-k key 127.0.0.1 62201") == 1 &&
          has_text("--key: there is no such file\n"));
    t_wall = 0;
}

static int open_later(const struct reached *r) {
    if (r->type == SOCK_DGRAM) return 0;
    if (r->port != 22) return EINPROGRESS;
    return clock_ms < t_door_opens ? ECONNREFUSED : EINPROGRESS;
}

/* -w: each try is longer than the one before, until the door opens or the time
 * is over. */
static void test_client_waits(void) {
    t_door_opens = INT64_MAX; /* nobody answers */
    CHECK(client("-w 22 127.0.0.1 7000") == 1 &&
              has_text("knock: 127.0.0.1:22 did not open: ") &&
              has_text(" timed out\n"),
          "%s", kept);
    CHECK(!strncmp(client_hits(),
                   "tcp 7000 at 0, tcp 22 at 10, tcp 22 at 35, tcp 22 at 85, "
                   "tcp 22 at 185, tcp 22 at 385, tcp 22 at 785, tcp 22 at "
                   "1585, tcp 22 at 3185, tcp 22 at 4785, ",
                   140),
          "%s", client_hits());
    CHECK(clock_ms == client_begins + 10010);
    CHECK(client("-t 1 -w 22 127.0.0.1 7000") == 1 &&
          clock_ms == client_begins + 1010);
    /* it refuses, says why, and is asked at the same times */
    t_answer = open_later;
    CHECK(client("-t 1 -w 22 127.0.0.1 7000") == 1 &&
              has_text("did not open: Connection refused"),
          "%s", kept);
    CHECK(clock_ms == client_begins + 1010 && t_nreached == 8);
    /* it opens */
    t_door_opens = clock_ms + 500;
    CHECK(client("-w 22 127.0.0.1 7000") == 0 && !*kept, "%s", kept);
    CHECK(clock_ms == client_begins + 785, "%d",
          (int)(clock_ms - client_begins));
    t_answer = NULL;
    t_door_opens = clock_ms + 300;
    CHECK(client("-w 22 127.0.0.1 7000") == 0 &&
          clock_ms == client_begins + 300);
    t_door_opens = INT64_MAX;
}

/* -W: all that stdin has goes to the peer, all that the peer says to stdout, at
 * whatever size. */
static void test_client_joins(void) {
    enum { BYTES = 3 * PIPE_BUF + 1 };
    static char up[BYTES], down[BYTES], got[2 * BYTES];
    int in[2], result[2], ends[2], size = 1 << 20;
    size_t n = 0;
    ssize_t more;

    for (int i = 0; i < BYTES; i++) {
        up[i] = (char)rnd(256);
        down[i] = (char)rnd(256);
    }
    if (pipe(in) || pipe(result) || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        abort();
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    CHECK(write(in[1], up, BYTES) == BYTES);
    close(in[1]);
    CHECK(write(ends[1], down, BYTES) == BYTES);
    shutdown(ends[1], SHUT_WR);
    fflush(stdout);
    int was_in = dup(0), was_out = dup(1);
    dup2(in[0], 0);
    dup2(result[1], 1);
    close(result[1]);
    join(ends[0]);
    dup2(was_in, 0);
    dup2(was_out, 1);
    close(was_in);
    close(was_out);
    while ((more = read(result[0], got + n, sizeof(got) - n)) > 0)
        n += (size_t)more;
    CHECK(more == 0 && n == BYTES && !memcmp(got, down, BYTES), "%zu", n);
    for (n = 0; (more = read(ends[1], got + n, sizeof(got) - n)) > 0;)
        n += (size_t)more;
    CHECK(more == 0 && n == BYTES && !memcmp(got, up, BYTES), "%zu", n);
    close(in[0]);
    close(result[0]);
    close(ends[0]);
    close(ends[1]);
}

static void test_client_options(void) {
    static const struct {
        const char *words;
        int status;
        const char *says;
    } cases[] = {
        { "-h", 0, "usage: knock [options] HOST PORT[:tcp|udp]...\n" },
        { "--help -x", 0, "usage: knock [options] HOST" },
        { "-V", 0, "knock " VERSION "\n" },
        { "--version", 0, "knock " VERSION "\n" },
        { "", 1, "knock: no host\nusage: knock [options]" },
        { "-x ::1 7", 1, "knock: the options are:\nusage: knock [options]" },
        { "--nothing ::1 7", 1, "knock: the options are:\n" },
        { "-d", 1, "knock: --delay needs milliseconds\n" },
        { "-w", 1, "knock: --wait needs a port\n" },
        { "-d x ::1 7", 1,
          "knock: --delay: milliseconds 'x' is not a whole "
          "number from 0 to 86400000\n" },
        { "-d 86400001 ::1 7", 1,
          "is not a whole number from 0 to 86400000" },
        { "-t 0 ::1 7", 1, "seconds '0' is not a whole number from 1 to" },
        { "-t 86401 ::1 7", 1, "is not a whole number from 1 to 86400\n" },
        { "-w 0 ::1 7", 1, "--wait: port '0' is not a whole number from 1" },
        { "--generate 0", 1, "ports '0' is not a whole number from 1 to 32" },
        { "--generate 33", 1, "ports '33' is not a whole number from 1 to " },
        { "::1", 1, "knock: no ports, and no profile [::1] with ports:\n" },
        { "-d 0 -t 86400 ::1 7", 0, "" },
        { "::1 7 --delay=86400000", 0, "" },
        { "::1 -4 7", 1, "has no IPv4 address" },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int status = client(cases[i].words);

        CHECK(status == cases[i].status && has_text(cases[i].says) &&
                  (*cases[i].says || !*kept),
              "'%s': %d, %s", cases[i].words, status, kept);
        CHECK(!status || !t_nreached);
    }
}

static void test_client_profiles(void) {
    static const struct {
        const char *profile, *words, *hits; /* hits: or the message */
    } cases[] = {
        { "[home]\nhost = 127.0.0.1\nports = 7000, 8000:udp 9000\n", "home",
          "tcp 7000 at 0, udp 8000 at 10, tcp 9000 at 20" },
        { "[127.0.0.1]\nsequence 7000\r\n", "127.0.0.1", "tcp 7000 at 0" },
        { "[other]\nports=1\n[home] # ours\nHOST=127.0.0.1\n\n# no\n"
          "delay=100\nudp\nPorts=5 # and no 6\nports=7\n[last]\nports=2\n",
          "home", "udp 5 at 0, udp 7 at 100" },
        { "[home]\nhost=127.0.0.1\nports=5\ndelay=100\n", "-d 7 home",
          "tcp 5 at 0" },
        { "[home]\nhost=127.0.0.1\nports=5 6\nudp=yes\ndelay=1\n", "home",
          "udp 5 at 0, udp 6 at 1" },
        { "[home]\nhost=127.0.0.1\nports=5\n", "127.0.0.1 9", "tcp 9 at 0" },
        { "[home]\nport=5\n", "home",
          "knock.conf:2: 'port' is not understood\n" },
        { "[home]\nudp=no\n", "home",
          "knock.conf:2: 'udp' with 'no' is not understood\n" },
        { "[home]\nports\n", "home",
          "knock.conf:2: 'ports' with '' is not understood\n" },
        { "[home]\n\ndelay=1 2\n", "home",
          "knock.conf:3: 'delay' has too many words\n" },
        { "[home]\nconnect=22\n", "home", "'connect' is not under" },
        { "[home]\nports=70000\n", "home",
          "knock.conf:2: port '70000' is not a whole number" },
        { "[a]\nports=1\n[b]\nports=2\n", "home",
          "knock: no ports, and no profile [home] with ports:\n  " },
    };
    char path[PATH_MAX];

    mkdirat(directory_fd, ".config", 0700);
    t_home = directory;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool good = !strncmp(cases[i].hits + 1, "cp ", 3) ||
                    !strncmp(cases[i].hits + 1, "dp ", 3);

        put_text(".config/knock.conf", cases[i].profile);
        CHECK(client(cases[i].words) == !good, "%u: %s", i, kept);
        CHECK(good ? !*kept && !strcmp(client_hits(), cases[i].hits)
                   : has_text(cases[i].hits) && !t_nreached,
              "%u: %s%s", i, client_hits(), kept);
    }
    snprintf(path, sizeof(path), "%s/.config/knock.conf: [a][b]\n",
             directory);
    CHECK(has_text(path) && has_text("/.knockrc: there is no such file\n"),
          "%s", kept);
    /* a section again: both parts count, as in 1.0 */
    put_text(".config/knock.conf", "[home]\nhost=127.0.0.1\nports=5\n[b]\n"
                                   "[b]\n[home]\nports=6\n");
    CHECK(client("home") == 0 &&
              has_text("/knock.conf:6: [home] again: both count\n") &&
              count_text("again") == 1 &&
              !strcmp(client_hits(), "tcp 5 at 0, tcp 6 at 10"),
          "%s", kept);
    put_text(".config/knock.conf", "");
    /* .knockrc, if there is none with ports before; one that others can read */
    put_text(".knockrc", "[home]\nhost=127.0.0.1\nports=5\n");
    CHECK(client("home") == 0 && !strcmp(client_hits(), "tcp 5 at 0"), "%s",
          kept);
    fchmodat(directory_fd, ".knockrc", 0644, 0);
    CHECK(client("home") == 0 && has_text("knock: warning: others can use "),
          "%s", kept);
    unlinkat(directory_fd, ".knockrc", 0);
    /* a key, which others can't use; its door may have blanks */
    put_text(".config/knock.conf",
             "[home]\nhost=127.0.0.1\nports=62201\nkey = a b:" CLIENT_KEY
             "\n");
    CHECK(client("home") == 0 && t_nsent == SEALED_COPIES && !*kept, "%s",
          kept);
    fchmodat(directory_fd, ".config/knock.conf", 0640, 0);
    CHECK(client("home") == 1 && has_text("others may use this file") &&
              !t_nsent,
          "%s", kept);
    unlinkat(directory_fd, ".config/knock.conf", 0);
    CHECK(client("home") == 1 &&
          has_text("/.config/knock.conf: there is no such file"));
    unlinkat(directory_fd, ".config", AT_REMOVEDIR);
    t_home = NULL;
}

static void test_client_makes(void) {
    static const struct {
        in_port_t ports[4];
        unsigned n;
        bool fit;
    } cases[] = {
        { { 1024 }, 1, true },
        { { 1023 }, 1, false },
        { { 1024 }, 1, true },
        { { 5000, 4000 }, 2, true },
        { { 5000, 5000 }, 2, false },
        { { 2000, 4000, 3000 }, 3, true },
        { { 4000, 2000, 3000 }, 3, true },
        { { 2000, 3000, 4000 }, 3, false },
        { { 4000, 3000, 2000 }, 3, false },
        { { 2000, 4000, 2000 }, 3, false },
        { { 2000, 4000, 3000, 3000 }, 4, false },
        { { 2000, 4000, 3000, 1000 }, 4, false },
        { { 2000, 4000, 3000, 65535 }, 4, true },
        { { 2000, 3000, 4000, 5000 }, 4, false },
    };
    unsigned ports[4], again[4];
    char key[KEY_DIGITS + 1], other[KEY_DIGITS + 1];

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        CHECK(is_fit(cases[i].ports, cases[i].n) == cases[i].fit, "%u", i);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(client("--generate 4") == 0);
        CHECK(sscanf(kept, "sequence = %u,%u,%u,%u\nknock HOST %u %u %u %u\n",
                     &ports[0], &ports[1], &ports[2], &ports[3], &again[0],
                     &again[1], &again[2], &again[3]) == 8 &&
                  !memcmp(ports, again, sizeof(ports)) &&
                  count_text("\n") == 2 && count_text(",") == 3,
              "%s", kept);
    }
    CHECK(client("--generate 32") == 0 && count_text(",") == 31);
    CHECK(client("--generate 1") == 0 && !count_text(","));
    CHECK(client("--keygen anna ssh") == 0 &&
              sscanf(kept, "anna %64[0-9a-f]\nkey = ssh:%64[0-9a-f]\n", key,
                     other) == 2 &&
              strlen(key) == KEY_DIGITS && !strcmp(key, other),
          "%s", kept);
    CHECK(client("--keygen anna ssh") == 0 && !has_text(key));
    CHECK(client("--keygen an:na ssh") == 1 &&
          has_text("'an:na' can't be a client: "));
    CHECK(client("--keygen anna") == 1 && has_text("--keygen anna needs "),
          "%s", kept);
    char line[300] = "--keygen anna ";
    for (unsigned n = DOOR_NAME_MAX; n <= DOOR_NAME_MAX + 1; n++) {
        memset(line + 14, 'd', n);
        line[14 + n] = '\0';
        CHECK(client(line) == (n > DOOR_NAME_MAX));
    }
}
