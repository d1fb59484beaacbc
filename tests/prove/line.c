/* config_line(): every line of up to 40 bytes, in each section, with and without
 * an error before it.
 * The value of a directive is not looked at.
 *
 * stub: directive complain
 * options: --unwind 42 --unwindset is_in.0:8,keyword_of.0:30
 * plant: s|for (; \*p; p++)|for (;; p++)|
 */
#define STRINGS
#include "prove.h"

#define LINE 40 /* bytes, without the zero */

void harness(void) {
    struct conf c = { .path = "f", .test = nondet_bool() };
    char line[LINE + 1]; /* any content */
    line[LINE] = '\0';
    c.section = nondet_int();
    __CPROVER_assume(c.section == 0 || c.section == OPTIONS ||
                     c.section == DOOR);
    struct door *door = calloc(1, sizeof *door);
    __CPROVER_assume(door != NULL);
    c.doors = door;
    c.ndoors = c.section == DOOR;
    config_line(&c, line);
    __CPROVER_assert(c.line == 1, "a line is counted");
}
