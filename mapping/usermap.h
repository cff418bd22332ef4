/*
 * User maps: which account, which back-end, and, if asked, whether the credential is right. The one public
 * header of this room.
 *
 * A usermap_set holds all maps of a program and watches their files on one loop. A usermap_chain is an
 * ordered list of them for one service, constant, counted. A look-up may be made on any loop; its answer
 * comes in the call itself when it is known at once (files without a slow hash, cached credentials), else
 * later on the same loop.
 *
 * Answers are three-valued: yes; no (no such user, or wrong credential); not now. Maps are asked in order. No
 * such user goes on to the next; a wrong credential ends with no; not now ends with not now. The first map
 * that knows the user gives the route, the first that can check the credential checks it; where a password was
 * shown, no map that could means no.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "common/directory/directory_set.h"
#include "common/net/loop.h"
#include "common/net/work.h"

#define USERMAP_NAME_MOST 63 /* octets of a map's or back-end's name */
#define USERMAP_ADDRESS_MOST 320
#define USERMAP_HOST_MOST 255
#define USERMAP_CHAIN_MOST 8   /* maps of a chain */
#define USERMAP_TARGETS_MOST 4 /* places where one user's mailbox may be asked for */

/* ---- the maps of a program ---- */

enum usermap_type {
	USERMAP_FILE,
	USERMAP_LDAP_PASSWORD, /* finds the entry, holds the password against the one in it */
	USERMAP_LDAP_BIND      /* finds the entry, binds as it */
};

struct usermap_options {
	const char *name;
	enum usermap_type type;
	const char *file;      /* USERMAP_FILE */
	const char *connector; /* LDAP maps */
	uint64_t positive_ms, negative_ms,
		stale_ms; /* how long answers are good for; beyond positive_ms only while
							the directory cannot say */
	size_t cache_entries;
	bool send_only;             /* users whom the chain gives no host may authenticate and send */
	const char *const *domains; /* NULL-ended; asked about these only; NULL or empty: about all */
	unsigned max_shrink;        /* per cent; a generation with more entries lost is refused; 100: any */
	bool ports;                 /* `host:port` is legal: one protocol alone uses this map */
};

struct usermap_config {
	const struct usermap_options *maps;
	size_t count;
	const struct directory_connector *connectors;
	size_t connector_count;
	const char *const *backends;     /* NULL-ended: names that the second column may have */
	uint64_t credential_lifetime_ms; /* 0: credentials are not remembered */
	size_t credential_entries;
};

struct usermap_set;

/*
 * Reads all maps (waits for it: a million entries take about a second) and begins to watch. A map that cannot
 * be read is no error: it answers not now until it can, and says why in the log and in its status. loop:
 * where files are watched; pool: hash workers. ERR_CONFIG: a domain that is none; why.
 */
MUST_CHECK int usermap_set_open(const struct usermap_config *config, struct loop *loop,
	struct work_pool *hash_pool, struct buf *why, struct usermap_set **set_out);
/* On the set's loop. Maps of the same name keep what they have in force until their files were read anew,
 * aside; chains that were made before keep working on what they hold. */
MUST_CHECK int usermap_set_reconfigure(
	struct usermap_set *set, const struct usermap_config *config, struct buf *why);
/* On the set's loop, or after it has ended. All requests are answered or cancelled before, all chains freed.
 */
void usermap_set_close(struct usermap_set **set);
/* Forgets checked credentials, and what LDAP maps were answered (mailtierctl map flush): of one normalised name, or of
 * all if it is empty (checked credentials of all in any case). On the set's loop. */
void usermap_set_flush(struct usermap_set *set, struct slice name);

struct usermap_chain;
/* maps: NULL-ended names of the set. ERR_NOT_FOUND: one is not there; ERR_TOO_BIG. On the set's loop, or
 * before it runs. */
MUST_CHECK int usermap_chain_new(
	struct usermap_set *set, const char *const *maps, struct usermap_chain **chain_out);
/* Any thread. */
struct usermap_chain *usermap_chain_ref(struct usermap_chain *chain);
void usermap_chain_unref(struct usermap_chain **chain);

/* ---- asking ---- */

/* How the user shows who he is. */
enum usermap_shown {
	USERMAP_SHOWN_NONE,     /* not at all: the question is where he is */
	USERMAP_SHOWN_PASSWORD, /* `password`: a map must find it right */
	USERMAP_SHOWN_FETCH,    /* not yet: what is stored for him is wanted, to put a challenge */
	USERMAP_SHOWN_PROVEN /* by a certificate, a ticket, or a challenge that was met: a map must know him */
};

struct usermap_question {
	struct slice service; /* "imap", "smtp" …: part of the credential's cache key */
	struct slice
		name; /* user or address; normalised, with its domain and +detail (auth_name_normalise()) */
	enum usermap_shown shown;
	bool is_address;       /* a recipient, not a login: LDAP maps ask by their address filter */
	struct slice password; /* USERMAP_SHOWN_PASSWORD */
	/*
	 * USERMAP_SHOWN_FETCH: the caller's, alive until the answer or the cancelling. With the verdict yes it holds what
	 * the first map stores that has something stored for this user: texts as common/auth/password.h knows them, each
	 * ended by a NUL. Empty: he is known, and no map has anything.
	 */
	struct secret *stored_out;
};

enum usermap_verdict {
	USERMAP_YES,
	USERMAP_NO_SUCH_USER,
	USERMAP_WRONG_CREDENTIAL, /* also: no map of the chain can check it */
	USERMAP_NOT_NOW
};

