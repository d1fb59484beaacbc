/*
 * knockd with a sniffer that turns against it, as one would that a packet had
 * taken over; and with clocks of the wall that jump.  All of knockd.c is in it,
 * as it is: only read(), write(), mmap(), prctl() and the clocks are asked
 * through here.
 *
 * ROGUE names a file of 128 bytes, which stays mapped: 96 for a deed, 32 for
 * the seconds by which the clocks of the wall are wrong.  The sniffer, whose
 * environment is empty, finds the name in its parent's.  Once it is locked in
 * it does the deed whenever an order reaches it, as when its interface gets an
 * address (with "once " before the deed: only at the next order, and the first
 * byte becomes a blank when the deed is done):
 *
 *	call NAME                       makes a system call; _exit(0) after it
 *	try NAME                        the same; _exit() with the error number
 *	forge KIND DOOR STAGE ADDRESS MORE COUNT
 *	                                writes so many records, each longer by
 *	                                MORE bytes than it should be (-1000:
 *	                                empty)
 *	replay CLIENT ADDRESS COUNT     writes the last sealed knock that it had
 *	                                so many times, as another client's and
 *	                                from this address
 *	garbage SEED COUNT              writes records of random bytes
 *	poison                          every slot of the ring is full and lies;
 *	                                then it dies
 *	leave poison                    the same when it is told to end
 *	noseccomp (as its first word)   before the start: the kernel has none
 *
 * SPDX-License-Identifier: ISC
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef SYS_mmap2 /* of 32 bits; 32-bit ARM has no other */
#define SYS_MAP SYS_mmap2
#else
#define SYS_MAP SYS_mmap
#endif

static char nothing[1], *orders = nothing;
static int sniffing, locked;
static void *ring;

static ssize_t hook_read(int fd, void *buf, size_t n);
static ssize_t hook_write(int fd, const void *buf, size_t n);
static int hook_clock_gettime(clockid_t id, struct timespec *t);
static time_t hook_time(time_t *t);
static int no_seccomp(void);
static void *hook_mmap(void *at, size_t n, int how, int flags, int fd);

#include "../knock.c"
#undef FIELD

#define read(fd, buf, n) hook_read(fd, buf, n)
#define write(fd, buf, n) hook_write(fd, buf, n)
#define mmap(at, n, how, flags, fd, offset) hook_mmap(at, n, how, flags, fd)
#define clock_gettime(id, t) hook_clock_gettime(id, t)
#define time(t) hook_time(t)
#define prctl(option, ...)                      \
    ((option) == PR_SET_SECCOMP && no_seccomp() \
         ? (errno = EINVAL, -1)                 \
         : prctl(option, __VA_ARGS__))
#include "../knockd.c"
#undef read
#undef write
#undef mmap
#undef clock_gettime
#undef time
#undef prctl

/* ROGUE of the parent's environment; NULL if it has none. */
static const char *parents_rogue(void) {
    static char environment[65536];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)getppid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, environment, sizeof environment - 1);
    close(fd);
    for (char *p = environment; p < environment + n; p += strlen(p) + 1)
        if (!strncmp(p, "ROGUE=", 6)) return p + 6;
    return NULL;
}

__attribute__((constructor)) static void orders_map(void) {
    const char *path = getenv("ROGUE");
    sniffing = !*environ;
    if (sniffing) path = parents_rogue();
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int how = PROT_READ | PROT_WRITE;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, how, MAP_SHARED, fd, 0);

    if (p != MAP_FAILED) orders = p;
    if (fd >= 0) close(fd);
}

/* The last step of the sandbox. */
static int no_seccomp(void) {
    locked = 1;
    return !strncmp(orders, "noseccomp", 9);
}

static void *hook_mmap(void *at, size_t n, int how, int flags, int fd) {
    void *p = mmap(at, n, how, flags, fd, 0);

    if (fd == PACKETS_FD) ring = p;
    return p;
}

static void poison(void) {
    union slot *slot = ring;

    for (unsigned i = 0; i < FRAMES; i++) {
        slot[i].head.net = 0xffff;
        slot[i].head.len = slot[i].head.captured = 0xffffffff;
        slot[i].head.status = TP_USER;
    }
}

static long wrong_by(void) {
    return *orders ? strtol(orders + 96, NULL, 10) : 0;
}

static int hook_clock_gettime(clockid_t id, struct timespec *t) {
    int rc = clock_gettime(id, t);

    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += wrong_by();
    return rc;
}

