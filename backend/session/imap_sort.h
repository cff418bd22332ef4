/*
 * Bringing messages into an order (RFC 5256): what a sort program compares of each is copied when it is added,
 * so that no transaction need stay open; then they are sorted in steps. Used by SORT, and by THREAD, which sorts
 * by date. One command's; any thread, one at a time.
 */
#pragma once

#include "backend/store/store_message.h"
#include "common/base/arena.h"
#include "common/proto/imap_sort.h"
#include "common/proto/mail_keys.h"

/* Most memory of one sort, or of one tree of threads. */
#define IMAP_SORT_MEMORY ((size_t)256 << 20)

struct imap_sorter {
	struct imap_sort program;
	struct arena texts;
	struct buf numbers; /* uint32_t of each message, in the order in which they came */
	struct buf keys;    /* so many keys of each as the program has criteria */
	uint32_t *order;    /* places in numbers; sorted when imap_sorter_step() says so */
	uint32_t *other;
	size_t width, left, i, j; /* the merge under way */
};

void imap_sorter_init(struct imap_sorter *s, const struct imap_sort *program);
void imap_sorter_deinit(struct imap_sorter *s);
/* Does the program need mail_keys? If not, NULL may be added. */
bool imap_sorter_needs_keys(const struct imap_sorter *s);
/* number: what the answer shows; of two that compare equal the first added comes first. ERR_TOO_BIG. */
MUST_CHECK int imap_sorter_add(struct imap_sorter *s, uint32_t number, const struct store_entry *entry,
	const struct mail_keys *keys);
size_t imap_sorter_count(const struct imap_sorter *s);
/* Sorts until the clock (clock_mono_us()) reaches `until`; 1: sorted, 0: call again, ERR_TOO_BIG. Nothing may be
 * added any more. */
MUST_CHECK int imap_sorter_step(struct imap_sorter *s, uint64_t until);
/* Once sorted: the number at a place. */
uint32_t imap_sorter_number(const struct imap_sorter *s, size_t place);
