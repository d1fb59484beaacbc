/*
 * What unit.c and fuzz.c share: all of knockd.c, its main renamed, with system
 * calls that a test can watch, answer by itself or let fail; a sniffer without
 * a socket; a packet builder; an interpreter of classic BPF.
 *
 * Nothing here needs root, another process or the network.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../config.h"

#pragma GCC diagnostic ignored "-Wunused-function"

/* ---- System calls ------------------------------------------------------ */

enum {
    CHANNEL = 1000000, /* a descriptor: where the sniffer writes events */
    KEPT_MAX = 1 << 16 /* bytes of the text that is kept */
};

static int64_t clock_ms = 1000000; /* what the clock says */

/* What is printed, on stdout and stderr and in the log, is kept here. */
static char kept[KEPT_MAX];
static size_t kept_length;

/* Calls that can be told to fail, by name: the n-th one from now on (1 is the
 * next), with this errno; n is 0 for those that work. */
/* clang-format off */
#define FAULTS(X) \
    X(write) X(open) X(socketpair) X(fork) X(realloc) X(fsync) X(pwrite) \
    X(rename) X(prctl) X(chroot) X(setgroups) X(setresgid) X(setresuid) \
    X(setrlimit) X(capset) X(attach) X(mkdir) X(getrandom) X(mmap) \
    X(getifaddrs) X(spawn) X(pipe2) X(socket) X(bind) X(flock) X(poll) X(send) \
    X(read) X(chdir) X(setsockopt) X(recv)
/* clang-format on */
#define FAULT(name) FAULT_##name,
enum { FAULTS(FAULT) NFAULTS };
static struct {
    int n, error;
    bool always; /* also all later ones */
} faults[NFAULTS];

static bool fails(int call) {
    if (!faults[call].n || (faults[call].n > 1 && faults[call].n--))
        return false;
    if (!faults[call].always) faults[call].n = 0;
    errno = faults[call].error;
    return true;
}

static void fail(int call, int n, int error) {
    faults[call].n = n;
    faults[call].error = error;
    faults[call].always = false;
}

static void keep(const void *text, size_t n) {
    if (n > KEPT_MAX - 1 - kept_length) n = KEPT_MAX - 1 - kept_length;
    memcpy(kept + kept_length, text, n);
    kept_length += n;
    kept[kept_length] = '\0';
}

static void forget(void) {
    kept_length = 0;
    kept[0] = '\0';
}

/* Where the end of the process leads to, if anywhere, and its status. */
static jmp_buf end;
static bool end_caught;
static int end_status;
static bool t_child; /* a real child, that really ends */

/* The end of a child; what it ran counts as well. */
__attribute__((noreturn)) static void t_leave(int status) {
#ifdef COVERAGE
    extern void __gcov_dump(void);

    __gcov_dump();
#endif
    _exit(status);
}

__attribute__((noreturn)) static void t_exit(int status) {
    if (t_child) t_leave(status);
    if (!end_caught) {
        fprintf(stderr, "unexpected end: %d\n%s\n", status, kept);
        abort();
    }
    end_status = status;
    end_caught = false;
    longjmp(end, 1);
}

/* What a process that ends has not freed is no leak. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#include <sanitizer/lsan_interface.h>
#else
static void __lsan_disable(void) {}
static void __lsan_enable(void) {}
#endif

/* Runs something that ends the process; true if it did. */
#define ENDS(what)                        \
    (__lsan_disable(), end_caught = true, \
     setjmp(end)                          \
         ? (__lsan_enable(), true)        \
         : ((void)(what), __lsan_enable(), end_caught = false, false))

/* If set, the only file that there is. */
static const char *t_only_path;

static bool t_no_such_file(const char *path) {
    if (!t_only_path || !strcmp(path, t_only_path)) return false;
    errno = ENOENT;
    return true;
}

static void take_event(const void *event, size_t n);

static ssize_t t_write(int fd, const void *data, size_t n) {
    if (fd == CHANNEL && fails(FAULT_write)) return -1;
    if (fd == CHANNEL) take_event(data, n);
    else if (fd == STDOUT_FILENO || fd == STDERR_FILENO) keep(data, n);
    else return fails(FAULT_write) ? -1 : write(fd, data, n);
    return (ssize_t)n;
}

__attribute__((format(printf, 2, 0))) static int t_vdprintf(int fd,
                                                            const char *fmt,
                                                            va_list ap) {
    char text[8192];
    int n = vsnprintf(text, sizeof(text), fmt, ap);

    if ((size_t)n >= sizeof(text)) n = sizeof(text) - 1;
    return (int)t_write(fd, text, (size_t)n);
}

