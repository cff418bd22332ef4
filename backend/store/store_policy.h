/*
 * What an account, its class and its domain each may say about limits, protocols and suspension. What the account does not say,
 * its class says (its own, else the domain's), then its domain, then the built-in values. The name table works the values
 * out whenever an account is looked up, so that a change of a class or a domain counts for all members at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Which values a level says. */
enum store_says {
	STORE_SAYS_BYTES = 1,
	STORE_SAYS_COUNT = 2,
	STORE_SAYS_PROTOCOLS = 4,
	STORE_SAYS_SUSPENDED_MAIL = 8
};
#define STORE_SAYS_ALL 15u

/* Ways to an account: logins by IMAP and POP3, mail by LMTP. */
enum store_protocol {
	STORE_PROTOCOL_IMAP = 1,
	STORE_PROTOCOL_POP3 = 2,
	STORE_PROTOCOL_LMTP = 4
};
#define STORE_PROTOCOLS_ALL 7u

/* Mail for who is suspended. */
enum store_suspended_mail {
	STORE_MAIL_KEPT,     /* is delivered as ever */
	STORE_MAIL_DEFERRED, /* is refused for a time (4yz) */
	STORE_MAIL_REFUSED   /* is refused for good (5yz) */
};

struct store_policy {
	uint32_t says;          /* enum store_says; the values of others mean nothing */
	uint64_t bytes_limit;   /* 0: none */
	uint64_t count_limit;   /* 0: none */
	uint8_t protocols;      /* enum store_protocol */
	uint8_t suspended_mail; /* enum store_suspended_mail */
	bool is_suspended;      /* one level is enough */
};

/* Where a value comes from. */
enum store_level {
	STORE_LEVEL_ACCOUNT,
	STORE_LEVEL_CLASS,
	STORE_LEVEL_DOMAIN,
	STORE_LEVEL_BUILT_IN,
	STORE_LEVEL_CAP /* the domain's maximum, below what another level says */
};
