/* sealed_knock(): each packet, clock and verdict of judge(), which has a proof of its
 * own; a client of two, a door of two, any Allow and Deny. A door
 * opens or closes at a good verdict alone, for the address in the packet, and after
 * the stamps are saved.
 *
 * with: s/^static void stamps_save(/static void real_stamps_save(/
 * with: s/^static struct share \*share_of(/static struct share *real_share_of(/
 * with: s/^static void door_open(/static void real_door_open(/
 * with: s/^static void openings_close(/static void real_openings_close(/
 * with: s/^static bool in_nets(/static bool real_in_nets(/
 * small: ADDRESSES_MAX 1
 * small: BUCKETS 1
 * small: CHILDREN_MAX 1
 * small: OUTPUTS_MAX 1
 * small: TEXT_MAX 64
 * stub: say_of
 * options: --unwind 17 --unwindset memcmp.0:161
 * plant: s|if (v == FORGED) return;||
 * plant: s|if (memcmp(&before, &y->stamps, .*stamps_save(m, y);||
 * plant: s/if (v == GOOD \&\& denied) v = UNUSABLE;//
 * plant: s|if (copied && !addr_cmp(&y->last, &e->src)) return;||
 */
#include "config.h"
struct monitor;
struct door;
struct addr;
struct nets;
static bool in_nets(const struct nets *l, const struct addr *a);
static void stamps_save(struct monitor *m, const struct memory *y);
static struct share *share_of(struct monitor *m, const char *name);
static void door_open(struct monitor *m, struct door *d,
                      const struct addr *src);
static void openings_close(struct monitor *m, const char *name,
                           const struct addr *src);
#include "prove.h"

uint64_t nondet_u64(void);

/* The world. */
static struct monitor m;
static struct door doors[2];
static struct client clients[2];
static struct memory memories[2], old; /* old: the client's, before */
static struct share share;
static struct event e;
static const unsigned at = 1; /* the client, whose door is the first */

static bool is_allowed, is_denied, source_denied;

/* What has happened. */
static struct stamps on_disk;
static struct plain plain;
static enum verdict verdict;
static bool copied; /* the packet is the last one of its client */
static int64_t clocks[CLOCK_BOOTTIME + 1]; /* ms, as last read */
static unsigned judged, done;

/* Any time of the next 30,000 years; the time since boot does not go back. */
int clock_gettime(clockid_t clock, struct timespec *t) {
    t->tv_sec = nondet_i64();
    t->tv_nsec = nondet_i64();
    __CPROVER_assume(t->tv_sec >= 0 && t->tv_sec < 1000000000000);
    __CPROVER_assume(t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
    int64_t ms = t->tv_sec * 1000 + t->tv_nsec / 1000000;
    __CPROVER_assume(clock != CLOCK_BOOTTIME || ms >= clocks[clock]);
    clocks[clock] = ms;
    return 0;
}

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *p = a, *q = b;
    bool same = true;
    for (size_t i = 0; i < n; i++) same &= p[i] == q[i];
    return !same;
}

/* Any lists: the address is in Allow, or not; it or the source is in Deny. */
static bool in_nets(const struct nets *l, const struct addr *a) {
    const struct door *d = &doors[clients[at].door];
    if (l == &d->allow) return is_allowed;
    __CPROVER_assert(l == &d->deny, "a list of the client's door");
    return addr_cmp(a, &e.src) ? is_denied : source_denied;
}

const char *inet_ntop(int family, const void *a, char *text, socklen_t n) {
    (void)family;
    (void)a;
    __CPROVER_assert(__CPROVER_w_ok(text, n), "room for an address");
    text[0] = '\0';
    return text;
}

int sprintf(char *to, const char *format, ...) {
    (void)format;
    __CPROVER_assert(__CPROVER_w_ok(to, 54), "room for the words");
    return 0;
}

static struct share *share_of(struct monitor *monitor, const char *name) {
    (void)monitor;
    __CPROVER_assert(name == doors[clients[at].door].name, "of the door");
    return &share;
}

static void stamps_save(struct monitor *monitor, const struct memory *y) {
    (void)monitor;
    on_disk = y->stamps;
}

/* Any verdict, with any stamps behind it; what it says of a good packet. */
enum verdict judge(const struct hmac *key, struct stamps *stamps,
                   struct sealed *s, uint64_t now, uint64_t start) {
    struct plain p; /* any content */
    struct stamps new;
    const struct memory *y = &memories[at];
    int64_t since = clocks[CLOCK_REALTIME] - clocks[CLOCK_BOOTTIME] + y->up;
    judged++;
    __CPROVER_assert(key == &clients[at].key, "the client's key");
    __CPROVER_assert(stamps == &memories[at].stamps, "the key's memory");
    __CPROVER_assert(now == (uint64_t)clocks[CLOCK_REALTIME], "the clock");
    __CPROVER_assert((int64_t)start >= y->wall && (int64_t)start >= since,
                     "not before the key, nor a step of the clock");
    __CPROVER_assert((int64_t)start == y->wall || (int64_t)start == since,
                     "but not later");
    uint32_t any = nondet_u32();
    __CPROVER_assume(any <= BEFORE_START);
    verdict = any;
    if (verdict == GOOD) __CPROVER_assume(p.request <= 1);
    if (verdict == GOOD || verdict == FUTURE) *stamps = new;
    s->plain = plain = p;
    return verdict;
}

