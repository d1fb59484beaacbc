/*
 * gen - packet and load generator of the tests and the bench
 *
 *	cc -O2 -o build/gen tests/gen.c
 *
 *	gen WORD=VALUE...		send what the words describe
 *	gen WORD=VALUE... script=FILE	the same for each line of FILE (- is
 *					stdin), whose words stand over these
 *
 * Where to (one of these):
 *	if=eth0		Ethernet frames onto an interface (also lo)
 *	tun=tun0	bare IP packets that arrive on a tun device; a device
 *			that does not exist is made for the time of the run
 *	pcap=FILE	into a file, to look at with tcpdump -r
 * Which packets: for each round, for each source, for each port.
 *	src=ADDR dst=ADDR	IPv4 or IPv6, both of one family
 *	sources=N	that many source addresses, counted up from src
 *	ports=LIST	7000,8000:udp,1-65535 (numbers, ranges, protocols)
 *	order=ORDER	as (listed), desc, shuffle (anew for each source), or
 *			rand: one port of the list for each source
 *	n=ROUNDS	that many times all of it
 *	count=N time=S	stop after that many packets or seconds (default 600)
 *	rate=PPS	default as fast as it goes; gap=MS between two packets
 *	wait=MS		rest after the last packet
 *	seed=N		of all random values; printed at the end
 *	qdisc=1		let packets on the way out be seen by packet sockets
 * What they look like (the random ones differ in every packet):
 *	smac= dmac=	00:11:22:33:44:55; dmac: 02:00:00:00:00:01
 *	vlan=ID svlan=ID etype=N	tags in the order of words, outer first
 *	proto=P		tcp (default), udp, icmp or a number
 *	sport=N seq=N	default random; ack=N ttl=N
 *	flags=SA	of F S R P A U E C, - for none; default S
 *	payload=N	bytes of data; topts=N bytes of TCP options
 *	data=BYTES	what the data begin with, in hex
 *	noise=N		that many bytes at the end of the data are random
 *	ext=LIST	IPv6 extension headers: hop dst rt rt1 (a segment left)
 *			ah frag (atomic) fragm (first) fragl (later) or a
 *			number; KIND*COUNT; KIND/N a length field of N, meant;
 *			KIND!N a length field of N that lies
 *	opts=N		bytes of IPv4 options; fragoff=N (8 bytes each) mf=1
 *	ver= ihl= totlen= plen= doff= ulen=	header fields that lie
 *	cut=N		cut the packet to N bytes, IP header included
 *	pad=N		N bytes behind the packet's end
 *	hex=BYTES	the frame as it is
 *
 * At the end one line: sent=, wall=, pps=, cpu=, seed=.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* linux/if_packet.h, linux/if_tun.h */
#define PACKET_QDISC_BYPASS_ 20
#define TUNSETIFF_ _IOW('T', 202, int)
#define IFF_TUN_NO_PI_ 0x1001

#define FRAME_MAX 9216 /* bytes of one frame */
#define PORTS_MAX 65536
#define TAGS_MAX 4
#define BATCH 64 /* frames a sendmmsg */

/* Words whose value is one number: name, initial value (-1: not given; what
 * that means stands at its use), largest value. */
/* clang-format off */
#define NUMBERS(X) \
    X(SOURCES, "sources", 1, 1L << 31) X(ROUNDS, "n", 1, 1L << 40) \
    X(COUNT, "count", -1, 1L << 40) X(TIME, "time", 600, 3600) \
    X(RATE, "rate", -1, 10000000) X(GAP, "gap", -1, 600000) \
    X(WAIT, "wait", 0, 600000) X(SEED, "seed", -1, 1L << 62) \
    X(QDISC, "qdisc", 0, 1) X(ETYPE, "etype", -1, 0xffff) \
    X(SPORT, "sport", -1, 0xffff) X(SEQ, "seq", -1, 0xffffffff) \
    X(ACK, "ack", 0, 0xffffffff) X(TTL, "ttl", 64, 255) \
    X(PAYLOAD, "payload", 0, 8000) X(TOPTS, "topts", 0, 40) \
    X(OPTS, "opts", 0, 40) X(FRAGOFF, "fragoff", 0, 0x1fff) \
    X(MF, "mf", 0, 1) X(VER, "ver", -1, 15) X(IHL, "ihl", -1, 15) \
    X(TOTLEN, "totlen", -1, 0xffff) X(PLEN, "plen", -1, 0xffff) \
    X(DOFF, "doff", -1, 15) X(ULEN, "ulen", -1, 0xffff) \
    X(CUT, "cut", -1, FRAME_MAX) X(PAD, "pad", 0, 1500) \
    X(NOISE, "noise", 0, 8000)
