/*
 * Private: what the files of the queue's runner share. queue.c: life, next hops, tries. queue_scan.c: from the store into the window.
 * queue_result.c: results into the store. queue_local.c: mail for accounts here. queue_notice.c: notices.
 */
#pragma once

#include <stdatomic.h>

#include "backend/delivery/queue.h"
#include "common/base/arena.h"
#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/base/rate.h"
#include "common/base/table.h"
#include "common/net/timer.h"

#define QUEUE_BODY_KEPT (16 * 1024) /* shorter messages are loaded with their parcel */
#define QUEUE_PARKED_MOST                                                                                    \
	64 /* domains of a next hop that are remembered as waiting; more: the queue is read again */
#define QUEUE_HOPS_MOST 100000 /* next hops that are remembered */
#define QUEUE_PARCEL_MOST 100  /* recipients of a parcel */
#define QUEUE_LOCAL_MOST 16    /* parcels for accounts here at a time */
#define QUEUE_CHANGES_MOST 300 /* results of one commit */
#define QUEUE_NOTICES_MOST 10  /* of a slot that are being made */
#define QUEUE_SCAN_ROWS 1000
#define QUEUE_LOCAL_HOP "local"
#define QUEUE_DAMAGED "the message is damaged: see store check" /* reason of a hold */
#define QUEUE_FULL_PASS_MS 60000
#define QUEUE_COMMIT_RETRY_MS 2000

struct queue_hop {
	char name[OUTBOUND_NEXT_HOP_MAX];
	struct list waiting; /* parcels */
	unsigned active;     /* tries */
	unsigned in_window;  /* recipients */
	unsigned failures;   /* times in a row that it could not be reached */
	uint64_t until;      /* wall; not before */
	char *reason;        /* why it could not be reached */
	char *status;
	bool is_full;  /* outbound has no room: until it says so */
	bool is_none;  /* the domain cannot be one: nothing is tried */
	char **parked; /* QUEUE_PARKED_MOST, or NULL: most next hops never have any */
	unsigned parked_count;
	bool has_more_parked;
};

struct queue_parcel;

/* A recipient in the window. */
struct queue_item {
	char key[16]; /* slot, message, number: in the table of the window */
	struct queue_parcel *parcel;
	uint32_t number;
	struct slice address, destination, orcpt;
	unsigned notify;
	unsigned tries;
	bool is_warned, is_held;
	struct slice last_status, last_remote, last_text; /* of the last try before this one */
	/* The result. */
	struct list link; /* in the slot's results */
	enum queue_event event;
	bool is_done;
	bool is_final;   /* ends */
	bool is_aside;   /* held: its message is damaged */
	bool is_removed; /* an operator took it away meanwhile: nobody is told of it */
	bool is_tried;
	bool tells;                        /* a notice goes out */
	uint64_t next;                     /* when it does not end */
	struct slice status, remote, text; /* the arena's of the parcel */
	unsigned code;
};

/* A domain that is to be looked at again. */
struct queue_refill {
	struct list link;
	char *domain;
};

struct queue_slot {
	struct queue *queue;
	unsigned number;
	unsigned in_window;
	bool is_scanning, is_again, is_pass; /* a pass goes on from `mark` */
	bool wants_far, is_far;              /* the pass looks at impossible times too, or does */
	uint64_t next_due;                   /* what it found before those */
	struct store_queue_place mark;
	uint64_t pass_began, full_pass_at;
	struct list refills;          /* domains of which there was too much */
	struct list results, telling; /* items; those of which a notice goes out */
	bool is_committing;
	unsigned notices;   /* that are being written */
	struct timer timer; /* the next that is due, at timer_at */
	uint64_t timer_at;
	struct timer retry; /* of a commit */
};

/* One message with recipients of one next hop, which have the same trace. */
struct queue_parcel {
	struct list link; /* in its hop's waiting, or in none */
	struct queue *queue;
	struct queue_slot *slot;
	struct queue_hop *hop;
	struct arena arena;
	struct store_queue_message message; /* texts are the arena's */
	struct slice trace;
	struct slice body; /* all of it, if it was short enough */
	struct queue_item *items;
	size_t count, left; /* not committed yet */
	uint64_t loaded;    /* wall */
	bool is_active;
	bool is_damaged; /* its body cannot be read */
	bool has_high;   /* octets above 127 in what was loaded */
	unsigned hops;   /* Received fields in what was loaded */
	/* Of a try. */
	struct outbound_try *try;
	unsigned reads; /* of the body, under way */
	struct outbound_recipient *recipients;
	/* Of a delivery here. */
	struct delivery *delivery;
	uint64_t offset;
	unsigned *numbers; /* of the delivery's recipients, by item */
};