static time_t hook_time(time_t *t) {
    struct timespec now;

    hook_clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

/* What no sniffer has any business with.  Addresses and paths are good ones,
 * so that only the sandbox can be in the way. */
static long forbidden(const char *name) {
    static char path[] = "/etc/passwd", up[] = "..", root[] = "/";
    static char *argv[] = { (char *)"/bin/true", NULL };
    int monitor = (int)syscall(SYS_getppid);

#ifdef SYS_open
    if (!strcmp(name, "open")) return syscall(SYS_open, path, O_RDONLY);
    if (!strcmp(name, "create"))
        return syscall(SYS_open, "/x", O_WRONLY | O_CREAT, 0600);
    if (!strcmp(name, "fork")) return syscall(SYS_fork);
#endif
    if (!strcmp(name, "openat"))
        return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
    if (!strcmp(name, "execve"))
        return syscall(SYS_execve, argv[0], argv, argv + 1);
    if (!strcmp(name, "socket"))
        return syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0);
    if (!strcmp(name, "ptrace"))
        return syscall(SYS_ptrace, 16, monitor, 0, 0);
    if (!strcmp(name, "clone"))
        return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!strcmp(name, "kill")) return syscall(SYS_kill, monitor, 0);
    if (!strcmp(name, "chdir")) return syscall(SYS_chdir, up);
    if (!strcmp(name, "chroot")) return syscall(SYS_chroot, root);
    if (!strcmp(name, "setuid")) return syscall(SYS_setuid, 0);
    if (!strcmp(name, "mmap"))
        return syscall(SYS_MAP, NULL, 4096, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(name, "setsockopt"))
        return syscall(SYS_setsockopt, 0, SOL_SOCKET, SO_BROADCAST, &monitor,
                       sizeof(monitor));
    if (!strcmp(name,
                "channel_filter")) { /* of the channel, not the socket */
        struct bpf_insn_ drop = { RET, 0, 0, 0 };
        struct bpf_prog_ prog = { 1, &drop };

        return syscall(SYS_setsockopt, CHANNEL_FD, SOL_SOCKET,
                       SO_ATTACH_FILTER, &prog, sizeof(prog));
    }
    if (!strcmp(name, "process_vm_readv"))
        return syscall(SYS_process_vm_readv, monitor, NULL, 0, NULL, 0, 0);
#ifdef __x86_64__
    if (!strcmp(name, "x32")) /* write() by its other number */
        return syscall(0x40000000 | SYS_write, -1, "", 0);
    if (!strcmp(name, "i386")) { /* 4 is write() there, stat() here */
        long result;

        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(4L), "b"(-1L), "c"(0L), "d"(0L)
                         : "memory");
        return result;
    }
#endif
    _exit(99);
}

static void forge(int channel, const char *deed) {
    static const char *const kinds[] = {
        [READY] = "READY",   [STAGE] = "STAGE",
        [OPEN] = "OPEN",     [TIMEOUT] = "TIMEOUT",
        [PACKET] = "PACKET", [SUPPRESSED] = "SUPPRESSED",
        [DROPS] = "DROPS",   [COUNTED] = "COUNTED",
        [SEALED] = "SEALED", [KINDS] = "none"
    };
    static struct {
        struct event e;
        char more[65536];
    } r;
    char kind[32], address[64];
    int more, count;

    if (sscanf(deed, "forge %31s %u %u %63s %d %d", kind, &r.e.door,
               &r.e.stage, address, &more, &count) != 6)
        _exit(98);
    r.e.kind = UINT32_MAX;
    for (unsigned i = 0; i <= KINDS; i++)
        if (!strcmp(kinds[i], kind)) r.e.kind = i;
    if (!addr_parse(address, &r.e.src)) _exit(97);
    int size = (int)sizeof(r.e) + more;
    while (count-- > 0)
        if (write(channel, &r.e, size < 0 ? 0 : (size_t)size) < 0) _exit(96);
}

static struct event last_sealed;

/* Keeps the last sealed knock that goes to the monitor. */
static ssize_t hook_write(int fd, const void *buf, size_t n) {
    const struct event *e = buf;

    if (sniffing && fd == CHANNEL_FD && n >= sizeof(*e) && e->kind == SEALED)
        last_sealed = *e;
    return write(fd, buf, n);
}

static void replay(int channel, const char *deed) {
    struct event e = last_sealed;
    char address[64];
    int count;

    if (sscanf(deed, "replay %u %63s %d", &e.door, address, &count) != 3)
        _exit(94);
    if (!addr_parse(address, &e.src)) _exit(93);
    while (count-- > 0)
        if (write(channel, &e, sizeof(e)) < 0) _exit(92);
}

static void garbage(int channel, const char *deed) {
    unsigned seed = 0, count = 0, bytes[64];

    sscanf(deed, "garbage %u %u", &seed, &count);
    for (srand(seed); count--;) {
        for (unsigned i = 0; i < 64; i++)
            bytes[i] = (unsigned)rand() * 2654435761u;
        /* Half of them have the right size. */
        if (write(channel, bytes,
                  rand() % 2 ? sizeof(struct event)
                             : (size_t)rand() % sizeof(bytes) + 1) < 0)
            _exit(95);
    }
}

static ssize_t hook_read(int fd, void *buf, size_t n) {
    ssize_t got = read(fd, buf, n);
    char deed[96], name[32];
    long result;

    if (!sniffing || !locked) return got;
    if (got <= 0 && !strncmp(orders, "leave poison", 12)) poison();
    if (got <= 0) return got;
    memcpy(deed, orders, *orders ? sizeof(deed) - 1 : 1);
    deed[sizeof(deed) - 1] = '\0';
    bool once = !strncmp(deed, "once ", 5);
    if (once) memmove(deed, deed + 5, sizeof(deed) - 5);
    if (sscanf(deed, "call %31s", name) == 1) {
        forbidden(name);
        _exit(0);
    }
    if (sscanf(deed, "try %31s", name) == 1) {
        result = forbidden(name);
        _exit(result < 0 ? errno : 0);
    }
    if (!strncmp(deed, "noseccomp try ", 14)) {
        result = forbidden(strtok(deed + 14, " "));
        _exit(result < 0 ? errno : 0);
    }
    if (!strncmp(deed, "forge", 5)) forge(fd, deed);
    if (!strncmp(deed, "replay", 6)) replay(fd, deed);
    if (!strncmp(deed, "garbage", 7)) garbage(fd, deed);
    if (!strncmp(deed, "poison", 6)) {
        poison();
        __builtin_trap();
    }
    if (once) *orders = ' ';
    return got;
}
