/* frame(): a slot of the ring with any content, as a hijacked sniffer could
 * leave it for its successor: every offset and every length.
 *
 * options: --unwind 9 --unwindset memcmp.0:17 --unwindset memchr.0:9
 * options: --unwindset memcpy.0:17
 * plant: s|if (t->net > FRAME_BYTES) return false;||
 * plant: s|if (n > t->captured) n = t->captured;|n = t->captured;|
 */
#include "prove.h"

void harness(void) {
    static struct port ports[KNOCKS]; /* of no door */
    static struct sniffer s = { .ports = ports };
    union slot slot; /* any content */
    struct packet p;
    settings.debug = false;
    if (!frame(&s, &slot, &p)) return;
    __CPROVER_assert(p.knock < KNOCKS, "a knock is an index of ports[]");
    __CPROVER_assert(!addr_loopback(&p.src) ||
                         slot.from.sll_hatype == HATYPE_LOOPBACK,
                     "a loopback address comes from a loopback interface");
}
