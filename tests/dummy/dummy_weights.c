#include "runtime/ec.h"

extern const int8_t dummy_weights[24];
EC_WEIGHTS const int8_t dummy_weights[24] = {1,   -2, 3,  -4, 5,  -6, 7,  -8,  127, -128, 11, 12,
                                             -13, 14, 15, 16, 17, 18, 19, -20, 21,  22,   23, 24};
