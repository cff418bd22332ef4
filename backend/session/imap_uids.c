/* Spans are found by halving, by place or by UID. */
#include "backend/session/imap_uids.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/base/attr.h"
#include "common/base/mem.h"

/* So many that follow one another get a span of their own, rather than four octets each in a list. */
#define RUN_LEAST 16
#define LIST_FIRST 16

void imap_uids_deinit(struct imap_uids *u)
{
	for (size_t i = 0; i < u->span_count; i++)
		free(u->spans[i].listed);
	free(u->spans);
	*u = (struct imap_uids){0};
}

static uint32_t uid_of(const struct imap_uid_span *s, uint32_t at)
{
	return s->listed ? s->listed[at] : s->from + at;
}

/* ---- adding ---- */

static struct imap_uid_span *last_span(struct imap_uids *u)
{
	return u->span_count ? &u->spans[u->span_count - 1] : NULL;
}

static struct imap_uid_span *new_span(struct imap_uids *u, uint32_t from, uint32_t count)
{
	if (u->span_count == u->span_room) {
		u->span_room = u->span_room ? u->span_room * 2 : 4;
		u->spans = xreallocarray(u->spans, u->span_room, sizeof(*u->spans));
	}
	u->spans[u->span_count] = (struct imap_uid_span){.from = from, .place = u->count, .count = count};
	u->count += count;
	return &u->spans[u->span_count++];
}

/* Lists have room for a power of two. */
static bool has_room(uint32_t count)
{
	return count < LIST_FIRST || (count & (count - 1)) != 0;
}

/* A short span without gaps becomes a list. */
static void make_list(struct imap_uid_span *s)
{
	s->listed = xreallocarray(NULL, LIST_FIRST, sizeof(*s->listed));
	for (uint32_t i = 0; i < s->count; i++)
		s->listed[i] = s->from + i;
}

/* The end of a list, of UIDs that follow one another, becomes a span of its own. */
static void split_run(struct imap_uids *u)
{
	struct imap_uid_span *s = last_span(u);
	uint32_t from = s->listed[s->count - RUN_LEAST];

	s->count -= RUN_LEAST;
	u->count -= RUN_LEAST;
	if (s->count == 0) {
		free(s->listed);
		u->span_count--;
	}
	new_span(u, from, RUN_LEAST);
}

static void add_listed(struct imap_uids *u, uint32_t uid)
{
	struct imap_uid_span *s = last_span(u);

	if (s && !s->listed && s->count < RUN_LEAST)
		make_list(s);
	if (!s || !s->listed || s->count == IMAP_UIDS_LISTED) {
		new_span(u, uid, 1);
		return;
	}
	if (!has_room(s->count))
		s->listed = xreallocarray(s->listed, (size_t)s->count * 2, sizeof(*s->listed));
	s->listed[s->count++] = uid;
	u->count++;
	if (s->count >= RUN_LEAST && s->listed[s->count - RUN_LEAST] == uid - (RUN_LEAST - 1))
		split_run(u);
}

void imap_uids_add(struct imap_uids *u, uint32_t from, uint32_t count)
{
	require(count && from > imap_uids_last(u) && count - 1 <= UINT32_MAX - from);
	while (count) {
		struct imap_uid_span *s = last_span(u);

		if (s && !s->listed && from == s->from + s->count) {
			s->count += count;
			u->count += count;
			return;
		}
		if (count >= RUN_LEAST) {
			new_span(u, from, count);
			return;
		}
		add_listed(u, from++);
		count--;
	}
}

/* ---- taking out ---- */

/* The span without those that went; to the new list. */
static void keep_rest(struct imap_uids *to, const struct imap_uid_span *s, const uint32_t *gone, size_t count)
{
	uint32_t from = s->from, end = s->from + s->count;

	if (s->listed) {
		for (uint32_t at = 0, i = 0; at < s->count; at++) {
			while (i < count && gone[i] < s->listed[at])
				i++;
			if (i == count || gone[i] != s->listed[at])
				imap_uids_add(to, s->listed[at], 1);
		}
		free(s->listed);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (gone[i] > from)
			imap_uids_add(to, from, gone[i] - from);
		from = gone[i] + 1;
	}
	if (end > from)
		imap_uids_add(to, from, end - from);
}

