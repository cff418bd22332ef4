/*
 * The outbound queue of a slot: messages that wait for their recipients elsewhere, one record a recipient, each of which ends, waits for
 * its next try, or is held. A message has a reference to its blob, and goes with its last recipient.
 *
 * Reads take any transaction of the slot, writes a write transaction; what is read is a view of it. Times are milliseconds since
 * 1970. A recipient is waiting, and then stands in two indexes (by time; by destination and time), or held, and then in none.
 */
#pragma once

#include "backend/store/store.h"

#define STORE_QUEUE_ADDRESS_MAX 800
#define STORE_QUEUE_DESTINATION_MAX 255
#define STORE_QUEUE_TEXT_MAX 1000 /* of each other text; traces may have 4,096 octets */
#define STORE_QUEUE_TRACE_MAX 4096
/* Recipients that one write job may add or change without holding the writer for longer than it may. */
#define STORE_QUEUE_STEP_MAX 500

enum store_queue_flag {
	STORE_QUEUE_8BIT = 1,       /* BODY=8BITMIME */
	STORE_QUEUE_UTF8 = 2,       /* SMTPUTF8 */
	STORE_QUEUE_REQUIRETLS = 4, /* RFC 8689 */
	STORE_QUEUE_NOTICE = 8,     /* a delivery status notification that was made here */
	STORE_QUEUE_LAST = 16       /* and to the postmaster: nothing follows when it fails */
};
struct store_queue_message {
	uint64_t id;          /* grows; given by store_queue_add() */
	uint64_t blob;        /* from store_draft_finish(), same transaction or before */
	uint32_t skip;        /* octets at the blob's start that do not go out (Return-Path) */
	uint64_t size;        /* what goes out, without a recipient's trace; set by store_queue_add() */
	uint64_t arrived;     /* when it was accepted */
	unsigned flags;       /* enum store_queue_flag */
	uint8_t ret;          /* enum store_queue_ret */
	struct slice sender;  /* as on the wire; empty: the null path */
	struct slice envid;   /* xtext as it was written; empty: none */
	struct slice session; /* the id that the edge gave */
	struct slice user;    /* who was authenticated; empty: nobody */
};

struct store_queue_recipient {
	uint64_t message;
	uint32_t number;          /* within the message */
	bool is_held;             /* waits for an operator; reason says why */
	bool is_warned;           /* its delay was told */
	uint8_t notify;           /* of enum smtp_notify */
	uint32_t tries;           /* so far */
	uint64_t next;            /* not before; kept while held */
	struct slice address;     /* as on the wire */
	struct slice destination; /* what is deferred and flushed together: the domain, in lower case */
	struct slice orcpt;       /* "rfc822;xtext" as it was written; empty: not said */
	struct slice trace;       /* lines with CRLF that go before the message */
	struct slice reason;      /* of the hold */
	/* The last try. */
	struct slice status; /* "4.4.1" */
	struct slice remote; /* host; empty: none was reached */
	struct slice text;
};

/* ---- adding ---- */

/* Takes a reference to the blob. At least one recipient must be added in the same transaction. ERR_TOO_BIG: a text is too long. */
MUST_CHECK int store_queue_add(
	struct store_txn *txn, const struct store_queue_message *message, uint64_t *id_out);
/* message and number name it; the pair must be new. ERR_TOO_BIG: a text is too long. */
MUST_CHECK int store_queue_add_recipient(
	struct store_txn *txn, const struct store_queue_recipient *recipient);

/* ---- what becomes of a recipient ---- */

enum store_queue_how {
	STORE_QUEUE_END,   /* he is done, one way or the other; with the last one the message goes */
	STORE_QUEUE_DEFER, /* a try, or none (tries as it was), and the next one; one that is held stays so */
	STORE_QUEUE_HOLD,  /* reason */
	STORE_QUEUE_RELEASE, /* held: from now on it waits, for `next` */
	STORE_QUEUE_RETRY    /* waiting: its time is `next`; held ones stay */
};
struct store_queue_change {
	enum store_queue_how how;
	uint64_t message;
	uint32_t number;
	/* DEFER */
	uint64_t next; /* RELEASE, RETRY too */
	uint32_t tries;
	bool is_warned;
	struct slice status, remote, text; /* cut to their limits; empty text: the last try's stays */
	struct slice reason;               /* HOLD */
};
/* ERR_NOT_FOUND: it has ended already. */
MUST_CHECK int store_queue_change(struct store_txn *txn, const struct store_queue_change *change);

/* ---- reading ---- */

MUST_CHECK int store_queue_get(
	struct store_txn *txn, uint64_t message, struct store_queue_message *message_out);
MUST_CHECK int store_queue_get_recipient(struct store_txn *txn, uint64_t message, uint32_t number,
	struct store_queue_recipient *recipient_out);
/* What goes out, from offset on, without trace; fewer than len only at the end. ERR_CORRUPT. */
MUST_CHECK int store_queue_read(struct store_txn *txn, const struct store_queue_message *message,
	uint64_t offset, void *data, size_t len, size_t *len_out);

/* A place in an index of waiting recipients. */
struct store_queue_place {
	uint64_t time;
	uint64_t message;
	uint32_t number;
};
/* One that stands in the index by time and cannot be sent, because it or its message is damaged: held with this reason where its own row
 * can still be read, else out of the indexes alone, for `store check` to find. ERR_NOT_FOUND: it does not stand there any more. */
MUST_CHECK int store_queue_set_aside(struct store_txn *txn, const struct store_queue_place *place,
	struct slice destination, struct slice reason);
/* Each waiting recipient from a place on, by time, whose time is at most `until`; fn returns false to end. The destination is a view. */
typedef bool store_queue_due_fn(void *arg, const struct store_queue_place *place, struct slice destination);
MUST_CHECK int store_queue_due(struct store_txn *txn, const struct store_queue_place *from, uint64_t until,
	store_queue_due_fn *fn, void *arg);
/* Does the index by time name this place? */
MUST_CHECK int store_queue_is_due(
	struct store_txn *txn, const struct store_queue_place *place, bool *is_due_out);
/* Each one of one destination, in the same way. */
MUST_CHECK int store_queue_due_of(struct store_txn *txn, struct slice destination,
	const struct store_queue_place *from, uint64_t until, store_queue_due_fn *fn, void *arg);
/* The earliest time of all that wait; ERR_NOT_FOUND: none waits. */
MUST_CHECK int store_queue_next(struct store_txn *txn, uint64_t *time_out);

/* Each recipient, held or not, from message and number on, in their order; fn returns false to end. Its slices are views. One that cannot be
 * read is left out. */
typedef bool store_queue_each_fn(void *arg, const struct store_queue_recipient *recipient);
MUST_CHECK int store_queue_each(
	struct store_txn *txn, uint64_t message, uint32_t number, store_queue_each_fn *fn, void *arg);

struct store_queue_stat {
	uint64_t messages;
	uint64_t waiting, held; /* recipients */
	uint64_t oldest;        /* when the oldest message was accepted; 0: there is none */
};
MUST_CHECK int store_queue_stat(struct store_txn *txn, struct store_queue_stat *stat_out);