/* The door of the client is opened or closed: is that right? */
static void acted(const struct addr *a) {
    const struct door *d = &doors[clients[at].door];
    const struct stamps *now = &memories[at].stamps;
    bool none = true, same = true;
    for (int i = 0; i < 16; i++) none &= !plain.address[i];
    for (int i = 0; i < 16; i++)
        same &= a->b[i] == (none ? e.src.b[i] : plain.address[i]);
    __CPROVER_assert(judged == 1 && verdict == GOOD, "the packet is good");
    __CPROVER_assert(same, "the address of the packet, or its source");
    __CPROVER_assert(addr_usable(a), "the address of a host");
    __CPROVER_assert(none || !addr_loopback(a), "not ours");
    __CPROVER_assert(!source_denied, "Deny of the source");
    __CPROVER_assert(!is_denied || !addr_cmp(a, &e.src), "Deny");
    __CPROVER_assert(is_allowed || !d->allow.n, "Allow");
    __CPROVER_assert(on_disk.floor == now->floor &&
                         on_disk.nburnt == now->nburnt,
                     "the stamps are saved");
    __CPROVER_assert(!copied, "not the same packet again");
    done++;
}

static void door_open(struct monitor *monitor, struct door *d,
                      const struct addr *a) {
    acted(a);
    __CPROVER_assert(d == &doors[clients[at].door], "the client's door");
    __CPROVER_assert(plain.request == 0, "a request to open");
    __CPROVER_assert(clocks[CLOCK_BOOTTIME] >= share.quiet_until,
                     "no cooldown");
    __CPROVER_assert(monitor->client == clients[at].name, "its name");
}

static void openings_close(struct monitor *monitor, const char *name,
                           const struct addr *a) {
    (void)monitor;
    acted(a);
    __CPROVER_assert(name == doors[clients[at].door].name,
                     "the client's door");
    __CPROVER_assert(plain.request == 1, "a request to close");
}

static int64_t past(void) {
    int64_t t = nondet_i64();
    __CPROVER_assume(t >= 0 && t <= clocks[CLOCK_BOOTTIME]);
    return t;
}

void harness(void) {
    static char names[2][2] = { "a", "b" };
    struct memory any_memory;
    struct event any_event;
    struct sealed packet; /* any content */
    clocks[CLOCK_BOOTTIME] = nondet_i64();
    __CPROVER_assume(clocks[CLOCK_BOOTTIME] >= 0 &&
                     clocks[CLOCK_BOOTTIME] < 1000000000000000);
    e = any_event;
    e.sealed = packet;
    e.door = at;
    __CPROVER_assume(addr_usable(&e.src));
    is_allowed = nondet_bool();
    is_denied = nondet_bool();
    source_denied = nondet_bool();
    for (unsigned i = 0; i < 2; i++) {
        clients[i].of = &memories[i];
        clients[i].door = 1 - i;
        doors[i].name = names[i];
        doors[i].allow.n = nondet_bool();
        doors[i].cooldown = nondet_u32();
        __CPROVER_assume(doors[i].cooldown <= SECONDS_MAX);
    }
    old = any_memory;
    old.up = past();
    __CPROVER_assume(old.wall >= 0 && old.wall < 1000000000000000);
    memories[at] = old;
    on_disk = old.stamps;
    copied = !addr_cmp(&old.last, &e.src) &&
             !memcmp(old.tag, packet.tag, sizeof old.tag);
    share.quiet_until = past();
    m.conf.doors = doors;
    m.conf.clients = clients;
    m.conf.ndoors = m.conf.nclients = 2;
    m.memories = memories;
    m.nmemories = 2;
    m.clock_ahead = nondet_i64();
    __CPROVER_assume(m.clock_ahead > -1000000000000000 &&
                     m.clock_ahead < 1000000000000000);
    sealed_knock(&m, &e);
    __CPROVER_assert(judged == 1 && done <= 1, "judged once");
    __CPROVER_assert(!m.client, "no client is left");
    if (verdict == FORGED)
        __CPROVER_assert(m.forged == 1 && !done &&
                             !memcmp(memories[at].tag, old.tag, 16) &&
                             !addr_cmp(&memories[at].last, &old.last),
                         "a forged packet changes nothing");
}
