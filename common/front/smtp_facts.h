/*
 * What is known of an SMTP session and its transaction: acceptance rules read it, `smtp explain` shows it, and whoever finds
 * something out writes it here. A struct smtp_facts belongs to its session (smtp_front_facts()) and to that session's loop; all
 * texts in it are its own heap copies, without controls, NULL where there is none.
 *
 * Answers of the outside are three-valued: a fact that cannot be had now is SMTP_FACT_NOT_NOW (or one of SMTP_RESULT_TEMPERROR), and
 * never reads as "none".
 */
#pragma once

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/net/addr.h"

enum smtp_fact_state {
	SMTP_FACT_UNKNOWN, /* nobody has asked */
	SMTP_FACT_KNOWN,
	SMTP_FACT_NONE,   /* for certain there is none */
	SMTP_FACT_NOT_NOW /* was asked, and cannot be said */
};

/* The result words of RFC 8601 section 2.7. */
enum smtp_result {
	SMTP_RESULT_UNKNOWN, /* not checked */
	SMTP_RESULT_NONE,
	SMTP_RESULT_PASS,
	SMTP_RESULT_FAIL,
	SMTP_RESULT_SOFTFAIL,
	SMTP_RESULT_NEUTRAL,
	SMTP_RESULT_POLICY,
	SMTP_RESULT_TEMPERROR,
	SMTP_RESULT_PERMERROR
};
#define SMTP_RESULTS (SMTP_RESULT_PERMERROR + 1)
/* "none", "pass" ...; "" for SMTP_RESULT_UNKNOWN. */
const char *smtp_facts_word(enum smtp_result result);
/* The result of that word in any case; SMTP_RESULT_UNKNOWN: no such word. */
enum smtp_result smtp_facts_result(struct slice word);

/* What the domain's DMARC record asks for. */
enum smtp_dmarc_policy {
	SMTP_DMARC_UNKNOWN, /* not checked, or no record */
	SMTP_DMARC_NONE,
	SMTP_DMARC_QUARANTINE,
	SMTP_DMARC_REJECT
};

#define SMTP_FACTS_DKIM_MOST 16   /* signatures that are remembered */
#define SMTP_FACTS_DNSBL_MOST 16  /* lists that one session asks */
#define SMTP_FACTS_LISTED_MOST 16 /* addresses of one answer */

struct smtp_dkim_fact {
	enum smtp_result result;
	char *domain; /* d= */
	char *selector;
};

struct smtp_dnsbl_fact {
	char *zone; /* as the rule names it */
	enum smtp_fact_state state;
	unsigned count;
	uint32_t listed[SMTP_FACTS_LISTED_MOST]; /* 127.0.0.0/8 alone; host order */
};

struct smtp_facts {
	/* ---- the session; what the front knows is filled in by smtp_front_facts() ---- */
	const char *service;  /* view */
	struct addr peer;     /* the client's address, told or seen */
	const char *helo;     /* view of the front; "" */
	const char *user;     /* view of the front; "" nobody */
	bool is_tls;          /* the client's way to us is encrypted */
	bool is_verified;     /* with a client certificate that holds */
	const char *tls_text; /* view: "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" */
	unsigned messages;    /* transactions of this session, with the present one */
	unsigned errors;      /* of this session */

	enum smtp_fact_state ptr_state; /* forward-confirmed: a name that does not lead back is none */
	char *ptr;
	enum smtp_fact_state country_state;
	char country[3]; /* ISO 3166, "DE" */
	unsigned dnsbl_count;
	struct smtp_dnsbl_fact *dnsbl; /* heap, as many as there are: an idle session has none */

	/* ---- the transaction ---- */
	char *sender;             /* on the wire; "" the null path; NULL: no transaction */
	char *recipient;          /* of the RCPT that is looked at; NULL: none */
	unsigned recipients;      /* accepted so far, with the present one */
	uint64_t size;            /* announced; at the end of data the real one */
	bool is_sender_own;       /* the sender is an address of the user who has logged in */
	bool is_sender_own_known; /* somebody has asked */

	enum smtp_result spf; /* RFC 7208, of MAIL FROM (of HELO where that is null) */
	char *spf_domain;     /* whose record was asked */
	enum smtp_result spf_helo;
	enum smtp_result dkim; /* the best of all signatures */
	unsigned dkim_count;
	struct smtp_dkim_fact *dkim_signatures; /* heap */
	enum smtp_result dmarc;
	enum smtp_dmarc_policy dmarc_policy;
	char *dmarc_domain; /* of From */
	enum smtp_result arc;
	char *arc_domain; /* of the last seal */
};

void smtp_facts_init(struct smtp_facts *facts);
void smtp_facts_deinit(struct smtp_facts *facts);
/* Forgets what belongs to the transaction. */
void smtp_facts_end_transaction(struct smtp_facts *facts);
/* Forgets what was found out about the peer (PTR, lists, country): he has changed (XCLIENT). */
void smtp_facts_forget_peer(struct smtp_facts *facts);
/* Replaces a text; controls become '?'. A slice with a NULL pointer: none. */
void smtp_facts_set(char **text, struct slice value);
/* Remembers one signature and lifts facts->dkim to the best result: pass, then temperror, fail, policy, neutral, permerror, none. */
void smtp_facts_add_dkim(
	struct smtp_facts *facts, enum smtp_result result, struct slice domain, struct slice selector);
/* The entry of a list, good until the next new one; a new one with SMTP_FACT_UNKNOWN if there is none yet. NULL: SMTP_FACTS_DNSBL_MOST are there. */
struct smtp_dnsbl_fact *smtp_facts_dnsbl(struct smtp_facts *facts, struct slice zone);
/* Appends the network that an address stands for, the same text on all hosts: /24, /64; "unix" for a socket. */
void smtp_facts_network(const struct addr *client, struct buf *out);
