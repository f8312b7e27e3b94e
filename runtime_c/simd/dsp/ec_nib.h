/* ec_nib.h (dsp): multiply-accumulate and requantise with weights of 4 and 2 bits, four output channels at a time.
 *
 * A word holds a tap pair of four channels: the halfword of a tap is n0 + 16 * n1 + 256 * n2 + 4096 * w3, n = w + 8.
 * SMLAD with the word, with its nibbles 0 and 2, with its bytes 0 and 2 and with its nibble 0 alone sums
 *   T = N0 + 16 * N1 + 256 * N2 + 4096 * S3,  N0 + 256 * N2,  N0 + 16 * N1,  N0,
 * where N = S + 8 * X and X is the sum of the activations. Differences leave the four sums, exact modulo 2^32 while
 * |S3| < 2^19, |N2| < 2^23 and |N1| < 2^27. That is three instructions to unpack eight weights: as many cycles as bytes
 * take (ec_mm.h). With 2 bits a word holds two tap pairs, the second one in the upper bits of each nibble, n = w + 2 in
 * all four channels, and |N3| < 2^19.
 * A block of four channels in the stream: 4 words b0 + 16 * b1 + 256 * b2 + 4096 * b3, b0 + 256 * b2, b0, b0 + 16 * b1;
 * the weights, pairs in the order of ec_widen; 4 multipliers.
 *
 * A function for each width of weights and each requantisation shift. The loop is entered in the middle. */
#ifndef EC_NIB_H
#define EC_NIB_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* The products of r4, nibbles, with r2 and r3, activations of two pixels: sums in r6 r7 r8 r9 and r10 r11 r12 lr in the
 * order of the words above. 44 bytes, 11 cycles for 16 products. */
#define EC_NIB2_MAC                                                                                                    \
    "smlad r6,r4,r2,r6\n smlad r10,r4,r3,r10\n and r5,r4,#0x0f0f0f0f\n"                                                \
    "smlad r7,r5,r2,r7\n smlad r11,r5,r3,r11\n uxtb16 r5,r5\n smlad r8,r5,r2,r8\n smlad r12,r5,r3,r12\n"               \
    "uxtb16 r4,r4\n smlad r9,r4,r2,r9\n smlad lr,r4,r3,lr\n"
#define EC_NIB2_LOAD(x, w) "ldr.n r2,[r0,#" #x "]\n ldr.n r3,[r0,#" #x "+4]\n ldr.n r4,[r1,#" #w "]\n"

/* Two tap pairs, x bytes from r0 and w from r1: 100 bytes of code for 4 bits, 110 for 2. */
#define EC_NIB2_STEP_4(x, w) EC_NIB2_LOAD(x, 2 * w) EC_NIB2_MAC EC_NIB2_LOAD(x + 8, 2 * w + 4) EC_NIB2_MAC
#define EC_NIB2_STEP_2(x, w)                                                                                           \
    EC_NIB2_LOAD(x, w) "and r4,r4,#0x33333333\n" EC_NIB2_MAC EC_NIB2_LOAD(x + 8, w)                                    \
    "lsrs r4,r4,#2\n and r4,r4,#0x33333333\n" EC_NIB2_MAC

/* Leaves the sum of channel 3 without its offset: r6, r10 hold 4096 times the sum; r2, r3 the offsets. */
#define EC_NIB2_LAST_4 "asr r6,r6,#12\n asr r10,r10,#12\n"
#define EC_NIB2_LAST_2 "rsb r6,r2,r6,asr #12\n rsb r10,r3,r10,asr #12\n"
#define EC_NIB1_LAST_4 "asr r6,r6,#12\n"
#define EC_NIB1_LAST_2 "rsb r6,r2,r6,asr #12\n"

/* x: 2 * quads times 2 words, tap pairs of the first and of the second pixel in turn, as ec_widen leaves them; w: stream;
 * out: first output of the first pixel, `next` bytes before that of the second; out_end: end of the outputs of the first
 * pixel; c: requantisation; offset: of each pixel, 8 (4 bits) or 2 (2 bits) times the sum of its activations. */
