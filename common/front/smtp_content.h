/*
 * The content stage: a message between its client and the tier, when something decides or writes after the header has come
 * (end-of-data rules, DKIM, DMARC, ARC, milters, signing).
 *
 *	client --decoder--> spool (memory, then an unlinked file), header as a list of fields
 *	                       | end of data
 *	                       v
 *	                    stage, stage, ...        in the order of the table in smtp_policy.c; each may take its time
 *	                       |
 *	                       v  envelope changed: the tier's transaction is made anew, or gets recipients
 *	                    ops->data_begin, data_chunk ..., data_end      as if the client had sent it so
 *
 * Everything belongs to the loop of the session. A client that dies, a deadline and a drain cancel the stage that is at work. What is
 * spooled is bounded by the service's message-size, the header by smtp_policy.header_most, HEADER_FIELD_MAX and
 * SMTP_CONTENT_FIELDS_MOST, edits by SMTP_CONTENT_EDITS_MOST and SMTP_CONTENT_EDITED_MOST.
 *
 * For the writer of a stage:
 *
 *	static void begin(struct smtp_content *c, void *settings)
 *	{
 *		... smtp_content_spool(c), smtp_content_field(c, i), smtp_content_facts(c) ...
 *		smtp_content_done(c, SMTP_GO_ON);         now, or later from a callback on this loop
 *	}
 *	const struct smtp_stage my_stage = {.name = "mine", .make = make, .begin = begin, .cancel = cancel};
 */
#pragma once

#include "common/base/buf.h"
#include "common/conf/conf.h"
#include "common/front/smtp_facts.h"
#include "common/front/smtp_front.h"
#include "common/net/spool.h"
#include "common/proto/header.h"

#define SMTP_CONTENT_FIELDS_MOST 10000
#define SMTP_CONTENT_EDITS_MOST 1000               /* of one message, by all stages */
#define SMTP_CONTENT_EDITED_MOST ((size_t)4 << 20) /* octets of texts that stages have written */
#define SMTP_CONTENT_RECIPIENTS_MOST 1000          /* that stages may add */

struct smtp_content;

enum smtp_verdict_kind {
	SMTP_VERDICT_GO_ON,
	SMTP_VERDICT_REJECT,   /* the answer's code is 5yz */
	SMTP_VERDICT_TEMPFAIL, /* 4yz */
	SMTP_VERDICT_DISCARD   /* 250, and nobody gets it */
};
/* The answer is for REJECT and TEMPFAIL: copied; its text may be a peer's, controls are taken out. Without one there is a fixed text.
 * An answer whose code does not fit the kind gets 550 or 451. */
struct smtp_verdict {
	enum smtp_verdict_kind kind;
	struct smtp_answer answer;
};
#define SMTP_GO_ON (&(struct smtp_verdict){SMTP_VERDICT_GO_ON, {0}})

struct smtp_stage {
	const char *name; /* in log lines and metrics */
	/* Reads what it needs of the configuration of this service ("smtp", "submission"); *settings_out NULL: this service does
	 * not want it. ERR_CONFIG: reasons in why. Main loop. */
	int (*make)(const struct conf *conf, const char *service, struct buf *why, void **settings_out);
	/* NULL: nothing to free. */
	void (*free)(void *settings);
	/* Ends by smtp_content_done(), exactly once, unless cancel() comes before. */
	void (*begin)(struct smtp_content *content, void *settings);
	/* The message is gone; smtp_content_done() may not be called any more. NULL: it never waits. */
	void (*cancel)(struct smtp_content *content, void *settings);
};

/* ---- for stages ---- */

/* The stage is done. The message may be gone afterwards: the last statement. */
void smtp_content_done(struct smtp_content *content, const struct smtp_verdict *verdict);
/* The stage's own of this message, from begin() to done() or cancel(). */
void smtp_content_set_own(struct smtp_content *content, void *own);
void *smtp_content_own(const struct smtp_content *content);

struct smtp_front *smtp_content_front(const struct smtp_content *content);
struct loop *smtp_content_loop(const struct smtp_content *content);
struct smtp_facts *smtp_content_facts(const struct smtp_content *content);
/* The parameters of MAIL; the sender as changed. View. */
const struct smtp_mail *smtp_content_mail(const struct smtp_content *content);

/* The message as the client sent it; constant from the first stage on, any thread may read it until done() or cancel(). Its
 * body begins at smtp_content_body_at(). */
