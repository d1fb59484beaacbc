/* Unit tests of the configuration; part of unit.c. */

/* ---- Configuration ----------------------------------------------------- */

/* Reads n bytes as a configuration; what it says is kept. */
static bool load_bytes(struct conf *c, const char *text, size_t n,
                       bool test) {
    forget();
    put_file("conf", text, n);
    settings.test = test;
    bool good = config_load(c, "conf");
    settings.test = false;
    return good;
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
        { "1,", "item 2 of the sequence is empty" },
        { ",1", "item 1 of the sequence is empty" },
        { "1,,2", "item 2 of the sequence is empty" },
        { "0", "port '0' is not a number from 1 to 65535" },
        { "65536", "port '65536' is not a number from 1 to 65535" },
        { "-1", "port '-1' is not a number from 1 to 65535" },
        { "+1", "port '+1' is not a number from 1 to 65535" },
        { "80x", "port '80x' is not a number from 1 to 65535" },
        { "abc", "port 'abc' is not a number from 1 to 65535" },
        { "1 2", "port '1 2' is not a number from 1 to 65535: a comma "
                 "separates ports, as in 7000,8000" },
        { "7000 8000 9000", "port '7000 8000 9000' is not a number from 1 to "
                            "65535: a comma separates ports" },
        { "7000;8000",
          "port '7000;8000' is not a number from 1 to 65535: a comma " },
        { "7000-8000", "port '7000-8000' is not a number from 1 to 65535\n" },
        { "7000,8000/udp", "port '8000/udp' is not a number from 1 to 65535: "
                           "a colon precedes the protocol, as in 7000:udp" },
        { "1.0", "port '1.0' is not a number from 1 to 65535" },
        { "0x50", "port '0x50' is not a number from 1 to 65535" },
        { "4294967297", "port '4294967297' is not a number from 1 to" },
        { "18446744073709551617", "port '18446744073709551617' is not" },
        { "1:", "protocol '' is neither tcp nor udp" },
        { ":udp", "port '' is not a number from 1 to 65535" },
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
    /* all that is wrong is said at once */
    CHECK(!load_door(&c, "sequence = 7000,x,70000:udp,", false) &&
              has_text("port 'x' is") && has_text("port '70000' is") &&
              has_text("item 4 of the sequence is empty") && c.errors == 3,
          "%s", kept);
    config_free(&c);
}

