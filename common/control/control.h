/*
 * The control socket: operators ask a running program through it (mailtierctl). A unix socket; a request and its answers are
 * one JSON object per line. Rooms and programs register verbs in a table; a verb's function runs on the control loop and
 * answers at once or later, any number of rows first.
 *
 *	-> {"argv":["account","add","bob@example.com","--quota","1G"],"cwd":"/root","input":"..."}
 *	<- {"ask":"Password"}            the client asks a human or standard input, and sends the request again with "input"
 *	<- {"ask":"<","file":"x"}        the client sends it again, with a descriptor along (SCM_RIGHTS) of the file, or of its
 *	                                 standard input ("file":""); {"ask":">"}: of a file to be written, or its standard output
 *	<- {"row":{"user":"bob@example.com","messages":12}}
 *	<- {"row":{"id":"0-1","arrived":1795605982},"times":["arrived"]}    which numbers are seconds since 1970
 *	<- {"progress":"12000 of 100000 accounts"}         a long verb says how far it is; not part of the answer
 *	<- {"ok":true,"status":0,"result":{"accounts":1}}
 *	<- {"ok":false,"status":75,"error":"the back-end does not answer"}    with "result" if the verb had added to it
 *
 * A control_request belongs to the verb's function from its call until control_done() or control_fail(), even if the client
 * has gone meanwhile; every function here that takes one runs on the control loop (control_request_loop()): come back there by
 * loop_post(). JSON stays inside this room.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/conf/conf.h"
#include "common/net/loop.h"

struct control;
struct control_request;

typedef void control_fn(void *arg, struct control_request *request);

struct control_verb {
	const char *name;  /* one to three words: "account add" */
	const char *usage; /* "ADDRESS [--quota SIZE] [--alias ADDRESS]..." */
	const char *doc;   /* one line */
	control_fn *fn;
	unsigned args_least; /* of words after the verb that are not options */
	unsigned args_most;
	const char *options; /* words: "force" stands alone, "quota=" takes a value (may come again),
				"password<" asks the client for a line that nobody sees; NULL: none */
	unsigned flags;      /* enum control_flag */
};

enum control_flag {
	CONTROL_TAKES_IN =
		4, /* the client opens the file that the word after the least ones names, or has its standard input, and */
	CONTROL_TAKES_OUT =
		8, /* passes the descriptor: for reading, or (a new file, or standard output) for writing */
	CONTROL_ASKS = 2, /* always asks the client for a line that nobody sees */
	CONTROL_READS_ALL =
		1 /* the client sends all of its standard input along (at most CONTROL_INPUT_MOST) */
};
#define CONTROL_INPUT_MOST (64u * 1024 * 1024)

/*
 * Listens at path, mode 0600, or 0660 with this group. A socket that nobody listens on any more is replaced;
 * one that is in use is ERR_EXISTS. why: for the operator. "help" and "metrics" and "log level" are
 * registered already.
 */
MUST_CHECK int control_open(struct loop *loop, const char *program, const char *path, const char *group,
	struct buf *why, struct control **control_out);
/* Ends the socket and its connections; requests that still run end when their verbs answer. On the control
 * loop. */
void control_close(struct control **control);
/*
 * The program has handed over, and with it the socket: this one listens at the same path with ".PID" behind it from
 * now on. Connections stay. On an error nobody can ask it any more. On the control loop.
 */
MUST_CHECK int control_move(struct control *control, struct buf *why);
/* Adds count verbs; the table must live as long as the control. On the control loop, or before it runs. */
void control_register(struct control *control, const struct control_verb *verbs, size_t count, void *arg);

struct loop *control_request_loop(const struct control_request *request);
/* The words after the verb. "" beyond the last. */
size_t control_arg_count(const struct control_request *request);
const char *control_arg(const struct control_request *request, size_t i);
/* An argument as a file name: relative ones are relative to the client's folder. View until the request's
 * end. */
const char *control_arg_path(struct control_request *request, size_t i);
bool control_has_option(const struct control_request *request, const char *name);
/* The i-th value of an option ("quota="), or NULL. */
const char *control_option(const struct control_request *request, const char *name, size_t i);
/* What the client read for "password<" or CONTROL_READS_ALL; wiped at the request's end. */
struct slice control_input(const struct control_request *request);
/* Of a verb with CONTROL_TAKES_IN or CONTROL_TAKES_OUT: the client's file, pipe or socket; the caller's from now on. It may be in
 * blocking mode, which others share: poll() first. */