/* clang-format on */

#define X(name, word, initial, max) N_##name,
enum number { NUMBERS(X) N_NUMBERS };
#undef X

#define X(name, word, initial, max) { word, initial, max },
static const struct {
    const char *word;
    long initial, max;
} numbers[N_NUMBERS] = { NUMBERS(X) };
#undef X

enum order { AS_LISTED, DESCENDING, SHUFFLED, RANDOM };

struct addr {
    int family; /* AF_INET, AF_INET6 or 0: not given */
    uint8_t b[16];
};

struct port {
    uint16_t num;
    int16_t proto; /* -1: the one of proto= */
};

struct tag {
    uint16_t tpid, tci;
};

struct spec { /* what one line of words asks for */
    long num[N_NUMBERS];
    struct addr src, dst;
    uint8_t smac[6], dmac[6];
    struct tag tag[TAGS_MAX];
    int tags;
    int proto;
    uint8_t flags;
    enum order order;
    const char *ext;
    const char *data;
    const char *hex;
    int ports;
    struct port port[PORTS_MAX];
};

struct frame {     /* a packet, and where in it what stands */
    size_t len;    /* bytes to send */
    size_t l3, l4; /* offsets of IP and of TCP, UDP or ICMP */
    size_t sum;    /* offset of the checksum of the latter, or 0 */
    size_t end;    /* offset behind the data */
    int proto;
    bool v6, raw;          /* raw: from hex=, nothing to fill in */
    uint32_t l3sum, l4sum; /* sums over what no packet changes */
    uint8_t b[FRAME_MAX];
};

enum sink { TO_NOWHERE, TO_LINK, TO_TUN, TO_PCAP };

static struct { /* where the packets go */
    enum sink sink;
    int fd;
    FILE *pcap;
    struct sockaddr_ll to;
} out;

static struct { /* frames that wait to be sent together */
    struct frame frame[BATCH];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH];
    unsigned used, size;
} batch;

/* ------------------------------------------------------------- helpers */

static uint32_t rnd(void) { return (uint32_t)mrand48(); }