/* Doors whose addresses go into a set: the words, and the time. */
static void test_set_directives(void) {
    static const struct {
        const char *lines, *says; /* NULL: it is good */
    } cases[] = {
        { "set = nft inet filter open\ncmd_timeout = 5\n", NULL },
        { "set = ipset open\nset_6 = nft ip6 t open6\ncmd_timeout = 5\n",
          NULL },
        { "set = open\ncmd_timeout = 5\n",
          "conf:3: Set 'open' is neither nft FAMILY TABLE NAME (such as "
          "nft" },
        { "set = nft inet open\ncmd_timeout = 5\n",
          "'nft inet open' is neither nft FAMILY TABLE NAME" },
        { "set = nft inet filter open\ncmd_timeout = 0\n",
          "conf:4: Cmd_Timeout 0 leaves the set no time" },
        { "set_6 = nft inet filter open\ncmd_timeout = 0\n",
          "conf:4: Cmd_Timeout 0 leaves the set no time" },
    };
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[300];

        snprintf(text, sizeof(text), "sequence = 1,2\n%s", cases[i].lines);
        bool good = load_door(&c, text, false);
        CHECK(good == !cases[i].says, "%u: %s", i, kept);
        CHECK(!cases[i].says || has_text(cases[i].says), "%u: %s", i, kept);
        config_free(&c);
        if (!cases[i].says || !strstr(cases[i].says, "neither")) continue;
        load_door(&c, text, true); /* not a doubt about this door */
        CHECK(count_text("\n") == 1, "%u: %s", i, kept);
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
    static const char *const bad[] = {
        "", "sny", "syn ack", "!", "syn,", "syn,,ack", "ece", "!!syn"
    };
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
        CHECK(has_text("is not a TCP flag; use fin syn rst psh ack urg"),
              "%s", kept);
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
        { "192.0.2.1/33", "prefix length '33' is not a number from 0 to 32" },
        { "192.0.2.1/", "prefix length '' is not a number from 0 to 32" },
        { "192.0.2.1/-1", "prefix length '-1' is not a number from 0 to 32" },
        { "192.0.2.1/24/8",
          "prefix length '24/8' is not a number from 0 to" },
        { "2001:db8::/129", "prefix length '129' is not a number from 0 to" },
        { "1:2:3:4:5:6:7:8:9", "'1:2:3:4:5:6:7:8:9' is not an IPv4" },
    };
    char text[512], want[256], print[128];
    struct nets none = { 0 };
    struct conf c;

    for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct addr in = addr_of(good[i].in), o = addr_of(good[i].out);

        snprintf(text, sizeof(text),
                 "sequence=1\nallow = %s\nTarget=%s\nDENY=%s", good[i].text,
                 good[i].text, good[i].text);
        CHECK(load_door(&c, text, false), "%s: %s", good[i].text, kept);
        CHECK(in_nets(&c.doors->allow, &in), "%s", good[i].text);
        CHECK(!in_nets(&c.doors->target, &o), "%s lets %s in", good[i].text,
              good[i].out);
        CHECK(allowed(&c.doors->allow, &none, &in) &&
                  !allowed(&c.doors->allow, &none, &o),
              "%s", good[i].text);
        CHECK(!allowed(&none, &c.doors->deny, &in) &&
                  allowed(&none, &c.doors->deny, &o),
              "%s", good[i].text);
        CHECK(!allowed(&c.doors->allow, &c.doors->deny, &in), "%s",
              good[i].text); /* Deny wins */
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
    CHECK(!d->tcp.want && !d->tcp.forbid && !d->target.n && !d->allow.n &&
          !d->deny.n);
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
		{"tcpflags = fin,!urg", "TCPFlags = fin,!urg"},
		{"tcpflags = urg,!fin", "TCPFlags = urg,!fin"},
		{"target=10.0.0.9", "Target = 10.0.0.9/32"},
		{"Allow = 2001:db8::/32,10.0.0.0/8",
			"Allow = 2001:db8::/32,10.0.0.0/8"},
		{"deny = 2001:db8::1", "Deny = 2001:db8::1/128"},
		{"Stray_Limit = 63", "Stray_Limit = 63"},
		{"stray_limit = 0", "Stray_Limit = 0"},
		{"Seq_Cooldown = 5", "Seq_Cooldown = 5"},
		{"cooldown =\t60", "Seq_Cooldown = 60"},
		{"Message = CLOSE  SESAME", "Message = CLOSE  SESAME"},
		{"close = a b\n[a b]\nsequence=1\nstop_command_6=x", "Close = a b"},
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
        { "sequence = 1\n", "1: Sequence comes before the first "
                            "[section]" },
        { "[d]\nSequence=1\nPort = 3", "3: unknown directive 'Port'" },
        { "[d]\nsequence=1\nsequence", "3: Sequence needs '=' and a value" },
        { "[d]\nsequence=1\nhello world", "3: no '=' in 'hello'" },
        { "[d]\nsequence=1\ntimeout 15", "3: no '=' in 'timeout'" },
        { "[d]\nsequence=1\nfoo # =", "3: no '=' in 'foo'" },
        /* not a secret of another file that Include names */
        { "[d]\nsequence=1\nroot:$6$salt$hash:1:0:9", "3: no '=' in 'root'" },
        { "[d]\nsequence=1\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU",
          "3: no '=' in 'b3BlbnNzaC1rZXktdjEA'" },
        { "[d]\nsequence=1\nsequence 2 = 3", "3: no '=' in 'sequence'" },
        { "[d]\nsequence=1\nSequencer=2",
          "3: unknown directive 'Sequencer'" },
        { "[d]\nsequence=1\nUseSyslog = yes", "3: UseSyslog has no value: "
                                              "write the word alone" },
        { "[d]\nsequence=1\nusesyslog =", "3: UseSyslog has no value: "
                                          "write the word alone" },
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
        { "[d]\nsequence=1,2\ntimeout=0", "3: Seq_Timeout 0 leaves door "
                                          "'d' no time" },
        { "[d]\nsequnce=1,2\ncommand=x", "2: unknown directive 'sequnce'" },
        { "[d]\nsequence=1\ntcpflags=syn,!syn",
          "3: no packet fits both syn and !syn" },
        { "[d]\nsequence=1\ntcpflags=!ack\n\ntcpflags=ack",
          "5: no packet fits both ack and !ack" },
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
        { "[d]\nsequence=1\nclose =", "3: Close is empty" },
        { "[d]\nsequence=1\nclose = e", "3: there is no other door 'e'" },
        { "[d]\nsequence=1\nstop_command = x\nclose = d",
          "4: there is no other door 'd'" },
        { "[e]\nsequence=1\nstop_command =\n[d]\nsequence=1\nclose = e",
          "6: door 'e' has neither Set nor Stop_Command" },
        { "[options]\ninterface = eth0,abcdefghijklmnop,eth1",
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
          "knockd: conf:6: no '=' in 'foo'\n"
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
        CHECK(whole ? !strcmp(kept, want)
                    : !strncmp(kept, want, strlen(want)),
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
        CHECK(!strcmp(meaning(same[i]), first), "%u: %s", i,
              meaning(same[i]));
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
              has_text("conf:1: a byte is zero: this is not a text file"),
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
    CHECK(!config_load(&c, "none"));
    CHECK(has_text("could not open none: No such file or directory"));
    config_free(&c);
    forget();
    int next = dup(STDIN_FILENO); /* the first that is free */
    close(next);
    CHECK(!config_load(&c, directory));
    CHECK(dup(STDIN_FILENO) == next, "a descriptor is left open");
    close(next);
    CHECK(has_text("Is a directory"), "%s", kept);
    config_free(&c);
    CHECK(load_text(&c, "", true) && has_text("conf has no doors"));
    config_free(&c);
    CHECK(!load_door(&c, "one_time_sequences = none", false));
    CHECK(has_text("none: No such file or directory"), "%s", kept);
    config_free(&c);
    put_text("once", "1,2\n");
    CHECK(load_door(&c, "One_Time_Sequences = once", false), "%s", kept);
    CHECK(c.doors->seq.n == 2);
    config_free(&c);
    /* a test prints where the sequences are, not which; it writes nothing */
    t_writers = 0;
    CHECK(load_door(&c, "One_Time_Sequences = once", true));
    CHECK(c.doors->seq.n == 2 && !t_writers);
    forget();
    config_print(&c);
    CHECK(has_text("[d]\nOne_Time_Sequences = once\n") &&
              !has_text("\nSequence"),
          "%s", kept);
    config_free(&c);
    /* whose it is, if it may not be read; not of what is not there */
    for (int there = 0; there < 2; there++) {
        if (there) put_text("conf", "");
        else unlinkat(directory_fd, "conf", 0);
        fail(FAULT_open, 1, EACCES);
        forget();
        CHECK(!config_load(&c, "conf") && c.errors == 1);
        CHECK(has_text("could not open conf: Permission denied"));
        CHECK(has_text(": its owner is user ") == there &&
                  has_text(", its mode 0600, and this is user ") == there,
              "%s", kept);
        config_free(&c);
    }
    /* an error in the middle of it; more than any file may have */
    put_text("conf", "[d]\nsequence=1\n");
    fail(FAULT_read, 2, EIO);
    forget();
    CHECK(!config_load(&c, "conf") && has_text("could not open conf: ") &&
          has_text(strerror(EIO)));
    config_free(&c);
    CHECK(!truncate("conf", 2 * (off_t)FILE_MAX));
    forget();
    CHECK(!config_load(&c, "conf") &&
              has_text("could not open conf: File too large"),
          "%s", kept);
    config_free(&c);
    unlinkat(directory_fd, "conf", 0);
    /* no memory: the end */
    put_text("conf", "[d]\nsequence=1\n");
    forget();
    fail(FAULT_realloc, 3, ENOMEM);
    CHECK(ENDS(config_load(&c, "conf")) && end_status == 1 &&
              has_text("out of memory"),
          "%s", kept);
}

/* Which interfaces are listened on: the command line counts before the file,
 * unless it names none. */
static void test_listen(void) {
    static const char *const cases[][3] = {
        /* -i, Interface, result */
        { NULL, "eth0", "eth0" }, { "eth1", "eth0", "eth1" },
        { "", "eth0", "eth0" },   { " ,", "eth0", "eth0" },
        { "eth1", NULL, "eth1" }, { NULL, NULL, "any" },
    };
    char text[200];
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(text, sizeof(text), "[options]\n%s%s\n[d]\nsequence=1\n",
                 cases[i][1] ? "interface=" : "",
                 cases[i][1] ? cases[i][1] : "");
        settings.interface = cases[i][0];
        CHECK(load_text(&c, text, false));
        CHECK(!strcmp(c.listen, cases[i][2]), "%u: %s", i, c.listen);
        config_free(&c);
    }
    settings.interface = NULL;
}

