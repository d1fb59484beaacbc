/*
 * Does the time that a sealed knock takes depend on a secret? Under valgrind the
 * key's bytes are marked as undefined: it then reports every branch and every
 * address that depends on them (as ctgrind does). With an argument there is such
 * a branch, to see that it is found.
 *
 * sealed.bats runs it.
 */
#define knock_main client_main
#include "../knock.c"
#include <valgrind/memcheck.h>

/* In knockd.c, and not called here. */
char *trim(char *s) { return s; }

const struct word *option_next(int argc, char **argv, const struct word *all,
                               size_t n, bool *wrong) {
    (void)argc, (void)argv, (void)n, (void)wrong;
    return all;
}

int main(int argc, char **argv) {
    uint8_t key[KEY_BYTES];
    struct sealed s = { .plain.stamp = 1 };
    struct stamps stamps = { .floor = 0 };
    struct hmac d;

    (void)argv;
    for (int i = 0; i < KEY_BYTES; i++) key[i] = (uint8_t)i;
    (void)VALGRIND_MAKE_MEM_UNDEFINED(key, sizeof(key));
    if (argc > 1 && key[3] == 3) puts("three");
    door_key(&d, key, "ssh");
    seal(&d, &s);
    /* Whether the tag is right may be known, and then what is in it. */
    bool good = unseal(&d, &s);
    (void)VALGRIND_MAKE_MEM_DEFINED(&good, sizeof(good));
    (void)VALGRIND_MAKE_MEM_DEFINED(&s, sizeof(s));
    return !good || s.plain.stamp != 1 || stamps.floor > 1;
}
