/*
 * A merge sort from the bottom up, over places instead of messages, that can stop after any comparison. Keys
 * are compared by a number first: dates and sizes are numbers, of a text it is made of the first eight bytes.
 */
#include "backend/session/imap_sort.h"

#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"

#define CLOCK_EVERY 512

struct key {
	uint64_t number;
	const char *text; /* u16 length and bytes; NULL: the number is all */
};

void imap_sorter_init(struct imap_sorter *s, const struct imap_sort *program)
{
	*s = (struct imap_sorter){.program = *program};
	arena_init(&s->texts, IMAP_SORT_MEMORY);
	buf_init(&s->numbers, IMAP_SORT_MEMORY);
	buf_init(&s->keys, IMAP_SORT_MEMORY);
}

void imap_sorter_deinit(struct imap_sorter *s)
{
	arena_deinit(&s->texts);
	buf_deinit(&s->numbers);
	buf_deinit(&s->keys);
	free(s->order);
	free(s->other);
	s->order = s->other = NULL;
}

bool imap_sorter_needs_keys(const struct imap_sorter *s)
{
	for (size_t i = 0; i < s->program.count; i++) {
		enum imap_sort_key key = s->program.criteria[i].key;

		if (key != IMAP_SORT_ARRIVAL && key != IMAP_SORT_SIZE)
			return true;
	}
	return false;
}

size_t imap_sorter_count(const struct imap_sorter *s)
{
	return buf_len(&s->numbers) / sizeof(uint32_t);
}

/* ---- adding ---- */

/* Stored keys are in small letters; the collations (RFC 4790 section 9.2, RFC 5051) order by capital ones: "a" goes before "_". */
static void copy_capital(char *out, struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		out[i] = (char)(text.p[i] >= 'a' && text.p[i] <= 'z' ? text.p[i] - 'a' + 'A' : text.p[i]);
}

static int make_text(struct imap_sorter *s, struct slice text, struct key *key_out)
{
	unsigned char first[8] = {0};
	char *copy = arena_alloc(&s->texts, text.len + 2);
	uint64_t number = 0;

	if (!copy)
		return ERR_TOO_BIG;
	bytes_put_u16(copy, (uint16_t)text.len);
	copy_capital(copy + 2, text);
	memcpy(first, copy + 2, text.len < 8 ? text.len : 8);
	for (int i = 0; i < 8; i++)
		number = number << 8 | first[i];
	*key_out = (struct key){number, copy};
	return 0;
}

/* Times before 1970 come first too. */
static struct key time_key(int64_t t)
{
	return (struct key){(uint64_t)t ^ UINT64_C(1) << 63, NULL};
}

static int make_key(struct imap_sorter *s, enum imap_sort_key what, const struct store_entry *entry,
	const struct mail_keys *keys, struct key *key_out)
{
	switch (what) {
	case IMAP_SORT_ARRIVAL:
		*key_out = time_key(entry->date);
		return 0;
	case IMAP_SORT_SIZE:
		*key_out = (struct key){entry->size, NULL};
		return 0;
	case IMAP_SORT_DATE:
		*key_out = time_key(keys->has_date ? keys->sent : entry->date);
		return 0;
	case IMAP_SORT_CC:
		return make_text(s, keys->texts[MAIL_KEY_CC], key_out);
	case IMAP_SORT_FROM:
		return make_text(s, keys->texts[MAIL_KEY_FROM], key_out);
	case IMAP_SORT_SUBJECT:
		return make_text(s, keys->texts[MAIL_KEY_SUBJECT], key_out);
	case IMAP_SORT_TO:
		return make_text(s, keys->texts[MAIL_KEY_TO], key_out);
	case IMAP_SORT_DISPLAYFROM:
		return make_text(s, keys->texts[MAIL_KEY_DISPLAY_FROM], key_out);
	case IMAP_SORT_DISPLAYTO:
		return make_text(s, keys->texts[MAIL_KEY_DISPLAY_TO], key_out);
	}
	return ERR_SYNTAX;
}