__attribute__((format(printf, 2, 3))) static int t_dprintf(int fd,
                                                           const char *fmt,
                                                           ...) {
    va_list ap;

    va_start(ap, fmt);
    int n = t_vdprintf(fd, fmt, ap);
    va_end(ap);
    return n;
}

/* The filter that the sniffer attached last. */
static struct {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
} filter[8192];
static unsigned filter_length, filters;

static int t_setsockopt(int fd, int level, int name, const void *value,
                        socklen_t n) {
    struct {
        unsigned short length;
        void *code;
    } prog;

    (void)fd;
    if (level != SOL_SOCKET || name != SO_ATTACH_FILTER)
        return fails(FAULT_setsockopt) ? -1 : 0;
    if (fails(FAULT_attach)) return -1;
    if (n != sizeof(prog)) abort();
    memcpy(&prog, value, n);
    filter_length = prog.length;
    if (filter_length > sizeof(filter) / sizeof(*filter)) abort();
    memcpy(filter, prog.code, filter_length * sizeof(*filter));
    filters++;
    return 0;
}

/* The seccomp filter goes to the same place; other modes have none. */
static int t_prctl(int option, unsigned long mode, const void *value) {
    if (option != PR_SET_SECCOMP) return 0;
    if (mode != 2) {
        errno = EINVAL;
        return -1;
    }
    return t_setsockopt(-1, SOL_SOCKET, SO_ATTACH_FILTER, value,
                        sizeof(struct {
                            short n;
                            void *c;
                        }));
}

/* A path that somebody cares about, or not. */
static int t_note(const char *path) { return path ? 0 : -1; }

/* How far the wall clock is ahead of the others, and how long the host slept,
 * ms. */
static int64_t t_wall, t_slept;

static int t_clock_gettime(clockid_t clock, struct timespec *t) {
    int64_t ms = clock_ms;

    if (clock == CLOCK_REALTIME) ms += t_wall;
    if (clock == CLOCK_MONOTONIC) ms -= t_slept;
    t->tv_sec = (time_t)(ms / 1000);
    t->tv_nsec = (long)(ms % 1000) * 1000000;
    return 0;
}

/* A command that was to be started; the test decides when it ends. */
static pid_t spawn_note(const char *path, char *const *argv,
                        char *const *env);

static int t_spawn(pid_t *pid, const char *path, char *const *argv,
                   char *const *env) {
    if (fails(FAULT_spawn)) return errno;
    *pid = spawn_note(path, argv, env);
    return 0;
}

static void kill_note(pid_t pid, int number);

static int t_kill(pid_t pid, int number) {
    kill_note(pid, number);
    return 0;
}

/* Capabilities are kept in a variable; no range of descriptors is closed. */
static uint32_t t_capabilities[6] = { 1, 1, 1, 1, 1, 1 };
static unsigned t_drops; /* packets that the kernel had no room for */

static uintptr_t t_range_from; /* of descriptors to be closed */

static long t_syscall(long number, void *a, void *b, void *c, void *value,
                      void *n) {
    if (number == SYS_close_range) t_range_from = (uintptr_t)a;
    if (number == SYS_setsockopt)
        return t_setsockopt(-1, (int)(intptr_t)b, (int)(intptr_t)c, value,
                            (socklen_t)(uintptr_t)n);
    if (number == ID_CALL(setuid)) return -1;
    if (number == ID_CALL(setgroups) && fails(FAULT_setgroups)) return -1;
    if (number == ID_CALL(setresgid) && fails(FAULT_setresgid)) return -1;
    if (number == ID_CALL(setresuid) && fails(FAULT_setresuid)) return -1;
    if (number == SYS_capset && fails(FAULT_capset)) return -1;
    if ((number == SYS_capset || number == SYS_capget) && ((uint32_t *)a)[1])
        return -1; /* another process' */
    if (number == SYS_capset)
        memcpy(t_capabilities, b, sizeof(t_capabilities));
    else if (number == SYS_capget)
        memcpy(b, t_capabilities, sizeof(t_capabilities));
    else if (number == SYS_getsockopt) {
        ((unsigned *)value)[1] = t_drops;
        t_drops = 0;
    }
    return 0;
}

/* ---- The client ------------------------------------------------------------ */

/* What the client does to sockets: a port that it reaches, with the time since
 * the test began; what it hears of that is said by t_answer. Its sleep is the
 * clock's. */