#define EC_NIB2(bits, f, step, log_word)                                                                               \
    EC_ASM_FUNCTION void ec_nib2_##bits##_##f(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next,         \
                                              const int8_t *out_end, int32_t quads, int32_t c, const int32_t *offset)  \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r6,[sp,#36]\n ldr r8,[sp,#40]\n"                                                   \
            "add r7,r0,r8,lsl #4\n"           /* end of x */                                                           \
            "rsbs r4,r8,#0\n and r4,r4,#3\n"  /* steps that the first round leaves out */                             \
            "movs r9,#" #step "\n adr r5,2f\n mla r5,r4,r9,r5\n adds r5,#1\n"                                          \
            "sub r0,r0,r4,lsl #4\n lsls r4,r4,#" #log_word "\n push {r0,r2-r7}\n"                                      \
            /* [sp]: 0 x, 4 out, 8 next, 12 skip, 16 entry, 20 out_end, 24 end of x; 28-63 saved; 72 c, 76 offset */   \
            "1:\n ldm r1!,{r6-r9}\n ldr r2,[sp,#12]\n mov r10,r6\n mov r11,r7\n mov r12,r8\n mov lr,r9\n"              \
            "subs r1,r1,r2\n ldr r0,[sp]\n ldr pc,[sp,#16]\n .balign 4\n"                                              \
            "2:\n" EC_NIB2_STEP_##bits(0, 0) EC_NIB2_STEP_##bits(16, 4) EC_NIB2_STEP_##bits(32, 8)                     \
            EC_NIB2_STEP_##bits(48, 12)                                                                                \
            "ldr r2,[sp,#24]\n adds r0,#64\n adds r1,#4<<" #log_word "\n cmp r0,r2\n bne 2b\n"                         \
            "ldr r0,[sp,#76]\n ldr r5,[sp,#72]\n ldr r2,[r0]\n ldr r3,[r0,#4]\n"                                       \
            "sub r6,r6,r7\n sub r9,r9,r8\n sub r7,r7,r8\n sub r6,r6,r9\n sub r8,r8,r2\n"                               \
            "sub r10,r10,r11\n sub lr,lr,r12\n sub r11,r11,r12\n sub r10,r10,lr\n sub r12,r12,r3\n"                    \
            "rsb r9,r2,r9,asr #4\n rsb r7,r2,r7,asr #8\n rsb lr,r3,lr,asr #4\n rsb r11,r3,r11,asr #8\n"                \
            EC_NIB2_LAST_##bits                                                                                        \
            "ldm r1!,{r0,r2,r3,r4}\n"                                                                                  \
            "smmla r8,r8,r0,r5\n smmla r12,r12,r0,r5\n smmla r9,r9,r2,r5\n smmla lr,lr,r2,r5\n"                        \
            "smmla r7,r7,r3,r5\n smmla r11,r11,r3,r5\n smmla r6,r6,r4,r5\n smmla r10,r10,r4,r5\n"                      \
            "ldr r2,[sp,#8]\n ldr r3,[sp,#4]\n ldr r4,[sp,#20]\n"                                                      \
            "ssat r8,#8,r8,asr #" #f "\n ssat r12,#8,r12,asr #" #f "\n ssat r9,#8,r9,asr #" #f "\n"                    \
            "ssat lr,#8,lr,asr #" #f "\n ssat r7,#8,r7,asr #" #f "\n ssat r11,#8,r11,asr #" #f "\n"                    \
            "ssat r6,#8,r6,asr #" #f "\n ssat r10,#8,r10,asr #" #f "\n"                                                \
            "strb r12,[r3,r2]\n strb r8,[r3],#1\n strb lr,[r3,r2]\n strb r9,[r3],#1\n"                                 \
            "strb r11,[r3,r2]\n strb r7,[r3],#1\n strb r10,[r3,r2]\n strb r6,[r3],#1\n"                                \
            "str r3,[sp,#4]\n cmp r3,r4\n bne 1b\n add sp,#28\n pop {r4-r11,pc}\n");                                   \
    }

/* The products of r4, nibbles, with r3, activations of one pixel: sums in r6 r7 r8 r9. 28 bytes. */
#define EC_NIB1_MAC                                                                                                    \
    "smlad r6,r4,r3,r6\n and r5,r4,#0x0f0f0f0f\n smlad r7,r5,r3,r7\n uxtb16 r5,r5\n smlad r8,r5,r3,r8\n"               \
    "uxtb16 r4,r4\n smlad r9,r4,r3,r9\n"

