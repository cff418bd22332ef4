/*
 * Users in a directory: who is this, and is the password right. A question becomes a search of a connector; the
 * password is held against the one in the entry, or the entry is bound as; the answer is remembered. Questions come on
 * any loop and are answered there; the work is done on the connector's home loop. The same question that is under way
 * already is waited for.
 *
 * The answer has three values, and a fourth: found, no such user, wrong, not now. While the directory cannot say, what
 * was right before is given again, up to stale_ms old.
 */
#pragma once

#include "common/auth/credential_cache.h"
#include "common/auth/directory_cache.h"
#include "common/directory/directory_set.h"

#define DIRECTORY_LOGIN_STORED_MOST 8 /* values of the password attribute that are looked at */

enum directory_login_verdict {
	DIRECTORY_LOGIN_HIT,
	DIRECTORY_LOGIN_NONE,
	DIRECTORY_LOGIN_WRONG, /* wrong password, or an account that is switched off */
	DIRECTORY_LOGIN_NOT_NOW
};

enum directory_login_want {
	DIRECTORY_LOGIN_ADDRESS, /* whom an address of mail belongs to, by the address filter */
	DIRECTORY_LOGIN_USER,    /* who logs in; somebody else answers for the credential */
	DIRECTORY_LOGIN_CHECK,   /* who logs in, with this password */
	DIRECTORY_LOGIN_FETCH    /* who logs in, and the stored passwords; never remembered */
};

struct directory_login_question {
	enum directory_login_want want;
	struct slice service;
	struct slice name;     /* normalised, with its +detail */
	struct slice password; /* DIRECTORY_LOGIN_CHECK */
};

struct directory_login_answer {
	enum directory_login_verdict verdict;
	bool is_cached, is_stale;
	struct directory_cache_entry entry; /* of a hit */
	/* DIRECTORY_LOGIN_FETCH: each `{SCHEME}…`; views of the call. None with by_bind. */
	struct slice stored[DIRECTORY_LOGIN_STORED_MOST];
	size_t stored_count;
};

struct directory_login;

struct directory_login_options {
	const char *kind,
		*name; /* who asks: "map", "users"; constant kind; for the log, metrics and credentials */
	bool by_bind;  /* bind as the entry; else compare */
	const struct directory_entry *connector; /* its options are copied, its directory is held */
	uint64_t positive_ms, negative_ms, stale_ms;
	size_t cache_entries;
	struct loop *home; /* the connector's */
	struct credential_cache *credentials;
	struct work_pool *hash_pool;
};

struct directory_login *directory_login_new(const struct directory_login_options *options);
struct directory_login *directory_login_ref(struct directory_login *login);
/* Any thread; what is under way keeps it. */
void directory_login_unref(struct directory_login **login);
/* On the home, or after it ended: gives up all that is under way; nobody waits for it any more. */
void directory_login_end(struct directory_login *login);

typedef void directory_login_fn(void *arg, const struct directory_login_answer *answer);
struct directory_login_request;
/* 1: answered. 0: fn gets the answer on this loop, not within the call. */
MUST_CHECK int directory_login_ask(struct directory_login *login,
	const struct directory_login_question *question, struct loop *loop, directory_login_fn *fn, void *arg,
	struct directory_login_answer *answer_out, struct directory_login_request **request_out);
/* The fetched texts in one, each ended by a NUL. */
void directory_login_texts(const struct directory_login_answer *answer, struct secret *texts_out);
/* On the loop that asked: fn will not be called. Sets NULL, accepts NULL. */
void directory_login_cancel(struct directory_login_request **request);
/* Forgets what is remembered: of a name, or all. Any thread. */
void directory_login_flush(struct directory_login *login, struct slice name);
size_t directory_login_count(const struct directory_login *login);
struct directory *directory_login_directory(const struct directory_login *login);
/* What a look-up of this name asks, for people: the filter, and the base, appended. */
void directory_login_describe(const struct directory_login *login,
	const struct directory_login_question *question, struct buf *out);