static struct reached {
    int type;
    unsigned port;
    int64_t at; /* ms */
} t_reached[64];
static unsigned t_nreached, t_sent, t_nsent;
static uint8_t t_datagram[256]; /* the last one: t_sent bytes */
static int (*t_answer)(const struct reached *r); /* an errno; NULL: none */
static int t_outcome;                            /* of a connection, later */

static int t_client_socket(int type) {
    struct reached *r = &t_reached[t_nreached++ % 64];

    *r = (struct reached){ .type = type & ~SOCK_NONBLOCK, .at = clock_ms };
    return dup(STDERR_FILENO);
}

static int t_connect(const struct sockaddr *to) {
    struct reached *r = &t_reached[(t_nreached - 1) % 64];

    r->port = ntohs(((const struct sockaddr_in *)(const void *)to)->sin_port);
    errno = t_answer ? t_answer(r) : r->type == SOCK_STREAM ? EINPROGRESS : 0;
    return errno ? -1 : 0;
}

static ssize_t t_send_datagram(const void *data, size_t n) {
    t_nsent++;
    t_sent = (unsigned)n;
    memcpy(t_datagram, data, n);
    return (ssize_t)n;
}

/* Without a descriptor it sleeps; a connection is made if t_outcome says when:
 * after so many ms, counted from the test's begin. */
static int64_t t_door_opens = INT64_MAX;

static int t_client_poll(struct pollfd *fds, nfds_t n, int timeout) {
    if (!fds && n) {
        errno = EFAULT;
        return -1;
    }
    if (fds && n > 1) return poll(fds, n, timeout);
    if (fds && clock_ms + timeout >= t_door_opens) {
        if (clock_ms < t_door_opens) clock_ms = t_door_opens;
        return 1;
    }
    clock_ms += timeout;
    return 0;
}

static const char *t_home; /* where profiles are, or NULL */

/* The client, for its own tests and, of what sealed knocks are made of, for
 * knockd. */
#define knock_main client_main
#define dprintf(...) t_dprintf(__VA_ARGS__)
#define vdprintf(...) t_vdprintf(__VA_ARGS__)
#define exit(status) t_exit(status)
#define clock_gettime(c, t) t_clock_gettime(c, t)
#define socket(d, t, p) ((void)(d), (void)(p), t_client_socket(t))
#define connect(fd, to, n) ((void)(fd), (void)(n), t_connect(to))
#define send(fd, p, n, f) ((void)(fd), (void)(f), t_send_datagram(p, n))
#define getsockopt(fd, l, o, v, n) (*(v) = t_outcome, (void)(n))
#define poll(fds, n, timeout) t_client_poll(fds, n, timeout)
#define getenv(name) (strcmp(name, "HOME") ? NULL : t_home)
#define signal(number, how) ((void)0)
#include "../knock.c"
#undef knock_main
#undef dprintf
#undef vdprintf
#undef exit
#undef clock_gettime
#undef socket
#undef connect
#undef send
#undef getsockopt
#undef poll
#undef getenv
#undef signal
#undef G

/* ---- More system calls ----------------------------------------------------- */

static bool t_guard; /* as much again behind new memory may not be touched */

static void *t_mmap(size_t n, int protection, int flags, int fd) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (n + page - 1) / page * page;
    char *p;

    if (fails(FAULT_mmap)) return MAP_FAILED;
    if (!t_guard || fd >= 0) return mmap(NULL, n, protection, flags, fd, 0);
    p = mmap(NULL, 2 * whole, protection, flags, fd, 0);
    if (p == MAP_FAILED || mprotect(p + whole, whole, PROT_NONE)) abort();
    return p;
}

static struct ifaddrs *t_interfaces; /* what there is */
static const char *t_index_names[8]; /* the name of index i + 1 */

static int t_index_error = ENODEV; /* of any other name */

static unsigned t_if_nametoindex(const char *name) {
    for (unsigned i = 0; i < 8; i++)
        if (t_index_names[i] && !strcmp(t_index_names[i], name)) return i + 1;
    errno = t_index_error;
    return 0;
}

/* Whether fork(), poll() and waitpid() are the real ones, which they are not
 * mostly; how many children there were. */
static bool t_really;

/* What poll() is to report, how often it was called and with which timeout. */
static int poll_result, poll_timeout;
static unsigned polls;
static void (*poll_hook)(struct pollfd *fds, nfds_t n);

/* When the monitor's timer fires; 0: never. */
static int64_t t_alarm;

