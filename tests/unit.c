/*
 * Unit tests of knockd.c: it is included here, with its system calls watched
 * (harness.h). No network, no root, no other process.
 *
 *	build/unit [PART-OF-A-NAME]	TAP: `ok N - text`, 1..N first
 *	SOAK=1 build/unit		at full size, with a table at the end
 *	SEED=N				of all random choices
 */
#include "harness.h"
#include "world.h"
#include <ctype.h>
#include <dirent.h>

/* ---- Checks ------------------------------------------------------------- */

static unsigned bad_checks; /* in the test that runs */
static bool soak, quick;    /* by these words in the environment, in capitals */
static char notes[32][200]; /* figures, shown as a table at the end */
static unsigned nnotes;
static char directory[PATH_MAX]; /* of our own, for files */
static int directory_fd;

#define CHECK(good, ...)                                 \
    do {                                                 \
        if (!(good) && bad_checks++ < 5)                 \
            complaint(__LINE__, #good, " " __VA_ARGS__); \
    } while (0)

__attribute__((format(printf, 3, 4))) static void complaint(int line,
                                                            const char *what,
                                                            const char *fmt,
                                                            ...) {
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = '|';
    printf("# line %d: not %s%s%s\n", line, what, text[1] ? ":" : "",
           text[1] ? text : "");
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(notes[nnotes], sizeof(*notes), fmt, ap);
    va_end(ap);
    printf("# %s\n", notes[nnotes]);
    nnotes += nnotes < sizeof(notes) / sizeof(*notes) - 1;
}

/* How often: more when there is time. */
static unsigned times(unsigned n, unsigned at_full_size) {
    return soak ? at_full_size : quick ? n / 20 + 1 : n;
}

static bool has_text(const char *text) { return strstr(kept, text) != NULL; }

static unsigned count_text(const char *text) {
    unsigned n = 0;

    for (const char *at = kept; (at = strstr(at, text)); at++) n++;
    return n;
}

static void put_file(const char *name, const char *text, size_t n) {
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, text, n) != (ssize_t)n) abort();
    close(fd);
}

static void put_text(const char *name, const char *text) {
    put_file(name, text, strlen(text));
}

/* The content of a file; "" if there is none. */
static const char *get_file(const char *name, size_t *size) {
    static char text[1 << 20];
    int fd = openat(directory_fd, name, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0) close(fd);
    text[n < 0 ? 0 : n] = '\0';
    if (size) *size = n < 0 ? 0 : (size_t)n;
    return text;
}

/* ---- Configuration --------------------------------------------------------- */

/* Reads n bytes as a configuration; what it says is kept. */
static bool load_bytes(struct conf *c, const char *text, size_t n, bool test) {
    forget();
    put_file("conf", text, n);
    return config_load(c, directory_fd, "conf", test);
}

static bool load_text(struct conf *c, const char *text, bool test) {
    return load_bytes(c, text, strlen(text), test);
}

/* A configuration with one door, from these lines (the first is line 2). */
static bool load_door(struct conf *c, const char *lines, bool test) {
    static char text[200000];

    snprintf(text, sizeof(text), "[d]\n%s", lines);
    return load_text(c, text, test);
}

/* What a configuration without an error is understood to mean. */
static const char *meaning(const char *text) {
    static char printed[KEPT_MAX];
    struct conf c;
    bool good = load_text(&c, text, false);

    if (good) {
        forget();
        config_print(&c);
    }
    snprintf(printed, sizeof(printed), "%s", kept);
    config_free(&c);
    return printed;
}

static void test_sequences(void) {
    static const char *const good[][2] = {
        { "7000,8000,9000", "7000,8000,9000" },
        { " 7000 , 8000 :udp,\t9000: TCP ", "7000,8000:udp,9000" },
        { "1", "1" },
        { "65535:Udp", "65535:udp" },
        { "007000", "7000" },
        { "22:tcp:whatever,23", "22,23" },
        { "22:udp: x", "22:udp" },
        { "1,1,1", "1,1,1" },
        { "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,"
          "24,25,26,27,28,29,30,31,32",
          "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,"
          "22,23,24,25,26,27,28,29,30,31,32" },
    };
    static const char *const bad[][2] = {
        { "", "item 1 of the sequence is empty" },
        { "  # nothing", "item 1 of the sequence is empty" },
        { ",", "item 1 of the sequence is empty" },
        { "1,", "item 2 of the sequence is empty" },
        { ",1", "item 1 of the sequence is empty" },
        { "1,,2", "item 2 of the sequence is empty" },
        { "0", "port '0' is not a number from 1 to 65535" },
        { "65536", "port '65536' is not a number from 1 to 65535" },
        { "-1", "port '-1' is not a number from 1 to 65535" },
        { "+1", "port '+1' is not a number from 1 to 65535" },
        { "80x", "port '80x' is not a number from 1 to 65535" },
        { "abc", "port 'abc' is not a number from 1 to 65535" },
        { "1 2", "port '1 2' is not a number from 1 to 65535" },
        { "1.0", "port '1.0' is not a number from 1 to 65535" },
        { "0x50", "port '0x50' is not a number from 1 to 65535" },
        { "4294967297", "port '4294967297' is not a number from 1 to" },
        { "18446744073709551617", "port '18446744073709551617' is not" },
        { "1:", "protocol '' is neither tcp nor udp" },
        { "1:icmp", "protocol 'icmp' is neither tcp nor udp" },
        { "1:udpx", "protocol 'udpx' is neither tcp nor udp" },
        { "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
          "1,1,1",
          "more than 32 ports in a sequence" },
    };
    char text[4096], want[256];
    struct conf c;

    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
        snprintf(text, sizeof(text), "[d]\nsequence = %s\n", good[i][0]);
        snprintf(want, sizeof(want), "Sequence = %s\n", good[i][1]);
        CHECK(strstr(meaning(text), want), "'%s': %s", good[i][0],
              meaning(text));
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(text, sizeof(text), "\nSequence=%s\n", bad[i][0]);
        snprintf(want, sizeof(want), "knockd: conf:3: %s", bad[i][1]);
        CHECK(!load_door(&c, text, false) && has_text(want) &&
                  count_text("\n") == 1,
              "'%s': %s", bad[i][0], kept);
        config_free(&c);
    }
}

static void test_flags_of_doors(void) {
    static const struct {
        const char *lines;
        unsigned want, forbid;
    } good[] = {
        { "", 0, 0 },
        { "tcpflags = syn", 2, 0 },
        { "tcpflags = SYN,Ack", 18, 0 },
        { "tcpflags = fin,syn,rst,psh,ack,urg", 63, 0 },
        { "tcpflags = !fin,!syn,!rst,!psh,!ack,!urg", 0, 63 },
        { "tcpflags = syn, !ack ,! rst", 2, 20 },
        { "tcpflags = syn\nTCPFLAGS = !ack", 2, 16 },
    };
    static const char *const bad[] = { "",     "sny",      "syn ack", "!",
                                       "syn,", "syn,,ack", "ece",     "!!syn" };
    char text[256];
    struct conf c;

    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
        snprintf(text, sizeof(text), "sequence=1\n%s\n", good[i].lines);
        CHECK(load_door(&c, text, false), "%s: %s", good[i].lines, kept);
        CHECK(c.doors->tcp.want == good[i].want &&
                  c.doors->tcp.forbid == good[i].forbid,
              "%s", good[i].lines);
        config_free(&c);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(text, sizeof(text), "sequence=1\ntcpflags=%s", bad[i]);
        CHECK(!load_door(&c, text, false), "'%s'", bad[i]);
        CHECK(has_text("conf:3: unknown TCP flag"), "%s", kept);
        config_free(&c);
    }
}

static void test_nets(void) {
    static const struct {
        const char *text, *in, *out; /* in, out: one address each */
    } good[] = {
        { "192.0.2.1", "192.0.2.1", "192.0.2.2" },
        { "192.0.2.77/24", "192.0.2.255", "192.0.3.0" },
        { "10.0.0.0/8, 172.16.0.0/12", "172.31.255.255", "172.32.0.0" },
        { "0.0.0.0/0", "255.255.255.255", "2001:db8::1" },
        { "192.0.2.128/25", "192.0.2.129", "192.0.2.127" },
        { "192.0.2.4/31", "192.0.2.5", "192.0.2.6" },
        { "2001:db8::/32", "2001:db8:ffff::", "2001:db9::" },
        { "2001:DB8::1", "2001:db8::1", "2001:db8::2" },
        { "2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::" },
        { "fe80::/10", "febf::1", "fec0::1" },
        { "::/0", "2001:db8::1", "192.0.2.1" },
        { "::/3", "1fff::1", "192.0.2.1" },
        { "::/3", "::2", "2001::1" },
        { " ::1 / 128 ", "::1", "::2" },
    };
    static const char *const bad[][2] = {
        { "", "'' is not an IPv4 or IPv6 address" },
        { "192.0.2", "'192.0.2' is not an IPv4 or IPv6 address" },
        { "192.0.2.256", "'192.0.2.256' is not an IPv4 or IPv6 address" },
        { "host.example", "'host.example' is not an IPv4 or IPv6" },
        { "192.0.2.1,", "'' is not an IPv4 or IPv6 address" },
        { "192.0.2.1/33", "'33' is no number of bits from 0 to 32" },
        { "192.0.2.1/", "'' is no number of bits from 0 to 32" },
        { "192.0.2.1/-1", "'-1' is no number of bits from 0 to 32" },
        { "192.0.2.1/24/8", "'24/8' is no number of bits from 0 to" },
        { "2001:db8::/129", "'129' is no number of bits from 0 to" },
        { "1:2:3:4:5:6:7:8:9", "'1:2:3:4:5:6:7:8:9' is not an IPv4" },
    };
    char text[256], want[256], print[128];
    struct conf c;

    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct addr in = addr_of(good[i].in), o = addr_of(good[i].out);

        snprintf(text, sizeof(text), "sequence=1\nallow = %s\nTarget=%s",
                 good[i].text, good[i].text);
        CHECK(load_door(&c, text, false), "%s: %s", good[i].text, kept);
        CHECK(in_nets(&c.doors->allow, &in), "%s", good[i].text);
        CHECK(!in_nets(&c.doors->target, &o), "%s lets %s in", good[i].text,
              good[i].out);
        CHECK(allowed(c.doors, &in) && !allowed(c.doors, &o), "%s",
              good[i].text);
        config_free(&c);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(text, sizeof(text), "sequence=1\nAllow=%s\n", bad[i][0]);
        snprintf(want, sizeof(want), "conf:3: %s", bad[i][1]);
        CHECK(!load_door(&c, text, false) && has_text(want), "'%s': %s",
              bad[i][0], kept);
        config_free(&c);
    }
    snprintf(print, sizeof(print), "%s", "Allow = 192.0.2.1/24,::1/128\n");
    CHECK(strstr(meaning("[d]\nsequence=1\nallow=9.9.9.9\n"
                         "Allow=192.0.2.1/24, ::1"),
                 print),
          "%s", kept);
}

/* in_nets() against a comparison bit by bit. */
static void test_nets_at_random(void) {
    for (unsigned i = 0; i < times(100000, 10000000); i++) {
        struct net net[2];
        struct nets nets = { net, 1 + rnd(2) };
        struct o_net plain[2];
        struct addr a;

        for (unsigned k = 0; k < 2; k++) {
            for (unsigned b = 0; b < 16; b++)
                net[k].addr.b[b] = (uint8_t)rnd(256);
            net[k].bits = rnd(129);
            plain[k].bits = net[k].bits;
            memcpy(plain[k].addr, &net[k].addr, 16);
        }
        a = net[rnd(2)].addr;
        a.b[rnd(16)] ^= (uint8_t)(1 << rnd(8));
        CHECK(in_nets(&nets, &a) == o_in(plain, nets.n, a.b));
    }
}

static void test_defaults(void) {
    struct conf c;
    struct door *d;

    CHECK(load_door(&c, "sequence=1,2,3", false), "%s", kept);
    d = c.doors;
    CHECK(c.ndoors == 1 && !strcmp(d->name, "d") && d->line == 1);
    CHECK(d->seq_timeout == 25 && d->cmd_timeout == 10 && !d->cooldown);
    CHECK(d->stray_limit == 8 && c.stray_limit == 8);
    CHECK(!d->tcp.want && !d->tcp.forbid && !d->target.n && !d->allow.n);
    CHECK(!d->start && !d->start6 && !d->stop && !d->stop6 && !d->message &&
          !d->one_time);
    CHECK(!c.use_syslog && !c.logfile && !c.pidfile && !c.interface &&
          !strcmp(c.listen, "any"));
    config_free(&c);
}

