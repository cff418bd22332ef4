/*
 * A filter that is asked over the milter protocol (common/proto/milter.h): one connection for one SMTP session, over TCP or a unix
 * socket. Everything runs on the session's loop; one question at a time: the next one may be asked when the answer to the one before
 * has come. An answer may come from within the asking call; whoever is called may free the milter.
 *
 *	milter_new -> milter_connect -> milter_helo ...        answers: go on, or what to say to the client
 *	    milter_mail -> milter_rcpt ... -> milter_data -> milter_message: header, body, edits
 *	    milter_abort: the transaction is over
 *	milter_free
 *
 * A filter that cannot be reached, is too slow, or speaks nonsense is broken for the rest of the session: what its settings name for
 * that is then the answer to everything. It never ends more than that.
 */
#pragma once

#include "common/base/metrics.h"
#include "common/front/smtp_front.h"
#include "common/proto/milter.h"

/* Of a session's program-wide settings; constant while sessions use them. */
enum milter_failure {
	MILTER_FAILURE_ACCEPT,   /* as if there were no filter */
	MILTER_FAILURE_TEMPFAIL, /* 451 */
	MILTER_FAILURE_REJECT    /* 554 */
};
struct milter_settings {
	const char *name; /* in log lines and metrics */
	const char *host; /* name, address, or /path of a unix socket */
	uint16_t port;
	enum milter_failure failure;
	uint64_t connect_ms;       /* to reach it and agree with it */
	uint64_t command_ms;       /* for each answer */
	uint64_t end_ms;           /* for the answer to the end of a message; "in progress" begins it anew */
	struct metric *answers[2]; /* 0: answered, 1: failed; NULL: not counted */
};

/* What filters are told of a session; views. It must stay until the answer to the question comes. Empty: unknown. */
struct milter_facts {
	struct slice host;    /* ours */
	struct slice service; /* "smtp", "submission" */
	struct slice session; /* its id: the macro i */
	struct slice ptr;     /* the client's name; empty: "[address]" */
	const struct addr *client;
	struct slice helo;
	struct slice user, mechanism; /* who has logged in, and how */
	struct slice tls_version, tls_cipher;
};

enum milter_outcome {
	MILTER_GO_ON,
	MILTER_REFUSED, /* with the answer for the client */
	MILTER_DISCARD  /* say that it is taken, and forget it */
};
/* answer: of MILTER_REFUSED, good during the call; NULL otherwise. */
typedef void milter_fn(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer);

/* The message, as its owner has it. All but edit() only read. */
struct milter_message {
	/* The i-th field: name, and value behind the colon without its end. False: there are no more. */
	bool (*field)(void *arg, size_t i, struct slice *name_out, struct slice *value_out);
	/* At most size octets of the body from offset; 0 at the end, < 0 an error. */
	ssize_t (*body)(void *arg, uint64_t offset, void *out, size_t size);
	/*
	 * One edit: MILTER_REPLY_ADD_HEADER and those that follow it there; checked against what was agreed. Its texts are the filter's:
	 * see milter_field_text(). Good only if the outcome is MILTER_GO_ON, to be forgotten otherwise. NULL: the filter has broken,
	 * all of its edits are to be forgotten, whatever the outcome.
	 */
	void (*edit)(void *arg, const struct milter_reply *edit);
	void *arg;
};

struct milter;
/* settings and their texts outlive it. Nothing is sent yet. */
struct milter *milter_new(const struct milter_settings *settings, struct loop *loop);
/* At any time; no answer comes any more. Accepts NULL. */
void milter_free(struct milter **milter);

void milter_connect(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg);
void milter_helo(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg);
/* path without angle brackets; params: of ESMTP, as they came. */
void milter_mail(struct milter *m, const struct milter_facts *facts, struct slice path, struct slice params,
	milter_fn *fn, void *arg);
/* MILTER_REFUSED means this recipient; MILTER_DISCARD the whole message. */
void milter_rcpt(struct milter *m, const struct milter_facts *facts, struct slice path, struct slice params,
	milter_fn *fn, void *arg);
void milter_data(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg);
/* A command that nobody knows. */
void milter_unknown(
	struct milter *m, const struct milter_facts *facts, struct slice line, milter_fn *fn, void *arg);
/* message and what it names must stay until fn comes or the milter is freed. */
void milter_message(struct milter *m, const struct milter_facts *facts, const struct milter_message *message,
	milter_fn *fn, void *arg);
/* The transaction is over, however; also when none was begun. Ends a question that is open: its fn will not come. */
void milter_abort(struct milter *m);