int imap_sorter_add(
	struct imap_sorter *s, uint32_t number, const struct store_entry *entry, const struct mail_keys *keys)
{
	for (size_t i = 0; i < s->program.count; i++) {
		struct key key;
		int err = make_key(s, s->program.criteria[i].key, entry, keys, &key);

		if (err < 0)
			return err;
		buf_add(&s->keys, &key, sizeof(key));
	}
	buf_add(&s->numbers, &number, sizeof(number));
	return s->keys.failed || s->numbers.failed ? ERR_TOO_BIG : 0;
}

/* ---- sorting ---- */

static int compare_texts(const char *a, const char *b)
{
	uint16_t a_len = bytes_get_u16(a), b_len = bytes_get_u16(b);
	int n = memcmp(a + 2, b + 2, a_len < b_len ? a_len : b_len);

	return n ? n : (a_len > b_len) - (a_len < b_len);
}

/* b goes before a, though it came later. */
static bool is_before(const struct imap_sorter *s, uint32_t b, uint32_t a)
{
	const struct key *keys = (const void *)(s->keys.data + s->keys.start);
	size_t count = s->program.count;

	for (size_t i = 0; i < count; i++) {
		const struct key *x = &keys[b * count + i], *y = &keys[a * count + i];
		int n = (x->number > y->number) - (x->number < y->number);

		if (n == 0 && x->text)
			n = compare_texts(x->text, y->text);
		if (n)
			return s->program.criteria[i].is_reverse ? n > 0 : n < 0;
	}
	return false;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int begin(struct imap_sorter *s, size_t count)
{
	s->order = malloc((count + 1) * sizeof(*s->order));
	s->other = malloc((count + 1) * sizeof(*s->other));
	if (!s->order || !s->other)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < count; i++)
		s->order[i] = (uint32_t)i;
	s->width = 1;
	s->left = s->i = 0;
	s->j = least(1, count);
	return 0;
}

/* Merges the two runs at `left`; false: the time is over. */
static bool merge(struct imap_sorter *s, size_t count, uint64_t until)
{
	size_t mid = least(s->left + s->width, count), right = least(s->left + 2 * s->width, count);
	unsigned steps = 0;

	/* In order already, as mail mostly is by date. */
	if (s->i == s->left && s->j == mid &&
		(mid == right || !is_before(s, s->order[mid], s->order[mid - 1]))) {
		memcpy(s->other + s->left, s->order + s->left, (right - s->left) * sizeof(*s->order));
		s->i = mid;
		s->j = right;
	}
	while (s->i < mid || s->j < right) {
		size_t to = s->i + s->j - mid;
		bool is_second =
			s->i == mid || (s->j < right && is_before(s, s->order[s->j], s->order[s->i]));

		s->other[to] = s->order[is_second ? s->j++ : s->i++];
		if (++steps % CLOCK_EVERY == 0 && clock_mono_us() > until)
			return false;
	}
	return true;
}

int imap_sorter_step(struct imap_sorter *s, uint64_t until)
{
	size_t count = imap_sorter_count(s);
	unsigned runs = 0;

	if (!s->order) {
		int err = begin(s, count);

		if (err < 0)
			return err;
	}
	while (s->width < count) {
		while (s->left < count) {
			if (!merge(s, count, until))
				return 0;
			s->left = least(s->left + 2 * s->width, count);
			s->i = s->left;
			s->j = least(s->left + s->width, count);
			if (++runs % CLOCK_EVERY == 0 && clock_mono_us() > until)
				return 0;
		}
		uint32_t *swap = s->order;

		s->order = s->other;
		s->other = swap;
		s->width *= 2;
		s->left = s->i = 0;
		s->j = least(s->width, count);
	}
	return 1;
}

uint32_t imap_sorter_number(const struct imap_sorter *s, size_t place)
{
	const uint32_t *numbers = (const void *)(s->numbers.data + s->numbers.start);

	return numbers[s->order[place]];
}