/* Now on the given clock, in nanoseconds. */
static uint64_t now(clockid_t clock) {
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Sleep until the monotonic clock shows that many nanoseconds. */
static void sleep_until(uint64_t when) {
    struct timespec ts = {
        .tv_sec = (time_t)(when / 1000000000),
        .tv_nsec = (long)(when % 1000000000),
    };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void set16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void set32(uint8_t *p, uint32_t v) {
    set16(p, v >> 16);
    set16(p + 2, v);
}

/* -------------------------------------------------------------- output */

static void open_link(const char *name) {
    out.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (out.fd < 0) err(1, "packet socket");
    out.to.sll_family = AF_PACKET;
    out.to.sll_ifindex = (int)if_nametoindex(name);
    out.to.sll_halen = 6;
    if (!out.to.sll_ifindex) errx(1, "no interface %s", name);
    setsockopt(out.fd, SOL_PACKET, PACKET_QDISC_BYPASS_, &(int){ 1 },
               sizeof(int));
    setsockopt(out.fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4 << 20 }, sizeof(int));
    out.sink = TO_LINK;
}

static void open_tun(const char *name) {
    struct ifreq ifr = { .ifr_flags = IFF_TUN_NO_PI_ };

    out.fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (out.fd < 0) err(1, "/dev/net/tun");
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    if (ioctl(out.fd, TUNSETIFF_, &ifr) < 0) err(1, "tun %s", name);
    out.sink = TO_TUN;
}

/* pcap file header: magic, version 2.4, snap length, Ethernet. */
static void open_pcap(const char *name) {
    static const uint32_t header[6] = { 0xa1b2c3d4, 2 | 4 << 16, 0,
                                        0,          FRAME_MAX,   1 };

    out.pcap = fopen(name, "wb");
    if (!out.pcap || fwrite(header, sizeof(header), 1, out.pcap) != 1)
        err(1, "%s", name);
    out.sink = TO_PCAP;
}

static void write_pcap(const struct frame *f) {
    uint32_t len = (uint32_t)f->len;
    uint32_t record[4] = { (uint32_t)time(NULL), 0, len, len };

    fwrite(record, sizeof(record), 1, out.pcap);
    fwrite(f->b, f->len, 1, out.pcap);
}

static void write_link(void) {
    unsigned done = 0;
    int n;

    while (done < batch.used) {
        n = sendmmsg(out.fd, batch.msg + done, batch.used - done, 0);
        if (n >= 0) done += (unsigned)n;
        else if (errno != ENOBUFS && errno != EINTR && errno != EAGAIN)
            err(1, "send");
    }
}

/* Send all frames that wait. */
static void flush(void) {
    for (unsigned i = 0; i < batch.used; i++) {
        batch.iov[i].iov_len = batch.frame[i].len;
        if (out.sink == TO_PCAP) write_pcap(&batch.frame[i]);
        else if (out.sink == TO_TUN &&
                 write(out.fd, batch.frame[i].b, batch.frame[i].len) < 0 &&
                 errno != EINVAL)
            err(1, "tun");
    }
    if (out.sink == TO_LINK) write_link();
    batch.used = 0;
}

static void batch_init(void) {
    for (int i = 0; i < BATCH; i++) {
        batch.iov[i].iov_base = batch.frame[i].b;
        batch.msg[i].msg_hdr = (struct msghdr){
            .msg_name = &out.to,
            .msg_namelen = sizeof(out.to),
            .msg_iov = &batch.iov[i],
            .msg_iovlen = 1,
        };
    }
}

/* ------------------------------------------------------- words to spec */

static long parse_number(const char *word, const char *text, long max) {
    char *end;
    long v;

    errno = 0;
    v = strtol(text, &end, 0);
    if (errno || end == text || *end || v < 0 || v > max)
        errx(1, "%s=%s: not a number from 0 to %ld", word, text, max);
    return v;
}

static struct addr parse_addr(const char *text) {
    struct addr a = { 0 };

    if (inet_pton(AF_INET, text, a.b) == 1) a.family = AF_INET;
    else if (inet_pton(AF_INET6, text, a.b) == 1) a.family = AF_INET6;
    else errx(1, "%s: not an address", text);
    return a;
}

static void parse_mac(const char *text, uint8_t mac[6]) {
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1],
               &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
        errx(1, "%s: not a MAC address", text);
}

static int parse_proto(const char *text) {
    return !strcmp(text, "tcp")    ? IPPROTO_TCP
           : !strcmp(text, "udp")  ? IPPROTO_UDP
           : !strcmp(text, "icmp") ? IPPROTO_ICMP
                                   : (int)parse_number("proto", text, 255);
}

static uint8_t parse_flags(const char *text) {
    static const char letters[] = "FSRPAUEC";
    const char *at;
    uint8_t flags = 0;

    for (; *text && *text != '-'; text++) {
        if (!(at = strchr(letters, *text)))
            errx(1, "flags: what is '%c'?", *text);
        flags |= (uint8_t)(1 << (at - letters));
    }
    return flags;
}

static enum order parse_order(const char *text) {
    static const char *const words[] = { "as", "desc", "shuffle", "rand" };

    for (int i = 0; i < 4; i++)
        if (!strcmp(text, words[i])) return (enum order)i;
    errx(1, "order=%s: as, desc, shuffle or rand", text);
}

