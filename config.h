/*
 * knockd and knock: compile-time limits, default paths and times, and the
 * few constants of the kernel that a libc need not have.  Nothing here executes.
 */
#ifndef CONFIG_H
#define CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION "1.1.0"

#define FORMAT(n) __attribute__((format(printf, (n), (n) + 1)))

/* knock.c: the client; an option, or a word of its profiles. */
int knock_main(int argc, char **argv);
enum { IS_FLAG, IS_TEXT, IS_KEY, IS_KNOCK, IS_PORT, IS_NUMBER };
struct word {
    char name[12], value[15]; /* value: what it needs */
    char letter;
    uint8_t kind, min;
    uint16_t field; /* where it is kept */
    unsigned max;
};
#define OPTIONS_MAX 20 /* of a program */
const struct word *option_next(int argc, char **argv, const struct word *all,
                               size_t n, bool *wrong); /* in knockd.c */
char *trim(char *s);                                   /* the same */

/* Paths. */
#define CONFIG_PATH "/etc/knockd.conf"
#define PID_PATH "/var/run/knockd.pid"
#define STATE_PATH "/run/knockd.state" /* when PID_PATH is used */
#define STAMPS_DIR "/var/lib/knockd"
#define STAMPS_PATH STAMPS_DIR "/stamps"
#define SYSLOG_PATH "/dev/log"
#define EMPTY_ROOTS "/run", "/dev/shm", "/tmp", "/var/tmp", "/"
#define DEFAULT_PATH \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Text. */
#define BLANKS " \t\r\n\f\v"
#define LIST ", \t"   /* between interface names */
#define TEXT_MAX 4096 /* bytes of a log line */
#define ADDR_TEXT 46  /* ... of an address, with its end */

#define NEVER INT64_MAX /* of a time in ms */

/* Configuration. */
#define DOOR_NAME_MAX 127    /* of a door */
#define KEYWORDS_MAX 32      /* directives there may be */
#define SEQUENCE_MAX 32      /* ports in a sequence */
#define INTERFACES_MAX 64    /* interfaces listened on */
#define ADDRESSES_MAX 65536  /* local addresses known */
#define SECONDS_MAX 31536000 /* a year: the longest timeout */
#define SEQ_TIMEOUT 25       /* s, from the first knock to the last */
#define CMD_TIMEOUT 10       /* s, from start to stop command */
#define STRAY_LIMIT 8        /* stray ports that a knock survives */
#define STRAY_LIMIT_MAX 63   /* what a 64-bit set can tell apart */
#define FILE_MAX (64u << 20) /* bytes of any file that is read */
#define ONE_TIME_LOW 5       /* one-time sequences left: say so */
#define SET_TEXT 544         /* bytes of the words of Set */
#define IPSET_NAME_MAX 31    /* ... of an ipset's name */
#define IPSET_S_MAX 2147483  /* s: the longest time in an ipset */

/* The sniffer. */
#define SNIFFER_NAME "knockd: sniffer" /* of its process */
#define SNIFFER_ID 65533  /* its uid and gid; nobody needs to own it */
#define FRAME_BYTES 256   /* a ring slot; captures 176 of a packet */
#define FRAMES 4096       /* ring: 1 MiB, 8 ms at 500,000 packets/s */
#define FRAMES_AT_ONCE 32 /* parsed before they are matched */
#define BLOCK_BYTES 65536
#define RING_BYTES (FRAMES * (size_t)FRAME_BYTES)
#define FILTER_MAX 4096       /* the kernel's BPF_MAXINSNS */
#define FILTER_EDGES_MAX 1535 /* ends of port ranges searched; is odd */
#define FILTER_ADDRS_MAX 64   /* beyond, user space checks them alone */
#define FILTER_SOURCES_MAX 8  /* sources whose every packet passes */
#define ATTEMPTS_MAX 131072   /* and one a door; half may be past stage 1 */
#define ATTEMPTS_PER_SOURCE 4 /* of one source at one door */
#define RECENT_MAX 64         /* hits remembered to know twins by */
#define MARK_SETS 8192        /* of first knocks, and as many of others ... */
#define MARKS_IN_SET 8        /* ... that TCP may send again ... */
#define MARK_KEEP_MS 130000   /* ... within this time, see tcp(7) ... */
#define MARK_TICK_MS 256      /* ... in this unit: 16 bits hold 4.6 hours */
#define EXPIRE_MS 200         /* between two looks for timed-out attempts */
#define TWIN_MS 100           /* the same packet from another interface */
#define REST_PACKETS 16       /* this number of packets ... */
#define REST_WITHIN_MS 2      /* ... in this time: read by the clock ... */
#define REST_MS 3             /* ... at this interval ... */
#define REST_EMPTY 5          /* ... until this number of reads is empty */
#define PERIODS_AROUND 90     /* of ids known, each way: 26 hours; ... */
#define IDS_MAX 65536         /* ... of all clients; but one each way */
#define ODD_IDS_A_SECOND 100  /* packets of a client whose time is far off */
#define SEALED_MAX 4096       /* sealed packets that wait for the monitor */
#ifndef LINES_PER_SECOND      /* tests that count lines need more */
#define LINES_PER_SECOND 20   /* of each kind that a stranger can cause ... */
#endif
#define OPENS_PER_SECOND 1000 /* ... and each door; openings of each door */

