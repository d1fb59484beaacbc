/* The text that is read, and what stands for the functions that the harness `words`
 * proves: each returns any place in the text, and cuts it anywhere behind that. */
#define STRINGS
char *trim(char *s);
#include "prove.h"

#define LINE 40 /* bytes, without the zero */

static char text[LINE + 1];

char nondet_char(void);

/* Any text. */
static void text_any(void) {
    for (size_t i = 0; i < LINE; i++) text[i] = nondet_char();
    text[LINE] = '\0';
}

/* Is a pointer at the text or at its end? */
static bool in_text(const char *s) { return s >= text && s <= text + LINE; }

/* The text ends at that place; what is behind it may be anything. */
static void text_cut(size_t end) {
    for (size_t i = 0; i < LINE; i++)
        if (i >= end) text[i] = i == end ? '\0' : nondet_char();
}

char *trim(char *s) {
    size_t from = nondet_size(), end = nondet_size();
    __CPROVER_assert(in_text(s), "trim: a place in the text");
    __CPROVER_assume(from >= (size_t)(s - text) && from <= LINE);
    __CPROVER_assume(end >= from && end <= LINE);
    text_cut(end);
    return text + from;
}

/* A place with a zero: perhaps not the first one. */
size_t strlen(const char *s) {
    size_t n = any_place(s);
    __CPROVER_assume(!s[n]);
    return n;
}
