/*
 * The thread: a step in a read transaction, then a sleep that makes the pace, and every so often a small write that remembers
 * how far it has come. What it may do is set by the main loop under the lock: run, stop, pace.
 */
#include "backend/admin/scrub.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "backend/store/store_scrub.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"

/* Bytes of one read transaction: some milliseconds. */
#define STEP_BYTES (512u * 1024)
#define SAVE_EVERY_MS 10000
#define LOOK_EVERY_MS 60000
/* Damaged bodies whose messages are looked for together. */
#define TOLD_AT_ONCE 64
#define TELL_AFTER_MS 30000

struct slot {
	struct store_scrub state; /* the thread's; copied out under the lock */
	struct store_scrub shown;
	uint64_t saved_ms;
	bool is_loaded;
};

struct scrub {
	struct store *store;
	unsigned slot_count;
	struct slot *slots;
	pthread_t thread;
	pthread_mutex_t lock; /* over what follows up to `shown` of the slots */
	pthread_cond_t wake;
	bool is_ending, want_start, want_stop;
	uint64_t interval_s, rate;
	/* the thread's */
	unsigned at;
	uint64_t damaged[TOLD_AT_ONCE];
	size_t damaged_count;
	uint64_t first_damage_ms;
	struct metric *m_bytes, *m_damaged, *m_ended;
};

/* ---- the thread ---- */

/* False: the end. */
static bool sleep_ms(struct scrub *s, uint64_t ms)
{
	struct timespec until;
	bool goes_on;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&s->lock);
	while (!s->is_ending && !s->want_start && !s->want_stop &&
		pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
		;
	goes_on = !s->is_ending;
	pthread_mutex_unlock(&s->lock);
	return goes_on;
}

static void show(struct scrub *s, unsigned slot)
{
	pthread_mutex_lock(&s->lock);
	s->slots[slot].shown = s->slots[slot].state;
	pthread_mutex_unlock(&s->lock);
}

static void complain(struct scrub *s, unsigned slot, int err)
{
	(void)s;
	log_warn("store", "scrub of slot %u: %s", slot, error_text(err));
}

static void save(struct scrub *s, unsigned slot)
{
	struct store_txn *txn;
	int err = store_begin_write(s->store, slot, &txn);

	if (!err) {
		err = store_scrub_put(txn, &s->slots[slot].state);
		if (err)
			store_abort(&txn);
		else
			err = store_commit(&txn);
	}
	if (err)
		complain(s, slot, err);
	s->slots[slot].saved_ms = clock_mono_ms();
	show(s, slot);
}

static void load(struct scrub *s, unsigned slot)
{
	struct store_txn *txn;
	int err = store_begin_read(s->store, slot, &txn);

	if (!err) {
		err = store_scrub_get(txn, &s->slots[slot].state);
		store_end_read(&txn);
	}
	if (err)
		complain(s, slot, err);
	s->slots[slot].is_loaded = !err;
	show(s, slot);
}

static void take_damaged(void *arg, uint64_t blob)
{
	struct scrub *s = arg;

	log_error("store", "scrub: a body is damaged slot=%u blob=%llu", s->at, (unsigned long long)blob);
	if (s->damaged_count == 0)
		s->first_damage_ms = clock_mono_ms();
	if (s->damaged_count < TOLD_AT_ONCE)
		s->damaged[s->damaged_count++] = blob;
}

static void log_message(void *arg, const char *text)
{
	(void)arg;
	log_error("store", "scrub: %s", text);
}

/* Which messages: a look at all of the slot, so not for each body alone. */
static void tell_damaged(struct scrub *s)
{
	int err;

	if (!s->damaged_count)
		return;
	err = store_scrub_tell(s->store, s->at, s->damaged, s->damaged_count, log_message, s);
	if (err)
		complain(s, s->at, err);
	s->damaged_count = 0;
}