/* Every directive, by each of its names, in other cases and other blanks. */
static void test_directives(void) {
    static const struct {
        const char *line, *print; /* of one door, and what -t says */
    } lines[] = {
		{"Sequence = 5,6,7", "Sequence = 5,6,7"},
		{"Seq_Timeout = 15", "Seq_Timeout = 15"},
		{"timeout=1", "Seq_Timeout = 1"},
		{"SEQ_TIMEOUT = 31536000", "Seq_Timeout = 31536000"},
		{"tcpflags = SYN,!ack", "TCPFlags = syn,!ack"},
		{"target=10.0.0.9", "Target = 10.0.0.9/32"},
		{"Allow = 2001:db8::/32,10.0.0.0/8",
			"Allow = 2001:db8::/32,10.0.0.0/8"},
		{"Stray_Limit = 63", "Stray_Limit = 63"},
		{"stray_limit = 0", "Stray_Limit = 0"},
		{"Seq_Cooldown = 5", "Seq_Cooldown = 5"},
		{"cooldown =\t60", "Seq_Cooldown = 60"},
		{"Message = CLOSE  SESAME", "Message = CLOSE  SESAME"},
		{"Start_Command = a %IP% # b", "Start_Command = a %IP% # b"},
		{"command = x=1 y='#'", "Start_Command = x=1 y='#'"},
		{"Start_Command_6 = a6", "Start_Command_6 = a6"},
		{"command_6 = a6", "Start_Command_6 = a6"},
		{"command_6 =", "Start_Command_6 = "},
		{"Cmd_Timeout = 0", "Cmd_Timeout = 0"},
		{"Stop_Command = b", "Stop_Command = b"},
		{"Stop_Command_6 = b6", "Stop_Command_6 = b6"},
		{"Stop_Command_6=", "Stop_Command_6 = "},
		{"UseSyslog", "[d]"},
		{"AllowDupes", "[d]"},
		{"allowduplicates", "[d]"},
	}, options[] = {
		{"UseSyslog", "UseSyslog"},
		{"usesyslog # by default", "UseSyslog"},
		{"LogFile = /var/log/k.log", "LogFile = /var/log/k.log"},
		{"pidfile=/run/k.pid", "PidFile = /run/k.pid"},
		{"Interface = eth0", "Interface = eth0"},
		{"interface = eth0, wlan0,br-lan", "Interface = eth0, wlan0,"},
		{"Interface = abcdefghijklmno", "Interface = abcdefghijklmno"},
		{"AllowDuplicates", "AllowDuplicates"},
		{"LogFile = # off", "[options]\nStray"},
		{"PidFile =# off", "[options]\nStray"},
		{"Interface = ,", "[options]\nStray"},
		{"Stray_Limit = 0", "Stray_Limit = 0\n\n[d]\nSequence = 1\nSeq_"
				    "Timeout = 25\nStray_Limit = 0\n"},
	};
    char text[512], want[512];

    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        snprintf(text, sizeof(text), "[d]\n sequence=1\n\t%s \t\n",
                 lines[i].line);
        snprintf(want, sizeof(want), "%s\n", lines[i].print);
        CHECK(strstr(meaning(text), want), "%s: %s", lines[i].line,
              meaning(text));
    }
    for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++) {
        snprintf(text, sizeof(text), "[Options]\n%s\n[d]\nsequence=1\n",
                 options[i].line);
        snprintf(want, sizeof(want), "%s", options[i].print);
        CHECK(strstr(meaning(text), want), "%s: %s", options[i].line,
              meaning(text));
    }
}

/* A configuration with errors says all of them, each with its line. */
static void test_errors(void) {
    static const struct {
        const char *text, *errors;
    } cases[] = {
        { "sequence = 1\n", "1: Sequence stands before the first "
                            "[section]" },
        { "[d]\nSequence=1\nPort = 3", "3: unknown directive 'Port = 3'" },
        { "[d]\nsequence=1\nsequence", "3: Sequence needs a value, with "
                                       "'=' before it" },
        { "[d]\nsequence=1\nhello world", "3: unknown directive 'hello "
                                          "world'" },
        { "[d]\nsequence=1\nsequence 2 = 3", "3: unknown directive '"
                                             "sequence 2 = 3'" },
        { "[d]\nsequence=1\nSequencer=2", "3: unknown directive 'Seque"
                                          "ncer=2'" },
        { "[d]\nsequence=1\nUseSyslog = yes", "3: UseSyslog stands alone:"
                                              " it takes no value" },
        { "[d]\nsequence=1\nusesyslog =", "3: UseSyslog stands alone: it "
                                          "takes no value" },
        { "[options]\nsequence=1", "2: Sequence belongs in a door, not "
                                   "in [options]" },
        { "[d]\nlogfile=/x\nsequence=1", "2: LogFile belongs in "
                                         "[options], not in a door" },
        { "[d]\n[e]\nsequence=1", "1: door 'd' has no sequence" },
        { "[d]\nsequence=1\n[]\nsequence=2",
          "3: a section name has 1 to 127 characters" },
        { "[d]\nsequence=1\n[ ]\nsequence=2",
          "3: a section name has 1 to 127 characters" },
        { "[d\nsequence=1", "1: bad section line '[d'" },
        { "[d] x\nsequence=1", "1: bad section line '[d] x'" },
        { "[d]\nsequence=1,2\ntimeout=0", "1: Seq_Timeout 0 leaves door "
                                          "'d' no time" },
        { "[d]\nsequence=1\ntimeout=abc", "3: Seq_Timeout 'abc' is not a "
                                          "number from 0 to 31536000" },
        { "[d]\nsequence=1\ntimeout=-1", "3: Seq_Timeout '-1' is not a "
                                         "number from 0 to 31536000" },
        { "[d]\nsequence=1\ntimeout=", "3: Seq_Timeout '' is not a number"
                                       " from 0 to 31536000" },
        { "[d]\nsequence=1\ncmd_timeout=31536001",
          "3: Cmd_Timeout '31536001' is not a number from 0 to "
          "31536000" },
        { "[d]\nsequence=1\nstray_limit=64",
          "3: Stray_Limit '64' is not a number from 0 to 63" },
        { "[d]\nsequence=1\nmessage =", "3: Message is empty" },
        { "[options]\ninterface = eth0,abcdefghijklmnop",
          "2: interface name 'abcdefghijklmnop' is longer than 15 "
          "characters" },
        { "[d]\nsequence=1\n= /bin/evil", "3: " },
        { "[options]\n=", "2: " },
        { "[d]\nsequence=80x\ntimeout=x\n[e]\nsequence=0\nfoo\n[f]\n",
          "2: port '80x' is not a number from 1 to 65535\n"
          "knockd: conf:3: Seq_Timeout 'x' is not a number from 0 "
          "to 31536000\n"
          "knockd: conf:5: port '0' is not a number from 1 to "
          "65535\n"
          "knockd: conf:6: unknown directive 'foo'\n"
          "knockd: conf:7: door 'f' has no sequence" },
    };
    char want[1024];
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool good = load_text(&c, cases[i].text, false);
        bool whole = cases[i].errors[strlen(cases[i].errors) - 1] != ' ';

        snprintf(want, sizeof(want), "knockd: conf:%s%s", cases[i].errors,
                 whole ? "\n" : "");
        CHECK(!good && c.errors, "accepted: %s", cases[i].text);
        CHECK(whole ? !strcmp(kept, want) : !strncmp(kept, want, strlen(want)),
              "'%s' says '%s'", cases[i].text, kept);
        config_free(&c);
    }
}

/* Line ends, a BOM, comments, lengths. */
static void test_text(void) {
    static const char *const same[] = {
        "[d]\nsequence=1,2\nmessage=x\n",
        "[d]\nsequence=1,2\nmessage=x",
        "[d]\r\nsequence=1,2\r\nmessage=x\r\n",
        "[d]\r\nsequence=1,2\r\nmessage=x",
        "\xef\xbb\xbf[d]\nsequence=1,2\nmessage=x\n",
        "# c\n\n  # c\n[d]\n\n#x\nsequence=1,2\n\t\nmessage=x\n#",
        "  [ d ]  \n\v sequence \f = 1,2 \nmessage\t=\tx\n",
        "[d] # comment\nsequence=1,2 # three = two\nmessage = x\t#y\n",
        "[d]\nsequence=1,2 #\nmessage = x # = #",
        "# \xc3\xa4\xff\n[options]\n[d]\nsequence=1,2\nmessage=x",
        "[d] #[e]\nsequence=1,2\nmessage=x",
    };
    static char text[110000];
    struct conf c;
    const char *first;

    first = copy(meaning(same[0]));
    for (unsigned i = 1; i < sizeof(same) / sizeof(*same); i++)
        CHECK(!strcmp(meaning(same[i]), first), "%u: %s", i, meaning(same[i]));
    CHECK(strstr(meaning("[d]\nsequence=1\nmessage = a#b"), "= a#b\n"));
    CHECK(strstr(meaning("[d]\nsequence=1\ncommand=a # b"), "= a # b\n"));
    CHECK(strstr(meaning("[d]\nsequence=1\nmessage= a=b "), "= a=b\n"));
    CHECK(strstr(meaning("[a=b#c]\nsequence=1"), "[a=b#c]\n"));
    CHECK(strstr(meaning("[a]b]\nsequence=1"), "[a]b]\n"));
    CHECK(strstr(meaning("[a=b] # c\nsequence=1"), "[a=b]\n"), "%s", kept);
    /* a line of 100 kB: a comment, a command, a name */
    memset(text, 'x', 100000);
    strcpy(text, "[d]\nsequence=1\n# ");
    text[strlen(text)] = 'x';
    CHECK(load_text(&c, text, false), "%s", kept);
    config_free(&c);
    memcpy(text, "[d]\nsequence=1\ncommand=", 23);
    CHECK(load_text(&c, text, true) && strlen(c.doors->start) == 100000 - 23);
    config_free(&c);
    text[100000] = ']';
    memcpy(text, "[options]\n[xxxxx", 16);
    CHECK(!load_text(&c, text, false) && has_text("has 1 to 127 characters"));
    CHECK(kept_length < 10000);
    config_free(&c);
    memset(text, 0, sizeof(text));
    sprintf(text, "[%0127d]\nsequence=1", 1);
    CHECK(load_text(&c, text, false), "%s", kept);
    config_free(&c);
    sprintf(text, "[%0128d]\nsequence=1", 1);
    CHECK(!load_text(&c, text, false));
    config_free(&c);
    /* no text at all */
    CHECK(!load_bytes(&c, "[d]\nseq\0uence=1\n", 16, false) &&
              has_text("conf:1: byte 7 is zero: this is no text file"),
          "%s", kept);
    config_free(&c);
    for (unsigned i = 0; i < 2000; i++) {
        size_t n = rnd(200);

        for (size_t k = 0; k < n; k++) text[k] = (char)rnd(256);
        load_bytes(&c, text, n, true);
        config_free(&c);
    }
    free((char *)first);
}

static void test_files(void) {
    struct conf c;

    forget();
    CHECK(!config_load(&c, directory_fd, "none", false));
    CHECK(has_text("could not open none: No such file or directory"));
    config_free(&c);
    forget();
    CHECK(!config_load(&c, AT_FDCWD, directory, false));
    CHECK(has_text("Is a directory"), "%s", kept);
    config_free(&c);
    CHECK(load_text(&c, "", true) && has_text("conf has no door"));
    config_free(&c);
    CHECK(!load_door(&c, "one_time_sequences = none", false));
    CHECK(has_text("none: No such file or directory"), "%s", kept);
    config_free(&c);
    put_text("once", "1,2\n");
    CHECK(load_door(&c, "One_Time_Sequences = once", false), "%s", kept);
    CHECK(c.doors->seq.n == 2);
    config_free(&c);
}

/* What -t warns of. */
static void test_warnings(void) {
    static const char *const cases[][2] = {
        { "[d]\nsequence=7000,8000,9000\ncommand=a %IP%\nstop_command=b",
          "door 'd': the ports stand in the order of a scan and of" },
        { "[d]\nsequence=9000,8000,7000",
          "order of a scan and of the manuals: take another; for" },
        { "[d]\nsequence=1,5,9,9000", "the ports stand in the order of a" },
        { "[d]\nsequence=4,3,2,1", "the ports stand in the order of a" },
        { "[d]\nsequence=9,5", "the ports stand in the order of a scan" },
        { "[d]\nsequence=5,5", "the ports stand in the order of a scan" },
        { "[d]\nsequence=5", "fewer than 3 ports are easily guessed" },
        { "[d]\nsequence=5,9,1", "no command: it will only log" },
        { "[d]\nsequence=5,9,1\ncommand=true\nstop_command=x",
          "the command lacks %IP%" },
        { "[d]\nsequence=5,9,1\ncommand=iptables -A INPUT -s %IP%",
          "-A puts the rule behind" },
        { "[d]\nsequence=5,9,1\ncommand=a %IP%\nstop_command=b %IP%",
          "a Stop_Command without a Cmd_Timeout: it is 10 s" },
        { "[d]\nsequence=5,9,1\ncommand=a %IP%", "no Stop_Command" },
        { "[d]\nsequence=5,9,1\ncommand=/no/such %IP%",
          "/no/such: No such file or directory" },
        { "[d]\nsequence=5,9,1\n[d]\nsequence=5,9,1",
          "there is a door 'd' at line 1, too" },
        { "[d]\nsequence=5,9,1\nmessage=a\nmessage=b",
          "conf:4: warning: Message is given again: the last one" },
        { "# no door", "conf has no door" },
    };
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        CHECK(load_text(&c, cases[i][0], true), "%s", kept);
        CHECK(has_text(cases[i][1]) && has_text("warning: "), "'%s' says '%s'",
              cases[i][0], kept);
        config_free(&c);
        CHECK(load_text(&c, cases[i][0], false) && !*kept, "%s", kept);
        config_free(&c);
    }
    CHECK(load_text(&c,
                    "[a]\nsequence=5,9,1,7\ncommand=id %IP%\n"
                    "stop_command=id\ncmd_timeout=5\ntcpflags=syn\n"
                    "tcpflags=!ack\n",
                    true) &&
              !*kept,
          "%s", kept);
    config_free(&c);
    put_text("conf", "");
    forget();
    fchmodat(directory_fd, "conf", 0644, 0);
    CHECK(config_load(&c, directory_fd, "conf", true) &&
              has_text("conf:1: warning: everyone may read this file"),
          "%s", kept);
    config_free(&c);
    fchmodat(directory_fd, "conf", 0600, 0);
}

/* A random value for each directive; blanks, case and comments at random. */
static void random_line(char *text, size_t *n, const char *key,
                        const char *value, bool comment) {
    static const char *const blanks[] = { "", " ", "\t", "  \t" };
    static const char *const ends[] = { "\n", "\r\n", " \n", "\n\n" };

    *n += (size_t)sprintf(text + *n, "%s", blanks[rnd(4)]);
    for (const char *k = key; *k; k++)
        text[(*n)++] = (char)(isalpha(*k) && one_in(2) ? *k ^ 32 : *k);
    *n += (size_t)sprintf(text + *n, "%s%s%s%s%s%s", blanks[rnd(4)],
                          value ? "=" : "", value ? blanks[rnd(4)] : "",
                          value ? value : "",
                          comment && one_in(4) ? "\t# a=b" : "", ends[rnd(4)]);
}

/* A random configuration is understood as it was meant, and what -t prints of
 * it means the same again. */
