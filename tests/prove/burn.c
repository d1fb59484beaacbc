/* burn() and is_burnt(): each list of up to four ranges of 16 stamps in turn, and each
 * stamp, one after another; at the smallest stamps and at the largest. The ranges stay
 * in order and are not too many; the stamp is burnt then, what was burnt before stays
 * so, and nothing else is, unless the two closest ranges had to join.
 *
 * run:
 * small: BURNT_MAX 4
 * plant: s|if (is_burnt(s, stamp)) return;||
 * plant: s|r\[-1\].low > stamp; r--|r[-1].low > stamp + 1; r--|
 * plant: s|s->nburnt <= BURNT_MAX)|s->nburnt <= BURNT_MAX + 1)|
 * plant: s|- r->high < closest|- r->low < closest|
 * plant: s|closest->high = closest\[1\].high;||
 */
#include "knock.c"
#include <inttypes.h>

/* In knockd.c, and not called here. */
char *trim(char *s) { return s; }

const struct word *option_next(int argc, char **argv, const struct word *all,
                               size_t n, bool *wrong) {
    (void)argc, (void)argv, (void)n, (void)wrong;
    return all;
}

enum { STAMPS = 16 };

static uint64_t base;       /* of the stamps */
static unsigned long tried; /* worlds */

static void check(bool good, const struct stamps *s, const char *what) {
    if (good) return;
    printf("FAILURE: %s\n", what);
    for (unsigned i = 0; i < s->nburnt; i++)
        printf("%" PRIu64 "-%" PRIu64 "\n", s->burnt[i].low - base,
               s->burnt[i].high - base);
    exit(1);
}

/* A bit for each burnt stamp, without the help of is_burnt(). */
static unsigned bits(const struct stamps *s) {
    unsigned all = 0;
    for (unsigned i = 0; i < s->nburnt; i++)
        for (uint64_t n = s->burnt[i].low;
             n - base <= s->burnt[i].high - base; n++)
            all |= 1u << (n - base);
    return all;
}

/* The smallest number of stamps between two neighbours. */
static uint64_t smallest_gap(const struct stamps *s, unsigned stamp) {
    uint64_t last = STAMPS, least = STAMPS; /* STAMPS: there is none */
    bool done = false;
    for (unsigned i = 0; i <= s->nburnt; i++) {
        bool ours =
            !done && (i == s->nburnt || s->burnt[i].low - base > stamp);
        if (ours) {
            if (last != STAMPS && stamp - last < least) least = stamp - last;
            last = stamp;
            done = true;
        }
        if (i == s->nburnt) break;
        uint64_t low = s->burnt[i].low - base;
        if (last != STAMPS && low - last < least) least = low - last;
        last = s->burnt[i].high - base;
    }
    return least - 1;
}

static void try(const struct stamps *before, unsigned stamp) {
    struct stamps s = *before;
    unsigned was = bits(&s), bit = 1u << stamp;
    uint64_t gap = smallest_gap(&s, stamp);
    bool joins = s.nburnt == BURNT_MAX && !(was & bit);
    tried++;
    check(is_burnt(&s, base + stamp) == !!(was & bit), &s, "is_burnt()");
    burn(&s, base + stamp);
    unsigned added = bits(&s) & ~(was | bit);
    check(s.nburnt <= BURNT_MAX, &s, "too many ranges");
    for (unsigned i = 0; i < s.nburnt; i++) {
        check(s.burnt[i].low <= s.burnt[i].high, &s, "a range");
        bool apart = !i || s.burnt[i - 1].high < s.burnt[i].low;
        check(apart, &s, "the order");
    }
    check((bits(&s) & (was | bit)) == (was | bit), &s,
          "one is burnt no more");
    uint64_t more = (uint64_t)__builtin_popcount(added);
    check(more == (joins ? gap : 0), &s, "others are burnt");
    check(s.floor == before->floor, &s, "the floor");
}

/* All lists that begin with these ranges; the next one's low is `from` or more. */
static void lists(struct stamps *s, unsigned from) {
    for (unsigned stamp = 0; stamp < STAMPS; stamp++) try(s, stamp);
    if (s->nburnt == BURNT_MAX) return;
    s->nburnt++;
    for (unsigned low = from; low < STAMPS; low++)
        for (unsigned high = low; high < STAMPS; high++) {
            s->burnt[s->nburnt - 1] =
                (struct span){ base + low, base + high };
            lists(s, high + 1);
        }
    s->nburnt--;
}

int main(void) {
    struct stamps s = { .floor = 7 };
    lists(&s, 0);
    base = UINT64_MAX - STAMPS + 1;
    lists(&s, 0);
    printf("all: %lu lists and stamps\n", tried);
    return 0;
}