const struct spool *smtp_content_spool(const struct smtp_content *content);
/* Offset behind the empty line; the length of the spool when there is none. */
uint64_t smtp_content_body_at(const struct smtp_content *content);
/* The header as the client sent it, with its empty line. View of the content. */
struct slice smtp_content_original(const struct smtp_content *content);
/* The body as edited, and where it begins in that spool. */
const struct spool *smtp_content_body(const struct smtp_content *content, uint64_t *offset_out);

/* The header's fields as edited; views until the next edit. Raw octets end with CRLF; a line that is no field has an empty name. */
size_t smtp_content_field_count(const struct smtp_content *content);
const struct header_field *smtp_content_field(const struct smtp_content *content, size_t i);
/* The n-th (from 0) field of that name; field_count: there is none. */
size_t smtp_content_find(const struct smtp_content *content, struct slice name, size_t n);

/*
 * Edits of the header: before the i-th field (0: first of all, field_count or more: last), instead of it, or away with it. value:
 * may be folded (CRLF or LF before a blank); ERR_SYNTAX: a name that no field may have, a bare CR, NUL, another line end, or a
 * line of blanks alone. ERR_TOO_BIG: a limit above. Lines are folded nowhere.
 */
MUST_CHECK int smtp_content_insert(
	struct smtp_content *content, size_t i, struct slice name, struct slice value);
MUST_CHECK int smtp_content_change(struct smtp_content *content, size_t i, struct slice value);
void smtp_content_delete(struct smtp_content *content, size_t i);
/* A body instead of the present one; lines end with CRLF, no bare CR or LF, no NUL: the caller has seen to it. */
void smtp_content_set_body(struct smtp_content *content, struct spool *body_take);

/* Edits of the envelope, on the wire's form without brackets. ERR_SYNTAX, ERR_TOO_BIG; ERR_NOT_FOUND: no such recipient. An
 * added recipient that is there already is no error. The last recipient away: the message is discarded. */
MUST_CHECK int smtp_content_set_sender(struct smtp_content *content, struct slice address);
MUST_CHECK int smtp_content_add_recipient(struct smtp_content *content, struct slice address);
MUST_CHECK int smtp_content_remove_recipient(struct smtp_content *content, struct slice address);
/* The recipients as edited: NULL beyond the last. View. */
const struct smtp_path *smtp_content_recipient(const struct smtp_content *content, size_t i);
/* Quarantine: the back-end is told to hold the message in its queue, and why (copied). The first reason stays. */
void smtp_content_hold(struct smtp_content *content, struct slice reason);

/* ---- for the tier, from ops->data_begin() on ---- */

/* How the octets that will come differ from the client's: `prefix` octets of ours come first; a digest of the client's own where more
 * was changed. is_set: always. */
void smtp_front_mark(const struct smtp_front *front, struct smtp_mark *mark_out);
/* Why the message is to be held in the queue; NULL: it is not. View. */
const char *smtp_front_held(const struct smtp_front *front);

/* ---- for smtp_front alone ---- */

struct smtp_policy;
/* At an accepted MAIL of a service that needs content. References the policy; mail is copied. */
struct smtp_content *smtp_content_new(
	struct smtp_front *front, struct smtp_policy *policy, const struct smtp_mail *mail);
/* Cancels what is at work; the tier is told nothing. */
void smtp_content_free(struct smtp_content **content);
void smtp_content_rcpt(struct smtp_content *content, unsigned index, const struct smtp_rcpt *rcpt);
void smtp_content_rcpt_accepted(struct smtp_content *content, unsigned index);
/* A decoded piece. NULL: taken; otherwise the answer that the message gets. */
const struct smtp_answer *smtp_content_chunk(struct smtp_content *content, struct slice bytes);
void smtp_content_end(struct smtp_content *content);
/* The tier's answers belong to the content stage now: it has made the transaction anew, or the body is on its way. */
bool smtp_content_is_feeding(const struct smtp_content *content);
void smtp_content_answer_mail(struct smtp_content *content, const struct smtp_answer *answer);
void smtp_content_answer_rcpt(struct smtp_content *content, unsigned index, const struct smtp_answer *answer);
void smtp_content_answer_data(struct smtp_content *content, const struct smtp_answer *answer);
void smtp_content_hold_data(struct smtp_content *content, bool hold);