static void test_random_configurations(void) {
    static char text[KEPT_MAX], value[1024], printed[KEPT_MAX];
    struct conf c, again;

    for (unsigned i = 0; i < times(2000, 100000); i++) {
        unsigned doors = rnd(5), ports[5][32], n[5], timeout[5];
        size_t at = 0;

        random_line(text, &at, "[options]", NULL, true);
        if (one_in(2)) random_line(text, &at, "UseSyslog", NULL, true);
        for (unsigned d = 0; d < doors; d++) {
            sprintf(value, "[door %u]", d);
            random_line(text, &at, value, NULL, true);
            n[d] = 1 + rnd(32);
            *value = '\0';
            for (unsigned k = 0; k < n[d]; k++) {
                ports[d][k] = 1 + rnd(65535);
                sprintf(value + strlen(value), "%s%u%s",
                        k ? one_in(3) ? " , " : "," : "", ports[d][k],
                        one_in(4) ? ":TCP" : "");
            }
            random_line(text, &at, "Sequence", value, true);
            timeout[d] = 1 + rnd(100000);
            sprintf(value, "%u", timeout[d]);
            random_line(text, &at, one_in(2) ? "Seq_Timeout" : "Timeout", value,
                        true);
            random_line(text, &at, one_in(2) ? "Command" : "Start_Command",
                        "a # %IP%", false);
            if (one_in(3))
                random_line(text, &at, "TCPFlags", "syn, !ack", true);
            if (one_in(3))
                random_line(text, &at, "Allow", "::1,10.0.0.0/8", true);
        }
        CHECK(load_bytes(&c, text, at, false) && c.ndoors == doors, "%s: %s",
              kept, text);
        for (unsigned d = 0; d < c.ndoors; d++) {
            sprintf(value, "door %u", d);
            CHECK(!strcasecmp(c.doors[d].name, value));
            CHECK(c.doors[d].seq.n == n[d] &&
                  c.doors[d].seq_timeout == timeout[d]);
            for (unsigned k = 0; k < n[d]; k++)
                CHECK(c.doors[d].seq.knock[k] == ports[d][k]);
            CHECK(!strcmp(c.doors[d].start, "a # %IP%"));
        }
        forget();
        config_print(&c);
        memcpy(printed, kept, kept_length + 1);
        CHECK(load_text(&again, printed, false), "%s: %s", kept, printed);
        forget();
        config_print(&again);
        CHECK(!strcmp(kept, printed), "%s is not %s", kept, printed);
        config_free(&again);
        config_free(&c);
    }
}

/* ---- Packets ---------------------------------------------------------------- */

enum { KINDS_OF_PACKETS = 14 };

/* Packets of every kind. */
static size_t sample(uint8_t *b, unsigned kind) {
    struct spec s = { .proto = TCP,
                      .flags = 2,
                      .sport = 40000,
                      .dport = 7000,
                      .seq = 0x12345678,
                      .payload = 5 };
    unsigned all[] = { 0, 60, 43, 44, 60, 51, 135, 139, 140 };

    s.v6 = kind >= 7;
    s.src = addr_of(s.v6 ? "2001:db8::1" : "192.0.2.1");
    s.dst = addr_of(s.v6 ? "fd00::1" : "10.0.0.1");
    if (kind % 7 == 1 || kind % 7 == 3 || kind % 7 == 5) s.proto = UDP;
    if (!s.v6) {
        s.options = kind == 2 ? 10 : kind == 3 ? 1 : 0;
        s.tcp_options = kind == 4 ? 10 : kind == 2 ? 5 : 0;
        s.fragment = kind > 4 ? 0x2000 : 0x4000;
    } else {
        s.next = kind == 9 ? 1 : kind == 10 ? 2 : kind > 10 ? 8 : 0;
        for (unsigned i = 0; i < s.next; i++)
            s.ext[i] = (uint8_t)all[(i + kind) % 9];
        s.tcp_options = kind == 11 ? 10 : 0;
    }
    return build(b, &s);
}

/* Every length captured, every length on the wire. */
static void test_lengths(void) {
    uint8_t b[512];
    bool good;

    for (unsigned kind = 0; kind < KINDS_OF_PACKETS; kind++) {
        size_t n = sample(b, kind);
        unsigned accepted = 0;

        CHECK(parsed_alike(b, n, n, &good) && good, "kind %u", kind);
        for (size_t have = 0; have <= n + 20; have++) {
            memset(b + n, 0, 20);
            for (size_t wire = have; wire <= n + 40; wire++) {
                CHECK(parsed_alike(b, have, wire, &good), "kind %u, %zu of %zu",
                      kind, have, wire);
                CHECK(!good || wire >= n, "kind %u", kind);
                accepted += good;
            }
        }
        CHECK(accepted > 0);
    }
}

/* Every byte of a header takes every value: every length and version lies in
 * every way, every protocol follows every other. */
static void test_lies(void) {
    uint8_t b[512], c[512];
    unsigned accepted = 0, refused = 0;
    bool good;

    for (unsigned kind = 0; kind < KINDS_OF_PACKETS; kind++) {
        size_t n = sample(b, kind);

        for (size_t at = 0; at < n; at++)
            for (unsigned value = 0; value < 256; value++) {
                memcpy(c, b, n);
                c[at] = (uint8_t)value;
                CHECK(parsed_alike(c, n, n, &good), "kind %u, byte %zu is %u",
                      kind, at, value);
                *(good ? &accepted : &refused) += 1;
            }
        /* the lengths of 16 bits: IPv4 at 2, IPv6 at 4, UDP */
        for (unsigned value = 0; value < 65536; value++) {
            memcpy(c, b, n);
            put16(c + (kind < 7 ? 2 : 4), value);
            CHECK(parsed_alike(c, n, n, &good), "kind %u, %u", kind, value);
            CHECK(!good || value <= n);
            if (kind != 1 && kind != 8) continue;
            memcpy(c, b, n);
            put16(c + (kind < 7 ? 20 : 40) + 4, value);
            CHECK(parsed_alike(c, n, n, &good), "udp, %u", value);
            CHECK(good == (value >= 8 && value <= 13), "%u", value);
        }
    }
    CHECK(accepted > 10000 && refused > 10000);
}

/* Several bytes at once, and cut anywhere. */
static void test_mutations(void) {
    static const uint8_t likely[] = { 0, 1, 4, 6, 17, 43, 44, 51, 60, 255 };
    uint8_t b[512];
    unsigned accepted = 0;
    bool good;

    for (unsigned i = 0; i < times(500000, 20000000); i++) {
        size_t n = sample(b, rnd(KINDS_OF_PACKETS)), wire;

        for (unsigned k = rnd(6); k; k--)
            b[rnd((unsigned)n)] =
                one_in(2) ? likely[rnd(10)] : (uint8_t)rnd(256);
        wire = n + (one_in(4) ? rnd(40) : 0);
        if (one_in(3)) n = rnd((unsigned)n + 1);
        CHECK(parsed_alike(b, n, wire, &good), "packet %u", i);
        accepted += good;
    }
    CHECK(accepted > 1000);
}

/* At most eight extension headers. */
static void test_extension_headers(void) {
    struct spec s = { .v6 = true,
                      .proto = TCP,
                      .dport = 7000,
                      .src = addr_of("2001:db8::1"),
                      .dst = addr_of("fd00::1") };
    struct packet p;
    uint8_t b[512];
    size_t n;

    memset(s.ext, 60, sizeof(s.ext));
    for (s.next = 0; s.next <= 12; s.next++) {
        n = build(b, &s);
        CHECK(parse(b, n, n, &p) == (s.next <= 8), "%u", s.next);
    }
    s.next = 1;
    s.ext[0] = 43;
    n = build(b, &s);
    CHECK(parse(b, n, n, &p));
    b[40 + 3] = 1; /* a segment left: it is on its way to somewhere else */
    CHECK(!parse(b, n, n, &p));
    s.ext[0] = 44;
    n = build(b, &s);
    b[40 + 3] = 1; /* more fragments */
    CHECK(parse(b, n, n, &p) && p.part);
    b[40 + 2] = 1; /* a later one */
    CHECK(!parse(b, n, n, &p));
}

/* The mark: the same for a retransmission, another one for another packet. */
static void test_marks(void) {
    unsigned same = 0, rounds = times(100000, 1000000);
    struct packet p, q;
    uint8_t b[512];

    for (unsigned i = 0; i < rounds; i++) {
        struct spec s = { .v6 = one_in(2),
                          .proto = one_in(2) ? TCP : UDP,
                          .flags = 2,
                          .sport = 1 + rnd(65535),
                          .dport = 7000,
                          .seq = (uint32_t)rnd64() };
        size_t n;

        s.src = addr_of(s.v6 ? "2001:db8::1" : "192.0.2.1");
        s.dst = addr_of(s.v6 ? "fd00::1" : "10.0.0.1");
        n = build(b, &s);
        CHECK(parse(b, n, n, &p));
        if (!s.v6) b[8]--; /* another way here */
        if (s.proto == TCP && !s.v6)
            put16(b + 4, rnd(65536)); /* sent again: new packet */
        CHECK(parse(b, n, n, &q) && p.mark == q.mark);
        if (one_in(2)) s.seq += 1 + rnd(60000);
        else s.sport = s.sport % 65535 + 1;
        n = build(b, &s);
        CHECK(parse(b, n, n, &q));
        same += p.mark == q.mark;
    }
    /* 16 bits: one in 65,536 is alike by chance; 10 times that is not */
    CHECK(same < 20 + rounds / 6553, "%u of %u", same, rounds);
}

static void test_addresses(void) {
    static const struct {
        const char *text;
        bool usable, loopback;
    } cases[] = {
        { "0.0.0.0", false, false },
        { "0.1.2.3", false, false },
        { "1.0.0.0", true, false },
        { "127.0.0.1", true, true },
        { "127.255.1.1", true, true },
        { "128.0.0.1", true, false },
        { "223.255.255.255", true, false },
        { "224.0.0.1", false, false },
        { "255.255.255.255", false, false },
        { "::", false, false },
        { "::1", true, true },
        { "::2", true, false },
        { "fe80::1", true, false },
        { "feff::1", true, false },
        { "ff02::1", false, false },
        { "ffff::", false, false },
    };
    char buf[ADDR_TEXT];

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct addr a = addr_of(cases[i].text);

        CHECK(addr_usable(&a) == cases[i].usable, "%s", cases[i].text);
        CHECK(addr_loopback(&a) == cases[i].loopback, "%s", cases[i].text);
        CHECK(!strcmp(addr_text(&a, buf), cases[i].text), "%s", buf);
        CHECK(is_v4(&a) == !strchr(cases[i].text, ':'));
    }
}

/* ---- The kernel filter --------------------------------------------------------- */

static struct door many_doors[MANY];

/* Doors with random ports and flags; scattered: no two ports side by side. */
static void random_doors(struct conf *c, unsigned n, bool scattered) {
    static const struct flags flags[] = {
        { 0, 0 }, { 2, 0 }, { 2, 16 }, { 16, 0 }
    };

    *c = (struct conf){ .doors = many_doors, .ndoors = n };
    for (unsigned i = 0; i < n; i++) {
        struct door *d = &many_doors[i];

        *d = (struct door){ .name = "d",
                            .seq_timeout = 10,
                            .stray_limit = 8,
                            .tcp = flags[rnd(4)] };
        d->seq.n = scattered ? 2 : 1 + rnd(6);
        for (unsigned k = 0; k < d->seq.n; k++) {
            unsigned port = scattered ? (i * 64 + k * 32) % 65536 : rnd(65535);

            d->seq.knock[k] = knock_on(port + 1, one_in(3) || (scattered && k));
        }
    }
}

/* Is a port one on which a bulk packet can be a knock, or as near to one as a
 * scan's strays that count, by the doors alone? */
static bool bulk_port(const struct conf *c, unsigned port, unsigned proto) {
    for (const struct door *d = c->doors; d < c->doors + c->ndoors; d++)
        for (unsigned k = 0; k < d->seq.n; k++)
            if (d->seq.knock[k] / TO_UDP == (proto == UDP) &&
                (unsigned)abs((int)(d->seq.knock[k] % TO_UDP) - (int)port) <=
                    (d->stray_limit ? d->stray_limit + 1 : 0) &&
                (proto == UDP || (!(d->tcp.want & 2) && !(d->tcp.forbid & 16))))
                return true;
    return false;
}

static void random_locals(struct sniffer *s, unsigned n, unsigned interfaces) {
    struct locals *l = s->locals;

    *l = (struct locals){ .any = !interfaces,
                          .naddrs = n,
                          .ninterfaces = interfaces };
    for (unsigned i = 0; i < n; i++) {
        l->addr[i] = mapped;
        for (unsigned b = i % 2 ? 0 : 12; b < 16; b++)
            l->addr[i].b[b] = (uint8_t)(1 + rnd(200));
    }
    qsort(l->addr, n, sizeof(*l->addr), addr_cmp);
    for (unsigned i = 0; i < interfaces; i++) l->interface[i] = 2 + 3 * i;
}

/* A random packet: mostly to a local address, often to a port of a door. */
static size_t random_packet(const struct sniffer *s, uint8_t *b,
                            struct spec *spec, struct meta *m) {
    const struct locals *l = s->locals;
    const struct door *d = &s->conf->doors[rnd(s->conf->ndoors)];
    static const uint8_t flags[] = { 2, 16, 18, 24, 0, 1, 41, 4 };
    static const uint8_t headers[] = { 0, 60, 43, 135 };

    memset(spec, 0, sizeof(*spec));
    spec->dst = l->naddrs ? l->addr[rnd(l->naddrs)] : addr_of("10.0.0.1");
    if (one_in(6)) spec->dst.b[15] ^= (uint8_t)rnd(256);
    spec->v6 = !is_v4(&spec->dst);
    spec->src = addr_of(spec->v6 ? "2001:db8::1" : "192.0.2.1");
    spec->src.b[15] = (uint8_t)(1 + rnd(20));
    spec->proto = one_in(2) ? TCP : UDP;
    spec->flags = flags[rnd(8)];
    spec->sport = 1 + rnd(65535);
    spec->seq = (uint32_t)rnd64();
    spec->dport = rnd(65536);
    if (one_in(2) && d->seq.n) {
        uint32_t k = d->seq.knock[rnd(d->seq.n)];

        spec->dport = k % TO_UDP;
        spec->proto = k & TO_UDP ? UDP : TCP;
    }
    spec->options = one_in(4) ? rnd(11) : 0;
    spec->next = spec->v6 && one_in(4) ? 1 + rnd(3) : 0;
    for (unsigned i = 0; i < spec->next; i++) spec->ext[i] = headers[rnd(4)];
    spec->payload = rnd(4);
    *m = (struct meta){ .protocol = spec->v6 ? 0x86dd : 0x0800,
                        .hatype = 1,
                        .ifindex = l->ninterfaces
                                       ? l->interface[rnd(l->ninterfaces)]
                                       : 7,
                        .pkttype = rnd(3) };
    return build(b, spec);
}