/* Close: the other door, by its name, among several; anything that this one
 * can close will do. */
static void test_closing_doors(void) {
    static const char *const ways[] = { "stop_command=x", "stop_command_6=x",
                                        "set=ipset a\ncmd_timeout=1",
                                        "set_6=ipset a\ncmd_timeout=1",
                                        "stop_command=\nstop_command_6=\n" };
    char text[300];
    struct conf c;

    for (unsigned i = 0; i < 5; i++) {
        snprintf(text, sizeof(text),
                 "[a]\nsequence=1\nclose=b\n[c]\nsequence=2\n"
                 "[b]\nsequence=3\n%s\n[d]\nsequence=4\nstop_command=y\n",
                 ways[i]);
        CHECK(load_text(&c, text, false) == (i < 4), "%s: %s", ways[i], kept);
        CHECK(has_text("door 'b' has neither Set nor Stop_Command") ==
              (i == 4));
        config_free(&c);
    }
    /* a door that closes another one need not do more */
    CHECK(load_text(&c,
                    "[a]\nsequence=5,9,1\nclose=b\n"
                    "[b]\nsequence=5,1,9\ncommand=id %IP%\nstop_command=id\n"
                    "cmd_timeout=5\n",
                    true) &&
              !*kept,
          "%s", kept);
    config_free(&c);
    /* one port needs no time */
    CHECK(load_door(&c, "sequence=1\ntimeout=0", false), "%s", kept);
    config_free(&c);
}

