/* Common to all proofs: the product's source itself, with main renamed, and the
 * functions of the C library that CBMC has no model of. */
#define main knockd_main
#include "knockd.c"
#undef main

size_t nondet_size(void);
uint32_t nondet_u32(void);
int64_t nondet_i64(void);
int nondet_int(void);
bool nondet_bool(void);

/* memchr(3). */
void *memchr(const void *s, int c, size_t n) {
    const unsigned char *p = s;
    for (size_t i = 0; i < n; i++)
        if (p[i] == (unsigned char)c) return (void *)(p + i);
    return NULL;
}

#ifdef STRINGS

/* Functions of <string.h> that CBMC has no model of, or one that costs too much.
 * They find any place in the string's object, whatever is there: that includes the
 * one that the real function finds. */

static size_t any_place(const char *s) {
    size_t n = nondet_size();
    __CPROVER_assert(__CPROVER_r_ok(s, 1), "a string can be read");
    __CPROVER_assume(n <
                     __CPROVER_OBJECT_SIZE(s) - __CPROVER_POINTER_OFFSET(s));
    return n;
}

size_t strspn(const char *s, const char *set) {
    (void)set;
    return any_place(s);
}

size_t strcspn(const char *s, const char *set) {
    size_t n = nondet_size();
    (void)set;
    __CPROVER_assume(n <= strlen(s));
    return n;
}

char *strchr(const char *s, int c) {
    size_t n = any_place(s);
    return nondet_bool() || (c && !s[n]) ? NULL : (char *)s + n;
}

char *strpbrk(const char *s, const char *set) {
    (void)set;
    return strchr(s, 1);
}

char *strsep(char **at, const char *set) {
    char *start = *at;
    if (!start) return NULL;
    *at = strpbrk(start, set);
    if (*at) *(*at)++ = '\0';
    return start;
}

int strncasecmp(const char *a, const char *b, size_t n) {
    size_t m = strlen(b);
    return n > m && a[m] ? 1 : nondet_int();
}

unsigned long strtoul(const char *s, char **end, int base) {
    (void)base;
    *end = (char *)s + any_place(s);
    return nondet_size();
}

long long strtoll(const char *s, char **end, int base) {
    (void)base;
    (void)end;
    return s ? nondet_i64() : 0;
}

/* Any address, or none. */
int inet_pton(int family, const char *text, void *to) {
    uint8_t *b = to;
    __CPROVER_assert(__CPROVER_r_ok(text, 1), "a string can be read");
    for (int i = 0; i < (family == AF_INET ? 4 : 16); i++)
        b[i] = (uint8_t)nondet_u32();
    return nondet_bool();
}

#endif