enum usermap_target_kind {
	USERMAP_BACKEND, /* name is that of a section */
	USERMAP_HOST     /* name is a host name or address; port 0: the protocol's own */
};

struct usermap_target {
	enum usermap_target_kind kind;
	uint16_t port;
	char name[USERMAP_HOST_MOST + 1];
};

/* Owns nothing; may be copied. Only verdict is set unless it is USERMAP_YES. */
struct usermap_answer {
	enum usermap_verdict verdict;
	unsigned target_count; /* 0: known, and without a mailbox */
	bool send_only;        /* without a mailbox: may authenticate and send */
	bool checked;          /* a map has positively checked the credential, or it was proven */
	uint32_t line;         /* of the map's file that decided */
	uint64_t generation;   /* content hash of what decided */
	char map[USERMAP_NAME_MOST + 1];
	char account[USERMAP_ADDRESS_MOST + 1];              /* canonical; without detail */
	struct usermap_target targets[USERMAP_TARGETS_MOST]; /* in the order in which they are tried */
};

typedef void usermap_fn(void *arg, const struct usermap_answer *answer);
struct usermap_request;

/*
 * 1: *answer_out is the answer, fn is not called, *request_out is NULL. 0: fn gets it on this loop, once, and
 * not before this call has returned; until then *request_out is the request. Everything of the question is
 * copied where needed.
 */
MUST_CHECK int usermap_lookup(struct usermap_chain *chain, const struct usermap_question *question,
	struct loop *loop, usermap_fn *fn, void *arg, struct usermap_answer *answer_out,
	struct usermap_request **request_out);
/* On the loop: fn will not be called. Sets NULL, accepts NULL. In fn the request is gone already. */
void usermap_cancel(struct usermap_request **request);

/* ---- operating: on the set's loop ---- */

struct usermap_status {
	const char *name; /* views: until the next call on the set */
	const char *type; /* as in the configuration */
	const char *file;
	const char *connector, *server; /* LDAP maps: which, and the URI in use; else "" */
	bool usable;                    /* some generation is in force; the connector is up */
	uint64_t generation;            /* content hash, 0 if none */
	uint64_t entries;
	uint64_t bytes;    /* memory that it takes */
	int64_t loaded_at; /* seconds since 1970 */
	uint64_t load_ms;  /* how long it took */
	uint64_t loads, failures;
	const char *error; /* the last refusal with file:line, "" when the last reading was good */
	int64_t error_at;
};
size_t usermap_set_count(const struct usermap_set *set);
/* i < count. */
void usermap_set_status(struct usermap_set *set, size_t i, struct usermap_status *status_out);

/*
 * Reads a map's file again now, as soon as it stands still; name NULL: all. force: even if it shrank or lost
 * its end line. fn (may be NULL) is called on the set's loop once for each map that was asked for: error 0,
 * or ERR_* with words. ERR_NOT_FOUND: no such map.
 */
typedef void usermap_reload_fn(void *arg, const char *name, int error, const char *words);
MUST_CHECK int usermap_set_reload(
	struct usermap_set *set, const char *name, bool force, usermap_reload_fn *fn, void *arg);

/*
 * Checks a file as it would be read for the map `as` (NULL: the back-ends of the configuration, ports legal),
 * without loading it. fn is called on the set's loop with the file's name, and error 0 and words "N entries
 * …", or ERR_* and a line "FILE:LINE: reason" for each fault. ERR_NOT_FOUND: no such map; ERR_NOT_NOW: too
 * many wait.
 */
MUST_CHECK int usermap_set_check(
	struct usermap_set *set, const char *as, const char *file, usermap_reload_fn *fn, void *arg);

/* One step of an explanation: which map, what was tried, which line, what followed. Strings are views of the
 * call. */
struct usermap_step {
	const char *map;
	const char *rule; /* "domains" "exact" "without detail" "domain" "expression" "default" "credential"
			     "result" */
	const char *key;  /* what was looked for */
	uint32_t line;    /* 0: none */
	bool hit;
	const char *words; /* for people */
};
typedef void usermap_step_fn(void *arg, const struct usermap_step *step);
/* Goes through a chain as a look-up would, and says every step; checks no credential. The answer is the
 * look-up's. 1: *answer_out is it, done is not called. 0: done gets it on this loop later, once; it cannot be
 * cancelled. */
MUST_CHECK int usermap_explain(struct usermap_chain *chain, struct slice service, struct slice name,
	struct loop *loop, usermap_step_fn *fn, usermap_fn *done, void *arg,
	struct usermap_answer *answer_out);

/* ---- configuration: rows for the program's table ---- */

#define USERMAP_CONF_SECTION                                                                                 \
	{                                                                                                    \
		"map", CONF_TITLED | CONF_RELOAD, NULL,                                                      \
			"A user map: says for a user or address which back-end it is on"                     \
	}
/* Section "map", and the keys credential-cache… of the top. The program has DIRECTORY_CONF_SECTION too. */
extern const struct conf_key usermap_conf_keys[];
/* For the program's check(): what single keys cannot show. */
void usermap_conf_check(struct conf *conf);
/* Can the map of this name give what is stored for a user (USERMAP_SHOWN_FETCH)? Bind maps cannot. */
bool usermap_conf_can_fetch(const struct conf *conf, const char *map);
/*
 * What the configuration says, as views of it, until usermap_config_free(). backends: names of the
 * configured back-ends; single: NULL-ended names of the maps that one protocol alone uses (`host:port` is
 * legal there).
 */
void usermap_config_read(const struct conf *conf, const char *const *backends, const char *const *single,
	struct usermap_config *config_out);
void usermap_config_free(struct usermap_config *config);