/* A list of NUM and NUM-NUM, each with :PROTO or without. */
static void parse_ports(struct spec *s, const char *text) {
    char *copy = strdup(text), *rest = copy, *item, *low;
    long p, high;
    int16_t proto;

    s->ports = 0;
    while ((item = strsep(&rest, ","))) {
        low = strsep(&item, ":");
        proto = item ? (int16_t)parse_proto(item) : -1;
        item = low;
        p = high = parse_number("ports", strsep(&item, "-"), 65535);
        if (item) high = parse_number("ports", item, 65535);
        for (; p <= high && s->ports < PORTS_MAX; p++)
            s->port[s->ports++] = (struct port){ (uint16_t)p, proto };
    }
    free(copy);
}

static void add_tag(struct spec *s, uint16_t tpid, const char *text) {
    if (s->tags == TAGS_MAX) errx(1, "more than %d tags", TAGS_MAX);
    s->tag[s->tags].tpid = tpid;
    s->tag[s->tags++].tci = (uint16_t)parse_number("vlan", text, 0xffff);
}

/* Take one WORD=VALUE, which is split in place and must live as long as the
 * spec. */
static void take_word(struct spec *s, char *word) {
    char *value = strchr(word, '=');

    if (!value) errx(1, "'%s' has no '='", word);
    *value++ = '\0';
    for (int i = 0; i < N_NUMBERS; i++)
        if (!strcmp(word, numbers[i].word)) {
            s->num[i] = parse_number(word, value, numbers[i].max);
            return;
        }
    if (!strcmp(word, "if")) open_link(value);
    else if (!strcmp(word, "tun")) open_tun(value);
    else if (!strcmp(word, "pcap")) open_pcap(value);
    else if (!strcmp(word, "src")) s->src = parse_addr(value);
    else if (!strcmp(word, "dst")) s->dst = parse_addr(value);
    else if (!strcmp(word, "smac")) parse_mac(value, s->smac);
    else if (!strcmp(word, "dmac")) parse_mac(value, s->dmac);
    else if (!strcmp(word, "vlan")) add_tag(s, ETH_P_8021Q, value);
    else if (!strcmp(word, "svlan")) add_tag(s, ETH_P_8021AD, value);
    else if (!strcmp(word, "proto")) s->proto = parse_proto(value);
    else if (!strcmp(word, "ports")) parse_ports(s, value);
    else if (!strcmp(word, "order")) s->order = parse_order(value);
    else if (!strcmp(word, "flags")) s->flags = parse_flags(value);
    else if (!strcmp(word, "ext")) s->ext = value;
    else if (!strcmp(word, "data")) s->data = value;
    else if (!strcmp(word, "hex")) s->hex = value;
    else errx(1, "what is '%s='?", word);
}

static void spec_init(struct spec *s) {
    memset(s, 0, sizeof(*s));
    for (int i = 0; i < N_NUMBERS; i++) s->num[i] = numbers[i].initial;
    memcpy(s->smac, "\x02\0\0\0\0\x99", 6);
    memcpy(s->dmac, "\x02\0\0\0\0\x01", 6);
    s->proto = IPPROTO_TCP;
    s->flags = 0x02;
    s->ports = 1;
    s->port[0].proto = -1;
}

/* ------------------------------------------------------- spec to frame */

/* Room for n more bytes, zeroed, at the frame's end. */
static uint8_t *add(struct frame *f, size_t n) {
    uint8_t *p = f->b + f->len;

    if (f->len + n > FRAME_MAX)
        errx(1, "frame longer than %d bytes", FRAME_MAX);
    memset(p, 0, n);
    f->len += n;
    return p;
}

/* The value that a word gave, or the honest one. */
static uint32_t given(const struct spec *s, enum number n, size_t honest) {
    return (uint32_t)(s->num[n] >= 0 ? s->num[n] : (long)honest);
}

