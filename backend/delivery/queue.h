/*
 * The queue's runner: brings what waits in the store's queues to where it goes, when its time comes. Here are time, order, what becomes of
 * results, and notices; outbound.h does the sending.
 *
 *	store (by time) --scan--> rows --load--> parcels: one message, its recipients of one next hop --> try --> results
 *	      ^                                                                                             |
 *	      `------------------------------ changes and notices, in one commit -------------------------'
 *
 * In memory is a window over the queue: so many recipients of a slot, of which each next hop has a share. A next hop that cannot be reached is
 * deferred as a whole: its recipients wait for its time untried, and then one of them goes first.
 *
 * A recipient's result stays in memory until it is committed, however long the disk is full. What is repeated after a crash is what the other side
 * had taken and the store had not written yet.
 *
 * Lives on one loop; what may be called from other threads says so.
 */
#pragma once

#include "backend/delivery/delivery.h"
#include "backend/delivery/outbound.h"
#include "backend/delivery/queue_plan.h"
#include "backend/store/store_queue.h"

struct queue;

/* What sends (outbound.h) and signs, or a test's. */
struct queue_sender {
	int (*next_hop)(void *arg, struct slice domain, char next_hop[OUTBOUND_NEXT_HOP_MAX]);
	int (*start)(void *arg, const struct outbound_request *request, struct outbound_try **try_out);
	void (*octets)(struct outbound_try *t, int error, struct slice bytes);
	void *arg;
	/* Signs a notice: done, once, at once or later, gets fields with line ends that go before it (none: empty). message is borrowed until then.
	 * NULL: notices are not signed. */
	void (*sign)(void *sign_arg, struct slice message, void (*done)(void *arg, struct slice fields),
		void *done_arg);
	void *sign_arg;
};

/* Copied; texts too. */
struct queue_settings {
	struct queue_plan plan;
	unsigned window;       /* recipients of a slot in memory */
	unsigned hops;         /* Received and Delivered-To fields: beyond it a message goes in circles */
	uint64_t notice_size;  /* octets of a message that are returned; longer ones by their header */
	unsigned notice_limit; /* of one address in notice_interval (ms); 0: none */
	uint64_t notice_interval;
	const char *host;        /* ours, in notices */
	const char *notice_from; /* address of their From field; "": MAILER-DAEMON at host */
	const char *postmaster;  /* who hears of notices that cannot be delivered; "" nobody */
	const char *failure_text, *delay_text,
		*success_text; /* contents of template files; "" the built-in ones */
};

/* Waits for queue_start(). */
struct queue *queue_new(struct store_work *work, struct delivery_service *delivery, struct loop *loop,
	const struct queue_sender *sender, const struct queue_settings *settings);
/* Begins. Any thread. */
void queue_start(struct queue *q);
/* Something was added, or made due. Any thread. */
void queue_wake(struct queue *q);
/* An operator changed these in the store (held, removed, due now): what is in memory and not being tried is forgotten, and read again. is_due: their
 * destinations are tried at once, even if they were put off. Copied. Any thread. */
struct queue_touched {
	unsigned slot;
	uint64_t message;
	uint32_t number;
	char destination[STORE_QUEUE_DESTINATION_MAX + 1];
};
void queue_touch(struct queue *q, const struct queue_touched *list, size_t count, bool is_due);
/* A next hop (NULL: any) has room again: outbound_room_fn. */
void queue_room(void *q, const char *next_hop);
/* After a reload. Any thread. */
void queue_set(struct queue *q, const struct queue_settings *settings);
/* Begins no more tries; what is under way ends by itself (outbound_end()), results are still written. Any thread. */
void queue_end(struct queue *q);
/* Tries under way. Any thread. */
unsigned queue_active(const struct queue *q);
/* After its loop and the store's threads have ended (store_work_halt()), before store_work_stop(). Sets NULL, accepts NULL. */
void queue_free(struct queue **q);