void imap_uids_remove(struct imap_uids *u, const uint32_t *gone, size_t gone_count)
{
	struct imap_uids left = {0};
	size_t from = 0;

	for (size_t i = 0; i < u->span_count; i++) {
		struct imap_uid_span *s = &u->spans[i];
		uint32_t last = uid_of(s, s->count - 1);
		size_t to;

		while (from < gone_count && gone[from] < s->from)
			from++;
		for (to = from; to < gone_count && gone[to] <= last; to++)
			;
		if (to > from || !s->listed) {
			keep_rest(&left, s, gone + from, to - from);
		} else {
			uint32_t *listed = s->listed;

			new_span(&left, s->from, s->count)->listed = listed;
		}
		from = to;
	}
	free(u->spans);
	*u = left;
}

/* ---- looking ---- */

/* The span in which a place lies. */
static size_t span_of(const struct imap_uids *u, uint32_t place)
{
	size_t low = 0, high = u->span_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (u->spans[middle].place <= place)
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint32_t imap_uids_at(const struct imap_uids *u, uint32_t place)
{
	const struct imap_uid_span *s;

	require(place < u->count);
	s = &u->spans[span_of(u, place)];
	return uid_of(s, place - s->place);
}

uint32_t imap_uids_last(const struct imap_uids *u)
{
	return u->count ? uid_of(&u->spans[u->span_count - 1], u->spans[u->span_count - 1].count - 1) : 0;
}

/* The last span that begins at or below this UID; the first one if none does. */
static const struct imap_uid_span *span_with(const struct imap_uids *u, uint32_t uid)
{
	size_t low = 0, high = u->span_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (u->spans[middle].from <= uid)
			low = middle;
		else
			high = middle;
	}
	return &u->spans[low];
}

uint32_t imap_uids_lower(const struct imap_uids *u, uint32_t uid)
{
	const struct imap_uid_span *s;
	uint32_t low = 0, high;

	if (u->count == 0)
		return 0;
	s = span_with(u, uid);
	if (uid <= s->from)
		return s->place;
	if (!s->listed)
		return s->place + (uid - s->from < s->count ? uid - s->from : s->count);
	for (high = s->count; low < high;) {
		uint32_t middle = low + (high - low) / 2;

		if (s->listed[middle] < uid)
			low = middle + 1;
		else
			high = middle;
	}
	return s->place + low;
}

void imap_uids_copy(const struct imap_uids *u, uint32_t place, uint32_t count, uint32_t *out)
{
	size_t i = count ? span_of(u, place) : 0;

	require(count <= u->count && place <= u->count - count);
	while (count) {
		const struct imap_uid_span *s = &u->spans[i++];
		uint32_t at = place - s->place, n = s->count - at < count ? s->count - at : count;

		if (s->listed)
			memcpy(out, s->listed + at, n * sizeof(*out));
		for (uint32_t k = 0; !s->listed && k < n; k++)
			out[k] = s->from + at + k;
		out += n;
		place += n;
		count -= n;
	}
}

struct imap_uids_walk imap_uids_walk(const struct imap_uids *u, uint32_t place)
{
	struct imap_uids_walk w = {.uids = u, .span = u->span_count};

	if (place < u->count) {
		w.span = span_of(u, place);
		w.at = place - u->spans[w.span].place;
	}
	return w;
}

uint32_t imap_uids_peek(const struct imap_uids_walk *w)
{
	return w->span < w->uids->span_count ? uid_of(&w->uids->spans[w->span], w->at) : 0;
}

void imap_uids_step(struct imap_uids_walk *w)
{
	if (++w->at == w->uids->spans[w->span].count) {
		w->span++;
		w->at = 0;
	}
}