/* Four taps, x bytes from r0, and their weights: 70 bytes of code for 4 bits, 80 for 2. */
#define EC_NIB1_STEP_4(x, w)                                                                                           \
    "ldr.n r2,[r0,#" #x "]\n ldr.n r4,[r1,#2*" #w "]\n sxtb16 r3,r2\n" EC_NIB1_MAC                                     \
    "ldr.n r4,[r1,#2*" #w "+4]\n sxtb16 r3,r2,ror #8\n" EC_NIB1_MAC
#define EC_NIB1_STEP_2(x, w)                                                                                           \
    "ldr.n r2,[r0,#" #x "]\n ldr.n r4,[r1,#" #w "]\n sxtb16 r3,r2\n and r4,r4,#0x33333333\n" EC_NIB1_MAC               \
    "ldr.n r4,[r1,#" #w "]\n sxtb16 r3,r2,ror #8\n lsrs r4,r4,#2\n and r4,r4,#0x33333333\n" EC_NIB1_MAC

/* x: `quads` times four int8 taps, at any address; out..out_end: outputs; otherwise as EC_NIB2. */
#define EC_NIB1(bits, f, step, log_word)                                                                               \
    EC_ASM_FUNCTION void ec_nib1_##bits##_##f(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,  \
                                              int32_t quads, int32_t c, int32_t offset)                                \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r8,[sp,#36]\n mov lr,r2\n add r12,r0,r8,lsl #2\n"                                  \
            "rsbs r4,r8,#0\n and r4,r4,#3\n"                                                                           \
            "movs r9,#" #step "\n adr r11,2f\n mla r11,r4,r9,r11\n adds r11,#1\n"                                      \
            "sub r0,r0,r4,lsl #2\n lsls r10,r4,#" #log_word "\n push {r0,r3}\n"                                        \
            /* [sp]: 0 x, 4 out_end; 8-43 saved; 48 c, 52 offset. r10 skip, r11 entry, r12 end of x, lr out */         \
            "1:\n ldm r1!,{r6-r9}\n ldr r0,[sp]\n sub r1,r1,r10\n bx r11\n .balign 4\n"                                \
            "2:\n" EC_NIB1_STEP_##bits(0, 0) EC_NIB1_STEP_##bits(4, 4) EC_NIB1_STEP_##bits(8, 8)                       \
            EC_NIB1_STEP_##bits(12, 12)                                                                                \
            "adds r0,#16\n adds r1,#4<<" #log_word "\n cmp r0,r12\n bne 2b\n"                                          \
            "ldr r2,[sp,#52]\n ldr r0,[sp,#48]\n"                                                                      \
            "sub r6,r6,r7\n sub r9,r9,r8\n sub r7,r7,r8\n sub r6,r6,r9\n sub r8,r8,r2\n"                               \
            "rsb r9,r2,r9,asr #4\n rsb r7,r2,r7,asr #8\n" EC_NIB1_LAST_##bits                                          \
            "ldm r1!,{r2-r5}\n"                                                                                        \
            "smmla r8,r8,r2,r0\n smmla r9,r9,r3,r0\n smmla r7,r7,r4,r0\n smmla r6,r6,r5,r0\n ldr r3,[sp,#4]\n"         \
            "ssat r8,#8,r8,asr #" #f "\n ssat r9,#8,r9,asr #" #f "\n ssat r7,#8,r7,asr #" #f "\n"                      \
            "ssat r6,#8,r6,asr #" #f "\n strb r8,[lr],#1\n strb r9,[lr],#1\n strb r7,[lr],#1\n strb r6,[lr],#1\n"      \
            "cmp lr,r3\n bne 1b\n add sp,#8\n pop {r4-r11,pc}\n");                                                     \
    }

#define EC_NIB_SHIFTS(macro, bits, step, log_word)                                                                     \
    macro(bits, 1, step, log_word) macro(bits, 8, step, log_word) macro(bits, 15, step, log_word)
EC_NIB_SHIFTS(EC_NIB2, 4, 100, 3)
EC_NIB_SHIFTS(EC_NIB2, 2, 110, 2)
EC_NIB_SHIFTS(EC_NIB1, 4, 70, 3)
EC_NIB_SHIFTS(EC_NIB1, 2, 80, 2)

#pragma GCC diagnostic pop

#endif
