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