/* The monitor. */
#define CHILDREN_MAX 640   /* commands at once */
#define RUN_MAX 8          /* ... of which this number may be young: */
#define RUN_MS 1000        /* younger than this */
#define END_RUN_MS 200     /* ... or this, at the daemon's end */
#define ORDER_MS 2000      /* a command waits this long for the one before */
#define HASTE_MS 200       /* ... or this, when it has waited ORDER_MS */
#define RECORDS_A_TURN 16  /* from the sniffer, each full */
#define QUEUE_MAX 4096     /* start commands that wait */
#define OPENINGS_MAX 16384 /* doors open */
#define BUCKETS 16384      /* of their addresses' hash */
#define TIMES_MAX 16       /* start commands of one opening not yet undone */
#define ROUNDS_MS \
    1000, 10000, 60000      /* until a failed stop command runs again */
#define STATE_SLACK 64      /* records gone that don't matter */
#define EVENTS_MAX 64       /* in one record from the sniffer */
#define OUTPUTS_MAX 512     /* commands whose output is read */
#define OUTPUT_LINES_MAX 50 /* logged of one command; of a door in a second */
#define OUTPUT_LINE_MAX 240 /* bytes; a longer one is several */
#define RETRY_MS 1000       /* no process to be had; sniffer died young */
#define STALL_MS 10000      /* of its talk at once, if we stalled */
#define OPENS_BELIEVED 2000 /* openings of a door in a second ... */
#define STALL_OPENS_MS 2500 /* ... of this time at once, if we stalled */
#define RENEWS_A_SECOND 1   /* one-time sequences of a door ... */
#define RENEW_BURST_MS 9000 /* ... or of this time at once */
#define SET_BYTES 2048      /* of a request about a set */
#define SET_ANSWERS_MAX 64  /* that are read of one request */
#define SEND_SECONDS 2      /* for the sniffer to read what it is told */
#define PIECE_BYTES 32768   /* of that in one message */
#define NAME_BYTES 256      /* of a host name */
#define NAME_LETTERS \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define NAMER_ID 65532   /* uid and gid of the process of -l */
#define LOOKUP_SECONDS 1 /* for a name to be found ... */
#define LOOKUP_PAUSE_MS \
    10000                /* ... else no name is looked up for this time */
#define ORPHAN_MS 10000  /* for a start command that we left alone */
#define DRAIN_MS 1000    /* for a sniffer that is told to end */
#define SHUTDOWN_MS 8000 /* for the stop commands at the end */

/* knockd --help. */
#define USAGE                                                              \
    "usage: knockd [options]\n"                                            \
    "  -i, --interface LIST  listen on eth0, on eth0,wlan0 or on any "     \
    "(default)\n"                                                          \
    "  -c, --config FILE     configuration (default " CONFIG_PATH ")\n"    \
    "  -t, --test            check the configuration, print it and exit\n" \
    "  -S, --status          print what is open\n"                         \
    "  -d, --daemon          detach when everything is ready\n"            \
    "  -p, --pidfile FILE    pid file (default " PID_PATH ");\n"           \
    "                        the state file is next to it\n"               \
    "  -g, --logfile FILE    log to this file\n"                           \
    "  -l, --lookup          also log host names\n"                        \
    "  -4, --only-ip-v4      ignore IPv6\n"                                \
    "  -v, --verbose         also print the log on standard output\n"      \
    "  -D, --debug           print the packets that count\n"               \
    "  -V, --version         print the version\n"                          \
    "  -h, --help            print this text\n"                            \
    "Signals and files: see knockd(8), knockd.conf(5).\n"

