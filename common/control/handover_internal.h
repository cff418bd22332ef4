/*
 * What the files of the hand-over share: handover.c (messages, the verb, the old ones), handover_give.c (the old program's
 * part), handover_take.c (the new one's). Nobody else includes it.
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/control/handover.h"
#include "common/net/addr.h"
#include "common/net/timer.h"

/* Where the new program finds its end of the socket pair. */
#define HANDOVER_FD 3
#define HANDOVER_VARIABLE "MAILTIER_HANDOVER"
#define HANDOVER_VERSION 1
#define HANDOVER_MESSAGE_MOST 1024
/* Descriptors of one message; the kernel takes 253. */
#define HANDOVER_FDS_MOST 100
/* Old programs that still live; with more no hand-over begins. */
#define HANDOVER_PREDECESSORS_MOST 64

/* A program that has retired, and lives on for its sessions: we hold the connection to it. */
struct predecessor {
	struct list link;
	struct handover *handover;
	struct loop_watch *watch;
	pid_t pid;
	int fd;
	bool is_main_due; /* it has not said yet that the supervisor knows of us */
	int64_t sessions;
};

enum giving {
	GIVING_NOTHING,
	GIVING_STARTED, /* the new one comes up */
	GIVING_GONE,    /* it was told to serve */
	GIVING_DONE     /* it serves: we are retired */
};

enum taking {
	TAKING_NOTHING, /* started by hand, or taken over long ago */
	TAKING_LOADING,
	TAKING_READY,   /* told so */
	TAKING_WAITING, /* for the end of the old one */
};

struct handover {
	struct handover_options options;
	char *program;
	char **argv; /* of main() */
	unsigned generation;
	struct list predecessors;
	struct metric *generation_gauge, *predecessors_gauge, *sessions_gauge, *failed;
	struct timer timer; /* limit of a giving, or the next look at our readiness */

	enum giving giving;
	int fd; /* to the new one */
	int errors_fd;
	struct loop_watch *watch, *errors_watch;
	pid_t child, pid;  /* what we started; what goes on in the background */
	struct buf errors; /* the end of what it wrote on standard error */
	struct buf reason; /* why it is not ready, as it says */
	struct addr *left;
	size_t left_count;
	struct control_request *request;

	enum taking taking;
	bool is_orphan; /* the old one died before it said go */
	struct predecessor *from;
	int stderr_fd; /* the real one; ours is a pipe until we serve */
	size_t sockets;
	struct buf told;      /* the last reason that we gave */
	uint64_t begin_by_ms; /* 0: not tried yet */
};

/* One message with descriptors. Never waits; ERR_* when it cannot be sent. */
MUST_CHECK int handover_send(int fd, const int *fds, size_t count, const char *format, ...) PRINTF_LIKE(4, 5);
/* The next message: 1 and the text (0-ended), 0 at the end, ERR_NOT_NOW when there is none. fds: as many as
 * *count_out says. */
MUST_CHECK int handover_receive(
	int fd, char text[HANDOVER_MESSAGE_MOST], int fds[HANDOVER_FDS_MOST], size_t *count_out);
/* Takes the next word off a message. */
struct slice handover_word(struct slice *rest);

/* Those that would end a program which does not watch them yet. */
void handover_early_signals(sigset_t *signals_out);

void handover_take_init(struct handover *h, int fd);
void handover_take_start(struct handover *h);
void handover_take_stop(struct handover *h);
/* Tells the supervisor that this process is the main one now. */
void handover_claim(void);
/* Begins to listen to an old program. */
void handover_watch(struct predecessor *p);
void handover_predecessor_free(struct predecessor *p);

/* SIGUSR2 or the verb. request: answered when it is decided; NULL: none. */
void handover_give(struct handover *h, struct control_request *request);
void handover_give_stop(struct handover *h);
