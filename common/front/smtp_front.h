/*
 * The whole receiving side of SMTP and LMTP (RFC 5321, 2033, 1870, 2920, 3030, 3207, 4954, 6152, 6531), the same on both tiers:
 * greeting, EHLO, STARTTLS, AUTH, XCLIENT, transactions, limits, deadlines. What a sender, a recipient and a body mean is the
 * tier's to say: the proxy asks maps and opens legs to back-ends, the back-end delivers. The tier supplies a struct
 * smtp_service with its `ops`.
 *
 * A front owns its connection and itself; it lives on the connection's loop, and everything here is called there. It ends by its
 * client, a deadline, or smtp_front_close(). After ops->end() no pointer to it is good.
 *
 *	listener -> smtp_front_start(service, conn, flags)          ops->begin
 *	    MAIL    ops->mail(...)         -> smtp_front_answer_mail()       at once or later
 *	    RCPT    ops->rcpt(..., i)      -> smtp_front_answer_rcpt(i)      in any order; the client sees them in its own
 *	    DATA    ops->data_begin()      -> smtp_front_answer_data()       354, or a refusal for all
 *	    body    ops->data_chunk() ...     smtp_front_hold_data(true/false): back-pressure
 *	    end     ops->data_end()        -> smtp_front_answer_end(i): SMTP once with i = 0, LMTP once for each accepted recipient
 *	            ops->data_cut()           instead of data_end: the body was refused by us, nothing of it may be delivered
 *	            ops->sent()               the answers have left for the client (written to the socket)
 *	    then    ops->reset(how)           exactly once for each accepted MAIL: the transaction is over
 *
 * Answers may be given from within the call or later. A recipient whose answer is 2yz is accepted. The front answers by itself
 * what is out of order, too long, too many.
 */
#pragma once

#include <stdatomic.h>

#include "common/front/front.h"
#include "common/front/smtp_complete.h"
#include "common/proto/smtp_data.h"
#include "common/proto/smtp_parse.h"

struct smtp_front;

/* One reply. Views, copied by who gets it; text may come from a peer, controls are taken out. */
struct smtp_answer {
	unsigned code;
	struct slice enhanced; /* may be empty */
	struct slice text;
};
#define SMTP_ANSWER(code, enhanced, text)                                                                    \
	(&(struct smtp_answer){(code), SLICE_LIT(enhanced), SLICE_LIT(text)})

enum smtp_reset {
	SMTP_RESET_ORDER, /* RSET, QUIT, EHLO, XCLIENT, or the next MAIL: the client knows how it ended */
	SMTP_RESET_CUT    /* connection lost, deadline, or we ended it */
};

/* What VRFY is told. */
enum smtp_verify {
	SMTP_VERIFY_HERE,
	SMTP_VERIFY_NONE,
	SMTP_VERIFY_ELSEWHERE, /* not ours to say */
	SMTP_VERIFY_NOT_NOW
};

struct smtp_ops {
	/* The session begins, greeting not yet sent; NULL: nothing. */
	void (*begin)(struct smtp_front *front);
	/* The session ends, after reset(SMTP_RESET_CUT) where a transaction was open: forget it. */
	void (*end)(struct smtp_front *front);
	/* Is the peer of this connection one of our proxies (XCLIENT, XMARK)? NULL: nobody is. LMTP is
	 * answered to these only. */
	bool (*is_trusted)(struct smtp_front *front);
	/* AUTH: answer by smtp_front_answer_login() (credentials->shown may want smtp_front_give_stored()). NULL: AUTH is not
	 * offered. */
	void (*login)(struct smtp_front *front, const struct front_credentials *credentials);
	/* Is this address of a header one of the user's? NULL: none is. Asked where service->complete wants to know. */
	bool (*is_own)(struct smtp_front *front, struct slice address);
	/* The front goes with a login unanswered. */
	void (*login_cancel)(struct smtp_front *front);
	/* Views valid during the call. */
	void (*mail)(struct smtp_front *front, const struct smtp_mail *mail);
	/* index counts the RCPT commands of the transaction that came here, from 0. */
	void (*rcpt)(struct smtp_front *front, unsigned index, const struct smtp_rcpt *rcpt);
	/* VRFY, where service->verifies: is there a mailbox of this address? Valid during the call; answer by smtp_front_answer_verify(),
	 * also from within, unless the session ends before. NULL: it says nothing. */
	void (*verify)(struct smtp_front *front, const struct smtp_path *path);
	/* Between RCPT and the body, from a trusted proxy that has announced marks: instead of what MAIL said. hold: why the message is
	 * to be held in the queue; NULL pointer: it is not. NULL: such marks are not taken. */
	void (*mark)(struct smtp_front *front, const struct smtp_mark *mark, struct slice hold);
	/* At least one recipient is accepted, all are answered. */
	void (*data_begin)(struct smtp_front *front);
	/* Decoded: lines end with CRLF, dots are undone. Valid during the call. */
	void (*data_chunk)(struct smtp_front *front, struct slice bytes);
	void (*data_end)(struct smtp_front *front);
	/* The body breaks a rule (NUL, bare newline, line, size, hops) or its client is gone: the front has
	 * answered or will not. */
	void (*data_cut)(struct smtp_front *front);
	/* NULL: nobody asks. */
	void (*sent)(struct smtp_front *front);
	void (*reset)(struct smtp_front *front, enum smtp_reset how);
};