static int t_timer(const struct itimerspec *t) {
    t_alarm =
        (int64_t)t->it_value.tv_sec * 1000 + t->it_value.tv_nsec / 1000000;
    return 0;
}

static int t_poll(struct pollfd *fds, nfds_t n, int timeout) {
    for (nfds_t i = 0; i < n; i++) fds[i].revents = 0;
    if (t_really) return fails(FAULT_poll) ? 0 : poll(fds, n, timeout);
    polls++;
    poll_timeout = timeout;
    if (timeout < 0 && t_alarm)
        poll_timeout = t_alarm > clock_ms ? (int)(t_alarm - clock_ms) : 0;
    if (poll_hook) poll_hook(fds, n);
    if (fails(FAULT_poll)) return -1;
    return n ? poll_result : 0;
}

static bool t_closes = true; /* whether close() really closes */
static bool t_terminal;      /* whether stdout and stderr are one */
static pid_t t_forks[4];     /* what fork() is to return; then always 4242 */
static unsigned t_nforks;

static pid_t t_fork(void) {
    if (!t_really) return t_nforks ? t_forks[--t_nforks] : 4242;
    t_child = fork() == 0;
    return t_child ? 0 : 4242;
}

static pid_t t_setsid(void) { return 1; }

/* A packet socket is a file as large as its ring; other sockets are real. */
static int t_ring = -1;

static int t_socket(int domain, int type, int protocol) {
    return domain == AF_PACKET ? dup(t_ring) : socket(domain, type, protocol);
}

/* Where /dev/log is. */
static char t_syslog[sizeof(((struct sockaddr_un *)0)->sun_path)];

static ssize_t t_sendto(int fd, const void *data, size_t n, int flags,
                        const void *address, socklen_t length) {
    struct sockaddr_un un;

    memcpy(&un, address, length);
    if (length == sizeof(un) && !strcmp(un.sun_path, "/dev/log"))
        memcpy(un.sun_path, t_syslog, sizeof(un.sun_path));
    return sendto(fd, data, n, flags, (const struct sockaddr *)&un, length);
}

/* What answers in the kernel's place, if anything does. */
static void (*send_hook)(const void *data, size_t n);

static ssize_t t_send(int fd, const void *data, size_t n, int flags) {
    if (!send_hook) return send(fd, data, n, flags);
    if (flags & MSG_OOB) { /* as netlink says */
        errno = EOPNOTSUPP;
        return -1;
    }
    send_hook(data, n);
    return (ssize_t)n;
}

/* The only name there is; for 198.51.100.9 no answer comes. */
static int t_getnameinfo(const struct sockaddr *address, char *name) {
    const struct sockaddr_in *in =
        (const struct sockaddr_in *)(const void *)address;

    if (in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) == 0xc6336409)
        pause();
    if (in->sin_family != AF_INET || ntohl(in->sin_addr.s_addr) != 0xc0000201)
        return EAI_NONAME;
    strcpy(name, "client\n.example");
    return 0;
}

/* Children that have ended, for waitpid(). */
static struct {
    pid_t pid;
    int status;
} t_ended[16];
static unsigned t_nended;

static pid_t t_waitpid(pid_t pid, int *status) {
    pid_t got = pid;

    if (t_really) return waitpid(-1, status, 0);
    if (pid > 0) return pid;
    if (!t_nended) return -1;
    got = t_ended[--t_nended].pid;
    *status = t_ended[t_nended].status;
    return got;
}

/* The calls that can fail: functions, so that what they decide is no branch of
 * the line in knockd.c that calls them. */
#define FAULTY(type, call, fault, parameters, arguments)            \
    static type t_##call parameters {                               \
        return fails(FAULT_##fault) ? (type)-1 : (type)(arguments); \
    }
FAULTY(int, fsync, fsync, (int fd), fsync(fd))
FAULTY(ssize_t, pwrite, pwrite, (int fd, const void *p, size_t n, off_t at),
       pwrite(fd, p, n, at))
FAULTY(ssize_t, read, read, (int fd, void *p, size_t n), read(fd, p, n))
FAULTY(ssize_t, recv, recv, (int fd, void *p, size_t n, int how),
       recv(fd, p, n, how))
FAULTY(int, renameat, rename, (int d, const char *a, int e, const char *b),
       renameat(d, a, e, b))
FAULTY(int, socketpair, socketpair, (int d, int t, int p, int *ends),
       socketpair(d, t, p, ends))