/* Include: a file, or those that match, in the order of their names. */
static void test_include(void) {
    static const char *const patterns[][3] = {
        /* pattern, what matches, what does not */
        { "*", "a", "" },
        { "*.conf", ".conf", "a.con" },
        { "*.conf", "a.conf.conf", "conf" },
        { "?", "x", "xy" },
        { "a?c*", "abc", "ac" },
        { "a?c*", "abcde", "abd" },
        { "*a*b", "xaxbab", "ba" },
        { "**", "z", "" },
    };
    char text[PATH_MAX];
    struct conf c;

    for (unsigned i = 0; i < sizeof(patterns) / sizeof(*patterns); i++) {
        CHECK(matches(patterns[i][0], patterns[i][1]), "%u", i);
        bool empty = !*patterns[i][2];
        CHECK(matches(patterns[i][0], patterns[i][2]) == empty, "%u", i);
    }
    mkdirat(directory_fd, "sub", 0700);
    put_text("sub/b.conf", "[b]\nsequence=2\n");
    put_text("sub/a.conf",
             "\xef\xbb\xbf[a]\r\nsequence=1\r\n[a2]\r\nsequence=11");
    put_text("sub/.c.conf", "x");
    put_text("sub/c.bak", "x");
    CHECK(load_text(&c,
                    "[first]\nsequence=9\n[options]\nInclude=sub/*.conf\n"
                    "stray_limit=3\n[z]\nsequence=5",
                    false) &&
              !*kept,
          "%s", kept);
    CHECK(c.ndoors == 5 && !strcmp(c.doors[0].name, "first") &&
          !strcmp(c.doors[1].name, "a") && !strcmp(c.doors[2].name, "a2") &&
          !strcmp(c.doors[3].name, "b") && !strcmp(c.doors[4].name, "z"));
    CHECK(c.stray_limit == 3 && c.doors[1].stray_limit == 3);
    config_free(&c);
    /* an absolute name; relative to the including file, not to the directory */
    snprintf(text, sizeof(text), "[options]\ninclude = %s/sub/b.conf # x\n",
             directory);
    CHECK(load_text(&c, text, false) && c.ndoors == 1, "%s", kept);
    config_free(&c);
    put_text("sub/main", "[options]\nInclude = a.conf\nInclude = ?.conf\n");
    forget();
    CHECK(config_load(&c, "sub/main") && c.ndoors == 5, "%s", kept);
    config_free(&c);
    /* warnings and errors name the file, those behind it the first one */
    put_text("sub/b.conf", "[b]\nsequence=2\ntimeout=x\n");
    put_text("sub/d.conf",
             "\n[b]\nsequence=7000,8000,9000\ncommand=id %IP% -D\n");
    CHECK(!load_text(&c, "[options]\nInclude=sub/*.conf\nfoo=1\n", true));
    CHECK(has_text("knockd: sub/b.conf:3: Seq_Timeout 'x' is not") &&
              has_text("knockd: conf:3: unknown directive 'foo'") &&
              has_text(
                  "knockd: sub/d.conf:3: warning: the ports are in the") &&
              has_text(
                  "knockd: sub/d.conf:2: warning: another door is named 'b': "
                  "sub/b.conf:1"),
          "%s", kept);
    CHECK(c.errors == 2, "%s", kept);
    config_free(&c);
    /* nothing matches; no such directory; no such file; a directory */
    CHECK(load_text(&c, "[options]\nInclude=sub/*.x\nInclude=no/*", false) &&
              !*kept,
          "%s", kept);
    config_free(&c);
    CHECK(!load_text(&c, "[options]\nInclude=sub/no.conf", false) &&
              !strcmp(kept,
                      "knockd: could not open sub/no.conf: No such file "
                      "or directory\n"),
          "%s", kept);
    config_free(&c);
    CHECK(!load_text(&c, "[options]\nInclude=sub", false) &&
              has_text("could not open sub: Is a directory"),
          "%s", kept);
    config_free(&c);
    mkfifoat(directory_fd, "sub/e.conf", 0600); /* it is not waited for */
    CHECK(!load_text(&c, "[options]\nInclude=sub/*.conf", false) &&
              has_text("knockd: sub/e.conf:1: this is not a regular file\n"),
          "%s", kept);
    config_free(&c);
    unlinkat(directory_fd, "sub/e.conf", 0);
    CHECK(!load_text(&c, "[options]\nInclude=/dev/null", false) &&
              !strcmp(kept, "knockd: /dev/null:1: this is not a regular "
                            "file\n"),
          "%s", kept);
    config_free(&c);
    CHECK(!load_text(&c, "[options]\nInclude=", false) && c.errors == 1);
    config_free(&c);
    CHECK(!load_text(&c, "[options]\nInclude=conf/*", false) &&
              !strcmp(kept, "knockd: conf:2: conf/*: Not a directory\n"),
          "%s", kept);
    config_free(&c);
    CHECK(!mkfifoat(directory_fd, "pipe", 0600)); /* nobody writes there */
    CHECK(!load_text(&c, "[options]\nInclude=pipe/*", false) &&
              !strcmp(kept, "knockd: conf:2: pipe/*: Not a directory\n"),
          "%s", kept);
    config_free(&c);
    unlinkat(directory_fd, "pipe", 0);
    /* one level; no options in there; a section of its own */
    put_text("sub/b.conf", "[Options]\nInclude = b.conf\nInclude=*\n");
    CHECK(!load_text(&c, "[options]\nInclude=sub/b.conf\nUseSyslog", false) &&
              !strcmp(kept, "knockd: sub/b.conf:1: an included file has no "
                            "[options]\n") &&
              c.use_syslog,
          "%s", kept);
    config_free(&c);
    put_text("sub/b.conf",
             "LogFile = x\n[d]\nInclude = b.conf\nsequence=1\n");
    CHECK(!load_text(&c, "[options]\nInclude=sub/b.conf", false) &&
              !strcmp(kept, "knockd: sub/b.conf:1: LogFile comes before the "
                            "first [section]\nknockd: sub/b.conf:3: Include "
                            "belongs in [options], not in a door\n"),
          "%s", kept);
    config_free(&c);
    CHECK(!load_door(&c, "sequence=1\nInclude=sub/a.conf", false) &&
          has_text("conf:3: Include belongs in [options], not in a door"));
    config_free(&c);
    for (unsigned i = 0; i < 4; i++) {
        static const char *const files[] = { "a.conf", "b.conf", "d.conf",
                                             "main" };

        snprintf(text, sizeof(text), "sub/%s", files[i]);
        unlinkat(directory_fd, text, 0);
    }
    unlinkat(directory_fd, "sub/.c.conf", 0);
    unlinkat(directory_fd, "sub/c.bak", 0);
    unlinkat(directory_fd, "sub", AT_REMOVEDIR);
}

