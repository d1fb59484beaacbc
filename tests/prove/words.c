/* The parts that config_line() is made of, each for every string of up to 40 bytes:
 * trim(), comment_cut(), keyword_of().
 *
 * stub: say
 * options: --unwind 42 --unwindset keyword_of.0:30
 * plant: s|while (\*p && (\*p|while ((*p|
 * plant: s|end > s && strchr(BLANKS, end\[-1\])|strchr(BLANKS, end[-1])|
 */
#define STRINGS
#include "prove.h"

#define LINE 40 /* bytes, without the zero */

void harness(void) {
    char line[LINE + 1]; /* any content */
    unsigned what = nondet_u32();
    char *place = line;
    line[LINE] = '\0';
    if (what == 0) place = trim(line);
    if (what == 1 && *line) comment_cut(line);
    if (what == 2) keyword_of(line, strcspn(line, "="), nondet_int());
    __CPROVER_assert(!place || (place >= line && place <= line + LINE),
                     "a place in the line");
}