/* knock --help. */
#define KNOCK_USAGE                                                          \
    "usage: knock [options] HOST PORT[:tcp|udp]...\n"                        \
    "       knock [options] PROFILE           (a section of"                 \
    " ~/.config/knock.conf)\n"                                               \
    "  -u, --udp             hit every port with UDP (default: TCP)\n"       \
    "  -d, --delay MS        wait MS milliseconds after each port"           \
    " (default: 10)\n"                                                       \
    "  -4, -6                use IPv4 only, or IPv6 only (--ipv4, --ipv6)\n" \
    "      --both            knock at the host's IPv4 and at its IPv6"       \
    " address\n"                                                             \
    "  -k, --key FILE        send a sealed knock, with the key in FILE\n"    \
    "      --for ADDRESS     open for ADDRESS, or for our own address (own)" \
    "\n"                                                                     \
    "      --close           close what is open, with a sealed knock\n"      \
    "  -i, --interface NAME  send through this interface or from this "      \
    "address\n"                                                              \
    "  -w, --wait PORT       then wait until PORT accepts a connection\n"    \
    "  -W, --connect PORT    then connect PORT to stdin and stdout\n"        \
    "  -t, --timeout SEC     let -w and -W try for SEC seconds (default:"    \
    " 10)\n"                                                                 \
    "  -v, --verbose         print a line for each packet\n"                 \
    "      --generate N      print a new random sequence of N ports\n"       \
    "      --keygen NAME DOOR  print a new key: the server's line, then "    \
    "ours\n"                                                                 \
    "  -h, -V                print this help, or the version (--help,"       \
    " --version)\n"                                                          \
    "examples: knock -d 500 example.org 7000 8000:udp 9000\n"                \
    "          knock -w 22 example.org 7000 8000 9000 && ssh example.org\n"  \
    "          ssh -o ProxyCommand='knock -W %p %h 7000 8000 9000'"          \
    " example.org\n"

/* The client. */
#define DELAY_MAX 86400000       /* ms */
#define TIMEOUT_MAX 86400        /* s */
#define FIRST_TRY_MS 25          /* at the door, each further one longer, */
#define LAST_TRY_MS 1600         /* but not longer than about this */
#define SEALED_COPIES 3          /* of each sealed knock ... */
#define SEALED_MS 50             /* ... with this after each */
#define BOTH_MS 150              /* then, before the next, this as well */
#define KNOCKS_MAX 1024          /* ports of one knock */
#define SILENCE_MS 2000          /* of stdin, after the peer ended its side */
#define USER_FILE_MAX (1u << 20) /* bytes of a profile file that are read */
#define SEPARATORS " \t\r=,"     /* between words */

/* Sealed knocks, which knock.c makes and judges (docs/knock1.md). */
#define STAMPS_DAYS \
    30 /* that the stamps of a key without a client are kept */
#define CLIENTS_MAX 65536 /* of all doors */
#define KEYS_STATUS 3     /* of a sniffer that would have the keys */
#define SKEW_MS 600000    /* how wrong a client's clock may be */
#define BURNT_MAX 8       /* ranges of stamps refused, of a key at a door */
#define CLIENT_MAX 31     /* bytes of a client's name */
#define CLIENT_LETTERS \
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._@-"
enum {
    KEY_BYTES = 32,
    KEY_DIGITS = 64,
    HASH_BYTES = 32,
    HMAC_MAX = 160,  /* bytes of text */
    PERIOD_BITS = 20 /* an id is of 2^20 ms, 17.5 minutes */
};

struct hmac { /* a key: the states after its inner and its outer block */
    uint32_t inner[8], outer[8];
};

struct plain {           /* what a packet says; numbers are big-endian */
    uint64_t stamp;      /* ms since 1970 */
    uint8_t address[16]; /* zero: the packet's source */
    uint8_t request;     /* 0 open, 1 close */
    uint8_t zero[7];
};

struct tagged { /* what the tag is made of */
    uint64_t id;
    struct plain plain;
};

struct sealed { /* a packet */
    uint64_t id;
    uint8_t tag[16];
    struct plain plain; /* masked */
};

struct span {
    uint64_t low, high;
};

struct stamps {     /* what is remembered of a key at a door; ms since 1970 */
    uint64_t floor; /* the last one accepted */
    struct span burnt[BURNT_MAX + 1];
    uint64_t nburnt; /* a size without gaps: it is compared */
};

/* Why a packet is refused, in the order in which it is looked at. */
enum verdict {
    GOOD,
    FORGED, /* no such key made the tag */
    MALFORMED,
    FUTURE,
    REPLAY,
    PAST,
    BEFORE_START,
    UNUSABLE /* the address; judge() leaves that to the daemon */
};

