/* config_line(): every line of up to 8 bytes, in each section, with and without
 * an error before it.
 * The value of a directive and the name of a section are not looked at.
 *
 * stub: directive section complain
 * options: --unwind 10 --unwindset keyword_of.0:30,strlen.0:24
 * plant: s|trim(rest + 1)|trim(rest + 2)|
 */
#define STRINGS
#include "prove.h"

#define LINE 8 /* bytes, without the zero */

void harness(void) {
    struct conf c = { .ndoors = 0 };
    char line[LINE + 1]; /* any content */
    line[LINE] = '\0';
    spot.section = nondet_int();
    __CPROVER_assume(spot.section >= NOWHERE && spot.section <= DOOR);
    struct door *door = calloc(1, sizeof *door);
    __CPROVER_assume(door != NULL);
    c.doors = door;
    c.ndoors = spot.section == DOOR;
    config_line(&c, line);
    __CPROVER_assert(spot.line == 1, "a line is counted");
}
