/* Every mechanism that a connection without TLS may have, for the fronts' fuzz drivers. */
#pragma once

#include "common/front/front_auth.h"

static struct front_auth *mechanisms_all(struct work_pool *pool)
{
	static const struct conf_section sections[] = {
		{"", 0, NULL, "top"},
		{"service", CONF_TITLED | CONF_RELOAD, "imap", "services"},
		{NULL, 0, NULL, NULL},
	};
	static const struct conf_key keys[] = {
		FRONT_AUTH_KEYS,
		FRONT_AUTH_SERVICE_KEYS("imap"),
		{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
	};
	static const struct conf_key *const tables[] = {keys, NULL};
	static const struct conf_table table = {
		.program = "fuzz", .file = "/nonexistent", .sections = sections, .keys = tables};
	static const char text[] =
		"service imap { mechanisms-clear = {PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, SCRAM-SHA-1, "
		"SCRAM-SHA-256, GSSAPI} }\n";
	struct front_auth *auth;
	struct buf why = {0};
	struct conf *conf;

	require(conf_load_text(&table, "fuzz.conf", slice_str(text), &why, &conf) == 0);
	auth = front_auth_new(conf, "imap", "mail.example.com", pool);
	conf_free(&conf);
	buf_deinit(&why);
	return auth;
}

/* What is stored: a password in clear for names that begin with y, a hash for h; nothing for k, and nobody else is there. */
static inline struct slice mechanisms_stored(char c)
{
	static const char clear[] = "{PLAIN}secret", hash[] = "{SHA}l5p99c9WaGTBMkRBdH3RYVEGoSU=";

	return c == 'y'   ? slice_of(clear, sizeof(clear))
	       : c == 'h' ? slice_of(hash, sizeof(hash))
			  : slice_of("", 0);
}

static inline bool mechanisms_is_known(char c)
{
	return c == 'y' || c == 'h' || c == 'k';
}
