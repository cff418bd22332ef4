/*
 * Domains and account classes. They are few: all lie in slot 0, so that one transaction of that slot changes them, and in
 * memory, so that no look-up touches the disk. An account knows its class by name. A domain without a record is one that
 * says nothing.
 *
 * Names: domains in lower-case ASCII (address_normalise_domain()), classes 1..STORE_CLASS_MAX of a-z, 0-9, '-', '_', '.'.
 */
#pragma once

#include "backend/store/store.h"
#include "backend/store/store_policy.h"
#include "common/base/arena.h"

#define STORE_DOMAIN_MAX 255
#define STORE_CLASS_MAX 64
#define STORE_DOMAIN_ALIASES_MAX 100
#define STORE_DOMAINS_MAX 100000
#define STORE_CLASSES_MAX 10000

struct store_domain {
	struct slice name;
	struct store_policy policy; /* of its accounts, where they and their class say nothing */
	uint64_t bytes_most;        /* no account has more, whatever it or its class says; 0: no maximum */
	uint64_t count_most;
	uint32_t accounts_most; /* 0: no maximum */
	struct slice class;     /* of accounts that have none of their own; empty: none */
	struct slice
		catch_all; /* address of an account here that gets mail for names that are not there; empty: none */
	struct slice
		postmaster; /* address of an account here that gets mail for postmaster and abuse; empty: none */
	struct slice aliases; /* other names of the domain, a blank between two */
};

struct store_class {
	struct slice name;
	struct store_policy policy;
};

/* ---- changes: transactions of slot 0; the memory follows at the commit ---- */

/*
 * Adds or replaces. ERR_EXISTS: an alias is a domain with a record or with names in it, or an alias of another; or the domain is
 * an alias itself. ERR_TOO_BIG: STORE_DOMAINS_MAX, or a text that is too long. ERR_DENIED: another slot's transaction.
 */
MUST_CHECK int store_domain_put(struct store_txn *txn, const struct store_domain *domain);
/* The record; accounts that are there stay. ERR_NOT_FOUND. */
MUST_CHECK int store_domain_remove(struct store_txn *txn, struct slice name);
MUST_CHECK int store_class_put(struct store_txn *txn, const struct store_class *class);
/* ERR_NOT_FOUND. The caller has seen that nobody is a member (store_class_find()): whoever is, has a class that says nothing. */
MUST_CHECK int store_class_remove(struct store_txn *txn, struct slice name);
bool store_class_is_name(struct slice name);

/* ---- questions: memory, any thread ---- */

struct store_domain_status {
	struct store_domain domain; /* texts in the arena */
	bool has_record;
	uint64_t accounts;
	uint64_t names; /* addresses of accounts and their aliases */
};
/* By its name or by an alias. ERR_NOT_FOUND: neither a record nor a name in it. ERR_TOO_BIG: the arena is full. */
MUST_CHECK int store_domain_find(
	struct store *store, struct slice name, struct arena *arena, struct store_domain_status *status_out);
/* All, sorted by name. */
MUST_CHECK int store_domain_list(
	struct store *store, struct arena *arena, struct store_domain_status **list_out, size_t *count_out);

struct store_class_status {
	struct store_class class; /* texts in the arena */
	bool has_record;          /* false: accounts name a class that is no more */
	uint64_t accounts;        /* that name it themselves */
	uint64_t domains;         /* that name it */
};
MUST_CHECK int store_class_find(
	struct store *store, struct slice name, struct arena *arena, struct store_class_status *status_out);
MUST_CHECK int store_class_list(
	struct store *store, struct arena *arena, struct store_class_status **list_out, size_t *count_out);

/*
 * May an account of this normalised address be made? Counts it as if it were there until store_domain_release() with the same address.
 * must_exist: only domains with a record have accounts. ERR_NOT_FOUND: this one has none. ERR_EXISTS: the domain is an alias of
 * another. ERR_TOO_BIG: it has as many accounts as it may.
 */
MUST_CHECK int store_domain_reserve(struct store *store, struct slice address, bool must_exist);
void store_domain_release(struct store *store, struct slice address);

/* The same without counting: may this be another name of an account? ERR_NOT_FOUND, ERR_EXISTS. */
MUST_CHECK int store_domain_may_name(struct store *store, struct slice address, bool must_exist);

/* What counts where account, class and domain say nothing: the program's configuration. 0: no limit. */
void store_domain_set_built_in(struct store *store, uint64_t bytes_limit, uint64_t count_limit);

/* Proves the records of slot 0: calls report for each that is damaged. ERR_*: it cannot be read. */
MUST_CHECK int store_domain_check(
	struct store *store, void (*report)(void *arg, const char *text), void *arg);