FAULTY(int, pipe2, pipe2, (int *ends, int how), pipe2(ends, how))
FAULTY(int, flock, flock, (int fd, int how), flock(fd, how))
FAULTY(int, any_socket, socket, (int d, int t, int p), t_socket(d, t, p))
FAULTY(int, bind, bind, (void), 0)
FAULTY(ssize_t, any_send, send, (int fd, const void *p, size_t n, int how),
       t_send(fd, p, n, how))
FAULTY(int, any_prctl, prctl,
       (int option, unsigned long mode, const void *value),
       t_prctl(option, mode, value))
FAULTY(int, chroot, chroot, (const char *path), t_note(path))
FAULTY(int, chdir, chdir, (const char *path), t_note(path))
FAULTY(int, mkdir, mkdir, (void), 0)
FAULTY(int, setrlimit, setrlimit, (const void *limit), t_note(limit))
FAULTY(ssize_t, getrandom, getrandom, (void *p, size_t n), getrandom(p, n, 0))
FAULTY(int, any_fork, fork, (void), t_fork())
FAULTY(int, getifaddrs, getifaddrs, (struct ifaddrs * *list),
       (*list = t_interfaces, 0))

static void *t_realloc(void *p, size_t n) {
    return fails(FAULT_realloc) ? NULL : realloc(p, n);
}

static unsigned t_writers; /* files that were opened for writing */

static int t_openat(int dir, const char *path, int how, ...) {
    va_list ap;
    mode_t mode;

    va_start(ap, how);
    mode = how & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    if (t_no_such_file(path) || fails(FAULT_open)) return -1;
    t_writers += (how & O_ACCMODE) != O_RDONLY;
    return openat(dir, path, how, mode);
}

/* Descriptors that would have been closed, and from where on all others. */
static bool t_closed[3000];

static int t_close(int fd) {
    if (t_closes) return close(fd);
    if (fd >= 0 && fd < (int)sizeof(t_closed)) t_closed[fd] = true;
    return 0;
}

/* Commands get PATH, if there is none, and what is named after us. */
static int t_putenv(char *text) {
    if (strncmp(text, "PATH=", 5) && strncmp(text, "KNOCKD_", 7)) abort();
    return putenv(text);
}

static int t_isatty(int fd) { return t_terminal && fd >= 0; }

#define write(fd, data, n) t_write(fd, data, n)
#define read(fd, data, n) t_read(fd, data, n)
#define recv(fd, data, n, how) t_recv(fd, data, n, how)
#define dprintf(...) t_dprintf(__VA_ARGS__)
#define exit(status) t_exit(status)
#define _exit(status) t_exit(status)
#define setsockopt(fd, l, o, v, n) t_setsockopt(fd, l, o, v, n)
#define clock_gettime(c, t) t_clock_gettime(c, t)
#define posix_spawn(p, f, x, y, a, e) \
    ((void)(x), (void)(y), t_spawn(p, f, a, e))
#define posix_spawnp(p, f, x, y, a, e) posix_spawn(p, f, x, y, a, e)
#define kill(pid, number) t_kill(pid, number)
#define fork() t_any_fork()
#define waitpid(pid, status, flags) t_waitpid(pid, status)
#define realloc(p, n) t_realloc(p, n)
#define fsync(fd) t_fsync(fd)
#define pwrite(fd, p, n, at) t_pwrite(fd, p, n, at)
#define renameat(d, a, e, b) t_renameat(d, a, e, b)
#define openat(...) t_openat(__VA_ARGS__)
#define socketpair(d, t, p, v) t_socketpair(d, t, p, v)
#define pipe2(v, f) t_pipe2(v, f)
#define flock(fd, how) t_flock(fd, how)
#define socket(d, t, p) t_any_socket(d, t, p)
#define sendto(fd, p, n, f, a, l) t_sendto(fd, p, n, f, a, l)
#define getnameinfo(a, n, name, size, s, m, f) \
    ((void)(n), t_getnameinfo(a, name))
#define setsid() t_setsid()
#define bind(fd, a, n) ((void)(fd), (void)(a), t_bind())
#define send(fd, p, n, f) t_any_send(fd, p, n, f)
#define prctl(...) t_any_prctl(T_PRCTL(__VA_ARGS__, 0, 0))
#define T_PRCTL(a, b, c, ...) \
    a, (unsigned long)(uintptr_t)(b), (const void *)(uintptr_t)(c)
