/*
 * Quotas in memory: what deliveries on their way were promised, and who passes a threshold. Promises live here alone: they are of
 * running sessions, and mean nothing after a restart.
 */
#include "backend/store/names_inner.h"
#include "backend/store/store_account.h"
#include "common/base/clock.h"
#include "common/base/num.h"

/* ---- thresholds ---- */

static unsigned percent_of(struct names *n, const struct account_entry *a)
{
	struct policy_levels levels = names_levels(a);
	struct store_policy e = policy_effective(n->policies, &levels, NULL);
	struct store_quota_use use = {a->bytes_used, e.bytes_limit, a->count_used, e.count_limit};

	return store_quota_percent(&use);
}

bool names_set_used(struct names *n, struct account_entry *a, uint64_t bytes, uint64_t count)
{
	bool grows = bytes > a->bytes_used || count > a->count_used;
	unsigned level = 0, percent;
	uint64_t now;

	a->bytes_used = bytes;
	a->count_used = count;
	if (!n->watch.count)
		return false;
	percent = percent_of(n, a);
	while (level < n->watch.count && n->watch.thresholds[level] <= percent)
		level++;
	if (level < a->level)
		a->level = level;
	if (!grows || level == 0)
		return false;
	now = clock_mono_ms();
	if (level <= a->level && now < a->quiet_until)
		return false;
	a->level = level;
	a->quiet_until = now + n->watch.interval_ms;
	return true;
}

void store_quota_watch(struct store *store, const unsigned *thresholds, size_t count, uint64_t interval_s,
	store_quota_watch_fn *fn, void *arg)
{
	struct names *n = store->names;
	struct slice key;
	void *value;

	pthread_mutex_lock(&n->lock);
	n->watch.count = count < STORE_QUOTA_THRESHOLDS_MAX ? count : STORE_QUOTA_THRESHOLDS_MAX;
	for (size_t i = 0; i < n->watch.count; i++)
		n->watch.thresholds[i] = thresholds[i];
	n->watch.interval_ms = interval_s * 1000;
	n->watch.fn = fn;
	n->watch.arg = arg;
	/* Others may be due now: what was warned of stands in the store. */
	for (size_t at = 0; table_next(n->by_id, &at, &key, &value);) {
		struct account_entry *a = value;

		a->level = 0;
		a->quiet_until = 0;
	}
	pthread_mutex_unlock(&n->lock);
}

/* ---- promises ---- */

/* Does more fit under limit beside used and reserved? */
static bool fits(uint64_t limit, uint64_t used, uint64_t reserved, uint64_t more)
{
	uint64_t sum;

	if (limit == 0)
		return true;
	if (!num_add_u64(used, reserved, &sum))
		return false;
	if (more == 0)
		return sum < limit;
	return num_add_u64(sum, more, &sum) && sum <= limit;
}

/* INBOX takes all that is delivered. */
static bool has_room(uint64_t room, uint64_t reserved, uint64_t more)
{
	return room == UINT64_MAX || (room > reserved && (more ? more : 1) <= room - reserved);
}

/* A message of unknown size, beside others of its kind. */
static bool fits_unsized(const struct account_entry *a, uint64_t bytes_limit)
{
	uint64_t others = a->unsized * STORE_QUOTA_UNSIZED, reserved;

	return num_add_u64(a->bytes_reserved, others, &reserved) &&
	       fits(bytes_limit, a->bytes_used, reserved, 0) && has_room(a->inbox_bytes, reserved, 0);
}

int store_quota_reserve(struct store *store, unsigned slot, uint32_t account, uint64_t bytes)
{
	struct account_entry *a;
	int err = 0;

	pthread_mutex_lock(&store->names->lock);
	a = names_by_id(store->names, slot, account);
	if (!a)
		err = ERR_NOT_FOUND;
	else {
		struct policy_levels levels = names_levels(a);
		struct store_policy e = policy_effective(store->names->policies, &levels, NULL);

		if (!fits(e.bytes_limit, a->bytes_used, a->bytes_reserved, bytes) ||
			!fits(e.count_limit, a->count_used, a->count_reserved, 1) ||
			!has_room(a->inbox_bytes, a->bytes_reserved, bytes) ||
			!has_room(a->inbox_count, a->count_reserved, 1))
			err = ERR_TOO_BIG;
		else if (bytes == 0 && a->unsized && !fits_unsized(a, e.bytes_limit))
			err = ERR_NOT_NOW;
	}
	if (!err) {
		a->bytes_reserved += bytes;
		a->unsized += bytes == 0;
		a->count_reserved++;
	}
	pthread_mutex_unlock(&store->names->lock);
	return err;
}

void store_quota_release(struct store *store, unsigned slot, uint32_t account, uint64_t bytes)
{
	struct account_entry *a;

	pthread_mutex_lock(&store->names->lock);
	a = names_by_id(store->names, slot, account);
	if (a) {
		a->bytes_reserved -= bytes < a->bytes_reserved ? bytes : a->bytes_reserved;
		if (a->count_reserved)
			a->count_reserved--;
		if (bytes == 0 && a->unsized)
			a->unsized--;
	}
	pthread_mutex_unlock(&store->names->lock);
}
