/*
 * What a file of accounts says: CSV or LDIF becomes rows, each checked by itself, against the others and against the store, before
 * anything is changed. On a worker thread; nothing here changes the store.
 *
 * CSV: the first line names the columns: address (needed), password, class, quota, count, aliases, forward, keep, disabled, name. Lists
 * have blanks, commas or semicolons between. LDIF: mail (else uid, if it is an address) is the address, further mail, mailAlternateAddress,
 * mailLocalAddress and proxyAddresses are aliases, userPassword the password, mailQuotaSize and mailQuotaCount limits,
 * mailForwardingAddress forwarding, cn or displayName the name, accountStatus and loginDisabled whether it is disabled. Entries
 * without an address are passed over.
 */
#pragma once

#include "backend/store/store.h"
#include "backend/store/store_policy.h"
#include "common/base/arena.h"
#include "common/base/attr.h"

#define IMPORT_FILE_MAX (256u * 1024 * 1024)
#define IMPORT_ROWS_MAX 1000000
#define IMPORT_NAMES_MAX 100 /* aliases, or addresses to forward to, of one row */

enum import_format {
	IMPORT_CSV,
	IMPORT_LDIF
};

enum import_state {
	IMPORT_NEW,     /* there is no such account */
	IMPORT_PRESENT, /* there is */
	IMPORT_WRONG    /* an error was reported */
};

/* Texts are the arena's, or views of the file. Empty ones say nothing. */
struct import_row {
	unsigned line;
	enum import_state state;
	struct slice address;
	struct slice password; /* stored text; or in clear, to be hashed */
	bool is_clear;
	struct slice class, name;
	struct slice *aliases;
	size_t alias_count;
	struct slice forwards; /* as the store keeps them */
	bool sets_forwards;
	struct store_policy policy;        /* limits, as far as `says` has them */
	uint32_t flags_set, flags_cleared; /* of enum store_account_flag */
};

struct import_rows {
	struct arena arena;
	struct import_row *rows;
	size_t count, room;
	size_t new_count, present_count, wrong_count, clear_count;
	size_t passed_over; /* LDIF entries that are no accounts */
};

struct import_check {
	struct store *store;
	enum import_format format;
	bool domains_must_exist;
	/* Each error, in the file's order but for what only the whole shows. */
	void (*report)(void *arg, unsigned line, struct slice address, const char *why);
	void *arg;
};

/* rows: zeroed. 0 also with wrong rows; ERR_SYNTAX: the file is none (why, constant); ERR_TOO_BIG: IMPORT_ROWS_MAX, or no memory. */
MUST_CHECK int import_rows_read(struct slice text, const struct import_check *check,
	struct import_rows *rows_out, const char **why_out);
/* Wipes what there is of passwords. */
void import_rows_free(struct import_rows *rows);