struct queue {
	struct store_work *work;
	struct delivery_service *delivery;
	struct loop *loop;
	struct queue_sender sender;
	struct queue_settings settings;
	char *texts[6]; /* of settings */
	struct queue_slot *slots;
	unsigned slot_count;
	struct table *hops;
	struct table *window; /* items by key */
	_Atomic bool is_woken;
	bool is_running;
	_Atomic bool is_ended;
	_Atomic unsigned active; /* tries, and deliveries here */
	unsigned local_active;
	uint64_t sweep_at, count_at; /* monotonic: when next hops may be looked through again */
	uint64_t began;
	struct rates *notices; /* by address */
	struct metric *m_sent, *m_deferred, *m_failed, *m_local, *m_notices, *m_untold, *m_tries, *m_window,
		*m_hops_deferred, *m_damaged;
};

/* ---- queue.c ---- */
struct queue_hop *queue_hop_get(struct queue *q, const char *name);
/* The next hop of a domain; NULL: it cannot be one. */
struct queue_hop *queue_hop_of(struct queue *q, struct slice destination);
/* Tries what waits there, as far as there is room. */
void queue_hop_run(struct queue *q, struct queue_hop *hop);
/* The gauge of those that are put off, once a second at most. */
void queue_count_deferred(struct queue *q);
/* What one next hop may have of the window now. */
unsigned queue_share(const struct queue *q);
/* The next hop is put off at this time. */
bool queue_hop_is_off(const struct queue *q, const struct queue_hop *hop, uint64_t now);
/* Nothing waits longer than this by itself: a later time is of a clock that was wrong. */
uint64_t queue_wait_most(const struct queue *q);
/* Frees it once all its items are committed and its try is over. */
void queue_parcel_end(struct queue_parcel *parcel);
/* Its try is over: what was kept back until all results are known may be told. */
void queue_settle(struct queue_parcel *parcel);
/* It is gone from the window: its place is free. */
void queue_item_gone(struct queue_item *item);
/* There is a place more in the window: what waits for one may come. */
void queue_place_free(struct queue_slot *slot, struct queue_hop *hop);

/* ---- queue_scan.c ---- */
/* The key of an item in the window. */
void queue_item_key(char key[16], unsigned slot, uint64_t message, uint32_t number);
void queue_scan(struct queue_slot *slot);
/* At this time at the latest. */
void queue_scan_at(struct queue_slot *slot, uint64_t wall);
/* A domain of a next hop that had too much is looked at again, in all slots. */
void queue_scan_refill(struct queue *q, struct queue_hop *hop);

/* ---- queue_result.c ---- */
struct queue_outcome {
	enum queue_event event; /* QUEUE_DELAYED: not now */
	bool is_tried;
	uint64_t not_before; /* with QUEUE_DELAYED: wall; 0: by the schedule */
	unsigned code;
	const char *status, *text, *remote;
	const char *relay, *tls; /* for the log */
	uint32_t connect_ms, transfer_ms;
};
/* Once for each item: decides, logs, and writes with others of its slot. */
void queue_result(struct queue_item *item, const struct queue_outcome *outcome);
void queue_commit(struct queue_slot *slot);
/* Its body could not be read: told, and if it is damaged, its recipients are held instead of deferred. */
void queue_unreadable(struct queue_parcel *parcel, int err);
/* What the store is to do about it. */
struct store_queue_change queue_result_change(const struct queue_item *item);
/* The id that operators use: "0-12". */
void queue_result_id(const struct queue_parcel *parcel, char out[32]);

/* ---- queue_local.c ---- */
/* The address is an account's here, or would be one's. */
bool queue_local_is(struct queue *q, struct slice address);
void queue_local_start(struct queue_parcel *parcel);
/* All items are committed. */
void queue_local_end(struct queue_parcel *parcel);

/* ---- queue_notice.c ---- */
/* Items of one parcel whose results are to be told: writes the notice and what becomes of them in one commit. done comes on the loop. */
void queue_notice_send(struct queue_slot *slot, struct queue_item **items, size_t count,
	void (*done)(void *arg, int err), void *arg);
