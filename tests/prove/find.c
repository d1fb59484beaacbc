/* sealed_find(): a packet of any content and length, its UDP header anywhere that
 * parse() may say, at the port of a door with keys or at another one.
 *
 * options: --unwind 9 --unwindset memcpy.0:17
 * plant: s|if (!s->ports\[p->knock\].sealed) return;||
 * plant: s|if (p->at + size > n) return;||
 * plant: s|if (get16(udp + 4) != size) return;||
 * plant: s|size_t size = 8 + sizeof(struct sealed);|size_t size = 7 + sizeof(struct sealed);|
 */
#include "prove.h"

void harness(void) {
    static struct port port;
    static uint64_t marks[4];
    static struct sniffer s = { .ports = &port,
                                .id_marks = marks,
                                .nids = 4 };
    size_t n; /* any */
    struct packet p;
    __CPROVER_assume(n >= 8 && n <= FRAME_BYTES && p.at + 8u <= n);
    const uint8_t *bytes = malloc(n); /* any content */
    __CPROVER_assume(bytes);
    bool sealed; /* any */
    port.sealed = sealed;
    p.knock = 0;
    p.sealed = NULL;
    sealed_find(&s, bytes, n, &p);
    if (!p.sealed) return;
    __CPROVER_assert(port.sealed, "at the ports of doors with keys");
    __CPROVER_assert(get16(p.sealed - 4) == 8 + sizeof(struct sealed),
                     "UDP's length says that there is nothing else");
    __CPROVER_assert(p.sealed + sizeof(struct sealed) <= bytes + n,
                     "a sealed knock is there as a whole");
}