/* What the matcher remembers: two sums alike say that a packet changed
 * nothing. */
static uint64_t memory_of(const struct sniffer *s) {
    uint64_t h = s->counters[OPENS] * 3 + s->counters[CANCELLED] * 7;

    for (uint32_t i = SEQUENCE_MAX + 1; i <= s->used; i++) {
        const struct attempt *a = &s->attempts[i];

        if (a->stage)
            h = h * 31 + a->stage + a->strays * 977 +
                (uint64_t)a->deadline * 13 + i;
    }
    for (unsigned i = 0; i < s->conf->ndoors && i < 100; i++)
        h = h * 31 + (uint64_t)s->conf->doors[i].quiet_until;
    return h;
}

/* A packet for the matcher, as frame() would give it. */
static void give(struct sniffer *s, const uint8_t *b, size_t n) {
    struct packet p;

    if (!parse(b, n, n, &p)) return;
    p.interface = 7;
    unlimited(s);
    match(s, &p);
    heard = 0;
}

/*
 * Whatever changes anything for the matcher has passed the filter that was
 * attached when the packet came; what passes comes from where it may; of the
 * bulk nothing else passes than what can knock or belongs to a source whose
 * strays count.
 */
static void filter_round(unsigned doors, unsigned addresses,
                         unsigned interfaces, unsigned packets) {
    struct conf c;
    struct sniffer *s;
    unsigned steps, bulk = 0, bulk_passed = 0;

    random_doors(&c, doors, false);
    s = sniffer_new(&c);
    random_locals(s, addresses, interfaces);
    filter_attach(s);
    CHECK(!bpf_fault(), "%s", bpf_fault());
    for (unsigned i = 0; i < packets; i++) {
        uint8_t b[512];
        struct spec spec;
        struct meta m;
        size_t n = random_packet(s, b, &spec, &m);
        bool passed = bpf_run(b, n, &m, &steps), plain, known, listed;
        uint64_t before = memory_of(s);

        s->now += rnd(40);
        plain = spec.proto == UDP || (spec.flags & 18) == 16;
        known = bulk_port(&c, spec.dport, spec.proto);
        listed = s->nwide;
        give(s, b, n);
        CHECK(passed || memory_of(s) == before,
              "%u doors, port %u/%u, "
              "flags %u",
              doors, spec.dport, spec.proto, spec.flags);
        if (plain && !known && !listed && !spec.next) {
            bulk++;
            bulk_passed += passed;
        }
        expire_now(s);
        CHECK(!bpf_fault(), "%s", bpf_fault());
    }
    /* of few doors nothing is taken for granted: not one too many */
    CHECK(doors > 100 || !bulk_passed, "%u of %u", bulk_passed, bulk);
}

static void test_filter(void) {
    static const unsigned doors[] = { 1,   1,   2,    3,    10,  50,
                                      100, 400, 1000, 3000, MANY };

    for (unsigned i = 0; i < times(120, 3000); i++)
        filter_round(doors[i % 11], rnd(8), one_in(2) ? rnd(4) : 0,
                     doors[i % 11] > 1000 ? 100 : 400);
    filter_round(20, 64, 64, 400);
    filter_round(20, 65, 3, 400);
    filter_round(20, 1000, 0, 400);
}

/* Packets that are not for this host, or not fit to be read. */
static void test_filter_rejects(void) {
    struct conf c;
    struct sniffer *s;
    struct spec spec;
    struct meta m;
    uint8_t b[512];
    unsigned steps;
    size_t n;

    random_doors(&c, 3, false);
    for (unsigned i = 0; i < 3; i++) many_doors[i].tcp = (struct flags){ 2, 0 };
    s = sniffer_new(&c);
    random_locals(s, 4, 2);
    filter_attach(s);
    for (unsigned i = 0; i < 2000; i++) {
        n = random_packet(s, b, &spec, &m);
        memcpy(&spec.dst, &s->locals->addr[i % 4], 16);
        spec.v6 = !is_v4(&spec.dst);
        spec.src = addr_of(spec.v6 ? "2001:db8::1" : "192.0.2.1");
        m.protocol = spec.v6 ? 0x86dd : 0x0800;
        spec.next = spec.v6 ? spec.next : 0;
        spec.proto = TCP;
        spec.flags = 2;
        n = build(b, &spec);
        CHECK(bpf_run(b, n, &m, &steps));
        m.vlan_present = 1; /* a priority tag */
        m.vlan_tag = 0xe000;
        CHECK(bpf_run(b, n, &m, &steps));
        m.vlan_tag = 0xe001; /* another LAN's */
        CHECK(!bpf_run(b, n, &m, &steps));
        m.vlan_present = 0;
        m.pkttype = 3; /* for another host; 4: sent by us */
        CHECK(!bpf_run(b, n, &m, &steps));
        m.pkttype = 4;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.pkttype = 0;
        m.ifindex++;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.ifindex--;
        m.protocol = 0x0806;
        CHECK(!bpf_run(b, n, &m, &steps));
        m.protocol = spec.v6 ? 0x86dd : 0x0800;
        spec.proto = spec.v6 ? 58 : 1;
        n = build(b, &spec);
        CHECK(spec.next || !bpf_run(b, n, &m, &steps));
        spec.proto = TCP;
        spec.fragment = 1 + rnd(0x1fff);
        n = build(b, &spec);
        CHECK(spec.v6 || !bpf_run(b, n, &m, &steps));
        spec.fragment = 0x4000;
        spec.flags = 16; /* of a connection */
        n = build(b, &spec);
        CHECK(spec.next || !bpf_run(b, n, &m, &steps));
        for (size_t cut = 0; cut < 20; cut++) /* no bytes, no crash */
            CHECK(!bpf_run(b, cut, &m, &steps));
    }
    settings.only_ipv4 = true;
    filter_attach(s);
    for (unsigned i = 0; i < 200; i++) {
        n = random_packet(s, b, &spec, &m);
        CHECK(!spec.v6 || !bpf_run(b, n, &m, &steps));
    }
    settings.only_ipv4 = false;
    random_locals(s, 2, 0);
    filter_attach(s);
    n = random_packet(s, b, &spec, &m);
    m.hatype = 772; /* any is not the loopback */
    CHECK(!bpf_run(b, n, &m, &steps));
    random_locals(s, 0, 0); /* no address, no knock */
    filter_attach(s);
    for (unsigned i = 0; i < 200; i++) {
        n = random_packet(s, b, &spec, &m);
        CHECK(!bpf_run(b, n, &m, &steps));
    }
}

/* Does the kernel of this machine take the program? Any socket will do. */
static bool kernel_takes_filter(void) {
    struct {
        unsigned short n;
        void *code;
    } prog = { (unsigned short)filter_length, filter };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), result;

    if (fd < 0) return true; /* nobody to ask */
    result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
    close(fd);
    return result == 0 || errno != EINVAL;
}

/* At the extremes: 64 addresses and 8 sources of IPv6, 64 interfaces and the
 * worst scattered ports for both protocols. */
static void test_filter_extremes(void) {
    unsigned longest = 0, steps, most = 0;
    struct spec spec;
    struct meta m;
    struct conf c;
    uint8_t b[512];
    size_t n;

    for (unsigned doors = 1; doors <= 2048; doors += 1 + doors / 8) {
        struct sniffer *s;

        random_doors(&c, doors, true);
        for (unsigned i = 0; i < doors; i++) {
            many_doors[i].tcp = (struct flags){ 0, 0 };
            /* scattered over all of the range */
            for (unsigned k = 0; k < 2; k++)
                many_doors[i].seq.knock[k] =
                    knock_on(1 + i * (65534 / doors) + k, k);
        }
        s = sniffer_new(&c);
        random_locals(s, 64, 64);
        for (unsigned i = 0; i < 64; i++) { /* all IPv6 */
            memset(&s->locals->addr[i], 0x20, 16);
            s->locals->addr[i].b[14] = (uint8_t)i;
        }
        for (unsigned i = 0; i < 8; i++) {
            struct packet p = { .knock = *many_doors[0].seq.knock,
                                .proto = TCP,
                                .flags = 2,
                                .dst = s->locals->addr[0],
                                .mark = (uint16_t)i };

            p.src = addr_of("2001:db8:1:2:3:4:5:6");
            p.src.b[15] = (uint8_t)i;
            unlimited(s);
            match(s, &p);
        }
        CHECK(s->nwide == 8);
        CHECK(!bpf_fault(), "%u doors: %s", doors, bpf_fault());
        CHECK(kernel_takes_filter(), "%u doors", doors);
        longest = filter_length > longest ? filter_length : longest;
        for (unsigned i = 0; i < 300; i++) {
            n = random_packet(s, b, &spec, &m);
            spec.dst = s->locals->addr[rnd(64)];
            spec.next = spec.options = 0;
            spec.v6 = true;
            m.protocol = 0x86dd;
            if (i % 2) spec.src = s->wide[i % 8];
            else spec.src = addr_of("2001:db8::77");
            n = build(b, &spec);
            bool passed = bpf_run(b, n, &m, &steps);
            bool probe = spec.proto == TCP && (spec.flags & 18) != 16;
            bool needed =
                i % 2 || probe ||
                s->ports[knock_on(spec.dport, spec.proto == UDP)].bulk;

            CHECK(passed || !needed, "%u doors, port %u", doors, spec.dport);
            CHECK(needed || 4 * doors >= FILTER_EDGES_MAX || !passed,
                  "%u doors, port %u", doors, spec.dport);
            most = steps > most ? steps : most;
        }
        heard = 0;
    }
    CHECK(longest <= 4096, "%u", longest);
    note("filter: %u instructions at most, %u of them run for a packet",
         longest, most);
}

/* No room for the old filter beside the new one: all passes for a moment. */
static void test_filter_no_room(void) {
    struct conf c;
    struct sniffer *s;
    unsigned before;

    random_doors(&c, 3, false);
    s = sniffer_new(&c);
    random_locals(s, 2, 0);
    filter_attach(s);
    before = filter_length;
    filters = filter_length = 0;
    fail(FAULT_attach, 1, ENOMEM);
    filter_attach(s);
    CHECK(filters == 2 && filter_length == before && !bpf_fault());
}

/* The cost of a port grows with the logarithm of how many there are. */
static void test_filter_cost(void) {
    unsigned cost[3], i = 0, steps;
    struct spec spec;
    struct meta m;
    struct conf c;
    uint8_t b[512];

    for (unsigned doors = 10; doors <= 1000; doors *= 10, i++) {
        struct sniffer *s;

        random_doors(&c, doors, true);
        s = sniffer_new(&c);
        random_locals(s, 2, 0);
        filter_attach(s);
        cost[i] = 0;
        for (unsigned k = 0; k < 2000; k++) {
            size_t n = random_packet(s, b, &spec, &m);

            bpf_run(b, n, &m, &steps);
            cost[i] += steps;
        }
    }
    CHECK(cost[2] < cost[0] * 2, "%u, %u, %u", cost[0], cost[1], cost[2]);
    note("filter: %u, %u, %u instructions a packet for 10, 100, 1000 doors",
         cost[0] / 2000, cost[1] / 2000, cost[2] / 2000);
}

/* The seccomp filter allows the few calls that it should, and no other. */
static void test_seccomp(void) {
    static const int calls[] = {
        SYS_read,
        SYS_write,
        SYS_ppoll,
        SYS_clock_gettime,
        SYS_getsockopt,
        SYS_exit_group,
        SYS_restart_syscall,
        SYS_setsockopt,
#ifdef SYS_poll
        SYS_poll,
#endif
#ifdef SYS_clock_gettime64
        SYS_clock_gettime64,
        SYS_ppoll_time64, /* 32-bit */
#endif
    };
    static const struct meta none;
    uint8_t data[64] = { 0 };
    unsigned steps;

    if (!SECCOMP_ARCH) return;
    CHECK(seccomp());
    CHECK(!bpf_fault(), "%s", bpf_fault());
    for (unsigned number = 0; number < 1000; number++) {
        bool listed = false, allowed_one;

        for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++)
            listed |= (unsigned)calls[i] == number;
        put16(data + 2, number);
        put16(data + 4, SECCOMP_ARCH >> 16);
        put16(data + 6, SECCOMP_ARCH & 0xffff);
        put16(data + SECCOMP_ARG(2) + 2, SO_ATTACH_FILTER);
        allowed_one = bpf_run(data, 64, &none, &steps) == 0x7fff0000;
        CHECK(allowed_one == listed, "call %u", number);
        put16(data + SECCOMP_ARG(2) + 2, SO_RCVBUF);
        allowed_one = bpf_run(data, 64, &none, &steps) == 0x7fff0000;
        CHECK(allowed_one == (listed && number != SYS_setsockopt), "call %u",
              number);
        put16(data + 6, 1); /* another architecture's calls */
        CHECK(bpf_run(data, 64, &none, &steps) == 0x80000000);
    }
}

/* ---- The matcher ------------------------------------------------------------------ */

/* Random streams: knockd and the oracle must agree on every event. */
static void streams(unsigned n, bool packets) {
    uint64_t opens = 0, attempts = 0, cancelled = 0, hits = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t start = random_state;

        world_new(packets);
        CHECK(world_stream(100), "stream %u (%llx): %s", i,
              (unsigned long long)start, world.why);
        opens += world.sniffer->counters[OPENS];
        attempts += world.sniffer->counters[ATTEMPTS];
        cancelled += world.sniffer->counters[CANCELLED];
        hits += world.sent;
    }
    CHECK(opens > n && attempts > n && cancelled > n);
    note("oracle: %llu packets, %llu attempts, %llu cancelled, %llu opens",
         (unsigned long long)hits, (unsigned long long)attempts,
         (unsigned long long)cancelled, (unsigned long long)opens);
}

static void test_oracle(void) { streams(times(6000, 300000), false); }

/* The same as packets, through the filter: it loses nothing that counts. */
static void test_oracle_with_filter(void) {
    streams(times(1000, 100000), true);
}

static struct door one_door;
static struct conf one_conf = { .doors = &one_door, .ndoors = 1 };

/* A sniffer with a door of n ports, 1000 on, for SYN. */
static struct sniffer *simple(unsigned n) {
    struct sniffer *s;

