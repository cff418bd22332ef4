/*
 * An ascending list of UIDs, as a view of a mailbox has one: place 0 is sequence number 1. Where UIDs follow one another without a gap a whole
 * stretch is one span; where they do not, a span lists up to IMAP_UIDS_LISTED of them.
 *
 *	span    | 1 … 99,000 | 99,002 99,005 99,006 … | 99,871 … 99,990 |
 *	place   0            99,000                   99,412
 *
 * So a mailbox of a million messages from which nothing was deleted takes some octets, one with a gap at every second UID four octets a message.
 * Used by one thread at a time, like the view that has it. Zeroed is empty.
 */
#pragma once

#include "common/base/bytes.h"

#define IMAP_UIDS_LISTED 1024

struct imap_uid_span {
	uint32_t from;    /* the first UID */
	uint32_t place;   /* its place */
	uint32_t count;   /* at least 1 */
	uint32_t *listed; /* NULL: all from `from` on */
};

struct imap_uids {
	struct imap_uid_span *spans;
	size_t span_count, span_room;
	uint32_t count; /* UIDs */
};

/* Frees what it holds; it is empty then. */
void imap_uids_deinit(struct imap_uids *u);
/* Adds `count` UIDs (at least one) that follow one another, behind all others. */
void imap_uids_add(struct imap_uids *u, uint32_t from, uint32_t count);
/* Takes these out: ascending; those that are not in it are skipped. */
void imap_uids_remove(struct imap_uids *u, const uint32_t *gone, size_t gone_count);

/* The UID at a place, which is below `count`. */
uint32_t imap_uids_at(const struct imap_uids *u, uint32_t place);
/* 0 when it is empty. */
uint32_t imap_uids_last(const struct imap_uids *u);
/* The first place whose UID is not below this one; `count` when there is none. */
uint32_t imap_uids_lower(const struct imap_uids *u, uint32_t uid);
/* The UIDs of so many places from one on, all of them there. */
void imap_uids_copy(const struct imap_uids *u, uint32_t place, uint32_t count, uint32_t *out);

/* One after the other, from a place on. The list does not change meanwhile. */
struct imap_uids_walk {
	const struct imap_uids *uids;
	size_t span;
	uint32_t at; /* within the span */
};
struct imap_uids_walk imap_uids_walk(const struct imap_uids *u, uint32_t place);
/* The next UID; 0 at the end. It stays the next one until imap_uids_step(). */
uint32_t imap_uids_peek(const struct imap_uids_walk *w);
void imap_uids_step(struct imap_uids_walk *w);