static void end_pass(struct scrub *s, bool is_whole)
{
	struct store_scrub *state = &s->slots[s->at].state;

	tell_damaged(s);
	state->next = state->frame = 0;
	if (is_whole)
		state->ended = (uint64_t)clock_wall_s();
	save(s, s->at);
	if (is_whole)
		log_info("store", "scrub of slot %u is done bodies=%llu bytes=%llu damaged=%llu", s->at,
			(unsigned long long)state->blobs, (unsigned long long)state->bytes,
			(unsigned long long)state->damaged);
}

static void begin_pass(struct scrub *s, unsigned slot)
{
	struct store_scrub *state = &s->slots[slot].state;

	*state = (struct store_scrub){.next = 1, .began = (uint64_t)clock_wall_s(), .ended = state->ended};
	save(s, slot);
}

/* Takes over what the main loop wants; begins what is due. */
static void take_orders(struct scrub *s)
{
	uint64_t now = (uint64_t)clock_wall_s(), interval;
	bool start, stop;

	pthread_mutex_lock(&s->lock);
	start = s->want_start;
	stop = s->want_stop;
	s->want_start = s->want_stop = false;
	interval = s->interval_s;
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->slot_count; i++) {
		struct slot *slot = &s->slots[i];

		if (!slot->is_loaded)
			load(s, i);
		if (!slot->is_loaded)
			continue;
		if (stop && slot->state.next) {
			s->at = i;
			end_pass(s, false);
		} else if (!slot->state.next &&
			   (start || (interval && !stop && now >= slot->state.began + interval))) {
			begin_pass(s, i);
		}
	}
}

/* One step; gives the bytes read. 0: nothing to do in this slot. */
static uint64_t step(struct scrub *s)
{
	struct slot *slot = &s->slots[s->at];
	struct store_txn *txn;
	uint64_t before = slot->state.bytes, now = clock_mono_ms();
	int err;

	if (!slot->is_loaded || !slot->state.next)
		return 0;
	err = store_begin_read(s->store, s->at, &txn);
	if (!err) {
		store_txn_set_name(txn, "store scrub");
		err = store_scrub_step(txn, &slot->state, STEP_BYTES, take_damaged, s);
		store_end_read(&txn);
	}
	if (err)
		complain(s, s->at, err);
	metric_add(s->m_bytes, (int64_t)(slot->state.bytes - before));
	if (!err && slot->state.next == 0)
		end_pass(s, true);
	else if (now - slot->saved_ms > SAVE_EVERY_MS)
		save(s, s->at);
	if (s->damaged_count == TOLD_AT_ONCE ||
		(s->damaged_count && now - s->first_damage_ms > TELL_AFTER_MS))
		tell_damaged(s);
	show(s, s->at);
	return slot->state.bytes - before + 4096; /* a step without bytes is no busy loop */
}

static uint64_t rate_of(struct scrub *s)
{
	uint64_t rate;

	pthread_mutex_lock(&s->lock);
	rate = s->rate;
	pthread_mutex_unlock(&s->lock);
	return rate;
}

static void *scrub_main(void *arg)
{
	struct scrub *s = arg;
	uint64_t wait = 0;

	while (sleep_ms(s, wait)) {
		uint64_t bytes = 0;

		take_orders(s);
		for (unsigned i = 0; i < s->slot_count && !bytes; i++) {
			s->at = i;
			bytes = step(s);
		}
		wait = bytes ? bytes * 1000 / rate_of(s) : LOOK_EVERY_MS;
	}
	tell_damaged(s);
	for (unsigned i = 0; i < s->slot_count; i++)
		if (s->slots[i].is_loaded && s->slots[i].state.next)
			save(s, i);
	return NULL;
}

/* ---- the main loop ---- */

static void collect(void *arg)
{
	struct scrub *s = arg;
	uint64_t damaged = 0, ended = UINT64_MAX;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->slot_count; i++) {
		damaged += s->slots[i].shown.damaged;
		ended = s->slots[i].shown.ended < ended ? s->slots[i].shown.ended : ended;
	}
	pthread_mutex_unlock(&s->lock);
	metric_set(s->m_damaged, (int64_t)damaged);
	metric_set(s->m_ended, (int64_t)ended);
}

