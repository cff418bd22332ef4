/*
 * The inside of smtp_front, shared by its files and nobody else: smtp_front.c (life, state, deadlines),
 * smtp_front_command.c (commands), smtp_front_transaction.c (MAIL, RCPT and their answers), smtp_front_data.c
 * (bodies), smtp_front_auth.c.
 *
 * Input is taken by one loop, smtp_front_pump(), as long as the state allows it; an answer of the tier
 * changes the state and pumps again. Replies leave in the order of the commands: while answers to RCPT are
 * awaited only further RCPT commands are taken, and each gets a slot of a ring from whose head replies are
 * written.
 */
#pragma once

#include "common/auth/penalty.h"
#include "common/auth/sasl.h"
#include "common/base/arena.h"
#include "common/base/metrics.h"
#include "common/front/smtp_content.h"
#include "common/front/milter_watch.h"
#include "common/front/smtp_front.h"
#include "common/net/timer.h"

#define SMTP_ARENA_MOST (16 * 1024)
#define SMTP_PENDING_MOST 64        /* RCPT commands in progress; then the client waits */
#define SMTP_INPUT_MOST (16 * 1024) /* holds SMTP_AUTH_LINE_MOST */
#define SMTP_BODY_INPUT_MOST (64 * 1024)
#define SMTP_OUTPUT_MOST (16 * 1024) /* replies that a client does not take: nothing is read meanwhile */
#define SMTP_RECEIVED_MOST 1024

enum smtp_state {
	SMTP_HANDSHAKE, /* implicit TLS is being negotiated */
	SMTP_BANNER,    /* connected, the greeting waits: who talks now is refused */
	SMTP_COMMAND,   /* a command is awaited */
	SMTP_SASL,      /* a line of the AUTH dialogue is awaited */
	SMTP_SECURING,  /* STARTTLS was answered */
	SMTP_PENALTY,   /* a login waits for failures before it */
	SMTP_LOGIN,     /* the tier decides on a login */
	SMTP_DELAY,     /* a failed login is about to be answered */
	SMTP_CHECK,     /* an acceptance rule wants to know something first */
	SMTP_MAIL_WAIT, /* the tier's answer to MAIL */
	SMTP_RCPT_WAIT, /* as COMMAND, but only RCPT is taken: answers are awaited */
	SMTP_DATA_WAIT, /* the tier's answer to the beginning of a body */
	SMTP_BODY,      /* octets of a body */
	SMTP_END_WAIT,  /* the tier's answers to the end of it */
	SMTP_ENDED
};

/* A reply that waits for its turn, or for the tier. */
struct smtp_slot {
	unsigned index;
	bool is_answered;
	char *line; /* heap */
	size_t len;
};

struct smtp_counters {
	struct metric *connections, *open, *tls_failed, *early;
	struct metric *messages, *messages_later, *messages_refused;
	struct metric *rcpt_yes, *rcpt_later, *rcpt_no;
	struct metric *logins, *logins_failed;
};

struct smtp_front {
	struct smtp_service *service;
	struct conn *conn;
	struct loop *loop;
	void *tier;
	struct timer timer;
	enum smtp_state state;
	bool is_pumping, is_eof, is_closing, is_begun;
	bool is_unknown_told; /* filters have answered to an unknown command at once */
	bool is_sent_owed;    /* the answers to a body are written, and have not left yet */

	/* the client */
	char session[FRONT_SESSION_MOST + 1];
	struct addr client;
	char *helo, *user;                           /* heap, NULL: none */
	char *verified;                              /* VRFY: whom the tier is asked about; NULL: nobody */
	char *told_helo, *told_protocol, *told_user; /* by a trusted proxy */
	bool is_extended;                            /* EHLO or LHLO */
	unsigned ttl;                                /* smtp_front_ttl() */
	struct sasl_session *sasl;
	struct front_credentials credentials;
	bool is_asked; /* the tier has this login */
	bool keeps_marks;
	unsigned errors, idle_commands, failed_logins;
	uint64_t login_began_ms; /* of the loop's clock; 0: no login is being decided */
	uint64_t penalty_ms;     /* SMTP_PENALTY: how long */
	struct penalty_attempt attempt;

	/* one command */
	struct arena arena;

	/* the transaction */
	unsigned transactions;
	bool is_mail; /* MAIL was given to the tier and not refused: reset() is owed */
	uint64_t mail_ms, data_ms, body_ms,
		end_ms; /* when its phases began, by the loop's clock; 0: not yet */
	bool is_over;   /* its end was answered: only a new MAIL makes sense */
	bool is_utf8;
	struct smtp_mark mark;
	unsigned index; /* RCPT commands that went to the tier */
	unsigned accepted;
	unsigned pending;
	char *sender;           /* heap: for the log */
	struct smtp_slot *ring; /* SMTP_PENDING_MOST, heap, made when first needed */
	unsigned ring_head, ring_count;
	struct smtp_slot *ends; /* accepted recipients in order; answers to the end of data (SMTP: one) */
	unsigned ends_count, ends_room, ends_at;