static void build_link(const struct spec *s, struct frame *f) {
    uint32_t type = f->v6 ? ETH_P_IPV6 : ETH_P_IP;
    uint8_t *p = add(f, 12);

    memcpy(p, s->dmac, 6);
    memcpy(p + 6, s->smac, 6);
    for (int i = 0; i < s->tags; i++) {
        p = add(f, 4);
        set16(p, s->tag[i].tpid);
        set16(p + 2, s->tag[i].tci);
    }
    set16(add(f, 2), given(s, N_ETYPE, type));
}

/* IPv4 header (RFC 791), without length and checksum. */
static void build_ip4(const struct spec *s, struct frame *f) {
    size_t opts = (size_t)s->num[N_OPTS];
    uint8_t *p = add(f, 20);
    uint32_t ihl = given(s, N_IHL, (20 + opts) / 4);

    p[0] = (uint8_t)(given(s, N_VER, 4) << 4 | ihl);
    set16(p + 4, rnd());
    set16(p + 6, (uint32_t)(s->num[N_MF] << 13 | s->num[N_FRAGOFF]));
    p[8] = (uint8_t)s->num[N_TTL];
    p[9] = (uint8_t)f->proto;
    memcpy(p + 16, s->dst.b, 4);
    memset(add(f, opts), 1, opts); /* option 1: no operation */
}

struct ext {
    int type; /* number of the header */
    int repeat;
    int units;     /* the header's length field */
    size_t size;   /* its real size in bytes */
    uint32_t word; /* bytes 2 and 3, or a fragment's offset */
};

/* KIND, KIND*COUNT, KIND/N, KIND!N, as at the top. */
static struct ext parse_ext(char *item) {
    static const struct {
        const char *word;
        struct ext e;
    } kinds[] = {
        { "hop", { IPPROTO_HOPOPTS, 1, 0, 8, 0x0104 } },
        { "dst", { IPPROTO_DSTOPTS, 1, 0, 8, 0x0104 } },
        { "rt", { IPPROTO_ROUTING, 1, 0, 8, 0 } },
        { "rt1", { IPPROTO_ROUTING, 1, 2, 24, 1 } },
        { "ah", { IPPROTO_AH, 1, 4, 24, 0 } },
        { "frag", { IPPROTO_FRAGMENT, 1, 0, 8, 0 } },
        { "fragm", { IPPROTO_FRAGMENT, 1, 0, 8, 1 } },
        { "fragl", { IPPROTO_FRAGMENT, 1, 0, 8, 100 << 3 } },
    };
    size_t n = strcspn(item, "*/!");
    char mark = item[n], *tail = mark ? item + n + 1 : item + n;
    struct ext e = { .type = -1, .repeat = 1, .size = 8 };

    item[n] = '\0';
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strcmp(item, kinds[i].word)) e = kinds[i].e;
    if (e.type < 0) e.type = (int)parse_number("ext", item, 255);
    if (mark == '*') e.repeat = (int)parse_number("ext", tail, 1000);
    else if (mark) e.units = (int)parse_number("ext", tail, 255);
    if (mark == '/')
        e.size = e.type == IPPROTO_AH ? (size_t)(e.units + 2) * 4
                                      : (size_t)(e.units + 1) * 8;
    return e;
}

/* The extension headers of ext= (RFC 8200); returns where the number of
 * the header that follows has to be written. */
static size_t build_ext(const struct spec *s, struct frame *f, size_t next) {
    char *copy = strdup(s->ext), *rest = copy, *item;
    struct ext e;
    uint8_t *p;

    while ((item = strsep(&rest, ","))) {
        e = parse_ext(item);
        for (int i = 0; i < e.repeat; i++) {
            f->b[next] = (uint8_t)e.type;
            next = f->len;
            p = add(f, e.size);
            p[1] = (uint8_t)e.units;
            set16(p + 2, e.word);
        }
    }
    free(copy);
    return next;
}

/* IPv6 header, without payload length, and its extension headers. */
static void build_ip6(const struct spec *s, struct frame *f) {
    size_t next = f->len + 6;
    uint8_t *p = add(f, 40);

    p[0] = (uint8_t)(given(s, N_VER, 6) << 4);
    p[7] = (uint8_t)s->num[N_TTL];
    memcpy(p + 24, s->dst.b, 16);
    if (s->ext) next = build_ext(s, f, next);
    f->b[next] = (uint8_t)f->proto;
}

