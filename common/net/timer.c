/*
 * A hierarchical timing wheel on one timer of libuv:
 *
 *	level 0: 256 slots of 16 ms    (4 s)
 *	level 1: 256 slots of 4.1 s    (17 min)
 *	level 2: 256 slots of 17.5 min (74 h; later ones wait in its last slot and are sorted in again)
 *
 * A timer stands in the level whose span holds its distance; when level 0 has gone round, the next slot of level 1 is
 * spread over it, and so on. A deadline is rounded up to a tick, so that nothing fires early.
 */
#include "common/net/timer.h"

#include "common/base/clock.h"
#include "common/net/loop_private.h"

#define SLOT_MASK (WHEEL_SLOTS - 1)
#define LEVEL_BITS 8

static uint64_t tick_of(uint64_t at_ms)
{
	return (at_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
}

static void put(struct timer_wheel *w, struct timer *timer)
{
	uint64_t tick = tick_of(timer->at_ms);
	uint64_t distance;
	unsigned level = 0;

	if (tick < w->next)
		tick = w->next;
	distance = tick - w->next;
	if (distance >= (uint64_t)WHEEL_SLOTS << (2 * LEVEL_BITS)) {
		distance = ((uint64_t)WHEEL_SLOTS << (2 * LEVEL_BITS)) - 1;
		tick = w->next + distance;
	}
	while (distance >= (uint64_t)WHEEL_SLOTS << (level * LEVEL_BITS))
		level++;
	if (level == 0)
		w->used[(tick & SLOT_MASK) / 64] |= 1ull << (tick & 63);
	list_add_last(&w->slots[level][(tick >> (level * LEVEL_BITS)) & SLOT_MASK], &timer->link);
}

/* First tick from w->next on where there is something to do: a used slot, or the start of the next round. */
static uint64_t next_event(const struct timer_wheel *w)
{
	uint64_t tick = w->next;

	if ((tick & SLOT_MASK) == 0)
		return tick;
	for (; (tick & SLOT_MASK) != 0; tick++) {
		uint64_t word = w->used[(tick & SLOT_MASK) / 64] >> (tick & 63);

		if (word)
			return tick + (uint64_t)__builtin_ctzll(word);
		tick |= 63;
	}
	return tick;
}

static void on_tick(uv_timer_t *handle)
{
	struct loop *loop = handle->data;

	loop->wheel.armed = UINT64_MAX;
	loop_enter(loop);
	/* libuv runs timers before it looks at descriptors: after a long turn, what has arrived in time comes first. */
	loop_poll(loop);
	loop->now_ms = clock_mono_ms(); /* libuv's timers come late in a turn that poll began */
	timer_wheel_run(loop);
}

static void arm(struct loop *loop, uint64_t tick)
{
	uint64_t now_ms = clock_mono_ms();
	uint64_t at_ms = tick * WHEEL_TICK_MS;

	if (tick >= loop->wheel.armed)
		return;
	loop->wheel.armed = tick;
	uv_update_time(&loop->uv);
	uv_timer_start(&loop->tick, on_tick, at_ms > now_ms ? at_ms - now_ms : 1, 0);
}

static void spread(struct timer_wheel *w, unsigned level)
{
	struct list batch;

	list_init(&batch);
	list_move_all(&batch, &w->slots[level][(w->next >> (level * LEVEL_BITS)) & SLOT_MASK]);
	while (!list_is_empty(&batch)) {
		struct timer *timer = container_of(batch.next, struct timer, link);

		list_remove(&timer->link);
		put(w, timer);
	}
}

static void run_expired(struct timer_wheel *w)
{
	while (!list_is_empty(&w->expired)) {
		struct timer *timer = container_of(w->expired.next, struct timer, link);

		timer_stop(timer);
		timer->fn(timer->arg);
	}
}

void timer_wheel_init(struct loop *loop)
{
	struct timer_wheel *w = &loop->wheel;

	for (unsigned level = 0; level < WHEEL_LEVELS; level++)
		for (unsigned i = 0; i < WHEEL_SLOTS; i++)
			list_init(&w->slots[level][i]);
	list_init(&w->expired);
	w->next = loop->now_ms / WHEEL_TICK_MS;
	w->armed = UINT64_MAX;
}

void timer_wheel_run(struct loop *loop)
{
	struct timer_wheel *w = &loop->wheel;
	uint64_t now = loop->now_ms / WHEEL_TICK_MS;
	uint64_t at;

	if (w->armed <= now)
		w->armed = UINT64_MAX;
	while (w->count && (at = next_event(w)) <= now) {
		struct list *slot;

		w->next = at;
		if ((at & SLOT_MASK) == 0) {
			if (((at >> LEVEL_BITS) & SLOT_MASK) == 0)
				spread(w, 2);
			spread(w, 1);
		}
		slot = &w->slots[0][at & SLOT_MASK];
		w->used[(at & SLOT_MASK) / 64] &= ~(1ull << (at & 63));
		list_move_all(&w->expired, slot);
		w->next = at + 1;
		run_expired(w);
	}
	if (w->count == 0 && w->next <= now)
		w->next = now + 1;
	if (w->count)
		arm(loop, next_event(w));
}

void timer_init(struct timer *timer, loop_fn *fn, void *arg)
{
	*timer = (struct timer){.fn = fn, .arg = arg};
	list_init(&timer->link);
}

void timer_set(struct timer *timer, struct loop *loop, uint64_t after_ms)
{
	struct timer_wheel *w = &loop->wheel;

	timer_stop(timer);
	/* The loop's own time may be a turn old, and nothing may fire early. */
	timer->at_ms = clock_mono_ms() + after_ms;
	timer->loop = loop;
	if (w->count++ == 0 && w->next < loop->now_ms / WHEEL_TICK_MS)
		w->next = loop->now_ms / WHEEL_TICK_MS;
	put(w, timer);
	if (tick_of(timer->at_ms) < w->armed)
		arm(loop, next_event(w));
}

void timer_stop(struct timer *timer)
{
	if (!timer->loop)
		return;
	timer->loop->wheel.count--;
	timer->loop = NULL;
	list_remove(&timer->link);
}
