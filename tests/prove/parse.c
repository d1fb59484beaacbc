/* parse(): every content of 0 to 176 bytes, the most that a slot of the ring
 * holds, and every length that the packet had on the wire.
 *
 * options: --unwind 9 --unwindset memcmp.0:17 --unwindset memchr.0:9
 * options: --unwindset memcpy.0:17
 * plant: s| at + 8 > n | at + 7 > n |
 * plant: s# || at + 8 > n || # || #
 * plant: s|if (n > end) n = end;||
 */
#include "prove.h"

#define MOST 176 /* bytes of a packet in a slot */

void harness(void) {
    size_t n = nondet_size(), wire = nondet_size();
    __CPROVER_assume(n <= MOST);
    uint8_t *b = malloc(n); /* exactly n: one byte more is an error */
    __CPROVER_assume(b != NULL);
    struct packet p; /* any content */
    if (!parse(b, n, wire, &p)) return;
    __CPROVER_assert(p.knock < KNOCKS, "a knock is an index of ports[]");
    __CPROVER_assert(p.proto == TCP || p.proto == UDP, "TCP or UDP");
    __CPROVER_assert((p.knock >= TO_UDP) == (p.proto == UDP),
                     "kind of knock");
    __CPROVER_assert(n >= 28 && wire >= 28, "no good packet is shorter");
    __CPROVER_assert(is_v4(&p.src) == (b[0] >> 4 == 4),
                     "family of the source");
    __CPROVER_assert(addr_usable(&p.src), "the source can be answered");
    __CPROVER_assert(n > 40 || b[0] >> 4 == 4, "IPv6 has more than 40 bytes");
}
