/*
 * The sort program of SORT (RFC 5256, SORT=DISPLAY of RFC 5957) and the algorithm of THREAD, from the parser's
 * argument tree to structs. Pure; any thread.
 */
#pragma once

#include "common/proto/imap_parse.h"

enum imap_sort_key {
	IMAP_SORT_ARRIVAL,
	IMAP_SORT_CC,
	IMAP_SORT_DATE,
	IMAP_SORT_FROM,
	IMAP_SORT_SIZE,
	IMAP_SORT_SUBJECT,
	IMAP_SORT_TO,
	IMAP_SORT_DISPLAYFROM,
	IMAP_SORT_DISPLAYTO
};
#define IMAP_SORT_KEYS (IMAP_SORT_DISPLAYTO + 1)

struct imap_sort_criterion {
	enum imap_sort_key key;
	bool is_reverse;
};

/* A key that stands a second time decides nothing any more, and is left out: so there is room for all. */
struct imap_sort {
	struct imap_sort_criterion criteria[IMAP_SORT_KEYS];
	size_t count;
};

/* The parenthesised list. ERR_SYNTAX. */
MUST_CHECK int imap_sort_parse(const struct imap_arg *arg, struct imap_sort *sort_out);

enum imap_thread_algorithm {
	IMAP_THREAD_ORDEREDSUBJECT,
	IMAP_THREAD_REFERENCES
};
/* ERR_SYNTAX: no atom; ERR_UNSUPPORTED: an algorithm that is not known. */
MUST_CHECK int imap_sort_parse_algorithm(
	const struct imap_arg *arg, enum imap_thread_algorithm *algorithm_out);