void scrub_set_config(struct scrub *s, const struct conf *conf)
{
	pthread_mutex_lock(&s->lock);
	s->interval_s = conf_get_duration(conf, "", NULL, "scrub-interval") / 1000;
	s->rate = conf_get_size(conf, "", NULL, "scrub-rate");
	pthread_mutex_unlock(&s->lock);
}

int scrub_start(struct admin *admin, const struct conf *conf, struct scrub **scrub_out)
{
	struct scrub *s = xcalloc(1, sizeof(*s));
	pthread_condattr_t attr;

	s->store = admin->store;
	s->slot_count = store_slots(admin->store);
	s->slots = xcalloc(s->slot_count, sizeof(*s->slots));
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	s->m_bytes = metrics_counter(
		"mailtier_store_scrub_bytes", NULL, "Bytes of bodies that the scrub has read.");
	s->m_damaged = metrics_gauge(
		"mailtier_store_scrub_damaged", NULL, "Damaged bodies that the present or last scrub found.");
	s->m_ended = metrics_gauge("mailtier_store_scrub_ended_seconds", NULL,
		"When every slot was last scrubbed whole, in seconds since 1970.");
	scrub_set_config(s, conf);
	if (pthread_create(&s->thread, NULL, scrub_main, s)) {
		pthread_mutex_destroy(&s->lock);
		pthread_cond_destroy(&s->wake);
		free(s->slots);
		free(s);
		return ERR_NOT_NOW;
	}
	metrics_on_collect(collect, s);
	*scrub_out = s;
	return 0;
}

void scrub_stop(struct scrub **scrub)
{
	struct scrub *s = *scrub;

	if (!s)
		return;
	metrics_off_collect(collect, s);
	pthread_mutex_lock(&s->lock);
	s->is_ending = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->wake);
	free(s->slots);
	free(s);
	*scrub = NULL;
}

/* ---- verbs ---- */

static void verb_status(void *arg, struct control_request *r)
{
	struct admin *admin = arg;
	struct scrub *s = admin->scrub;
	struct store_scrub shown;

	for (unsigned i = 0; s && i < s->slot_count; i++) {
		pthread_mutex_lock(&s->lock);
		shown = s->slots[i].shown;
		pthread_mutex_unlock(&s->lock);
		control_row(r);
		control_add_int(r, "slot", i);
		control_add_bool(r, "running", shown.next != 0);
		control_add_int(r, "bodies", (int64_t)shown.blobs);
		control_add_int(r, "bytes", (int64_t)shown.bytes);
		control_add_int(r, "damaged", (int64_t)shown.damaged);
		control_add_time(r, "began", (int64_t)shown.began);
		control_add_time(r, "ended", (int64_t)shown.ended);
	}
	control_done(r);
}

static void order(struct admin *admin, struct control_request *r, bool start)
{
	struct scrub *s = admin->scrub;

	if (!s) {
		control_fail(r, ERR_NOT_NOW, "the store is not open yet");
		return;
	}
	pthread_mutex_lock(&s->lock);
	s->want_start = start;
	s->want_stop = !start;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	control_done(r);
}

static void verb_start(void *arg, struct control_request *r)
{
	order(arg, r, true);
}

static void verb_stop(void *arg, struct control_request *r)
{
	order(arg, r, false);
}

static const struct control_verb verbs[] = {
	{"store scrub status", "", "How far the scrub has come, and what it found", verb_status, 0, 0, NULL,
		0},
	{"store scrub start", "", "Begins a pass over all bodies now", verb_start, 0, 0, NULL, 0},
	{"store scrub stop", "", "Ends the pass that runs; the next begins after scrub-interval", verb_stop,
		0, 0, NULL, 0},
};

void scrub_register(struct admin *admin)
{
	control_register(admin->control, verbs, ARRAY_LEN(verbs), admin);
}