static void build_tcp(const struct spec *s, struct frame *f) {
    size_t opts = (size_t)s->num[N_TOPTS];
    uint8_t *p = add(f, 20);

    set32(p + 8, (uint32_t)s->num[N_ACK]);
    p[12] = (uint8_t)(given(s, N_DOFF, (20 + opts) / 4) << 4);
    p[13] = s->flags;
    set16(p + 14, 64240);
    memset(add(f, opts), 1, opts);
    f->sum = f->l4 + 16;
}

static void build_udp(const struct spec *s, struct frame *f) {
    size_t honest = 8 + (size_t)s->num[N_PAYLOAD];

    set16(add(f, 8) + 4, given(s, N_ULEN, honest));
    f->sum = f->l4 + 6;
}

/* Echo request, identifier and number left at 0. */
static void build_icmp(struct frame *f) {
    add(f, 8)[0] = f->v6 ? 128 : 8;
    f->sum = f->l4 + 2;
}

static uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum) {
    for (; n > 1; p += 2, n -= 2) sum += (uint32_t)(p[0] << 8 | p[1]);
    return n ? sum + (uint32_t)(p[0] << 8) : sum;
}

static uint32_t fold(uint32_t sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* Lengths, cut and padding, and the sums over what stays the same: source
 * address, ports and sequence number are still zero. */
static void finish(const struct spec *s, struct frame *f) {
    size_t l3len = f->len - f->l3, l4len = f->len - f->l4;
    size_t cut = given(s, N_CUT, l3len);
    uint8_t *ip = f->b + f->l3;
    size_t dst = f->v6 ? 24 : 16, alen = f->v6 ? 16 : 4;

    if (f->v6) {
        set16(ip + 4, given(s, N_PLEN, l3len - 40));
    } else {
        set16(ip + 2, given(s, N_TOTLEN, l3len));
        f->l3sum = sum16(ip, 20 + (size_t)s->num[N_OPTS], 0);
    }
    f->l4sum = sum16(f->b + f->l4, l4len, 0);
    if (f->v6 || f->proto != IPPROTO_ICMP)
        f->l4sum = sum16(ip + dst, alen,
                         f->l4sum + (uint32_t)l4len + (uint32_t)f->proto);
    if (cut < l3len) f->len = f->l3 + cut;
    add(f, (size_t)s->num[N_PAD]);
}

static void build_hex(const char *hex, struct frame *f) {
    unsigned byte;

    for (; *hex; hex += 2) {
        if (sscanf(hex, "%2x", &byte) != 1 || !hex[1])
            errx(1, "bad hex digits at '%s'", hex);
        *add(f, 1) = (uint8_t)byte;
    }
}

/* The bytes behind all headers: those of data=, then zeros. */
static void build_payload(const struct spec *s, struct frame *f) {
    size_t end = f->len + (size_t)s->num[N_PAYLOAD];

    if (s->data) build_hex(s->data, f);
    if (f->len > end || s->num[N_NOISE] > s->num[N_PAYLOAD])
        errx(1, "data= or noise= is longer than payload=");
    add(f, end - f->len);
    f->end = end;
}

/* Make the frame that all packets of this protocol are copies of. */
static void build(const struct spec *s, int proto, struct frame *f) {
    f->len = f->sum = 0;
    f->raw = false;
    if (s->hex) {
        build_hex(s->hex, f);
        f->raw = true;
        return;
    }
    if (s->src.family != s->dst.family || !s->src.family)
        errx(1, "src= and dst= must be addresses of one family");
    f->v6 = s->src.family == AF_INET6;
    f->proto = proto;
    if (f->v6 && proto == IPPROTO_ICMP) f->proto = IPPROTO_ICMPV6;
    if (out.sink != TO_TUN) build_link(s, f);
    f->l3 = f->len;
    if (f->v6) build_ip6(s, f);
    else build_ip4(s, f);
    f->l4 = f->len;
    if (proto == IPPROTO_TCP) build_tcp(s, f);
    else if (proto == IPPROTO_UDP) build_udp(s, f);
    else build_icmp(f);
    build_payload(s, f);
    finish(s, f);
}

/* Random bytes for the n, which are zero, at the data's end; returns their part
 * of the checksum. n and the offset of the end have to be even. */
static uint32_t add_noise(struct frame *f, size_t n) {
    uint8_t *p = f->b + f->end - n;

    for (size_t i = 0; i < n; i += 2) set16(p + i, rnd() >> 8);
    return sum16(p, n, 0);
}

/* Fill in what differs from packet to packet, and the checksums. */
static void fill(const struct spec *s, struct frame *f, const uint8_t *src,
                 uint16_t port) {
    size_t alen = f->v6 ? 16 : 4;
    uint8_t *ip = f->b + f->l3, *l4 = f->b + f->l4;
    uint32_t src_sum = sum16(src, alen, 0), l4sum = f->l4sum;

    if (f->raw) return;
    memcpy(ip + (f->v6 ? 8 : 12), src, alen);
    if (!f->v6) set16(ip + 10, fold(f->l3sum + src_sum));
    if (f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP) {
        set16(l4, given(s, N_SPORT, 32768 + (rnd() >> 4) % 28000));
        set16(l4 + 2, port);
        l4sum = sum16(l4, 4, l4sum);
    }
    if (f->proto == IPPROTO_TCP) {
        set32(l4 + 4, given(s, N_SEQ, rnd()));
        l4sum = sum16(l4 + 4, 4, l4sum);
    }
    if (f->proto != IPPROTO_ICMP) l4sum += src_sum;
    l4sum += add_noise(f, (size_t)s->num[N_NOISE]);
    set16(f->b + f->sum, fold(l4sum));
}

/* ----------------------------------------------------------------- run */

struct run { /* one line of words under way */
    const struct spec *s;
    struct frame tcp, udp, other;
    uint64_t sent, limit;
    uint64_t next, step; /* ns: when the next batch is due, its time */
    uint64_t end;        /* ns on the monotonic clock */
};

/* Start: the frames of all protocols, the bounds, and the rate: at least
 * 2,000 batches a second, so that a rate is a rate and not a row of bursts. */
static void run_init(struct run *r, const struct spec *s) {
    double pps = (double)s->num[N_RATE];

    r->s = s;
    r->sent = 0;
    r->limit = (uint64_t)s->num[N_COUNT]; /* -1: no limit */
    build(s, IPPROTO_TCP, &r->tcp);
    build(s, IPPROTO_UDP, &r->udp);
    build(s, s->proto, &r->other);
    if (s->num[N_GAP] > 0) pps = 1000.0 / (double)s->num[N_GAP];
    batch.size = pps <= 0 || pps / 2000 > BATCH ? BATCH
                 : pps < 4000                   ? 1
                                                : (unsigned)(pps / 2000);
    r->step = pps <= 0 ? 0 : (uint64_t)(1e9 * batch.size / pps);
    r->next = now(CLOCK_MONOTONIC);
    r->end = r->next + (uint64_t)s->num[N_TIME] * 1000000000;
}

/* Queue one packet; false when count or time is up. */
static bool run_packet(struct run *r, const uint8_t *src, struct port port) {
    const struct spec *s = r->s;
    int proto = port.proto < 0 ? s->proto : port.proto;
    const struct frame *f = proto == IPPROTO_TCP   ? &r->tcp
                            : proto == IPPROTO_UDP ? &r->udp
                                                   : &r->other;
    struct frame *to = &batch.frame[batch.used++];

    memcpy(to, f, offsetof(struct frame, b) + f->len);
    fill(s, to, src, port.num);
    if (++r->sent < r->limit && batch.used < batch.size) return true;
    if (r->step) sleep_until(r->next);
    r->next += r->step;
    flush();
    return r->sent < r->limit && now(CLOCK_MONOTONIC) < r->end;
}

/* The source address number i, counted in the last 32 bits. */
static void source(const struct spec *s, uint32_t i, uint8_t src[16]) {
    size_t at = s->src.family == AF_INET6 ? 12 : 0;
    const uint8_t *p = s->src.b + at;

    memcpy(src, s->src.b, 16);
    set32(src + at, i + ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
                         (uint32_t)p[2] << 8 | p[3]));
}