void hmac_key(struct hmac *h, const void *key, size_t n);
void hmac(const struct hmac *key, const char *label, const void *bytes,
          size_t n, uint8_t hash[HASH_BYTES]);
void door_key(struct hmac *door, const uint8_t key[KEY_BYTES],
              const char *name);
uint64_t sealed_id(const struct hmac *id_key, uint64_t period);
void seal(const struct hmac *door, struct sealed *s);
enum verdict judge(const struct hmac *door, struct stamps *stamps,
                   struct sealed *s, uint64_t now, uint64_t start);
bool key_parse(const char *text, uint8_t key[KEY_BYTES]);
bool is_client_name(const char *name);

/* SHA-256 (FIPS 180-4): bits of the cube roots of the first 64 primes, and of
 * the square roots of the first 8. */
#define SHA256_K                                                            \
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, \
        0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,         \
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,         \
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,         \
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,         \
        0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351,         \
        0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,         \
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1,         \
        0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,         \
        0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c,         \
        0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,         \
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,         \
        0xa4506ceb, 0xbef9a3f7, 0xc67178f2
#define SHA256_H                                                            \
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, \
        0x1f83d9ab, 0x5be0cd19

/* linux/if_packet.h, if_ether.h, if_arp.h (packet(7)). */
#define PACKET_RX_RING 5
#define PACKET_STATISTICS 6
#define PACKET_VERSION 10
#define PACKET_IGNORE_OUTGOING 23
#define TPACKET_V2_ 1
#define TP_USER 1u
#define ETHERTYPE_ALL 3
#define ETHERTYPE_V4 0x0800
#define ETHERTYPE_V6 0x86dd
#define HATYPE_LOOPBACK 772
#define PKTTYPE_HOST 0
#define PKTTYPE_OTHERHOST 3

struct tpacket_req_ {
    unsigned block_bytes, blocks, frame_bytes, frames;
};

struct tpacket2_ { /* head of a ring slot; then struct sockaddr_ll */
    uint32_t status, len, captured;
    uint16_t mac, net;
    uint32_t sec, nsec;
    uint16_t vlan_tci, vlan_tpid;
    uint8_t pad[4];
};

/* linux/filter.h: classic BPF, as for bpf(4). */
struct bpf_insn_ {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};

struct bpf_prog_ {
    uint16_t len;
    struct bpf_insn_ *code;
};

enum {
    LD_W = 0x20,
    LD_H = 0x28,
    LD_B = 0x30, /* A = word at k */
    LD_HX = 0x48,
    LD_BX = 0x50, /* A = word at X + k */
    LDX_IMM = 0x01,
    LDX_IHL = 0xb1, /* X = k; X = 4 * ([k] & 15) */
    AND = 0x54,
    OR = 0x44,
    RET = 0x06,
    JA = 0x05,
    JEQ = 0x15,
    JGE = 0x35,
    JSET = 0x45,
    /* what a socket filter can ask of the kernel: negative offsets */
    AD_PROTOCOL = -4096,
    AD_PKTTYPE = -4092,
    AD_IFINDEX = -4088,
    AD_HATYPE = -4068,
    AD_VLAN_TAG = -4052,
    AD_VLAN_PRESENT = -4048
};

/* linux/seccomp.h, audit.h, prctl.h, capability.h (seccomp(2), capset(2)). */
#define SECCOMP_KILL 0x80000000u
#define SECCOMP_ALLOW 0x7fff0000u
#define CAP_VERSION_3 0x20080522
#define CAP_LAST_POSSIBLE 63
#if defined(NO_SECCOMP) /* a sanitizer needs more system calls */
#define SECCOMP_ARCH 0u
#elif defined(__x86_64__) && !defined(__ILP32__)
#define SECCOMP_ARCH 0xc000003eu
#elif defined(__i386__)
#define SECCOMP_ARCH 0x40000003u
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define SECCOMP_ARCH 0xc00000b7u
#elif defined(__arm__) && !defined(__ARMEB__)
#define SECCOMP_ARCH 0x40000028u
#elif defined(__riscv) && __riscv_xlen == 64
#define SECCOMP_ARCH 0xc00000f3u
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define SECCOMP_ARCH 0xc0000015u
#elif defined(__s390x__)
#define SECCOMP_ARCH 0x80000016u
#else
#define SECCOMP_ARCH 0u /* no filter: a warning at start */
#endif

struct netlink_addr_ { /* struct sockaddr_nl, netlink(7) */
    uint16_t family, pad;
    uint32_t pid, groups;
};

