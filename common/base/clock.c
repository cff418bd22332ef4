/* clock_gettime, or a fake that tests move by hand. */
#include "common/base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

static atomic_bool is_fake;
static _Atomic uint64_t fake_mono_ms;
static _Atomic uint64_t fake_wall_ms;
static _Atomic uint64_t ahead_us; /* what a fake that has ended was ahead: the clock never goes back */

static uint64_t now_us(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t clock_mono_us(void)
{
	return is_fake ? fake_mono_ms * 1000u : now_us(CLOCK_MONOTONIC) + ahead_us;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000u;
}

uint64_t clock_wall_ms(void)
{
	return is_fake ? fake_wall_ms : now_us(CLOCK_REALTIME) / 1000u;
}

void clock_fake_start(uint64_t wall_ms)
{
	/* a round number, so that timers' ticks are the same in each run */
	fake_mono_ms = (clock_mono_ms() / 1000000u + 1) * 1000000u;
	fake_wall_ms = wall_ms;
	is_fake = true;
}

void clock_fake_advance(uint64_t ms)
{
	fake_mono_ms += ms;
	fake_wall_ms += ms;
}

void clock_fake_stop(void)
{
	ahead_us = fake_mono_ms * 1000u - now_us(CLOCK_MONOTONIC);
	is_fake = false;
}
