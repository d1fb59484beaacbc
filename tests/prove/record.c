/* is_true(): every event that a hijacked sniffer can send, with two doors of any
 * sequence. What it lets through names a door, a stage and an address that there
 * can be; and no more of it than the rate.
 *
 * stub: say
 * options: --unwind 17 --unwindset in_nets.0:3
 * plant: s|e->door >= m->conf.ndoors|e->door > m->conf.ndoors|
 * plant: s|e->stage >= COUNTERS|e->stage > COUNTERS|
 * plant: s/return addr_usable(a) \&\& (/return (/
 */
#include "prove.h"

/* Any time of the next 30,000 years. */
int clock_gettime(clockid_t clock, struct timespec *t) {
    (void)clock;
    t->tv_sec = nondet_i64();
    t->tv_nsec = nondet_i64();
    __CPROVER_assume(t->tv_sec >= 0 && t->tv_sec < 1000000000000);
    __CPROVER_assume(t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
    return 0;
}

void harness(void) {
    static struct monitor m;
    static struct door doors[2];
    struct event e; /* any content */
    unsigned n = nondet_u32();
    __CPROVER_assume(n <= 2);
    for (int i = 0; i < 2; i++) {
        doors[i].seq.n = nondet_u32();
        __CPROVER_assume(doors[i].seq.n <= SEQUENCE_MAX);
    }
    m.conf.doors = doors;
    m.conf.ndoors = n;
    m.said = nondet_i64(); /* what in_rate() left, before any time */
    __CPROVER_assume(m.said >= -STALL_MS && m.said < 1000000000000000);
    settings.only_ipv4 = nondet_bool();
    if (!is_true(&m, &e)) return;
    __CPROVER_assert(e.kind < KINDS, "a kind");
    if (e.kind == COUNTED) __CPROVER_assert(e.stage < COUNTERS, "a counter");
    if (e.kind != STAGE && e.kind != OPEN && e.kind != TIMEOUT) return;
    __CPROVER_assert(e.door < n, "a door");
    __CPROVER_assert(e.stage >= 1 && e.stage <= SEQUENCE_MAX, "a stage");
    __CPROVER_assert(addr_usable(&e.src), "an address of a host");
    __CPROVER_assert(!settings.only_ipv4 || is_v4(&e.src), "no IPv6 with -4");
    if (e.kind == OPEN)
        __CPROVER_assert(doors[e.door].seq.n == e.stage, "the last stage");
}