	struct smtp_facts *facts;     /* heap, NULL: nobody has asked */
	struct smtp_judge *judge;     /* heap, NULL: no rules have run yet */
	struct milter_watch *milters; /* heap, NULL: no filter has been told anything */
	struct smtp_wish wish;        /* smtp_front_wish() */
	struct smtp_spf *spf;         /* heap: of this transaction; NULL: not checked */
	struct smtp_content *content; /* of this transaction; NULL: its body streams */

	/* the body */
	struct smtp_decoder decoder;
	struct smtp_hops hops;
	struct buf body;                /* decoded, empty between calls */
	struct smtp_complete *complete; /* of this body; NULL: headers are not completed */
	struct digest *digest;          /* with complete: of the client's own octets */
	uint64_t digest_skip;
	uint8_t client_digest[SMTP_DIGEST_LEN];
	bool has_digest;
	uint64_t size;       /* decoded octets so far */
	uint64_t chunk_left; /* BDAT: of this chunk */
	bool is_bdat, is_chunk_last;
	bool is_discarding; /* the body was refused: its octets go nowhere */
	bool is_body_open;  /* the tier knows of a body and of no end: data_end() or data_cut() is owed */
	bool is_held;
	uint64_t discarded;                    /* octets of a refused body */
	const struct smtp_answer *body_answer; /* why it was refused, constant; NULL: the tier will answer */
	struct buf refusal;                    /* the tier's refusal of a BDAT, told after its octets */
};

struct smtp_judged;

/* The one place that changes the state; sets its deadline. */
void smtp_front_enter(struct smtp_front *f, enum smtp_state state);
/* Takes what the state allows; the last thing that a callback does. */
void smtp_front_pump(struct smtp_front *f);
/* The connection ends after what was said has gone. why is for the log, NULL: ordinary. */
void smtp_front_end(struct smtp_front *f, const char *why);
void smtp_front_say(struct smtp_front *f, const struct smtp_answer *answer);
#define SMTP_SAY(f, code, enhanced, text) smtp_front_say((f), SMTP_ANSWER(code, enhanced, text))
/* Whoever was told 421 is let go (RFC 5321 section 3.8). */
void smtp_front_part(struct smtp_front *f);
/* Says it and counts an error; ends when it is 421, and with 421 at the limit. */
void smtp_front_wrong(struct smtp_front *f, const struct smtp_answer *answer);
#define SMTP_WRONG(f, code, enhanced, text) smtp_front_wrong((f), SMTP_ANSWER(code, enhanced, text))
/* A transaction, a recipient or a body was refused: an error of a client, and none of a trusted proxy, whose connection serves many
 * clients one after another. */
void smtp_front_count_refusal(struct smtp_front *f);
/* Says it and counts it so. */
void smtp_front_refuse(struct smtp_front *f, const struct smtp_answer *answer);
#define SMTP_REFUSE(f, code, enhanced, text) smtp_front_refuse((f), SMTP_ANSWER(code, enhanced, text))
void smtp_front_set_text(char **text, struct slice value);
/* The mechanisms that AUTH offers now: NULL-ended; returns how many. */
size_t smtp_front_offered(const struct smtp_front *f, const char *offered_out[SASL_MECHANISM_COUNT + 1]);

/* smtp_front_command.c: one command line of the input. As smtp_front_take functions: > 0 taken, 0 more
 * needed, < 0 frame lost. */
ssize_t smtp_front_take_command(struct smtp_front *f);
void smtp_front_judged_helo(struct smtp_front *f, const struct smtp_judged *judged);

/* smtp_front_auth.c */
void smtp_front_auth(struct smtp_front *f, struct slice rest);
ssize_t smtp_front_take_sasl(struct smtp_front *f);
void smtp_front_forget_login(struct smtp_front *f);
void smtp_front_say_login_failed(struct smtp_front *f);
/* The penalty is over. */
void smtp_front_ask_tier(struct smtp_front *f);

/* smtp_front_transaction.c */
void smtp_front_mail(struct smtp_front *f, struct slice rest);
/* smtp_spf.c: there is a result, MAIL goes on. */
void smtp_front_spf_done(struct smtp_front *f);
void smtp_front_rcpt(struct smtp_front *f, struct slice rest);
/* The rules have spoken. */
void smtp_front_judged_mail(struct smtp_front *f, const struct smtp_judged *judged);
void smtp_front_judged_rcpt(struct smtp_front *f, const struct smtp_judged *judged);
void smtp_front_end_transaction(struct smtp_front *f, enum smtp_reset how);

/* smtp_front_data.c */
void smtp_front_data(struct smtp_front *f);
void smtp_front_bdat(struct smtp_front *f, struct slice rest);
ssize_t smtp_front_take_body(struct smtp_front *f);
void smtp_front_cut_body(struct smtp_front *f);
/* Forgets the answers to the end of data, and the body. */
void smtp_front_clear_body(struct smtp_front *f);