#define chroot(path) t_chroot(path)
#define chdir(path) t_chdir(path)
#define mkdir(path, mode) ((void)(path), t_mkdir())
#define rmdir(path) t_note(path)
#define prlimit(pid, what, limit, old) t_setrlimit(limit)
#define syscall(...) t_syscall(T_ARGS(__VA_ARGS__, 0, 0, 0, 0))
#define T_ARGS(number, a, b, c, d, e, ...) \
    number, T_PTR(a), T_PTR(b), T_PTR(c), T_PTR(d), T_PTR(e)
#define T_PTR(value) (void *)(uintptr_t)(value)
#define mmap(a, n, p, f, fd, at) t_mmap(n, p, f, fd)
#define getrandom(p, n, f) t_getrandom(p, n)
#define getifaddrs(list) t_getifaddrs(list)
#define if_nametoindex(name) t_if_nametoindex(name)
#define if_indextoname(index, name) (void)(index)
#define freeifaddrs(list) ((void)(list))
#define poll(fds, n, timeout) t_poll(fds, n, timeout)
#define timerfd_settime(fd, f, t, old) t_timer(t)
#define close(fd) t_close(fd)
#define isatty(fd) t_isatty(fd)
#define putenv(text) t_putenv(text)
/* It goes over all ports for each filter: not also step by step. */
#if defined(__clang__)
#define PLAIN __attribute__((no_sanitize("coverage", "address", "undefined")))
#else
#define PLAIN __attribute__((no_sanitize("address", "undefined")))
#endif
struct sniffer;
static void find_edges(struct sniffer *s) PLAIN;
#ifndef KNOCKD_C /* another one to test */
#define KNOCKD_C "../knockd.c"
#endif
int knock_main(int argc, char **argv) {
    return argc || argv; /* the client has tests of its own */
}

#define main knockd_main
#include KNOCKD_C
#undef main
#undef write
#undef read
#undef recv
#undef isatty
#undef putenv
#undef dprintf
#undef exit
#undef _exit
#undef realloc
#undef kill
#undef close
#undef socketpair
#undef pipe2
#undef flock
#undef socket
#undef bind
#undef send
#undef chdir
#undef rmdir
#undef mkdir
#undef fsync
#undef pwrite
#undef renameat
#undef openat
#undef mmap
#undef getrandom
#undef poll
#undef timerfd_settime
#undef fork
#undef setsockopt
#undef syscall
#undef prctl
#undef sendto
#undef getnameinfo
#undef setsid
#undef chroot
#undef prlimit
#undef waitpid
#undef getifaddrs
#undef freeifaddrs
#undef if_nametoindex
#undef if_indextoname
#undef clock_gettime
#undef posix_spawn
#undef posix_spawnp

/* ---- Random numbers ------------------------------------------------------ */

static uint64_t random_state = 0x9e3779b97f4a7c15;