/* What acceptance rules want of a recipient beside his being taken. */
struct smtp_wish {
	bool is_greylisted; /* a stranger's first try is put off */
	const char *
		route; /* title of the back-end (or route) that he is to go to; NULL: as the tier decides. View of the policy */
};

struct smtp_limits {
	uint64_t message_size; /* octets; SIZE announces it. 0: none */
	unsigned recipients;   /* of one transaction: beyond it 452 */
	unsigned
		errors; /* 4yz/5yz answers to commands before the connection is closed (421); LMTP: of senseless commands alone */
	unsigned idle_commands; /* NOOP, RSET, VRFY, HELP ... without a transaction between them */
	unsigned failed_logins;
	unsigned hops;            /* Received fields: beyond it 554 5.4.6 */
	unsigned own_hops;        /* of those that say "by" and our host; 0: not looked at */
	uint64_t failed_delay_ms; /* before a failed login is answered; doubles with each */
	uint64_t banner_ms;       /* who talks before this is over is refused; 0: greeted at once */
	uint64_t tls_ms;
	uint64_t command_ms; /* silence between commands */
	uint64_t data_ms;    /* silence within a body */
	uint64_t answer_ms;  /* the tier's answer */
	uint64_t end_ms;     /* the tier's answer to the end of data */
};
extern const struct smtp_limits smtp_limits_default;

struct smtp_service {
	const struct smtp_ops *ops;
	void *tier;       /* the tier's own */
	const char *name; /* "smtp", "submission", "lmtp": in log lines and metrics */
	const char *host; /* our name in greetings and Received; "": "localhost" */
	bool is_lmtp;
	bool requires_login; /* MAIL only after AUTH */
	bool is_strict; /* who sends more behind a command that ends its group (RFC 2920) is disconnected */
	bool is_passed_on; /* the tier passes transactions on to others, who do not wait for ever: a body that takes long needs new ones */
	bool takes_marks;  /* XMARK from trusted proxies, SMTP too (LMTP always does) */
	/* Headers are completed (RFC 6409 section 8): what of; is_own and arg are not looked at, but ops->is_own. NULL: they are not */
	const struct smtp_complete_options *complete;
	bool allows_clear;       /* AUTH without TLS */
	bool requires_tls;       /* MAIL only over TLS (530) */
	struct front_auth *auth; /* how clients may log in; NULL: no AUTH. Owned by the service */
	bool verifies;           /* VRFY tells who is here */
	bool offers_dsn;         /* RFC 3461: the tier does what RET, ENVID, NOTIFY and ORCPT ask for */
	bool offers_requiretls;  /* RFC 8689: and REQUIRETLS. Announced over TLS alone */
	bool counts_hops; /* a proxy: anybody may say by XCLIENT TTL how many proxies he has come through */
	enum smtp_bare bare;
	bool checks_spf;         /* of senders (common/front/smtp_spf.h); false: where a rule asks for it */
	uint64_t spf_ms;         /* for one check; 0: never */
	struct tls *tls;         /* STARTTLS; NULL: not offered. Owned by the service */
	const char *domain;      /* that bare user names get; "": none */
	struct penalty *penalty; /* for failed logins across sessions, the program's; NULL: none */
	struct smtp_limits limits;
	struct smtp_policy *policy;     /* smtp_policy.h; NULL: none. Owned by the service; not for LMTP */
	struct smtp_counters *counters; /* made and freed with the service */
	_Atomic unsigned refs;
	void (*free)(struct smtp_service *service); /* at the last unref; NULL: nothing */
};
struct smtp_counters;
struct smtp_policy;
struct smtp_facts;
/* Sets the count to one and the defaults. name labels logs and metrics; it and ops must live on. */
void smtp_service_init(
	struct smtp_service *service, const char *name, const struct smtp_ops *ops, void *tier);
