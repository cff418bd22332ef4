/*
 * The sections `users`: who checks the passwords of which domains. A section with a connector asks a directory
 * (common/auth/directory_login.h); users of other domains have the passwords of their accounts. A section may have accounts
 * made at the first login. Main thread, but for what is told of a config's snapshot, which is constant.
 */
#pragma once

#include "backend/config.h"
#include "common/auth/directory_login.h"
#include "common/control/control.h"

struct backend;
struct users;

/* Rows for the table of keys: section "users". */
extern const struct conf_key users_keys[];
#define USERS_SECTION                                                                                        \
	{                                                                                                    \
		"users", CONF_TITLED | CONF_RELOAD, NULL,                                                    \
			"Whose passwords a directory checks, and whose accounts are made at the first login" \
	}
/* For the program's check(). */
void users_check(struct conf *conf);

/* One section, in a snapshot of the configuration. */
struct config_users {
	const char *title;
	char **domains;                /* normalised, NULL-ended; empty: all that no other section names */
	struct directory_login *login; /* counted; NULL: passwords of the accounts */
	bool creates;
	/* of which login was made */
	const struct directory_entry *connector;
	bool by_bind;
	uint64_t positive_ms, negative_ms, stale_ms;
	size_t cache_entries;
};
/* Of the configuration, without their logins. ERR_CONFIG: a domain that is none. */
MUST_CHECK int users_read(struct config *config, struct buf *why);
void users_free_sections(struct config *config);
/* The section of the user's (or account's) domain; NULL: none. Any thread. */
const struct config_users *users_find(const struct config *config, struct slice name);
/* May an account of this address be made by this section? Any thread. */
bool users_may_create(const struct config_users *section, struct slice address);

/* The directories. NULL old: the first configuration. Before any loop sees config. ERR_NOT_NOW: no threads. */
struct users *users_new(struct backend *b);
MUST_CHECK int users_tie(
	struct users *users, const struct config *old, struct config *config, struct buf *why);
/* After all configurations have gone; the loop has to turn once more. */
void users_free(struct users **users);
/* Nobody waits for answers any more: the loops have ended. */
void users_end(struct config *config);
/* "users list", "users flush". */
void users_register(struct backend *b);
