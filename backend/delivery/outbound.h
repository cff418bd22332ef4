/*
 * Sending: one try to bring one message to recipients of one next hop. The caller (the queue) owns time, storage and notices;
 * here are the next hop (a route of the configuration, or the domain's MX hosts), its TLS policy, connections and their reuse, and
 * how many of them there are for each next hop.
 *
 *	outbound_next_hop()   where mail for a domain goes: recipients of a message with the same next hop belong in one try
 *	outbound_start()      a try; ERR_NOT_NOW: that next hop (or the program) has enough to do, `room` comes when it has room
 *	read                  the message's octets are asked for, answered by outbound_octets() at once or later
 *	result                once for each recipient, as soon as it is known; nothing is told before the other side has said it
 *	done                  last; the try is gone afterwards
 *
 * Lives on one loop; all functions are that loop's, if they do not say otherwise, and so are the callbacks, none of which comes
 * from within outbound_start(). What a request borrows must live until `done`, or outbound_cancel() has returned.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/conf/conf.h"
#include "common/net/loop.h"
#include "common/proto/smtp_parse.h"

struct outbound;
struct outbound_try;
struct tls_report;

/* Recipients of one try; more than a server takes at once go in several transactions. */
#define OUTBOUND_RECIPIENTS_MOST 1000
/* A next hop's name with a NUL: "example.com", or "route/NAME". */
#define OUTBOUND_NEXT_HOP_MAX 300
/* Octets of a reader's answer that are asked for at once. */
#define OUTBOUND_READ_MOST (128 * 1024)

struct outbound_recipient {
	struct slice address; /* as it goes on the wire, without brackets (struct smtp_path's) */
	unsigned notify;      /* of enum smtp_notify; 0: not said */
	struct slice orcpt;   /* "rfc822;xtext" as it was written; "" none */
};

enum outbound_verdict {
	OUTBOUND_SENT,    /* the other side has it */
	OUTBOUND_NOT_NOW, /* try again later */
	OUTBOUND_FAILED   /* for good */
};

/* Texts are views, valid during the call; cleaned: UTF-8 without controls. */
struct outbound_result {
	enum outbound_verdict verdict;
	unsigned code;        /* of the other side's reply; 0: it did not come to one */
	const char *enhanced; /* "2.0.0"; never empty */
	const char *text;     /* of the reply, or ours */
	const char
		*host; /* "mx.example.com", the server that this is about; "" none: Remote-MTA of a notice */
	const char *relay; /* for the log: "mx.example.com[192.0.2.1]:25", "none" */
	const char
		*tls; /* for the log: "TLSv1.3/TLS_AES_128_GCM_SHA256/dane", /verified, /unverified; "none" */
	bool has_dsn; /* SENT: the other side does DSN and was told what the sender wants; else that is the caller's */
	uint32_t
		connect_ms; /* from the start of the try to the first command; 0 on a connection that was there */
	uint32_t transfer_ms; /* from there */
};

/* About the next hop itself, when a try ends. */
struct outbound_facts {
	/* Nothing could be said about single recipients: no host could be reached, or none that may be used. Other messages for
	 * this next hop would fare alike for a while: defer all. */
	bool is_unreachable;
	const char *next_hop;
	const char *reason; /* with is_unreachable: the text of the results */
};

struct outbound_request {
	const char *next_hop; /* of outbound_next_hop() */
	const char *session;  /* the id under which the log speaks of it */
	struct slice sender;  /* as on the wire without brackets; "" for the null path */
	uint64_t size;        /* octets that read() gives */
	bool is_8bit;         /* it has octets above 127, or BODY=8BITMIME was said */
	bool is_utf8;         /* a header field has UTF-8: SMTPUTF8 is needed whatever the addresses are */
	bool requires_tls;    /* RFC 8689 */
	unsigned ret;         /* of enum smtp_ret */
	struct slice envid;   /* xtext as written; "" none */
	const struct outbound_recipient *recipients;
	size_t recipient_count;
	/* Octets from offset on are wanted: outbound_octets() once, at once or later, and not at all after `done`, which may come first (the
	 * connection was lost meanwhile). `most` ends at the message's end. */
	void (*read)(void *arg, struct outbound_try *t, uint64_t offset, size_t most);
	void (*result)(void *arg, size_t recipient, const struct outbound_result *result);
	void (*done)(void *arg, const struct outbound_facts *facts);
	void *arg;
};

/* next_hop NULL: any may have room again. */
typedef void outbound_room_fn(void *arg, const char *next_hop);

/* One per program, for that loop; conf and host name (EHLO) are read here. folder: of what is remembered over restarts (MTA-STS policies);
 * NULL: nothing is. ERR_CONFIG with reasons in why. Any thread. */
MUST_CHECK int outbound_new(struct loop *loop, const struct conf *conf, const char *host_name,
	const char *folder, outbound_room_fn *room, void *room_arg, struct buf *why,
	struct outbound **outbound_out);
/* What is counted of TLS (backend/delivery/tls_report.h), as long as this lives. Any thread. */
struct tls_report *outbound_tls_report(struct outbound *o);
/* After a reload, any thread: what begins from now on goes by it; ERR_CONFIG changes nothing. */
MUST_CHECK int outbound_set_config(
	struct outbound *o, const struct conf *conf, const char *host_name, struct buf *why);
/*
 * The program is to end, in this order; any thread. outbound_end(): nothing new begins, what waits for a connection ends with
 * OUTBOUND_NOT_NOW; what is under way goes on, and outbound_count() tells how many tries that are. outbound_cut(): these too, where nothing
 * is known yet (of a message whose end was sent already, the other side may have it all the same).
 */
void outbound_end(struct outbound *o);
void outbound_cut(struct outbound *o);
unsigned outbound_count(const struct outbound *o);
/* After outbound_cut() has run and the loop has turned once more, or after the loop's end. */
void outbound_free(struct outbound **o);

/*
 * Where mail for a domain goes ("" and address literals too): writes the next hop's name. Any thread. ERR_SYNTAX: the domain cannot be one
 * (5.1.2). ERR_TOO_BIG.
 */
MUST_CHECK int outbound_next_hop(
	struct outbound *o, struct slice domain, char next_hop[OUTBOUND_NEXT_HOP_MAX]);

/*
 * Begins a try. ERR_NOT_NOW: no room now, nothing was begun, `room` will come. ERR_TOO_BIG: too many recipients or none. ERR_CANCELLED: after
 * outbound_end(). try_out is valid until `done`.
 */
MUST_CHECK int outbound_start(
	struct outbound *o, const struct outbound_request *request, struct outbound_try **try_out);
/* The answer to read(): error 0 and at least one octet, at most as many as were asked for; else the try ends. bytes are borrowed
 * during the call. */
void outbound_octets(struct outbound_try *t, int error, struct slice bytes);
/* The operator took it back: no more callbacks. What the other side has already may arrive. Not from within a callback of this try. */
void outbound_cancel(struct outbound_try **t);

/* Rows for a program's table of keys (conf.h): the sections "sending" and "route". */
#define OUTBOUND_CONF_SECTIONS                                                                               \
	{"sending", CONF_RELOAD, NULL, "How mail is sent to other servers"},                                 \
	{                                                                                                    \
		"route", CONF_TITLED | CONF_RELOAD, NULL,                                                    \
			"Where mail for some domains goes, instead of to their MX hosts"                     \
	}
extern const struct conf_key outbound_keys[];
/* What single keys cannot show. */
void outbound_check(struct conf *conf);
