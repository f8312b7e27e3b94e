/* memory.c: the functions that a C compiler may call on its own, since the firmware links no C library.
 *
 * The loops carry an empty asm statement: without it the compiler would recognise them and call these functions. */
#include <stddef.h>
#include <stdint.h>

#define KEEP_LOOP() __asm__ volatile("" ::: "memory")

#if defined(__GNUC__)
typedef uint32_t __attribute__((may_alias)) word;
#else
#error "edgec: memory.c needs gcc or clang"
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *text);

static int both_aligned(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) & 3u) == 0u;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    uint8_t *d = (uint8_t *)to;
    const uint8_t *s = (const uint8_t *)from;

    if (both_aligned(d, s)) {
        for (; n >= 16u; n -= 16u, d += 16, s += 16) {
            const word *sw = (const word *)(const void *)s;
            word *dw = (word *)(void *)d;
            const word w0 = sw[0], w1 = sw[1], w2 = sw[2], w3 = sw[3];

            dw[0] = w0;
            dw[1] = w1;
            dw[2] = w2;
            dw[3] = w3;
            KEEP_LOOP();
        }
        for (; n >= 4u; n -= 4u, d += 4, s += 4) {
            *(word *)(void *)d = *(const word *)(const void *)s;
            KEEP_LOOP();
        }
    }
    for (; n > 0u; n--) {
        *d++ = *s++;
        KEEP_LOOP();
    }
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *d = (uint8_t *)to;
    const uint8_t *s = (const uint8_t *)from;

    if ((uintptr_t)d - (uintptr_t)s >= n) { /* also true where d lies below s: forwards is safe */
        for (; n > 0u; n--) {
            *d++ = *s++;
            KEEP_LOOP();
        }
    } else {
        for (; n > 0u; n--) {
            d[n - 1u] = s[n - 1u];
            KEEP_LOOP();
        }
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    uint8_t *d = (uint8_t *)to;
    const uint32_t four = (uint32_t)(uint8_t)value * 0x01010101u;

    for (; n > 0u && ((uintptr_t)d & 3u) != 0u; n--) {
        *d++ = (uint8_t)value;
        KEEP_LOOP();
    }
    for (; n >= 4u; n -= 4u, d += 4) {
        *(word *)(void *)d = four;
        KEEP_LOOP();
    }
    for (; n > 0u; n--) {
        *d++ = (uint8_t)value;
        KEEP_LOOP();
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = (const uint8_t *)a;
    const uint8_t *y = (const uint8_t *)b;

    for (; n > 0u; n--, x++, y++) {
        if (*x != *y) {
            return (int)*x - (int)*y;
        }
        KEEP_LOOP();
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t n = 0u;

    while (text[n] != '\0') {
        n++;
        KEEP_LOOP();
    }
    return n;
}
