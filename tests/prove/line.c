/* config_line(): every line of up to 40 bytes, in each section. The functions that
 * find and cut words have a harness of their own (words); here they return any place
 * and any keyword (text.h). directive() and section() get places in the line.
 *
 * with: s/^char \*trim(/char *real_trim(/
 * with: s/^static void comment_cut(/static void real_comment_cut(/
 * with: s/^static const struct keyword \*keyword_of(/static const struct keyword *real_keyword_of(/
 * with: s/^static bool directive(/static bool real_directive(/
 * with: s/^static bool section(/static bool real_section(/
 * stub: complain
 * options: --unwind 42
 * plant: s|trim(rest + 1)|trim(rest + 2)|
 * plant: s/if (!\*line || \*line == '#') return true;//
 * plant: s|if (!(k->section & spot.section))|if (0)|
 */
#include "config.h"
struct conf;
struct keyword;
static void comment_cut(char *line);
static const struct keyword *keyword_of(const char *line, size_t n,
                                        int where);
static bool directive(struct conf *c, const struct keyword *k, char *value);
static bool section(struct conf *c, char *line);
#include "text.h"

static void comment_cut(char *line) {
    size_t end = nondet_size();
    __CPROVER_assert(in_text(line) && *line, "comment_cut: a text");
    __CPROVER_assume(end > (size_t)(line - text) && end <= LINE);
    text_cut(end);
}

static const struct keyword *keyword_of(const char *line, size_t n,
                                        int where) {
    unsigned i = nondet_u32();
    (void)where;
    __CPROVER_assert(in_text(line) && n <= (size_t)(text + LINE - line),
                     "keyword_of: letters of the text");
    if (i >= KEYWORDS) return NULL;
    return &keywords[i];
}

static bool directive(struct conf *c, const struct keyword *k, char *value) {
    __CPROVER_assert(!value || in_text(value), "a value in the line");
    __CPROVER_assert(k->section & spot.section, "a keyword of the section");
    __CPROVER_assert(k->section != DOOR || c->ndoors, "a door");
    return nondet_bool();
}

static bool section(struct conf *c, char *line) {
    (void)c;
    __CPROVER_assert(in_text(line), "a place in the line");
    return nondet_bool();
}

void harness(void) {
    struct conf c = { .ndoors = 0 };
    text_any();
    spot.section = nondet_int();
    __CPROVER_assume(spot.section >= NOWHERE && spot.section <= DOOR);
    c.ndoors = spot.section == DOOR;
    config_line(&c, text);
    __CPROVER_assert(spot.line == 1, "a line is counted");
}
