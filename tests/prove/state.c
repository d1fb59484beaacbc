/* record_read(): every "open" line of up to 60 bytes of a state file of either
 * version. It reads and writes nothing outside of the line; the times of what it
 * takes are in range.
 *
 * options: --unwind 62 --unwindset inet_pton.0:17
 * plant: s/if (!line || strlen(line) > DOOR_NAME_MAX/if (strlen(line) > DOOR_NAME_MAX/
 * plant: s/number(times, 1, SECONDS_MAX/number(times, 0, SECONDS_MAX/
 */
#define STRINGS
#include "prove.h"

#define LINE 60 /* bytes, without the zero */

void harness(void) {
    char line[LINE + 1]; /* any content */
    struct record r;
    line[LINE] = '\0';
    if (!record_read(&r, line, nondet_bool())) return;
    __CPROVER_assert(r.timeout <= SECONDS_MAX, "a time");
    __CPROVER_assert(r.times >= 1, "a number of starts");
    __CPROVER_assert(strlen(r.door) <= DOOR_NAME_MAX, "a name");
}