MUST_CHECK int control_take_fd(struct control_request *request);
/* The client has gone: a long verb may stop early (and must still call done or fail). */
bool control_is_gone(const struct control_request *request);

/*
 * For long answers: fn(arg) runs in a later turn, as soon as the client has taken most of what was sent, or has gone (or has
 * taken nothing for so long that it was sent away). So neither the loop nor the memory is held by a listing. One at a time.
 */
void control_when_room(struct control_request *request, loop_fn *fn, void *arg);

/*
 * An answer is rows, then a result. control_row() opens a row; the fields added after it belong to it until
 * the next control_row(), control_result() or the end. Fields added before any row, or after
 * control_result(), are the result's. Keys are stable (scripts read them). Text that is no UTF-8 is cleaned.
 */
void control_row(struct control_request *request);
void control_result(struct control_request *request);
void control_add_str(struct control_request *request, const char *key, const char *value);
void control_add_slice(struct control_request *request, const char *key, struct slice value);
void control_add_text(struct control_request *request, const char *key, const char *format, ...)
	PRINTF_LIKE(3, 4);
void control_add_int(struct control_request *request, const char *key, int64_t value);
/* Seconds since 1970; 0: never. A number in the answer (and in --json); mailtierctl shows people a date in UTC, ISO 8601. A key that has
 * been a time is one in all rows and in the result of this request. */
void control_add_time(struct control_request *request, const char *key, int64_t seconds);
void control_add_bool(struct control_request *request, const char *key, bool value);
void control_add_list(
	struct control_request *request, const char *key, const char *const *values, size_t count);
/* A list built one by one: adds to the list of that key. */
void control_add_item(struct control_request *request, const char *key, struct slice value);

/* For a human who waits: how far a long verb is. No row and no result; nothing when the client has gone. */
void control_progress(struct control_request *request, const char *format, ...) PRINTF_LIKE(2, 3);

/* Exit status 0. The request is gone afterwards. */
void control_done(struct control_request *request);
/*
 * Ends with an error; the exit status follows from it: ERR_NOT_NOW, ERR_TIMEOUT, ERR_FULL, ERR_CANCELLED 75;
 * ERR_SYNTAX 64; ERR_CORRUPT, ERR_IO 70; others 1. What was added to the result before is shown beside the error.
 */
void control_fail(struct control_request *request, int error, const char *format, ...) PRINTF_LIKE(3, 4);

/* Rows for a program's table of keys (conf.h): sections "control" and "status". */
#define CONTROL_CONF_SECTIONS                                                                                \
	{"control", 0, NULL, "The control socket that mailtierctl uses"},                                    \
	{                                                                                                    \
		"status", 0, NULL, "The status listener: HTTP with /metrics, /health and /ready"             \
	}
#define CONTROL_CONF_KEYS(default_socket)                                                                    \
	{"control", "socket", CONF_PATH, 0, default_socket, 0, 0, NULL,                                      \
		"Unix socket for mailtierctl, mode 0600; empty: none", NULL},                                \
		{"control", "group", CONF_STRING, 0, "", 0, 0, NULL,                                         \
			"Members of this group may use the control socket too (mode 0660)", NULL},           \
		{"status", "listen", CONF_ADDRESSES, 0, "", 1, 0, NULL,                                      \
			"Addresses of the status listener; metrics tell much, keep it on an inner network",  \
			NULL},                                                                               \
	{                                                                                                    \
		"status", "allow", CONF_NETWORKS, 0, "127.0.0.0/8 ::1", 0, 0, NULL,                          \
			"Networks that may ask the status listener", NULL                                    \
	}
/* For the programs' checks: what the rows above cannot say, by conf_error(). */
void control_check(struct conf *conf);
/* control_open() by these keys; *control_out NULL when the socket is switched off. */
MUST_CHECK int control_open_conf(struct loop *loop, const char *program, const struct conf *conf,
	struct buf *why, struct control **control_out);
