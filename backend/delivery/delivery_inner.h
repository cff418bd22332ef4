/*
 * Private: what the files of a delivery share. delivery.c: recipients here, marks, storing. delivery_queue.c: what goes to the queue.
 */
#pragma once

#include <pthread.h>

#include "backend/delivery/delivery.h"
#include "backend/delivery/forward.h"
#include "backend/delivery/srs.h"
#include "common/base/metrics.h"
#include "common/net/timer.h"

struct digest;
struct mark_table;
struct spool;

struct delivery_service {
	struct store_work *work;
	struct mark_table *marks;
	struct metric *stored, *repeated, *failed, *messages, *forwarded, *queued;
	pthread_mutex_t srs_lock;      /* over the next */
	struct srs *srs;               /* NULL: senders stay as they are */
	delivery_queued_fn *queued_fn; /* NULL: nobody asks */
	void *queued_arg;
};

struct target {
	unsigned slot;
	uint32_t account;
	uint64_t reserved;
	bool is_reserved, is_claimed, is_marked, is_forwarded;
	bool is_dropped; /* another target has the same account */
	bool is_shared;  /* it is in a share */
	bool is_done;
	int error;
	uint8_t mark[STORE_MARK_LEN];
	unsigned recipient;    /* whose it was first */
	char *address;         /* of the account, when it is forwarded */
	struct queued *queued; /* it goes to the queue of this slot; account is 0. Owned */
};

/* A target that is a recipient of the queue. */
struct queued {
	char *address;     /* as on the wire */
	char *destination; /* its domain in lower case */
	char *sender;      /* NULL: the delivery's */
	char *trace;       /* NULL: none */
	char *orcpt;       /* NULL: not said */
	unsigned notify;
};

struct recipient {
	bool is_answered;
	char *address;     /* normalised, as it was addressed */
	unsigned *targets; /* numbers */
	size_t count;
	unsigned notify;
	char *orcpt; /* NULL: not said */
};

/* One slot's share of a delivery. */
struct share {
	struct delivery *delivery;
	unsigned slot;
	unsigned *targets; /* numbers, in the order of the job's */
	size_t count;
	struct store_queue_recipient *queued; /* of these targets that go to the queue */
	bool has_queued;
};

struct delivery {
	struct delivery_service *service;
	struct loop *loop;
	char *sender;
	uint64_t size;
	struct smtp_mark mark;
	struct recipient *recipients;
	unsigned count, room;
	struct target *targets;
	unsigned target_count, target_room;
	struct spool *spool;
	struct digest *digest;
	uint64_t skip; /* octets of the proxy still to come before the client's */
	int error;
	delivery_fn *fn;
	void *arg;
	unsigned refs;
	unsigned shares_open;
	struct timer timer; /* marks are waited for */
	unsigned steps;
	/* For what goes to the queue. */
	char *session, *user, *envid; /* NULL: not said */
	char *hold;                   /* reason; NULL: it is not held */
	enum smtp_ret ret;
	unsigned queue_flags; /* enum store_queue_flag */
	unsigned slot;        /* the sender's */
	bool is_whole;        /* one answer for all recipients */
	bool has_queued;      /* some of it goes to the queue */
	uint32_t skip_queued; /* octets of the spool that do not go out */
};

/* A new target, zeroed but for the recipient to come; its number. */
struct target *delivery_new_target(struct delivery *d, unsigned *number_out);
struct recipient *delivery_new_recipient(struct delivery *d);
/* A recipient of this address that is there already. */
bool delivery_find_recipient(const struct delivery *d, struct slice address, unsigned *recipient_out);
void delivery_release_target(struct delivery *d, struct target *t);

/* ---- delivery_queue.c ---- */
void queued_free(struct queued **q);
/* Before the slots are chosen: what must go through the queue does. */
void delivery_turn_to_queue(struct delivery *d);
/* The message as the queue has it, for one sender (a target's, or NULL: the delivery's). Borrows. */
struct store_queue_message delivery_queue_message(const struct delivery *d, const char *sender);
/* The same of a recipient. */
struct store_queue_recipient delivery_queue_recipient(const struct delivery *d, const struct target *t);
/* A target of the recipient to come that is elsewhere, with the sender rewritten. */
MUST_CHECK int delivery_forward(struct delivery *d, const struct forward_account *a, unsigned *target_out);
/* The recipient whose it is. ERR_NOT_FOUND: nobody here has made it, or it is too old. */
MUST_CHECK int delivery_add_returned(
	struct delivery *d, const struct smtp_path *path, unsigned *recipient_out);