    one_door = (struct door){
        .name = "d", .seq_timeout = 10, .stray_limit = 8, .tcp = { SYN, 0 }
    };
    one_door.seq.n = n;
    for (unsigned i = 0; i < n; i++) one_door.seq.knock[i] = 1000 + i;
    s = sniffer_new(&one_conf);
    s->locals->naddrs = 1;
    *s->locals->addr = addr_of("10.0.0.1");
    return s;
}

static uint16_t next_mark = 1;

static struct packet syn_from(const struct addr *src, unsigned port) {
    struct packet p = { .knock = port,
                        .proto = TCP,
                        .flags = SYN,
                        .mark = next_mark++,
                        .src = *src,
                        .interface = 1 };

    p.dst = addr_of("10.0.0.1");
    return p;
}

static void knock_from(struct sniffer *s, const struct addr *src,
                       unsigned port) {
    struct packet p = syn_from(src, port);

    unlimited(s);
    match(s, &p);
}

/* The i-th of many addresses. */
static struct addr numbered(uint32_t i) {
    struct addr a = addr_of("2001:db8::");
    uint32_t big = htonl(i);

    memcpy(a.b + 12, &big, 4);
    return a;
}

/* How many events of a kind; all are forgotten. */
static unsigned said(unsigned kind) {
    unsigned n = 0;

    for (unsigned i = 0; i < heard; i++) n += events[i].kind == kind;
    heard = 0;
    return n;
}

/* The stage of an address' attempt; 0 if it has none. */
static unsigned stage_of(struct sniffer *s, const struct addr *src) {
    const struct attempt *a = *attempts_of(s, src);

    return a ? a->stage : 0;
}

/* Each ring holds what is at its stage, each bucket what belongs there, and
 * the sums are right. */
static bool sound(struct sniffer *s) {
    uint32_t of_stage[SEQUENCE_MAX + 1] = { 0 }, chained = 0, active = 0;
    const struct attempt *all = s->attempts;

    for (uint32_t stage = 0; stage <= SEQUENCE_MAX; stage++) {
        for (const struct attempt *a = all[stage].newer; a != &all[stage];
             a = a->newer) {
            if (a->stage != stage || a->newer->older != a) return false;
            of_stage[stage]++;
        }
        active += stage ? of_stage[stage] : 0;
    }
    for (uint32_t b = 0; b < ATTEMPTS_MAX; b++)
        for (const struct attempt *a = s->buckets[b]; a; a = a->next, chained++)
            if (bucket(s, &a->src) != &s->buckets[b]) return false;
    return active == s->active && chained == active &&
           s->active - of_stage[1] == s->advanced &&
           of_stage[0] + active + SEQUENCE_MAX == s->used;
}

/* The table: so many attempts, then the least advanced and oldest goes, and
 * nothing that has got to stage 2 goes for somebody who begins. */
static void test_table(void) {
    struct sniffer *s = simple(4);
    struct addr a, honest = addr_of("192.0.2.1");

    /* one place stays free: a hit makes room before it is looked at */
    for (uint32_t i = 1; i < ATTEMPTS_MAX; i++) {
        a = numbered(i - 1);
        knock_from(s, &a, 1000);
        heard = 0;
    }
    CHECK(s->active == ATTEMPTS_MAX - 1 && !s->counters[EVICTIONS]);
    CHECK(sound(s));
    a = numbered(0);
    CHECK(stage_of(s, &a) == 1);
    /* every second of the first thousand goes on to stage 2 */
    for (uint32_t i = 0; i < 1000; i += 2) {
        a = numbered(i);
        knock_from(s, &a, 1001);
    }
    CHECK(s->advanced == 500 && said(STAGE) == 500);
    /* newcomers: the thousand oldest of stage 1 go, not one of stage 2: of
	 * the first 1500 the 500 odd ones, then 1000 to 1499 */
    for (uint32_t i = 0; i < 1001; i++) {
        a = numbered(ATTEMPTS_MAX + i);
        knock_from(s, &a, 1000);
        heard = 0;
    }
    CHECK(s->counters[EVICTIONS] == 1000 && s->active == ATTEMPTS_MAX);
    for (uint32_t i = 0; i < 2000; i++) {
        unsigned want = i >= 1500 ? 1 : i < 1000 && i % 2 == 0 ? 2 : 0;

        a = numbered(i);
        CHECK(stage_of(s, &a) == want, "address %u at stage %u", i,
              stage_of(s, &a));
    }
    /* an honest knock in a full table, newcomers between its knocks */
    for (unsigned k = 0; k < 4; k++) {
        knock_from(s, &honest, 1000 + k);
        for (uint32_t i = 0; k < 3 && i < 100000; i++) {
            a = numbered(500000 + k * 100000 + i);
            knock_from(s, &a, 1000);
            heard = 0;
        }
    }
    CHECK(said(OPEN) == 1);
    CHECK(s->used == SEQUENCE_MAX + ATTEMPTS_MAX && sound(s));
    CHECK(s->active <= ATTEMPTS_MAX && s->active >= ATTEMPTS_MAX - 2);
}

/* A flood that knows the first two, or all but the last: half of the table
 * stays for stage 1. */
static void test_table_advanced(void) {
    struct sniffer *s = simple(4);
    struct addr a, honest = addr_of("192.0.2.1");

    for (uint32_t i = 0; i < 100000; i++) {
        a = numbered(i);
        for (unsigned k = 0; k < (i < 1000 ? 3 : 2); k++)
            knock_from(s, &a, 1000 + k);
        heard = 0;
    }
    CHECK(s->advanced == ATTEMPTS_MAX / 2 && sound(s));
    /* of stage 2 the oldest went, of stage 3 none */
    for (uint32_t i = 0; i < 100000; i += 100) {
        unsigned want = i < 1000                                 ? 3
                        : i < 100000 - (ATTEMPTS_MAX / 2 - 1000) ? 0
                                                                 : 2;

        a = numbered(i);
        CHECK(stage_of(s, &a) == want, "address %u at stage %u", i,
              stage_of(s, &a));
    }
    for (unsigned k = 0; k < 4; k++) {
        knock_from(s, &honest, 1000 + k);
        for (uint32_t i = 0; k < 3 && i < 20000; i++) {
            a = numbered(200000 + k * 100000 + i);
            knock_from(s, &a, 1000);
            knock_from(s, &a, 1001);
            heard = 0;
        }
    }
    CHECK(said(OPEN) == 1);
    CHECK(sound(s));
}

/* From a million addresses: no more memory, and after the time all is over. */
static void test_table_flood(void) {
    struct sniffer *s = simple(3);
    struct addr a;
    unsigned timeouts = 0;

    for (uint32_t i = 0; i < times(300000, 5000000); i++) {
        a = numbered(rnd(1000000));
        s->now += one_in(100);
        knock_from(s, &a, 1000 + rnd(3));
        expire(s);
        heard = 0;
    }
    CHECK(s->used <= SEQUENCE_MAX + ATTEMPTS_MAX && sound(s));
    s->now += 10000;
    for (unsigned i = 0; s->active && i < 20000; i++) {
        unlimited(s);
        expire_now(s);
        timeouts += heard + s->suppressed;
        heard = s->suppressed = 0;
    }
    CHECK(!s->active && !s->advanced && timeouts > (quick ? 500 : 10000) &&
          sound(s));
    s->now += EXPIRE_MS;
    expire(s);
    CHECK(s->look == INT64_MAX);
}

/* Thousands of doors with one first knock, hit when the table is nearly full. */
static void test_table_many_doors(void) {
    struct conf c = { .doors = many_doors, .ndoors = MANY };
    struct sniffer *s;
    struct addr a;

    for (unsigned i = 0; i < MANY; i++) {
        many_doors[i] = (struct door){ .name = "d",
                                       .seq_timeout = 10,
                                       .tcp = { SYN, 0 },
                                       .seq = { { 1000, 2000 + i, 9 }, 3 } };
    }
    s = sniffer_new(&c);
    s->locals->naddrs = 1;
    *s->locals->addr = addr_of("10.0.0.1");
    for (uint32_t i = 0; i < 40; i++) {
        a = numbered(i);
        knock_from(s, &a, 1000);
        heard = 0;
        CHECK(s->active < ATTEMPTS_MAX + MANY);
        if (i % 8 == 7) knock_from(s, &a, 2000 + rnd(MANY));
        CHECK(s->advanced < ATTEMPTS_MAX / 2 + MANY);
        heard = 0;
    }
    CHECK(sound(s) && s->counters[EVICTIONS] > 0);
    CHECK(s->used < SEQUENCE_MAX + ATTEMPTS_MAX + MANY);
}

/* The hash of addresses: on average over the keys as even as chance, also for
 * addresses that differ little; two keys have nothing to do with each other. */
static void test_hash(void) {
    enum { N = 16384, KEYS = 40 };
    static struct attempt *none[ATTEMPTS_MAX];
    static uint32_t load[ATTEMPTS_MAX];
    static struct sniffer s = { .buckets = none };
    unsigned alike = 0;

    for (unsigned form = 0; form < 6; form++) {
        uint64_t squares = 0;

        for (unsigned round = 0; round < KEYS; round++) {
            memset(load, 0, sizeof(load));
            for (int i = 0; i < 5; i++) s.key[i] = rnd64();
            for (uint32_t i = 0; i < N; i++) {
                uint32_t big = htonl(i << (form == 1 ? 8 : 0));
                struct addr a = form < 2 ? addr_v4(&big) : numbered(0);

                if (form > 1) memcpy(a.b + (form - 2) * 4, &big, 4);
                squares += 2 * load[bucket(&s, &a) - none]++ + 1;
            }
        }
        /* by chance: 1 + N / ATTEMPTS_MAX for each */
        CHECK(squares < 3ull * N * KEYS, "form %u: %.1f", form,
              (double)squares / N / KEYS);
    }
    for (unsigned i = 0; i < 20000; i++) {
        struct addr a = numbered(rnd(1000)), b = numbered(rnd(1000));

        for (int k = 0; k < 5; k++) s.key[k] = rnd64();
        alike += addr_cmp(&a, &b) && bucket(&s, &a) == bucket(&s, &b);
    }
    CHECK(alike < 10, "%u", alike);
}

/* Time: the whole sequence within its time, told when it is over. */
static void test_timeout(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");
    int64_t start = s->now;

    knock_from(s, &a, 1000);
    s->now = start + 9999;
    knock_from(s, &a, 1001);
    CHECK(said(STAGE) == 2);
    s->now = start + 10000;
    knock_from(s, &a, 1002); /* a hit finds its own attempt over */
    CHECK(heard == 1 && events->kind == TIMEOUT && events->stage == 2);
    heard = 0;
    knock_from(s, &b, 1000);
    start = s->now;
    CHECK(s->look <= start + 10000);
    s->now = start + 5000; /* the first one again: its time anew */
    knock_from(s, &b, 1000);
    heard = 0;
    s->now = start + 14999;
    s->look = s->now;
    expire(s);
    CHECK(!heard && s->look == start + 15199); /* not soon once more */
    s->now = start + 15198;
    expire(s);
    CHECK(!heard);
    s->now = start + 15199;
    expire(s);
    CHECK(said(TIMEOUT) == 1 && !s->active);
    s->now += 1000000;
    knock_from(s, &a, 1000); /* not stopped by anything from before */
    knock_from(s, &a, 1001);
    knock_from(s, &a, 1002);
    CHECK(said(OPEN) == 1);
}

/* A hit that is sent again, shown twice or repeated, at doors of one port and
 * of more. */
static void test_twins(void) {
    struct sniffer *s = simple(1);
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");
    struct packet p = syn_from(&a, 1000), q;

    match(s, &p);
    CHECK(said(OPEN) == 1);
    match(s, &p); /* sent again by TCP */
    s->now += 20000;
    match(s, &p);
    s->now += 24999;
    p.interface = 2;
    match(s, &p);
    CHECK(!heard);
    s->now += 25000; /* that is no retransmission any more */
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p.interface = 1;
    s->now += 99;
    match(s, &p); /* seen on the bridge and on its port */
    CHECK(!heard);
    p.src = b;
    match(s, &p);
    CHECK(said(OPEN) == 1);
    p = syn_from(&a, 1000);
    match(s, &p);
    CHECK(said(OPEN) == 1);
    s = simple(3);
    one_door.seq.knock[1] = 1000; /* 1000,1000,1002 */
    index_doors(s);
    p = syn_from(&a, 1000);
    match(s, &p);
    match(s, &p);
    p.interface = 2;
    match(s, &p);
    CHECK(said(STAGE) == 1);
    q = syn_from(&a, 1000);
    match(s, &q);
    CHECK(said(STAGE) == 1);
    match(s, &p);
    match(s, &q);
    knock_from(s, &a, 1002);
    CHECK(said(OPEN) == 1);
}

/* Attempts at a wide door that time out leave the filter as it was before. */
static void test_filter_narrow_again(void) {
    struct sniffer *s = simple(2);
    char text[32];

    one_door.seq.knock[0] |= TO_UDP;
    one_door.seq.knock[1] |= TO_UDP;
    index_doors(s);
    for (unsigned i = 1; i <= 10; i++) {
        snprintf(text, sizeof(text), "192.0.2.%u", i);
        struct addr a = addr_of(text);
        struct packet p = syn_from(&a, 1000);

        p.knock |= TO_UDP;
        p.proto = UDP;
        p.bulk = true;
        match(s, &p);
    }
    CHECK(s->active == 10 && s->nwide > FILTER_SOURCES_MAX);
    s->now += 10000;
    expire(s);
    s->now += EXPIRE_MS;
    expire(s);
    CHECK(!s->active && !s->nwide && s->look == INT64_MAX);
}

/* At most four attempts of one source at a door. */
static void test_attempts_of_source(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1");

    for (unsigned i = 0; i < 10; i++) {
        knock_from(s, &a, 1000);
        knock_from(s, &a, 1001);
    }
    CHECK(s->active == 4 && s->advanced == 4 && sound(s));
    heard = 0;
    for (unsigned i = 0; i < 10; i++)
        knock_from(s, &a, 1002); /* each another packet */
    CHECK(said(OPEN) == 4 && !s->active);
}

