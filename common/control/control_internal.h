/*
 * What the files of this room share. Nobody else includes it.
 */
#pragma once

#include <jansson.h>

#include "common/base/list.h"
#include "common/base/secret.h"
#include "common/control/control.h"
#include "common/net/conn.h"
#include "common/net/listener.h"
#include "common/net/timer.h"

/* Simultaneous clients; words of a request; octets of one word; a request line, its input escaped at worst.
 */
#define CONTROL_PEERS_MOST 64
#define CONTROL_WORDS_MOST 256
#define CONTROL_WORD_MOST 65536
#define CONTROL_LINE_MOST (2 * CONTROL_INPUT_MOST)
/* How long a client may take to send its request. */
#define CONTROL_REQUEST_MS 60000

/* A table that a room registered. */
struct control_table {
	struct control_table *next;
	const struct control_verb *verbs;
	size_t count;
	void *arg;
};

struct control {
	struct loop *loop;
	struct listener *listener;
	const char *program;
	char *path;
	char *group; /* or NULL */
	struct control_table *tables;
	struct list peers;
	uint64_t started_ms;
	bool is_closing;
};

/* One connected client; at most one request of it runs. */
struct control_peer {
	struct list link;
	struct control *control;
	struct conn *conn;
	struct buf line;
	struct timer timer;
	struct control_request *running;
	bool has_ended; /* sends no more: closed when its request is answered */
	bool is_full;   /* its request waits for room */
};

struct control_option {
	const char *name;
	const char *value; /* NULL: stands alone */
};

struct control_request {
	struct loop *loop;
	struct control_peer *peer; /* NULL: the client has gone */
	const struct control_verb *verb;
	json_t *root; /* the request; words point into it */
	const char *cwd;
	const char *args[CONTROL_WORDS_MOST];
	size_t arg_count;
	struct control_option options[CONTROL_WORDS_MOST];
	size_t option_count;
	struct secret input;
	bool has_input;
	int fd; /* that the client passed; -1: none */
	char *path;
	json_t *row;
	json_t *result;
	json_t *times; /* names of keys; NULL: none */
	bool in_row;
	loop_fn *room_fn; /* control_when_room() */
	void *room_arg;
};

extern const struct control_verb control_own_verbs[];
extern const size_t control_own_verb_count;

/* Runs the verb of one request line, or answers why not. The peer's `running` is set meanwhile. */
void control_run_line(struct control_peer *peer, struct slice line);
/* Sends one object as a line; takes it. Nothing without a peer. */
void control_send_take(struct control_peer *peer, json_t *object);
/* A string of any bytes: what is no UTF-8 becomes "?". */
json_t *control_json_text(struct slice text);
/* The request is over: the peer may send its next. */
void control_peer_next(struct control_peer *peer);