static void shuffle(struct port *p, int n) {
    struct port t;

    for (int i = n - 1; i > 0; i--) {
        int j = (int)((uint64_t)rnd() * (uint64_t)(i + 1) >> 32);

        t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}

/* All ports of one source; false when count or time is up. */
static bool run_ports(struct run *r, const uint8_t *src, struct port *list) {
    const struct spec *s = r->s;
    int n = s->ports;

    if (s->order == RANDOM)
        return run_packet(r, src, s->port[rnd() % (uint32_t)n]);
    if (s->order == SHUFFLED) shuffle(list, n);
    for (int i = 0; i < n; i++)
        if (!run_packet(r, src, list[s->order == DESCENDING ? n - 1 - i : i]))
            return false;
    return true;
}

/* Send everything that the line asks for; returns the number of packets. */
static uint64_t run(const struct spec *s) {
    static struct port list[PORTS_MAX];
    static struct run r;
    uint8_t src[16];
    bool more = s->ports > 0;

    memcpy(list, s->port, sizeof(list[0]) * (size_t)s->ports);
    run_init(&r, s);
    for (long i = 0; more && i < s->num[N_ROUNDS]; i++)
        for (long j = 0; more && j < s->num[N_SOURCES]; j++) {
            source(s, (uint32_t)j, src);
            more = run_ports(&r, src, list);
        }
    if (r.step && batch.used) sleep_until(r.next);
    flush();
    sleep_until(now(CLOCK_MONOTONIC) + (uint64_t)s->num[N_WAIT] * 1000000);
    return r.sent;
}

/* Run each line of a script: words with blanks between, # for comments. */
static uint64_t run_script(const struct spec *base, const char *name) {
    static struct spec line_spec;
    FILE *f = strcmp(name, "-") ? fopen(name, "r") : stdin;
    char line[8192], *rest, *word;
    uint64_t sent = 0;

    if (!f) err(1, "%s", name);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "#\n")] = '\0';
        if (!line[strspn(line, " \t")]) continue;
        rest = line;
        line_spec = *base;
        while ((word = strsep(&rest, " \t")))
            if (*word) take_word(&line_spec, word);
        sent += run(&line_spec);
    }
    fclose(f);
    return sent;
}