/* Allow, Target, a cool-down, a used-up one-time sequence: no door. */
static void test_doors_that_are_not_there(void) {
    struct sniffer *s = simple(2);
    struct addr a = addr_of("192.0.2.1"), other = addr_of("10.9.9.9");
    struct net net = { addr_of("198.51.100.0"), 96 + 24 };
    struct packet p;

    one_door.allow = (struct nets){ &net, 1 };
    knock_from(s, &a, 1000);
    CHECK(!heard && !s->active);
    one_door.allow.n = 0;
    net = (struct net){ other, 128 };
    one_door.target = (struct nets){ &net, 1 };
    index_doors(s);
    knock_from(s, &a, 1000);
    CHECK(!heard);
    p = syn_from(&a, 1000);
    p.dst = other;
    match(s, &p);
    CHECK(said(STAGE) == 1);
    one_door.target.n = 0;
    s = simple(2);
    one_door.cooldown = 5;
    knock_from(s, &a, 1000);
    knock_from(s, &a, 1001);
    CHECK(said(OPEN) == 1);
    s->now += 4999;
    knock_from(s, &a, 1000);
    CHECK(!heard);
    s->now++;
    knock_from(s, &a, 1000);
    CHECK(said(STAGE) == 1);
    s = simple(2);
    one_door.one_time = "once";
    knock_from(s, &a, 1000);
    knock_from(s, &a, 1001);
    CHECK(said(OPEN) == 1);
    knock_from(s, &a, 1000);
    CHECK(!heard && !s->active);
}

/* Lines that a stranger can cause: 20 of each kind a second, then a number. */
static void test_lines_a_second(void) {
    struct sniffer *s = simple(2);
    struct addr a;

    s->now = s->second = 5000;
    for (uint32_t i = 0; i < 100; i++) {
        a = numbered(i);
        struct packet p = syn_from(&a, 1000);

        match(s, &p);
    }
    CHECK(heard == 20 && s->suppressed == 80);
    for (uint32_t i = 0; i < 30; i++) {
        a = numbered(i);
        struct packet p = syn_from(&a, 1001);

        match(s, &p);
    }
    CHECK(said(OPEN) == 30); /* never left out */
    limit(s);
    CHECK(!heard);
    s->now = 6000;
    limit(s);
    CHECK(heard == 1 && events->kind == SUPPRESSED && events->value == 110);
    heard = 0;
    s->now = 9000;
    limit(s);
    CHECK(!heard && !s->suppressed);
    t_drops = 7;
    s->resting = true; /* else the kernel is not asked */
    s->now = 11000;
    limit(s);
    CHECK(heard == 1 && events->kind == DROPS && events->value == 7 &&
          s->counters[LOST] == 7);
    heard = 0;
    s->resting = false;
    a = numbered(0);
    knock_from(s, &a, 1000);
    CHECK(said(STAGE) == 1);
}

/* ---- Scans ------------------------------------------------------------------------ */

/* The chance that a scan of all ports in random order opens a door of n ports:
 * the n ports in their order with k others among them, in one of C(k+n-2, n-2)
 * ways, times the chance that k ports have at most 8 of 64 bits. */
static double chance(unsigned n) {
    double bits[80] = { 1 }, sum = 0, scan = 1;

    for (unsigned k = 0; k < 70; k++) {
        double ways = 1, fits = 0;

        for (unsigned i = 1; i <= n - 2; i++) ways *= (double)(k + i) / i;
        for (unsigned b = 0; b <= STRAY_LIMIT; b++) fits += bits[b];
        sum += ways * fits;
        for (unsigned b = 64; b > 0; b--) /* one stray more */
            bits[b] = bits[b] * b / 64 + bits[b - 1] * (65 - b) / 64;
        bits[0] = 0;
    }
    for (unsigned i = 1; i < n; i++) scan *= 65535.0 - i;
    return sum / scan;
}

/* A scan from one address: a SYN to each of these ports. */
static unsigned scan(struct sniffer *s, const uint16_t *order, unsigned n) {
    struct addr a = addr_of("192.0.2.1");
    struct packet p = syn_from(&a, 1);
    uint64_t before = s->counters[OPENS];

    for (unsigned i = 0; i < n; i++) {
        p.knock = order[i];
        p.mark = (uint16_t)i;
        match(s, &p);
    }
    heard = 0;
    unlimited(s);
    return (unsigned)(s->counters[OPENS] - before);
}

static void random_sequence(struct sniffer *s, unsigned n) {
    uint32_t *k = one_door.seq.knock;

    one_door.seq.n = n;
    for (unsigned i = 0; i < n; i++) {
        k[i] = 1 + rnd(65535);
        for (unsigned j = 0; j < i; j++)
            if (k[j] == k[i]) i = j = n; /* once more */
        if (i == n) i = UINT_MAX;
    }
    index_doors(s);
}

static void test_random_scans(void) {
    static uint16_t order[65535];
    unsigned scans = times(1000, 1000000), opens[2] = { 0 };

    for (unsigned i = 0; i < 65535; i++) order[i] = (uint16_t)(i + 1);
    for (unsigned k = 0; k < scans; k++) {
        struct sniffer *s = simple(3 + k % 2);

        random_sequence(s, 3 + k % 2);
        for (unsigned i = 65534; i > 0; i--) {
            unsigned j = rnd(i + 1);
            uint16_t port = order[i];

            order[i] = order[j];
            order[j] = port;
        }
        opens[k % 2] += scan(s, order, 65535);
    }
    CHECK(!opens[0] && !opens[1], "%u, %u", opens[0], opens[1]);
    note("random scans of all ports: %u, opens: %u with 3 ports, %u with 4; "
         "by arithmetic 1 in %.3g, 1 in %.3g",
         scans, opens[0], opens[1], 1 / chance(3), 1 / chance(4));
}

/* Scans in order, up and down and in steps, whatever the key: against the
 * shipped doors and against any whose ports have 25 others between them. */
static void test_ordered_scans(void) {
    static uint16_t order[65535];
    unsigned opens = 0, scans = times(20000, 1000000);

    for (unsigned k = 0; k < scans; k++) {
        static const int steps[] = { 1, -1, 2, -2, 3, 7 };
        struct sniffer *s = simple(3);
        int step = steps[rnd(6)], gap = k % 2 ? 1000 : 25 + (int)rnd(500);
        int at = k % 2 ? 7000 : 1 + (int)rnd(65535), n = 0;

        if (at + (2 * gap + 5) * step < 1 || at - 5 * step < 1 ||
            at + (2 * gap + 5) * step > 65535 || at - 5 * step > 65535)
            continue;
        for (int i = 0; i < 3; i++)
            one_door.seq.knock[i] = (uint32_t)(at + i * gap * step);
        index_doors(s);
        for (int i = -5; i <= 2 * gap + 5; i++)
            order[n++] = (uint16_t)(at + i * step);
        opens += scan(s, order, (unsigned)n);
    }
    CHECK(!opens, "%u of %u scans opened", opens, scans);
}

/* The 64 bits of strays: whatever the key, 12 or more ports, as they follow
 * each other in a scan, take more than 8 of them (but for bad luck). */
static void test_stray_bits(void) {
    static const unsigned steps[] = { 1, 2, 3, 4, 5, 7, 8, 16, 100, 256 };
    unsigned few = 0, rounds = times(20000, 1000000);
    static struct sniffer s;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned step = steps[rnd(10)], port = rnd(65536);
        uint64_t bits = 0;

        s.key[0] = rnd64();
        for (unsigned k = 0; k < 40; k++, port += step)
            bits |= stray_bit(&s, (struct o_knock){ port % 65536, 0 });
        few += __builtin_popcountll(bits) <= STRAY_LIMIT;
    }
    CHECK(!few, "for %u keys of %u 40 ports take 8 bits or less", few, rounds);
}

/* FIN, NULL, Xmas, ACK and UDP scans, two scanners at one address. */
static void test_other_scans(void) {
    static const struct {
        struct flags door;
        uint8_t flags;
    } kinds[] = { { { 0, 0 }, 1 },  { { 1, 0 }, 1 },   { { 0, 0 }, 0 },
                  { { 0, 16 }, 0 }, { { 0, 0 }, 41 },  { { 41, 0 }, 41 },
                  { { 0, 0 }, 16 }, { { 16, 0 }, 16 }, { { 2, 0 }, 18 },
                  { { 0, 0 }, 2 },  { { 2, 0 }, 2 },   { { 0, 0 }, 0xff } };
    unsigned opens = 0, scans = 0;

    for (unsigned k = 0; k < 26; k++) {
        bool udp = k >= 24, pair = k >= 12 && !udp;
        struct sniffer *s = simple(3);
        struct addr a = addr_of("192.0.2.1");
        struct packet p = syn_from(&a, 1);

        p.flags = udp ? 0 : kinds[k % 12].flags;
        p.proto = udp ? UDP : TCP;
        p.bulk = udp || (p.flags & 18) == 16;
        one_door.tcp = kinds[k % 12].door;
        for (unsigned i = 0; i < 3; i++)
            one_door.seq.knock[i] = knock_on(7000 + 1000 * i, udp);
        index_doors(s);
        for (unsigned i = 1; i < 65536; i++) {
            p.knock = knock_on(i, udp);
            p.mark = (uint16_t)i;
            match(s, &p);
            if (pair) {
                p.knock = (uint16_t)(i * 7);
                p.mark ^= 0x8000;
                match(s, &p);
            }
            heard = 0;
        }
        opens += (unsigned)s->counters[OPENS];
        scans++;
        CHECK(s->counters[ATTEMPTS] > 0, "%u", k);
    }
    CHECK(!opens, "%u of %u", opens, scans);
}

/* ---- The monitor: commands ------------------------------------------------------------ */

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
static unsigned long long monitor_counters[COUNTERS];

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
    settings = (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    settings.config = "conf";
    posix_spawnattr_init(&m->attr);
    m->counters = monitor_counters;
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
    CHECK(has_text("a: could not run it: Resource temporarily unavailable"));
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
    CHECK(has_text("a: could not run it: Argument list too long"));
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
              has_text("d: (the rest of its output is not logged)\n"),
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

/* ---- The state file --------------------------------------------------------------------- */

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
    CHECK(!m->openings && !m->state &&
          has_text("k.state is used by another knockd"));
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
        struct monitor m = { .conf = { .pidfile = cases[i][0] } };

        files_open(&m);
        CHECK(!strcmp(m.state, cases[i][1]), "%s", m.state);
        free(m.state);
    }
}

/* ---- One-time sequences --------------------------------------------------------------------- */

static struct conf once_conf;
static struct door once_door;

/* A door with this one-time file; returns what is left. */
static int once(const char *text) {
    forget();
    once_conf =
        (struct conf){ .path = "conf", .doors = &once_door, .ndoors = 1 };
    once_door = (struct door){ .name = "d", .one_time = "once" };
    if (text) put_text("once", text);
    return one_time(&once_conf, &once_door, directory_fd, false);
}

/* The current sequence is used: what the file says then. */
static const char *spend(int *left) {
    forget();
    *left = one_time(&once_conf, &once_door, directory_fd, true);
    return get_file("once", NULL);
}