/* linux/netlink.h, netfilter/nfnetlink.h, nf_tables.h and ipset/ip_set.h. */
struct netlink_ { /* struct nlmsghdr, then struct nfgenmsg */
    uint32_t bytes;
    uint16_t type, flags;
    uint32_t seq, pid;
    uint8_t family, version, res_id[2];
};

struct attr_ { /* struct nlattr */
    uint16_t bytes, type;
};

#define SET_FAMILIES /* by NFPROTO_* */ \
    { [1] = "inet", [2] = "ip", [5] = "netdev", [7] = "bridge", [10] = "ip6" }
enum {
    NETFILTER = 12 /* a protocol of AF_NETLINK */,
    NLM_REQUEST = 1,
    NLM_ACK = 4,
    NLM_CREATE = 0x400,
    NLM_DUMP = 0x300,
    NLM_ERROR = 2, /* the type of an acknowledgement, too */
    NLM_DONE = 3,
    NFNL_BATCH_BEGIN = 16,
    NFNL_BATCH_END = 17,
    NFNL_NFT = 10,
    ATTR_NESTED = 0x8000,
    ATTR_NET_ORDER = 0x4000,
    ATTR_TYPE = 0x3fff,
    NFT_GETSET = NFNL_NFT << 8 | 10,
    NFT_NEWSETELEM = NFNL_NFT << 8 | 12,
    NFT_DELSETELEM = NFNL_NFT << 8 | 14,
    NFTA_TABLE = 1, /* of a set and of its elements */
    NFTA_NAME = 2,  /* also of an ipset */
    NFTA_SET_FLAGS = 3,
    NFTA_SET_KEY_TYPE = 4,
    NFTA_ELEMENTS = 3,
    NFTA_LIST_ELEM = 1,
    NFTA_ELEM_KEY = 1,
    NFTA_ELEM_TIMEOUT = 4, /* ms */
    NFTA_DATA_VALUE = 1,
    NFT_CONSTANT = 2, /* flags of a set */
    NFT_INTERVAL = 4,
    NFT_MAP = 8 | 0x40,
    NFT_TIMEOUT = 0x10,
    NFT_IPV4_ADDR = 7, /* types of a key */
    NFT_IPV6_ADDR = 8,
    IPSET_LIST = 6 << 8 | 7,
    IPSET_ADD = 6 << 8 | 9,
    IPSET_DEL = 6 << 8 | 10,
    IPSET_PROTOCOL = 1, /* attributes */
    IPSET_TYPE = 3,
    IPSET_FAMILY = 5,
    IPSET_FLAGS = 6,
    IPSET_DATA = 7,
    IPSET_IP = 1,      /* attributes of IPSET_DATA */
    IPSET_TIMEOUT = 6, /* s */
    IPSET_BITMASK = 12,
    IPSET_NETMASK = 20,
    IPSET_IPV4 = 1, /* an attribute of IPSET_IP */
    IPSET_IPV6 = 2,
    IPSET_HEADER_ONLY = 4, /* of IPSET_FLAGS */
    IPSET_FULL = 4352      /* an error */
};

/* linux/rtnetlink.h: the groups that tell of links and addresses. */
#define RTNL_GROUPS (0x1 | 0x10 | 0x100)

/* The system calls of the sniffer's loop, besides setsockopt(). */
#ifdef SYS_poll
#define SECCOMP_POLL SYS_poll,
#else
#define SECCOMP_POLL
#endif
#ifdef SYS_ppoll_time64
#define SECCOMP_TIME64 SYS_ppoll_time64, SYS_clock_gettime64,
#else
#define SECCOMP_TIME64
#endif
#ifndef SYS_clock_gettime /* musl, where time_t has outgrown it */
#define SYS_clock_gettime SYS_clock_gettime32
#endif
#define SECCOMP_CALLS                                                  \
    SYS_read, SYS_write, SYS_ppoll,                                    \
        SECCOMP_POLL SECCOMP_TIME64 SYS_clock_gettime, SYS_getsockopt, \
        SYS_exit_group, SYS_restart_syscall

/* Where seccomp finds the low half of a system call's n-th argument. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define SECCOMP_ARG(n) (16 + 8 * (n) + 4)
#else
#define SECCOMP_ARG(n) (16 + 8 * (n))
#endif
#ifdef SYS_setresuid32 /* where SYS_setresuid has ids of 16 bits */
#define ID_CALL(name) SYS_##name##32
#else
#define ID_CALL(name) SYS_##name
#endif
#ifndef SYS_close_range
#define SYS_close_range 436 /* the same on every architecture */
#endif

#endif
