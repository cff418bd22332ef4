/*
 * Private: the name table in memory. Filled at open from DB_NAMES and DB_ACCOUNTS, changed by the effects of
 * committed transactions. Any thread; one short lock.
 */
#pragma once

#include "backend/store/db.h"
#include "backend/store/policy.h"

struct names *names_new(void);
void names_free(struct names **names);
/* Reads a slot's names and accounts, and of slot 0 domains and classes. */
MUST_CHECK int names_load(struct names *names, struct store_txn *txn);
/* Applies what a committed transaction changed. */
void names_apply(struct names *names, struct db_slot *slot, const struct effect *effects, size_t count);
/* The address as keys have it (address_normalise_whole()). room holds STORE_ADDRESS_MAX. ERR_SYNTAX,
 * ERR_TOO_BIG. */
MUST_CHECK int names_normalise(struct slice address, char *room, struct slice *name_out);
bool names_has(struct names *names, struct slice normalised);
/* The limits that count for an account with this record, which need not be committed yet. */
void names_limits(
	struct names *names, const struct account_record *record, uint64_t *bytes_out, uint64_t *count_out);
/* For questions about domains and classes: policies under the lock. */
struct policies *names_lock(struct names *names);
void names_unlock(struct names *names);
/* The name counts as taken for names_has() until it is given back: an account of it is on its way. ERR_NOT_NOW: another is. */
MUST_CHECK int names_claim(struct names *names, struct slice normalised);
void names_unclaim(struct names *names, struct slice normalised);