static void test_one_time(void) {
    static const struct {
        const char *before, *after;
        int left;       /* at first */
        unsigned first; /* port of the first sequence */
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
        { " 1,2\n 1,2\n", "#1,2\n 1,2\n", 2, 1 },
        { " 258,1,2\n 258,1,3\n", "#258,1,2\n 258,1,3\n", 2, 258 },
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
        CHECK(left == cases[i].left - 1, "%s: %d left", cases[i].before, left);
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

/* A file that was changed, or can't be written: the sequence is not used
 * again. */
static void test_one_time_faults(void) {
    static const int calls[] = { FAULT_pwrite, FAULT_fsync, FAULT_open };
    int left;

    CHECK(once(" 1,2\n 3,4\n") == 2);
    put_text("once", " 5,6\n");
    spend(&left);
    CHECK(left < 0 && !once_door.seq.n);
    CHECK(has_text("door d: can't mark its sequence as used in once: "
                   "disabling it"),
          "%s", kept);
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
        static const char *const others[] = { "",     "# x",   "9,", "abc",
                                              "#7,8", "70000", " ",  "1,2:x" };
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
            CHECK(once_door.seq.n == 2 && *once_door.seq.knock == port[k], "%s",
                  text);
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
    CHECK(one_time(&m->conf, &shop[0], m->cwd, false) == 7);
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
    put_text("once", " 1,2\n");
    shop[0].seq = (struct sequence){ { 1, 2 }, 2 };
    fail(FAULT_pwrite, 1, EIO);
    door_open(m, &shop[0], &a);
    turn(m);
    CHECK(ncommands == 7 && has_text("can't mark"), "%s", kept);
    fail(FAULT_pwrite, 0, 0);
    close(ends[0]);
    close(ends[1]);
    m->channel = -1;
    /* a channel that is gone: the sniffer is replaced */
    killed.pid = 0;
    order_send(m, &order);
    CHECK(killed.pid == 99 && killed.number == SIGKILL);
    monitor_end();
}

/* ---- The monitor: events --------------------------------------------------------------------- */

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
    e.kind = TIMEOUT;
    e.stage = 2;
    SEND(sizeof(e));
    e.kind = SUPPRESSED;
    e.value = 12;
    SEND(sizeof(e));
    e.kind = DROPS;
    SEND(sizeof(e));
    CHECK(!strcmp(
              kept,
              "192.0.2.1: a: Stage 1\n192.0.2.1: a: sequence "
              "timeout (stage 2)\n12 messages suppressed\n12 packets came too "
              "fast: lost\n"),
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
    CHECK(count_text("Stage 1") < STALL_MS / 7 + 10);
    forget();
    e.kind = OPEN;
    SEND(sizeof(e));
    CHECK(has_text("OPEN SESAME"));
    for (unsigned i = 0; i < COUNTERS; i++) m->counters[i] = i * 10;
    m->commands = 3;
    counters_say(m);
    CHECK(has_text("counters: packets 0, drops 10, hits 20, attempts 30, "
                   "evictions 40, cancelled 50, opens 60, grants 2, "),
          "%s", kept);
    forget();
    clock_ms += 1000;
    e = (struct event){ .kind = PACKET,
                        .src = addr_of("::1"),
                        .dst = addr_of("10.0.0.1"),
                        .value =
                            6ull << 48 | 1234ull << 32 | 7000ull << 16 | 60 };
    SEND(sizeof(e));
    CHECK(has_text(": tcp: ::1:1234 -> 10.0.0.1:7000 60 bytes\n"), "%s", kept);
    CHECK(record_take(m) < 0 && m->channel == ends[0]); /* nothing there */
    close(ends[1]);
    CHECK(record_take(m) < 0 && m->channel == -1);
    monitor_end();
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
              has_text("warning: the sniffer has to do without: bounding set, "
                       "user and group id of its own\n") &&
              has_text("waiting: eth9 is down\n"),
          "%s", kept);
    forget();
    started(m, 127);
    CHECK(!*kept);
    sniffer_died(m, 31); /* by SIGSYS */
    CHECK(has_text("the sniffer died (signal 31): starting another\n"));
    CHECK(m->sniffer == -1 && m->channel == -1);
    turn(m); /* not at once */
    CHECK(m->sniffer == -1 && poll_timeout == 1000, "%d", poll_timeout);
    clock_ms += 1000;
    fail(FAULT_fork, 1, EAGAIN);
    turn(m);
    CHECK(m->sniffer == -1 && has_text("could not start the sniffer: Res"));
    close(m->channel);
    m->channel = -1;
    clock_ms += 1000;
    fail(FAULT_socketpair, 1, EMFILE);
    turn(m);
    CHECK(m->sniffer == -1 && has_text(strerror(EMFILE)));
    clock_ms += 1000;
    turn(m);
    CHECK(m->sniffer == 4242);
    killed.pid = 0;
    poll_result = 0;
    sniffer_stop(m);
    CHECK(killed.pid == 4242 && m->sniffer == -1 && m->channel == -1);
    /* -d: the other process learns that all is well */
    m->ready = false;
    m->ready_fd = ready[1];
    settings.verbose = true;
    poll_result = 0;
    *m->waiting_for = '\0';
    int in = dup(0), o = dup(1), err = dup(2);

    started(m, 0);
    dup2(in, 0);
    dup2(o, 1);
    dup2(err, 2);
    close(in);
    close(o);
    close(err);
    settings.verbose = false;
    CHECK(read(reader, &byte, 1) == 1 && out.detached);
    CHECK(has_text("listening on any...\n"), "%s", kept);
    out.detached = false;
    close(reader);
    m->ready = false;
    CHECK(ENDS(sniffer_died(m, 256)) && end_status == 1);
    monitor_end();
}

static void test_lines(void) {
    struct monitor *m = shop_open();
    char text[5000], name[128];
    struct conf c = shop_conf;
    const char *got;

    /* control characters; a line too long */
    forget();
    say(LOG, "a\nb\x01\x1b[0m\x7f\t%s", "\xc3\xa4");
    CHECK(!strcmp(kept, "a?b??[0m?\t\xc3\xa4\n"), "%s", kept);
    forget();
    say(LOG, "a\xc2\x9b"
             "31m\xc2\xa0\xe2\x9b\x84"); /* CSI; no control */
    CHECK(!strcmp(kept, "a\xc2?31m\xc2\xa0\xe2\x9b\x84\n"), "%s", kept);
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
    c.logfile = "log";
    unlinkat(directory_fd, "log", 0);
    m->conf = c;
    log_open(m);
    forget();
    say(LOG, "hello");
    got = get_file("log", NULL);
    CHECK(!*kept && got[0] == '[' && strlen(got) == 25 &&
              !strcmp(got + 17, "] hello\n"),
          "%s", got);
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
    CHECK(!*kept && strstr(get_file("log", NULL),
                           "could not open log file no/such/log: No such file"),
          "%s", kept);
    m->conf.logfile = NULL;
    settings.logfile = "/dev/stderr";
    log_open(m);
    CHECK(out.file >= 3);
    log_open(m);
    settings.logfile = NULL;
    log_open(m);
    CHECK(out.file == -1);
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

/* ---- Interfaces, signals, reload -------------------------------------------------------------- */

static struct ifaddrs an_interface(const char *name, const char *text, bool up,
                                   struct sockaddr_storage *room) {
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
    for (unsigned i = 0; i < 5; i++) list[i].ifa_next = &list[i + 1];
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
    }
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
    /* at the start all must exist */
    forget();
    out.started = false;
    m->conf.listen = "eth0,eth7";
    CHECK(ENDS(interfaces_open(m)) && end_status == 1 &&
              has_text("no such interface: eth7 does not exist; there are:"),
          "%s", kept);
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
    signal_take(m);
}

static void test_signals(void) {
    static struct conf c;
    struct monitor *m;
    struct addr a = addr_of("192.0.2.1");
    int ends[2];
    const struct door *door;

    t_interfaces = NULL;
    CHECK(load_text(&c, "[one]\nsequence=1,2\n", false));
    shop_open();
    m = monitor_new(&c);
    if (pipe(signal_ends) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        abort();
    m->signals = signal_ends[0];
    m->channel = ends[0];
    *m->waiting_for = '\0';
    door_open(m, &shop[0], &a);
    turn(m);
    reap(m, 0, 0); /* stands open over all of this */
    take_signal(m, SIGUSR1);
    CHECK(has_text("counters: packets ") && has_text("grants 1, "));
    /* a bad file changes nothing */
    put_text("conf", "[one]\nsequence=0\n");
    forget();
    door = m->conf.doors;
    take_signal(m, SIGHUP);
    CHECK(has_text("re-reading config file: conf\n") &&
          has_text("conf:2: port '0' is not a number") &&
          has_text("conf has errors: all stays as it was\n"));
    CHECK(m->conf.doors == door && m->channel == ends[0] && m->sniffer == 99);
    /* a good one is taken at once, by another sniffer */
    put_text("conf", "[options]\ninterface=x\n[two]\nsequence=3\n[once]\n"
                     "one_time_sequences=once\n");
    put_text("once", " 7,8\n");
    killed.pid = 0;
    forget();
    take_signal(m, SIGHUP);
    CHECK(killed.pid == 99 && m->sniffer == 4242 && m->conf.ndoors == 2 &&
              !strcmp(m->conf.doors->name, "two") &&
              !strcmp(m->conf.listen, "x") && *m->conf.doors[1].seq.knock == 7,
          "%s", kept);
    CHECK(m->openings && m->openings->state == STANDING);
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
    CHECK(!m->openings && m->sniffer == -1 &&
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
    fcntl(signal_ends[0], F_SETFL, O_NONBLOCK);
    signal_take(m); /* nothing there */
    close(ends[1]);
    close(signal_ends[0]);
    close(signal_ends[1]);
    config_free(&m->conf);
    monitor_end();
}

/* What the loop hears of is read. */
static void poll_all(struct pollfd *fds, nfds_t n) {
    for (nfds_t i = 0; i < n; i++) fds[i].revents = fds[i].fd >= 0 ? POLLIN : 0;
}

/* The end: doors are closed at once, whatever their time. */
static void test_end(void) {
    struct monitor *m = shop_open();
    struct addr a = addr_of("192.0.2.1"), b = addr_of("192.0.2.2");
    struct signalfd_siginfo info = { .ssi_signo = SIGTERM };
    int ends[2];

    door_open(m, &shop[1], &a);
    turn(m);
    reap(m, 0, 0);
    door_open(m, &shop[1], &b);
    turn(m);
    door_open(m, &shop[0], &b); /* waits; is not run any more */
    if (pipe(signal_ends) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        abort();
    m->signals = signal_ends[0];
    m->channel = ends[0];
    close(ends[1]); /* the sniffer has ended */
    m->pid_path = strdup("pid");
    put_text("pid", "1\n");
    CHECK(write(signal_ends[1], &info, sizeof(info)) == sizeof(info));
    poll_hook = poll_all;
    poll_result = 1;
    turn(m);
    CHECK(m->ending && m->channel == -1);
    poll_hook = NULL;
    poll_result = 0;
    forget();
    turn(m);
    CHECK(ncommands == 3 && !strcmp(command_text(0), "stop b 192.0.2.1"));
    CHECK(has_text("a: not run, knockd ends: start a 192.0.2.2\n"), "%s", kept);
    reap(m, 0, 0);
    command_reap(m, commands[1].pid, 0);
    turn(m);
    CHECK(ncommands == 4 && !strcmp(command_text(0), "stop b 192.0.2.2"));
    reap(m, 0, 0);
    CHECK(!m->openings);
    settings.verbose = true;
    run(m);
    settings.verbose = false;
    CHECK(has_text("waiting for child processes...\n") &&
          !has_text("shutting down\n") && has_text("closing...\n"));
    run(m);
    CHECK(has_text("shutting down\n"));
    CHECK(faccessat(directory_fd, "pid", F_OK, 0) &&
          faccessat(directory_fd, "k.state", F_OK, 0));
    close(signal_ends[0]);
    close(signal_ends[1]);
    free(m->pid_path);
    monitor_end();
}

/* ---- The sniffer ------------------------------------------------------------------------------- */

/* The states of reading: wait for each packet; rest while many come; wait
 * again after so many empty looks. */
static void test_rest(void) {
    struct sniffer *s = simple(2);

    s->now = 100;
    for (unsigned i = 0; i < 1000; i++) { /* one each 2 ms: no rest */
        s->now += 2;
        CHECK(!rest(s, 1));
    }
    s->now += 10;
    for (unsigned i = 1; i < REST_PACKETS; i++) CHECK(!rest(s, 1));
    CHECK(rest(s, 1) && s->resting);
    s->now += 10;
    CHECK(rest(s, 3)); /* less, but not yet nothing */
    for (unsigned i = 1; i < REST_EMPTY; i++) {
        s->now += 1;
        CHECK(rest(s, 0), "%u", i);
    }
    s->now += 1;
    CHECK(!rest(s, 0) && !s->resting);
    CHECK(!rest(s, 0));
    s->now += 10;
    CHECK(rest(s, FRAMES));
    for (unsigned i = 0; i < 100; i++) {
        s->now += 1;
        CHECK(rest(s, i % 5 == 0)); /* four empty ones are not enough */
    }
}

static union slot the_ring[FRAMES];

/* Puts a SYN into a slot of the ring. */
static void ring_put(uint32_t at, unsigned port, unsigned hatype,
                     const char *from) {
    struct o_hit h = { .knock = { port, false }, .flags = 2, .interface = 3 };
    struct addr src = addr_of(from), dst = addr_of("10.0.0.1");
    uint8_t slot_bytes[FRAME_BYTES] = { 0 }, *ip;
    struct sockaddr_ll ll = { .sll_hatype = (unsigned short)hatype,
                              .sll_ifindex = 3 };
    struct tpacket2_ t;

    memcpy(h.src, &src, 16);
    memcpy(h.dst, &dst, 16);
    frame_of(slot_bytes, &h, next_mark++, 4000, &ip);
    memcpy(slot_bytes + 32, &ll, sizeof(ll));
    memcpy(&t, slot_bytes, sizeof(t));
    t.status = 1;
    memcpy(slot_bytes, &t, sizeof(t));
    memcpy(&the_ring[at % FRAMES], slot_bytes, FRAME_BYTES);
}

/* The slot that is read next. */
static uint32_t ring_at(const struct sniffer *s) {
    return s->counters[PACKETS] % FRAMES;
}

static void test_ring(void) {
    struct sniffer *s = simple(3);
    struct addr a = addr_of("192.0.2.1");

    memset(the_ring, 0, sizeof(the_ring));
    s->ring = the_ring;
    CHECK(!ring_read(s));
    s->counters[PACKETS] = FRAMES - 2; /* so many has one before taken */
    for (uint32_t i = 0; i < 3; i++)   /* around the end of the ring */
        ring_put(FRAMES - 2 + i, 1000 + i, 1, "192.0.2.1");
    CHECK(ring_read(s) == 3 && said(OPEN) == 1);
    CHECK(!ring_read(s) && s->counters[PACKETS] == FRAMES + 1);
    /* all full: so many at a time */
    for (uint32_t i = 0; i < FRAMES; i++) ring_put(i, 5, 1, "192.0.2.1");
    for (uint32_t n = 0; n < FRAMES; n += FRAMES_AT_ONCE)
        CHECK(ring_read(s) == FRAMES_AT_ONCE);
    CHECK(!ring_read(s));
    /* loopback addresses come by the loopback only */
    ring_put(ring_at(s), 1000, 1, "127.0.0.1");
    CHECK(ring_read(s) == 1 && !heard);
    ring_put(ring_at(s), 1000, 772, "127.0.0.1");
    CHECK(ring_read(s) == 1 && said(STAGE) == 1);
    /* a counter that lies is put right, if there is any packet */
    s->counters[PACKETS] = 7;
    ring_find(s);
    CHECK(s->counters[PACKETS] == 7);
    ring_put(100, 1000, 772, "127.0.0.1");
    CHECK(!ring_read(s));
    ring_find(s);
    CHECK(ring_at(s) == 100 && ring_read(s) == 1);
    /* -D tells of each */
    settings.debug = true;
    ring_put(ring_at(s), 4321, 1, "192.0.2.1");
    CHECK(ring_read(s) == 1 && heard == 1 && events->kind == PACKET);
    CHECK(!addr_cmp(&events->src, &a) && events->value >> 48 == 6 &&
          (events->value >> 16 & 0xffff) == 4321 &&
          (events->value >> 32 & 0xffff) == 4000);
    settings.debug = false;
    /* what claims to be longer than its slot is cut */
    struct tpacket2_ t = {
        .status = 1, .net = 250, .len = 60000, .captured = 60000
    };
    memcpy(&the_ring[ring_at(s)], &t, sizeof(t));
    heard = 0;
    CHECK(ring_read(s) == 1 && !heard);
}

/* Each step of the sandbox that is forbidden has its bit; the others are
 * done. */
static void test_sandbox(void) {
    static const struct {
        int call;
        unsigned bits;
    } cases[] = {
        { FAULT_chroot, 2 },    { FAULT_setgroups, 4 }, { FAULT_setresgid, 4 },
        { FAULT_setresuid, 4 }, { FAULT_capset, 8 },    { FAULT_setrlimit, 32 },
    };
    uint32_t none[6] = { 0 };

    memset(t_capabilities, 1, sizeof(t_capabilities));
    CHECK(sandbox() == (SECCOMP_ARCH ? 0 : 64));
    CHECK(!memcmp(t_capabilities, none, sizeof(none)));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        fail(cases[i].call, 1, EPERM);
        CHECK((sandbox() & 63) == cases[i].bits, "%u", i);
    }
    fail(FAULT_prctl, 1, EPERM);
    faults[FAULT_prctl].always = true; /* no prctl at all */
    CHECK(sandbox() == (1 | 16 | 32 | 64));
    faults[FAULT_prctl].n = 0;
    fail(FAULT_mkdir, 1, EROFS); /* there are other places */
    CHECK(!(sandbox() & 63));
    fail(FAULT_mkdir, 1, EROFS);
    faults[FAULT_mkdir].always = true;
    CHECK((sandbox() & 63) == 2);
    faults[FAULT_mkdir].n = 0;
}

/* The sniffer's life, from its tables to the end of its channel: here its poll
 * says what happens. */
static struct monitor *life_of;
static unsigned life, life_events[KINDS];
static int life_ends[2];

static void live(struct pollfd *fds, nfds_t n) {
    struct order order = { .kind = NEW_SEQUENCE, .seq.n = 0 };
    struct event e;

    poll_result = 0;
    switch (life++) {
    case 0: /* the first knock; nothing wakes it */
        CHECK(poll_timeout == -1 && n == 2);
        ring_put(0, 1000, 1, "192.0.2.1");
        memcpy(mmap(NULL, sizeof(the_ring), PROT_READ | PROT_WRITE, MAP_SHARED,
                    life_of->packets, 0),
               the_ring, FRAME_BYTES);
        break;
    case 1: /* it wakes for its timeout, at its last look at that */
        CHECK(poll_timeout == 10000, "%d", poll_timeout);
        clock_ms += 10000;
        break;
    case 2:
        CHECK(poll_timeout == -1, "%d", poll_timeout);
        CHECK(write(life_ends[0], &order, offsetof(struct order, locals)) > 0);
        fds[0].revents = POLLIN;
        poll_result = 1;
        break;
    case 3: /* no address any more */
        order.kind = NEW_LOCALS;
        CHECK(write(life_ends[0], &order, sizeof(order)) > 0);
        fds[0].revents = POLLIN;
        poll_result = 1;
        break;
    default:
        while (recv(life_ends[0], &e, sizeof(e), MSG_DONTWAIT) > 0)
            life_events[e.kind < KINDS ? e.kind : 0]++;
        close(life_ends[0]);
        fds[0].revents = POLLIN | POLLHUP;
        poll_result = 1;
    }
}

static void test_life(void) {
    static struct sniffer s;
    static struct locals locals = { .any = 1, .naddrs = 1 };
    struct monitor *m = shop_open();
    unsigned before = filters;
    int ring = openat(directory_fd, "ring", O_RDWR | O_CREAT | O_TRUNC, 0600);

    simple(2); /* its door */
    CHECK(ring >= 0 && !ftruncate(ring, sizeof(the_ring)));
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, life_ends));
    memset(the_ring, 0, sizeof(the_ring));
    life = 0;
    life_of = m;
    m->packets = ring;
    s = (struct sniffer){ .conf = &one_conf,
                          .packets = ring,
                          .channel = life_ends[1],
                          .locals = &locals,
                          .counters = monitor_counters };
    *locals.addr = addr_of("10.0.0.1");
    poll_hook = live;
    t_closes = false;
    CHECK(ENDS(sniff(&s)) && end_status == 0);
    t_closes = true;
    poll_hook = NULL;
    poll_result = 0;
    close(life_ends[0]);
    CHECK(life >= 5 && s.locals->naddrs == 0);
    CHECK(filters == before + 3 + (SECCOMP_ARCH != 0));
    CHECK(life_events[READY] == 1 && life_events[STAGE] == 1 &&
          life_events[TIMEOUT] == 1);
    close(life_ends[1]);
    /* no memory, no random numbers, no monitor: it ends */
    t_closes = false;
    out.started = false;
    fail(FAULT_mmap, 2, ENOMEM);
    CHECK(ENDS(sniffer_init(&s)) && end_status == 1 && has_text("mmap: ") &&
          has_text(strerror(ENOMEM)));
    fail(FAULT_getrandom, 1, ENOSYS);
    CHECK(ENDS(sniffer_init(&s)) && end_status == 1 &&
          has_text("sniffer: getrandom: "));
    s.channel = CHANNEL;
    fail(FAULT_write, 1, EPIPE);
    tell(&s, (struct event){ .kind = OPEN, .stage = 1 });
    CHECK(ENDS(events_send(&s)) && end_status == 1);
    /* as the monitor starts it */
    t_forks[0] = 0;
    t_nforks = 1;
    fail(FAULT_realloc, 1, ENOMEM);
    m->sniffer = -1;
    CHECK(ENDS(sniffer_start(m)) && end_status == 1 &&
          has_text("out of memory"));
    out.started = true;
    t_nforks = 1;
    fail(FAULT_getrandom, 1, ENOSYS);
    CHECK(ENDS(sniffer_start(m)) && end_status == 1);
    t_closes = true;
    m->sniffer = -1;
    close(ring);
    unlinkat(directory_fd, "ring", 0);
    monitor_end();
}

/* ---- Logs to other places; the start ------------------------------------------------------------ */

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

    out.use_syslog = true;
    say(LOG, "hello\nworld");
    got = received(fd);
    CHECK(!strncmp(got, "<29>", 4) && got[7] == ' ' && got[10] == ' ' &&
              got[13] == ':' && strstr(got, " knockd: hello?world") == got + 19,
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
    char path[108];
    int fd = datagrams("notify", path);

    setenv("NOTIFY_SOCKET", path, 1);
    notify_ready();
    CHECK(!strcmp(received(fd), "READY=1"));
    setenv("NOTIFY_SOCKET", "@nobody-listens-here", 1);
    notify_ready();
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    setenv("NOTIFY_SOCKET", path, 1);
    for (unsigned i = 0; i < 5; i++) strncat(path, "x", 0);
    notify_ready();
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
    /* nobody looks them up any more: lines come all the same */
    settings.lookup = true;
    namer_start(m);
    CHECK(out.namer >= 0);
    m->namer = 77;
    settings.lookup = false;
    t_ended[0].pid = 77;
    t_nended = 1;
    if (pipe(signal_ends)) abort();
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
    settings = (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
    t_closes = false;
    if (!ENDS(end_status = knockd_main(argc, argv))) end_caught = false;
    t_closes = true;
    out.started = out.detached = false;
    settings = (struct settings){ .config = CONFIG_PATH, .pidfile = PID_PATH };
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
              has_text("warning: door 'd': "),
          "%s", kept);
    put_text("conf", "[d]\nsequence=5,1,9,x\n");
    CHECK(run_main(words) == 1 && has_text("port 'x'") &&
              !has_text("Sequence ="),
          "%s", kept);
    snprintf(words, sizeof(words), "--config=%s/conf", directory);
    CHECK(run_main(words) == 1 && has_text("port 'x'"));
}

/* Ends the daemon as soon as it waits. */
static void poll_end(struct pollfd *fds, nfds_t n) {
    poll_result = n > 1;
    if (n <= 1) return;
    raise(SIGTERM); /* blocked: it comes by the descriptor */
    fds[0].revents = POLLIN;
}

/* From the command line to the end, in this very process. */
static void test_whole_run(void) {
    struct sockaddr_storage room;
    struct ifaddrs list = an_interface("eth0", "10.0.0.1", true, &room);
    char words[3 * PATH_MAX];
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
    CHECK(run_main(words) == 1 && has_text("packet socket: No such dev"), "%s",
          kept);
    snprintf(words, sizeof(words), "-c %s/conf -p %s/k.pid -i eth5", directory,
             directory);
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
    CHECK(run_main(words) == 0, "%d %s", end_status, kept);
    poll_hook = NULL;
    poll_result = 0;
    CHECK(has_text("closing...\n") && strstr(get_file("x", NULL), "") &&
              faccessat(directory_fd, "k.pid", F_OK, 0) &&
              faccessat(directory_fd, "k.state", F_OK, 0),
          "%s", kept);
    /* another knockd has the pidfile */
    put_text("k.pid", "1\n");
    int fd = openat(directory_fd, "k.pid", O_RDONLY);

    CHECK(!flock(fd, LOCK_EX));
    t_nforks = 1;
    CHECK(run_main(words) == 1 && has_text("another knockd runs with pid"),
          "%s", kept);
    CHECK(!strcmp(get_file("k.pid", NULL), "1\n"));
    close(fd);
    /* could not detach; the first process waits for the second */
    fail(FAULT_fork, 1, EAGAIN);
    CHECK(run_main(words) == 1 && has_text("could not detach"), "%s", kept);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(t_ring);
    t_interfaces = NULL;
    unlinkat(directory_fd, "ring", 0);
    unlinkat(directory_fd, "k.pid", 0);
    unlink("x"); /* the log of -g */
}

/* ---- All of them ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "config: sequences", test_sequences },
    { "config: TCP flags", test_flags_of_doors },
    { "config: networks", test_nets },
    { "config: networks at random", test_nets_at_random },
    { "config: defaults", test_defaults },
    { "config: every directive and alias", test_directives },
    { "config: every error with its line, all at once", test_errors },
    { "config: line ends, BOM, comments, lengths, binary", test_text },
    { "config: files that are not there", test_files },
    { "config: warnings of -t", test_warnings },
    { "config: random ones, and -t's output again",
      test_random_configurations },
    { "parse: every length captured and claimed", test_lengths },
    { "parse: every byte and every length lies", test_lies },
    { "parse: mutated packets", test_mutations },
    { "parse: extension headers", test_extension_headers },
    { "parse: marks of retransmissions", test_marks },
    { "addresses", test_addresses },
    { "filter: loses nothing that counts, lets no bulk through", test_filter },
    { "filter: what is not for us", test_filter_rejects },
    { "filter: length and jumps at the extremes", test_filter_extremes },
    { "filter: no room for two", test_filter_no_room },
    { "filter: narrow again", test_filter_narrow_again },
    { "filter: cost of many ports", test_filter_cost },
    { "seccomp: the few calls and no other", test_seccomp },
    { "match: as the oracle", test_oracle },
    { "match: as the oracle, through the filter", test_oracle_with_filter },
    { "match: the table when full", test_table },
    { "match: half the table is for stage 1", test_table_advanced },
    { "match: a flood, then nothing", test_table_flood },
    { "match: thousands of doors begin alike", test_table_many_doors },
    { "match: hash of addresses", test_hash },
    { "match: timeouts", test_timeout },
    { "match: retransmissions and twins", test_twins },
    { "match: attempts of one source", test_attempts_of_source },
    { "match: doors that are not there for a packet",
      test_doors_that_are_not_there },
    { "match: lines a second", test_lines_a_second },
    { "scans: bits of strays", test_stray_bits },
    { "scans: up, down, in steps", test_ordered_scans },
    { "scans: random order, all ports", test_random_scans },
    { "scans: FIN, NULL, Xmas, ACK, UDP, two at once", test_other_scans },
    { "commands: from the knock to the end", test_opening },
    { "commands: a knock while it is open", test_prolonging },
    { "commands: no stop between a knock and its start", test_renewal },
    { "commands: the stop comes in time", test_wake },
    { "commands: no process, no program", test_spawn_failures },
    { "commands: hanging ones", test_queue },
    { "commands: random ones and crashes against a model",
      test_openings_at_random },
    { "commands: shell or not", test_shell },
    { "commands: %IP%", test_expand },
    { "commands: output", test_output },
    { "commands: output in the loop", test_output_in_loop },
    { "state: written and read", test_state_round_trip },
    { "state: damaged at each byte, cut at each length", test_state_damage },
    { "state: well summed nonsense", test_state_content },
    { "state: an empty stop command", test_state_empty_stop },
    { "state: not ours alone, not writable", test_state_places },
    { "state: path", test_state_path },
    { "one-time: marks", test_one_time },
    { "one-time: faults", test_one_time_faults },
    { "one-time: random files", test_one_time_at_random },
    { "one-time: the door", test_one_time_door },
    { "monitor: forged records", test_forged_records },
    { "monitor: the channel", test_channel },
    { "monitor: the sniffer's start and end", test_sniffer_of_monitor },
    { "monitor: log lines and files", test_lines },
    { "monitor: interfaces", test_interfaces },
    { "monitor: signals and reload", test_signals },
    { "monitor: the end", test_end },
    { "sniffer: rest", test_rest },
    { "sniffer: ring", test_ring },
    { "sniffer: sandbox", test_sandbox },
    { "sniffer: from start to end", test_life },
    { "log: syslog", test_syslog },
    { "log: names of addresses", test_names },
    { "start: readiness", test_notify },
    { "start: command line", test_command_line },
    { "start: a whole run", test_whole_run },
};

enum { TESTS = sizeof(tests) / sizeof(*tests) };

/* Removes our directory; there is nothing but files in it. */
static void clean(void) {
    DIR *d = opendir(directory);
    struct dirent *entry;

    while (d && (entry = readdir(d))) unlinkat(directory_fd, entry->d_name, 0);
    if (d) closedir(d);
    rmdir(directory);
}

int main(int argc, char **argv) {
    const char *tmp = getenv("TMPDIR"), *word = getenv("SEED");
    uint64_t seed = word ? strtoull(word, NULL, 0) : 1;
    unsigned n = 0, at = 0, bad = 0;

    soak = getenv("SOAK") && strcmp(getenv("SOAK"), "0") != 0;
    quick = getenv("QUICK") != NULL;
    if (!tmp) tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(directory, sizeof(directory), "%s/knockd-unit.XXXXXX", tmp);
    if (!mkdtemp(directory) || chdir(directory) ||
        (directory_fd = open(".", O_RDONLY | O_DIRECTORY)) < 0) {
        perror(directory);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < TESTS; i++)
        n += argc < 2 || strstr(tests[i].name, argv[1]);
    printf("1..%u\n", n);
    for (unsigned i = 0; i < TESTS; i++) {
        if (argc > 1 && !strstr(tests[i].name, argv[1])) continue;
        random_state = seed * 1000003 + i;
        bad_checks = 0;
        clock_ms = 1000000;
        memset(faults, 0, sizeof(faults));
        tests[i].run();
        printf("%sok %u - unit: %s\n", bad_checks ? "not " : "", ++at,
               tests[i].name);
        bad += bad_checks > 0;
    }
    for (unsigned i = 0; soak && i < nnotes; i++) printf("# %s\n", notes[i]);
    clean();
    return bad > 0;
}