/* splitmix64: the same numbers for the same start, everywhere. */
static uint64_t rnd64(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* A number below n. */
static unsigned rnd(unsigned n) {
    return n ? (unsigned)((rnd64() >> 32) * n >> 32) : 0;
}

/* True in one of n cases. */
static bool one_in(unsigned n) { return rnd(n) == 0; }

/* A knock on a port, as knockd has it. */
static uint32_t knock_on(unsigned port, bool udp) {
    return (port & 0xffff) | (udp ? TO_UDP : 0);
}

/* ---- A sniffer without a socket -------------------------------------------- */

static struct event events[4096]; /* emptied by whoever reads them */

static unsigned events_kept, lost_events;
static struct sniffer the_sniffer;

static void take_event(const void *record, size_t n) {
    const struct event *e = record;

    if (n % sizeof(*e)) abort();
    for (n /= sizeof(*e); n; n--, e++)
        if (events_kept == sizeof(events) / sizeof(*events)) lost_events++;
        else events[events_kept++] = *e;
}

/* How many there are, now that the sniffer has sent them. */
static unsigned *events_sent(void) {
    events_send(&the_sniffer);
    return &events_kept;
}
#define heard (*events_sent())

enum { MANY = 10000 }; /* doors, at most */

/* Gives the sniffer the doors of a configuration, as the monitor does. */
static void watch(struct sniffer *s, const struct conf *c) {
    static struct watches *w;
    uint32_t bytes;

    free(w);
    w = watches_make(c, &bytes);
    if (bytes != sizeof(*w) + w->ndoors * sizeof(struct watch) +
                     w->nnets * sizeof(struct net))
        abort();
    s->doors = w->door;
    s->ndoors = w->ndoors;
    s->nets = (struct net *)&w->door[w->ndoors];
    index_doors(s);
}

/*
 * The one sniffer of the tests, anew, for these doors: as sniffer_init() makes
 * it. Its tables are made once; only what was used is cleaned.
 */
static struct sniffer *sniffer_new(const struct conf *c) {
    static struct attempt *attempts;
    static struct attempt stages[SEQUENCE_MAX + 1];
    static uint64_t(*marks)[MARKS_IN_SET];
    static struct attempt **buckets;
    static struct port ports[KNOCKS];
    static struct locals locals;
    struct sniffer *s = &the_sniffer;
    uint32_t used = s->used;

    if (!attempts) {
        attempts = calloc(ATTEMPTS_MAX + 1 + MANY, sizeof(*attempts));
        buckets = calloc(ATTEMPTS_MAX, sizeof(*buckets));
    }
    if (!attempts || !buckets) abort();
    if (marks) munmap(marks, 2 * MARK_SETS * sizeof(*marks));
    marks = mmap(NULL, 2 * MARK_SETS * sizeof(*marks), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (marks == MAP_FAILED) abort();
    for (uint32_t i = 0; i < used; i++)
        *bucket(s, hash(s, &attempts[i].src)) = NULL;
    memset(attempts, 0, (size_t)used * sizeof(*attempts));
    memset(ports, 0, sizeof(ports));
    *s = (struct sniffer){ .channel = CHANNEL,
                           .packets = -1,
                           .attempts = attempts,
                           .stages = stages,
                           .marks = marks,
                           .buckets = buckets,
                           .ports = ports,
                           .locals = &locals,
                           .look = INT64_MAX,
                           .now = clock_ms };
    for (uint32_t i = 0; i <= SEQUENCE_MAX; i++)
        stages[i].older = stages[i].newer = &stages[i];
    for (int i = 0; i < 7; i++) s->key[i] = rnd64();
    locals.any = true;
    locals.ninterfaces = locals.naddrs = 0;
    events_kept = lost_events = 0;
    watch(s, c);
    return s;
}

/* Ends what has timed out now, however long ago the last look was; all else
 * that such a look does comes in its time. */
static void expire_now(struct sniffer *s) {
    expire(s);
    for (uint32_t i = 0; i < s->used; i++)
        if (s->attempts[i].stage && s->attempts[i].deadline <= s->now)
            time_out(s, &s->attempts[i]);
}

/* No limit of lines a second. */
static void unlimited(struct sniffer *s) {
    memset(s->told, 0, sizeof(s->told));
    s->second++; /* the doors' are of another second */
}

/* ---- Packets -------------------------------------------------------------- */

/* What a packet is made from; what is not given is as it should be. */
struct spec {
    bool v6;
    struct addr src, dst;
    uint8_t proto, flags;
    unsigned sport, dport, payload;
    uint32_t seq;
    uint8_t ext[12];      /* IPv6: kinds of extension headers, in order */
    unsigned next;        /* how many */
    unsigned options;     /* IPv4: 4-byte words */
    unsigned tcp_options; /* 4-byte words */
    unsigned fragment;    /* of IPv4: the field with the flags */
};

static void put16(uint8_t *b, unsigned v) {
    b[0] = (uint8_t)(v >> 8);
    b[1] = (uint8_t)v;
}

static size_t build_transport(uint8_t *b, const struct spec *s) {
    size_t n = s->proto == 17 ? 8 : 20 + 4 * (size_t)s->tcp_options;

    memset(b, 0, n + s->payload);
    put16(b, s->sport);
    put16(b + 2, s->dport);
    if (s->proto == 17) {
        put16(b + 4, (unsigned)n + s->payload);
        put16(b + 6, s->seq & 0xffff); /* checksum */
    } else {
        put16(b + 4, s->seq >> 16);
        put16(b + 6, s->seq & 0xffff);
        b[12] = (uint8_t)(n / 4 << 4);
        b[13] = s->flags;
    }
    return n + s->payload;
}

/* Writes an IP packet; returns its length. */
static size_t build(uint8_t *b, const struct spec *s) {
    size_t at, n;

    if (!s->v6) {
        at = 20 + 4 * (size_t)s->options;
        memset(b, 0, at);
        n = build_transport(b + at, s);
        b[0] = (uint8_t)(0x40 | at / 4);
        put16(b + 2, (unsigned)(at + n));
        put16(b + 4, s->seq >> 7); /* identification */
        put16(b + 6, s->fragment);
        b[8] = 64;
        b[9] = s->proto;
        memcpy(b + 12, s->src.b + 12, 4);
        memcpy(b + 16, s->dst.b + 12, 4);
        return at + n;
    }
    memset(b, 0, 40);
    b[0] = 0x60;
    b[6] = s->next ? s->ext[0] : s->proto;
    b[7] = 64;
    memcpy(b + 8, &s->src, 16);
    memcpy(b + 24, &s->dst, 16);
    at = 40;
    for (unsigned i = 0; i < s->next; i++) {
        n = s->ext[i] == 51 ? 12 : 8; /* authentication: 4-byte words */
        memset(b + at, 0, n);
        b[at] = i + 1 < s->next ? s->ext[i + 1] : s->proto;
        b[at + 1] = s->ext[i] == 51 ? 1 : 0;
        at += n;
    }
    n = build_transport(b + at, s);
    put16(b + 4, (unsigned)(at - 40 + n));
    return at + n;
}

/* An address from text. */
static struct addr addr_of(const char *text) {
    struct addr a;

    if (!addr_parse(text, &a)) abort();
    return a;
}

/* ---- Classic BPF ------------------------------------------------------------- */

/* What the kernel knows of a packet besides its bytes (bpf(4), linux/filter.h:
 * negative offsets). */
struct meta {
    uint32_t protocol, pkttype, ifindex, hatype, vlan_tag, vlan_present;
};

/* What the kernel would say against the attached filter, or NULL: every
 * instruction one of those below, every jump inside, a return at the end. */
static const char *bpf_fault(void) {
    if (filter_length < 1 || filter_length > 4096) return "length";
    for (unsigned i = 0; i < filter_length; i++) {
        uint64_t after = filter_length - i - 1;

        switch (filter[i].code) {
        case 0x05:
            if (filter[i].k >= after) return "a jump out of range";
            break;
        case 0x15:
        case 0x35:
        case 0x45:
            if (filter[i].jt >= after || filter[i].jf >= after)
                return "a branch out of range";
            break;
        case 0x20:
        case 0x28:
        case 0x30:
        case 0x48:
        case 0x50:
        case 0x01:
        case 0xb1:
        case 0x44:
        case 0x54:
        case 0x06: break;
        default: return "an instruction";
        }
    }
    return filter[filter_length - 1].code == 0x06 ? NULL : "no end";
}

/* A value of size bytes at an offset; false if it is not there. */
static bool bpf_load(const uint8_t *b, size_t n, const struct meta *m,
                     uint32_t at, unsigned size, uint32_t *value) {
    const uint32_t ad[] = { m->protocol, m->pkttype,  m->ifindex,     0, 0,
                            0,           0,           m->hatype,      0, 0,
                            0,           m->vlan_tag, m->vlan_present };
    uint32_t k = at - 0xfffff000u;

    if (at >= 0xfffff000u) {
        *value = k / 4 < sizeof(ad) / sizeof(*ad) ? ad[k / 4] : 0;
        return size == 4 && k % 4 == 0;
    }
    if (at > n || size > n - at) return false;
    for (*value = 0; size; size--) *value = *value << 8 | b[at++];
    return true;
}

/* Runs the attached filter on a packet; how many instructions is left in
 * *steps. Returns how many bytes it takes: 0 is no. */
static uint32_t bpf_run(const uint8_t *b, size_t n, const struct meta *m,
                        unsigned *steps) {
    uint32_t a = 0, x = 0;
    unsigned pc = 0;

    for (*steps = 1;; ++*steps, pc++) {
        uint32_t k = filter[pc].k;
        bool yes = false, there = true;

        switch (filter[pc].code) {
        case 0x06: return k;
        case 0x20: there = bpf_load(b, n, m, k, 4, &a); break;
        case 0x28: there = bpf_load(b, n, m, k, 2, &a); break;
        case 0x30: there = bpf_load(b, n, m, k, 1, &a); break;
        case 0x48: there = bpf_load(b, n, m, x + k, 2, &a); break;
        case 0x50: there = bpf_load(b, n, m, x + k, 1, &a); break;
        case 0x01: x = k; break;
        case 0xb1:
            there = bpf_load(b, n, m, k, 1, &x);
            x = (x & 15) * 4;
            break;
        case 0x44: a |= k; break;
        case 0x54: a &= k; break;
        case 0x05: pc += k; continue;
        case 0x15: yes = a == k; break;
        case 0x35: yes = a >= k; break;
        case 0x45: yes = a & k; break;
        }
        if (!there) return 0;
        if ((filter[pc].code & 7) == 5)
            pc += yes ? filter[pc].jt : filter[pc].jf;
    }
}