struct smtp_service *smtp_service_ref(struct smtp_service *service);
void smtp_service_unref(struct smtp_service **service);

/* Takes the connection and begins the dialogue; flags of enum front_flag. References the service. */
void smtp_front_start(struct smtp_service *service, struct conn *conn_take, unsigned flags);
/* 421 and the end, at the next moment that allows it (between transactions), or at once with now: drain,
 * kick. */
void smtp_front_close(struct smtp_front *front, bool now);

struct smtp_service *smtp_front_service(const struct smtp_front *front);
struct conn *smtp_front_conn(const struct smtp_front *front);
struct loop *smtp_front_loop(const struct smtp_front *front);
/* The tier's own of this session. */
void smtp_front_set_tier(struct smtp_front *front, void *tier);
void *smtp_front_tier(const struct smtp_front *front);
/* Made here, or told by a trusted proxy; in every log line. */
const char *smtp_front_session(const struct smtp_front *front);
/* The client's own address: the peer's, or what a trusted proxy told. */
const struct addr *smtp_front_client(const struct smtp_front *front);
/* SHA-256 of the octets of the body as the client sent them (decoded, but not completed), without the first `skip` that smtp_mark.prefix
 * tells of; from data_end() on. False: the service completes no headers, and what data_chunk() got is what was sent. */
bool smtp_front_client_digest(const struct smtp_front *front, uint8_t digest_out[SMTP_DIGEST_LEN]);
const char *smtp_front_helo(const struct smtp_front *front);
/* Who has logged in; "" nobody. What smtp_front_answer_login() gave as user. */
const char *smtp_front_user(const struct smtp_front *front);
/* "SMTP", "ESMTP", "ESMTPSA", "LMTP", "UTF8SMTP" ... (RFC 3848, RFC 6531): the way the client came, told by a
 * proxy or our own. */
const char *smtp_front_protocol(const struct smtp_front *front);
bool smtp_front_is_trusted(const struct smtp_front *front);
/* What is known of the session and its transaction (smtp_facts.h); what the front knows itself is up to date. The front's. */
struct smtp_facts *smtp_front_facts(struct smtp_front *front);
/* Of the recipient that ops->rcpt() is about: valid during that call. */
const struct smtp_wish *smtp_front_wish(const struct smtp_front *front);
/* As front_ttl(). */
unsigned smtp_front_ttl(const struct smtp_front *front);
/* Appends one Received field (RFC 5321 section 4.4) for the present transaction: from, by, with, id; no
 * `for`. unix_s: now. */
void smtp_front_received(const struct smtp_front *front, int64_t unix_s, struct buf *out);

/* ---- the tier's answers ---- */

/* As front_give_stored(). */
void smtp_front_give_stored(struct smtp_front *front, struct slice stored, bool is_known);
/* The peer that logs a user in is a proxy of ours that vouches for him: its marks are believed afterwards too. Before the answer. */
void smtp_front_keep_marks(struct smtp_front *front);
/* FRONT_OK: user (copied) has logged in. detail goes to the log alone. */
void smtp_front_answer_login(
	struct smtp_front *front, enum front_result result, struct slice user, const char *detail);
void smtp_front_answer_verify(struct smtp_front *front, enum smtp_verify what);
void smtp_front_answer_mail(struct smtp_front *front, const struct smtp_answer *answer);
void smtp_front_answer_rcpt(struct smtp_front *front, unsigned index, const struct smtp_answer *answer);
/* code 354: the body may come. Otherwise the reply; the transaction goes on without a body. */
void smtp_front_answer_data(struct smtp_front *front, const struct smtp_answer *answer);
/* While true no data_chunk comes (what is on its way may still), and the client is not read. */
void smtp_front_hold_data(struct smtp_front *front, bool hold);
/* SMTP: index 0 and one answer. LMTP: index as given to rcpt(), one for each accepted recipient. May be given
 * before data_end() too (a leg broke amid the body): the client gets it at the end. */
void smtp_front_answer_end(struct smtp_front *front, unsigned index, const struct smtp_answer *answer);