int main(int argc, char **argv) {
    static struct spec spec;
    const char *script = NULL;
    uint64_t start, cpu, sent;
    double wall;

    spec_init(&spec);
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "script=", 7)) script = argv[i] + 7;
        else take_word(&spec, argv[i]);
    }
    if (out.sink == TO_NOWHERE)
        errx(1, "if=, tun= or pcap= is needed (see gen.c)");
    if (spec.num[N_QDISC] && out.sink == TO_LINK)
        setsockopt(out.fd, SOL_PACKET, PACKET_QDISC_BYPASS_, &(int){ 0 },
                   sizeof(int));
    if (spec.num[N_SEED] < 0)
        spec.num[N_SEED] = (long)(now(CLOCK_REALTIME) >> 8 & 0xffffff);
    srand48(spec.num[N_SEED]);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    batch_init();
    start = now(CLOCK_MONOTONIC);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    sent = script ? run_script(&spec, script) : run(&spec);
    wall = (double)(now(CLOCK_MONOTONIC) - start) / 1e9;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (out.pcap && fclose(out.pcap)) err(1, "pcap");
    printf("sent=%llu wall=%.6f pps=%.0f cpu=%.6f seed=%ld\n",
           (unsigned long long)sent, wall, (double)sent / wall,
           (double)cpu / 1e9, spec.num[N_SEED]);
    return 0;
}
