/*
 * Time: monotonic for deadlines, wall for dates. Tests can put a fake in the place of both.
 */
#pragma once

#include <stdint.h>

/* Milliseconds and microseconds since some start; never go back. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
/* Milliseconds since 1970 (UTC). */
uint64_t clock_wall_ms(void);
static inline int64_t clock_wall_s(void)
{
	return (int64_t)(clock_wall_ms() / 1000);
}

/* Tests only: from now on both clocks stand still, and move by clock_fake_advance() alone. */
void clock_fake_start(uint64_t wall_ms);
void clock_fake_advance(uint64_t ms);
void clock_fake_stop(void);
