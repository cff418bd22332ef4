/*
 * The keys that sign mail: sections `dkim` of the configuration, one a selector, which both programs share, and the section
 * `mail-auth`. A struct mail_auth_keys is constant and counted; a reload makes a new one. Any thread.
 *
 *	dkim example-2026 {
 *	    domains = { example.com }
 *	    selector = s2026
 *	    key = /etc/mailtier/dkim/example-2026.pem
 *	    sign-from = 2026-12-01
 *	}
 */
#pragma once

#include "common/conf/conf.h"
#include "common/crypto/signature.h"
#include "common/proto/dkim_signature.h"

/* Signatures that one message gets: one of each algorithm. */
#define MAIL_AUTH_KEYS_SIGN 2
/* Most octets of a file with a key. */
#define MAIL_AUTH_KEYS_FILE_MOST (64 * 1024)

/* Rows of sections "", "mail-auth" and "dkim": smtp_policy_keys has them, for both programs. */
#define MAIL_AUTH_KEYS                                                                                       \
	{"", "mail-auth-workers", CONF_INT, 0, "2", 1, 64, NULL,                                             \
		"Threads that hash and sign messages which are too large for a loop", NULL},                 \
		{"mail-auth", "verify", CONF_LIST, CONF_RELOAD, "dkim dmarc arc", 0, 0, "dkim dmarc arc",    \
			"What is checked of mail that comes in by smtp; dmarc needs dkim. An empty list: "   \
			"nothing",                                                                           \
			NULL},                                                                               \
		{"mail-auth", "dmarc-policy", CONF_ENUM, CONF_RELOAD, "tell", 0, 0,                          \
			"tell quarantine reject",                                                            \
			"What becomes of mail that DMARC fails: tell: it is written into the message; "      \
			"quarantine: it "                                                                    \
			"is held, whatever the domain asks for beyond none; reject: as the domain asks",     \
			NULL},                                                                               \
		{"mail-auth", "rsa-least", CONF_INT, CONF_RELOAD, "1024", 1024, 4096, NULL,                  \
			"Bits of an RSA key below which a signature does not count (result policy)", NULL},  \
		{"mail-auth", "dns-timeout", CONF_DURATION, CONF_RELOAD, "5s", 100, 60000, NULL,             \
			"How long keys and policies are waited for; without them the result is temperror",   \
			NULL},                                                                               \
		{"mail-auth", "arc-seal", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                          \
			"A domain with a key in a dkim section: mail that comes in by smtp is sealed with "  \
			"it (ARC)",                                                                          \
			NULL},                                                                               \
		{"dkim", "domains", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,                \
			"Domains of From whose mail this key signs, each with itself as d=", NULL},          \
		{"dkim", "selector", CONF_STRING, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,             \
			"The selector: the key is published at SELECTOR._domainkey.DOMAIN", NULL},           \
		{"dkim", "key", CONF_PATH, CONF_RELOAD | CONF_REQUIRED | CONF_PRIVATE, NULL, 0, 0, NULL,     \
			"File with the private key in PEM, RSA of 1024 to 4096 bits or Ed25519, mode 0600 "  \
			"or tighter",                                                                        \
			NULL},                                                                               \
		{"dkim", "sign-from", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                              \
			"Signs from this day or minute on (2026-12-01, 2026-12-01T12:00, UTC), and an "      \
			"older key of "                                                                      \
			"the domain no more; empty: always",                                                 \
			NULL},                                                                               \
		{"dkim", "subdomains", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,                             \
			"Signs mail from subdomains too, unless they have keys of their own", NULL},         \
	{                                                                                                    \
		"dkim", "canonicalization", CONF_ENUM, CONF_RELOAD, "relaxed/relaxed", 0, 0,                 \
			"relaxed/relaxed relaxed/simple simple/simple simple/relaxed",                       \
			"Forms of header and body that are signed", NULL                                     \
	}
#define MAIL_AUTH_SECTIONS                                                                                   \
	{"mail-auth", CONF_RELOAD, NULL, "DKIM, DMARC and ARC: what is checked of mail that comes in"},      \
	{                                                                                                    \
		"dkim", CONF_TITLED | CONF_RELOAD, NULL, "A key that signs mail of some domains"             \
	}

struct mail_auth_signing_key {
	const char *title;
	struct slice *domains; /* lower-case ASCII */
	size_t domain_count;
	struct slice selector;
	struct signature_key *key;
	int64_t from; /* seconds since 1970; 0: always */
	bool covers_subdomains;
	bool is_header_relaxed, is_body_relaxed;
};

struct mail_auth_keys {
	_Atomic unsigned refs;
	size_t count;
	struct mail_auth_signing_key *list;
	struct slice seal_domain; /* empty: nothing is sealed */
	struct arena *arena;
};

/* Holds everything against what can be known without network: for a program's table check. */
void mail_auth_keys_check(struct conf *conf);
/* ERR_CONFIG, with the reasons appended to why. */
MUST_CHECK int mail_auth_keys_new(const struct conf *conf, struct buf *why, struct mail_auth_keys **keys_out);
struct mail_auth_keys *mail_auth_keys_ref(struct mail_auth_keys *keys);
void mail_auth_keys_unref(struct mail_auth_keys **keys);

/* A key in force for a domain, and the d= that it signs with. */
struct mail_auth_choice {
	const struct mail_auth_signing_key *key;
	struct slice domain;
};
/*
 * Those for mail from this domain at this time, at most one of each algorithm: of the nearest domain that has any, those whose
 * sign-from came last; of equals, the one written last. Returns how many.
 */
unsigned mail_auth_keys_find(const struct mail_auth_keys *keys, struct slice domain, int64_t now,
	struct mail_auth_choice choices_out[MAIL_AUTH_KEYS_SIGN]);
/* "2026-12-01" or "2026-12-01T12:00" (UTC) to seconds since 1970. ERR_SYNTAX. */
MUST_CHECK int mail_auth_keys_time(struct slice text, int64_t *unix_s_out);
