/*
 * Greylisting: who sends to whom from which network, when he was first seen and whether he has come again. In slot 0 alone, so that one
 * table is exact whatever proxies there are.
 *
 *	DB_GREYLIST        key of 16 octets            -> version, first seen, last seen, when it goes, passes
 *	DB_GREYLIST_TIMES  when it goes, key           -> nothing
 *
 * A stranger has to come again no sooner than delay_s and no later than retry_s after his first try; from then on he passes for life_s after each
 * time that he is seen. Each question takes a few rows away whose time is over; beyond entries_max those go that would go first.
 */
#pragma once

#include "backend/store/store.h"

#define STORE_GREYLIST_KEY_LEN 16
#define STORE_GREYLIST_STEP 8 /* rows that one question takes away at most */

struct store_greylist_terms {
	uint64_t delay_s, retry_s, life_s;
	uint64_t entries_max; /* at least 1 */
};

/* In a write transaction of slot 0. *wait_s_out 0: he passes; otherwise how long he should wait. */
MUST_CHECK int store_greylist_ask(struct store_txn *txn, const uint8_t key[STORE_GREYLIST_KEY_LEN],
	int64_t now, const struct store_greylist_terms *terms, uint64_t *wait_s_out);
/* For checks and repairs: the row of DB_GREYLIST_TIMES that belongs to a row of DB_GREYLIST. ERR_CORRUPT. */
#define STORE_GREYLIST_TIME_LEN (8 + STORE_GREYLIST_KEY_LEN)
MUST_CHECK int store_greylist_time_key(
	struct slice key, struct slice record, char room[STORE_GREYLIST_TIME_LEN]);
MUST_CHECK int store_greylist_count(struct store_txn *txn, uint64_t *count_out);