/* What -t warns of, each with the line of its directive, and what it does not
 * warn of. */
static void test_warnings(void) {
    static const char *const cases[][2] = {
        { "[d]\nsequence=7000,8000,9000",
          "2: the ports are in the order of" },
        { "[d]\nsequence=9000,8000,7000",
          "2: the ports are in the order of a scan and of the manuals: use a "
          "random one, for example sequence = " },
        { "[d]\nsequence=1,5,9,9000", "2: the ports are in the order of a" },
        { "[d]\n\nsequence=4,3,2,1", "3: the ports are in the order of a" },
        { "[d]\nsequence=9,5", "2: fewer than 3 ports are easily guessed" },
        { "[d]\nsequence=5,5", "2: fewer than 3 ports are easily guessed" },
        { "[d]\nsequence=5", "2: fewer than 3 ports are easily guessed" },
        { "[d]\nsequence=5,9,1\nset=nft inet t a\nset_6=ipset b\n"
          "cmd_timeout=31536000",
          "5: an ipset holds an address for 2147483 s at most" },
        { "[d]\nsequence=5,9,1", "1: no command: the door only logs" },
        { "[d]\nsequence=5,9,1\ncommand=", "1: no command: the door only" },
        { "[d]\nsequence=5,9,1\nstop_command=true\ncommand=id",
          "4: no %IP% in the command" },
        { "[d]\nsequence=5,9,1\ncommand=iptables -A INPUT -s %IP%",
          "3: '-A INPUT' goes behind the rules that reject: did you "
          "mean "
          "'-I INPUT'?" },
        { "[d]\nsequence=5,9,1\ncommand_6=ip6tables -w -A INPUT -s %IP%",
          "3: '-A INPUT' goes behind the rules that reject" },
        { "[d]\nsequence=5,9,1\ncommand=nft add rule inet a b ip saddr %IP%",
          "3: 'add rule' goes behind the rules that reject: did you "
          "mean "
          "'insert rule'?" },
        { "[d]\nsequence=5,9,1\ncommand=ufw allow from %IP%",
          "3: 'ufw allow' goes behind the rules that reject: did you "
          "mean "
          "'ufw prepend allow'?" },
        { "[d]\nsequence=5,9,1\ncommand=iptables -I INPUT -s %IP%",
          "3: each knock adds a rule: use iptables -C ... || iptables -I" },
        { "[d]\nsequence=5,9,1\ncommand=iptables -A KNOCK -s %IP% -j ACCEPT",
          "3: each knock adds a rule: use iptables -C ... || iptables -I" },
        { "[d]\nsequence=5,9,1\ncommand=iptables -I INPUT -s %IP%",
          "3: iptables does not accept IPv6 addresses: add Start_Command_6" },
        { "[d]\nsequence=5,9,1\ncommand=id %IP%\nallow=10.0.0.1,::1\n"
          "command_6=id\nstop_command=iptables -D INPUT -s %IP%",
          "6: iptables does not accept IPv6 addresses: add Stop_Command_6" },
        { "[d]\nsequence=5,9,1\nstop_command=id\ncommand=id %IP%",
          "3: no Cmd_Timeout: the stop command runs after 10 s" },
        { "[d]\nsequence=5,9,1\ncommand=id %IP%", "3: no Stop_Command" },
        { "[d]\nsequence=5,9,1\ncommand=/no/such %IP%",
          "3: can't run /no/such: No such file or directory" },
        { "[d]\nsequence=5,9,1\ncommand=id %IP%\ncmd_timeout=1\n"
          "stop_command=/no/such && id",
          "5: can't run /no/such: No such file or directory" },
        { "[d]\nsequence=5,9,1\ncommand=id %IP%\n\ncommand_6=nosuchtool %IP%",
          "5: can't run nosuchtool: No such file or directory" },
        { "[d]\nsequence=5,9,1\nstop_command_6=/etc/passwd;\n",
          "3: can't run /etc/passwd: Permission denied" },
        { "[d]\nsequence=5\ncommand=id",
          "3: every packet runs the command: set Seq_Cooldown" },
        { "[d]\nsequence=5,9,1\ntcpflags=syn,ack",
          "3: no ordinary client sends syn with another flag" },
        { "[d]\nsequence=5,9,1\n[d]\nsequence=5,9,1",
          "3: another door is named 'd': conf:1" },
        { "[d]\nsequence=5,9,1\nmessage=a\nmessage=b",
          "4: Message is given again: the last one counts" },
        { "[options]\npidfile=a\n[d]\nsequence=5,9,1\n[options]\npidfile=b",
          "6: PidFile is given again: the last one counts" },
        { "# no door", "1: conf has no doors" },
        { "[options]\nlogfile = # none\n[d]\nsequence=5,9,1\n",
          "2: LogFile is empty and has no effect" },
        { "[d]\nsequence=5,9,1\nset=nft inet t a\ncmd_timeout=5",
          "3: an IPv6 knock puts nothing: add Set_6" },
        { "[d]\nsequence=5,9,1\nset_6=nft ip6 t a\ncmd_timeout=5",
          "3: an IPv4 knock puts nothing: add Set" },
        { "[d]\nsequence=5,9,1\nset=ipset a\nset_6=ipset b",
          "3: no Cmd_Timeout: the address stays for 10 s" },
        { "[d]\nsequence=5,9,1\nset=ipset a\nset_6=ipset b\n"
          "stop_command=id",
          "5: no Cmd_Timeout: the stop command runs after 10 s" },
    };
    /* and nothing at all of these, each as a door's lines */
    static const char *const none[] = {
        "sequence=5,9,1,7\ncommand=id %IP%\nstop_command=id\ncmd_timeout=5\n"
        "tcpflags=syn\ntcpflags=!ack\n",
        "sequence=15637,15637,15637\ncommand=id -D %IP%\n",
        "sequence=5,5,9\ncommand=id -D %IP%\n",
        "sequence=5,9,1\ncommand=test -C %IP% || test -I %IP% -D\n",
        "sequence=5,9,1\ncommand=$SHELL -D %IP%\ncommand_6=\n",
        "sequence=5,9,1\ncommand=cd / && id delete %IP%\n",
        "sequence=5,9,1\ncommand='/no such/file' -D %IP%\n",
        "sequence=5,9,1\ncommand=A=b id -D %IP%\ntcpflags=!syn,ack\n",
        "sequence=5,9,1\ncommand=id -D %IP%;echo iptables ip6tables\n",
        "sequence=5,9,1\ncommand=id -D %IP% iptables\ncommand_6=\n",
        "sequence=5,9,1\ncommand=id -D %IP% iptables\nallow=10.0.0.0/8\n",
        "sequence=5,9,1\ncommand=id -D %IP% iptables\ntarget=10.0.0.9\n",
        "sequence=5,9,1\ncommand=id -D %IP% ufw prepend allow\n",
        "sequence=5:udp,9,1\ncommand=id %IP% timeout 5\n",
        "sequence=5,9,1\ncommand=id %IP%\nstop_command_6=id\n",
        "sequence=5,9,1\ncommand_6=id -D %IP%\n",
        "sequence=5,9,1\ncommand=>/dev/null id -D %IP%\n",
        /* a set opens the door: its command may be any */
        "sequence=5,9,1\nset=ipset a\nset_6=ipset b\ncmd_timeout=5\n"
        "command=id\n",
        "sequence=5,9,1\nset_6=ipset b\ncmd_timeout=5\nallow=fd00::/8\n"
        "command_6=id\n",
        "sequence=5,9,1\nset=ipset a\ncmd_timeout=5\nallow=10.0.0.0/8\n",
    };
    char want[256];
    struct conf c;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int n = (int)strcspn(cases[i][1], ":");

        snprintf(want, sizeof(want), "knockd: conf:%.*s: warning%s", n,
                 cases[i][1], cases[i][1] + n);
        CHECK(load_text(&c, cases[i][0], true), "%s", kept);
        CHECK(has_text(want), "'%s' says '%s'", cases[i][0], kept);
        config_free(&c);
        CHECK(load_text(&c, cases[i][0], false) && !*kept, "%s", kept);
        config_free(&c);
    }
    for (unsigned i = 0; i < sizeof(none) / sizeof(*none); i++) {
        CHECK(load_door(&c, none[i], true) && !*kept, "'%s' says '%s'",
              none[i], kept);
        config_free(&c);
    }
    /* the example is random, in each of its ports, and no scan's order */
    unsigned seen[4] = { 0 }, alike = 0;
    for (unsigned i = 0; i < 40; i++) {
        unsigned p[4] = { 0 };

        load_door(&c, "sequence=1", true);
        const char *example = strstr(kept, "for example sequence = ");
        CHECK(example && sscanf(example + 23, "%u,%u,%u,%u\n", &p[0], &p[1],
                                &p[2], &p[3]) == 4);
        CHECK(p[0] >= 1024 && p[0] < 32768 && p[1] >= 32768 && p[1] < 65536 &&
              p[2] >= 1024 && p[2] < 32768 && p[3] >= 32768 && p[3] < 65536);
        for (unsigned k = 0; k < 4; k++) seen[k] |= p[k];
        alike += p[0] == p[2];
        alike +=
            ((p[1] ^ p[0] << 1) & 0x77fe) == 0; /* of one random number */
        alike += ((p[1] ^ p[2] << 1) & 0x77fe) == 0;
        alike += ((p[3] ^ p[0] << 1) & 0x77fe) == 0;
        alike += ((p[3] ^ p[2] << 1) & 0x77fe) == 0;
        alike += p[1] == p[3];
        config_free(&c);
    }
    fail(FAULT_getrandom, 1, ENOSYS); /* none: not a word */
    CHECK(load_door(&c, "sequence=5\ncommand=id -D %IP%", true) && !*kept);
    config_free(&c);
    CHECK(seen[0] == 0x7fff && seen[1] == 0xffff && seen[2] == 0x7fff &&
          seen[3] == 0xffff && alike < 20);
    /* a program is looked for along PATH, which may be empty or none */
    char *path = copy(getenv("PATH"));
    for (unsigned i = 0; i < 4; i++) {
        static const char *const paths[] = { "", "/no/such", NULL,
                                             "/no/such:/usr/bin:/bin:" };

        if (paths[i]) setenv("PATH", paths[i], 1);
        else unsetenv("PATH");
        load_door(&c, "sequence=5,9,1\ncommand=id -D %IP%", true);
        CHECK(has_text("can't run id: ") == (i < 3), "%u: %s", i, kept);
        config_free(&c);
        load_door(&c, "sequence=5,9,1\ncommand=cd -D %IP%", true);
        CHECK(!*kept, "%s", kept); /* the shell's own */
        config_free(&c);
    }
    setenv("PATH", path, 1);
    free(path);
    /* a port that is in use; one that only root may use; no sockets at all */
    fail(FAULT_bind, 2, EADDRINUSE);
    CHECK(load_door(&c, "sequence=5,9:udp,1\ncommand=id -D %IP%", true) &&
              !strcmp(kept, "knockd: conf:2: warning: port 9 is in use: a "
                            "program answers the knock, and may log it\n"),
          "%s", kept);
    config_free(&c);
    fail(FAULT_bind, 1, EACCES);
    CHECK(load_door(&c, "sequence=5,9,1\ncommand=id -D %IP%", true) &&
          !*kept);
    config_free(&c);
    fail(FAULT_socket, 1, EAFNOSUPPORT);
    CHECK(load_door(&c, "sequence=5,9,1\ncommand=id -D %IP%", true) &&
          !*kept);
    config_free(&c);
    /* -C looks for the rule first */
    load_door(&c, "sequence=5,9,1\ncommand=id -C %IP% || id -I %IP%", true);
    CHECK(!has_text("each knock") && has_text("no Stop_Command"), "%s", kept);
    config_free(&c);
    /* said once, though both commands lack it */
    load_door(&c, "sequence=5,9,1\ncommand=id %IP%\ncommand_6=id %IP%", true);
    CHECK(count_text("no Stop_Command") == 1, "%s", kept);
    config_free(&c);
    /* one port: with %IP% or a cooldown no hint at one; IPv4 alone, no _6 */
    load_door(&c, "sequence=5\ncommand=id %IP%", true);
    CHECK(!has_text("Cooldown"), "%s", kept);
    config_free(&c);
    load_door(&c, "sequence=5\ncommand=id\ncooldown=5", true);
    CHECK(!has_text("Cooldown") && !has_text("%IP%"), "%s", kept);
    config_free(&c);
    settings.only_ipv4 = true;
    CHECK(load_door(&c, "sequence=5,9,1\ncommand=id -D %IP% iptables",
                    true) &&
              !*kept,
          "%s", kept);
    config_free(&c);
    CHECK(load_door(&c, "sequence=5,9,1\nset=ipset a\ncmd_timeout=5", true) &&
              !*kept,
          "%s", kept);
    config_free(&c);
    load_door(&c, "sequence=5,9,1\nset_6=ipset a\ncmd_timeout=5", true);
    CHECK(has_text("an IPv4 knock puts nothing"), "%s", kept);
    settings.only_ipv4 = false;
    config_free(&c);
    /* an error leads to no warning about its door, but others get theirs */
    CHECK(!load_text(&c, "[d]\nsequence=80x\ncomand=id\n[e]\nsequence=5",
                     true));
    CHECK(count_text("\n") == 4 && count_text("conf:2: port") == 1 &&
              count_text("conf:3: unknown directive") == 1 &&
              count_text("conf:5: warning: fewer") == 1 &&
              count_text("conf:4: warning: no command") == 1,
          "%s", kept);
    config_free(&c);
    put_text("conf", "");
    forget();
    fchmodat(directory_fd, "conf", 0644, 0);
    settings.test = true;
    CHECK(config_load(&c, "conf") &&
              has_text("conf:1: warning: everyone can read this file"),
          "%s", kept);
    settings.test = false;
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
    *n +=
        (size_t)sprintf(text + *n, "%s%s%s%s%s%s", blanks[rnd(4)],
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
            random_line(text, &at, one_in(2) ? "Seq_Timeout" : "Timeout",
                        value, true);
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
