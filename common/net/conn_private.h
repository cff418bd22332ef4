/*
 * The inside of a connection, for the files of this room.
 */
#pragma once

#include <openssl/ssl.h>

#include "common/base/list.h"
#include "common/net/conn.h"
#include "common/net/loop_private.h"

enum conn_phase {
	CONN_DIALING,     /* dial.c has it; fd may be -1 */
	CONN_HEADER,      /* accepted, and its PROXY header is awaited: conn_told.c */
	CONN_CLEAR_FIRST, /* STARTTLS: output of before still goes out in clear */
	CONN_HANDSHAKE,
	CONN_OPEN,
	CONN_BROKEN,    /* failed; the owner is told or has been told */
	CONN_LINGERING, /* closed by the owner, output still goes out */
	CONN_CLOSED     /* memory alive until the turn's end */
};

/* An address in 20 bytes, since there may be 100,000 of them. */
struct conn_addr {
	uint16_t family; /* 0: not known yet */
	uint16_t port;   /* network order */
	uint8_t ip[16];
};

struct conn;
struct dial;
struct listener;
struct conn_linger;
struct conn_names;
struct conn_deflate;
/* A raw owner (the relay) gets readiness, not events. */
typedef void conn_raw_fn(void *owner, struct conn *conn);

/* The header has been taken (error 0: the phase is CONN_OPEN or CONN_HANDSHAKE), or will not come. */
typedef void conn_told_fn(struct conn *conn, int error);

/* What a balancer's PROXY header told, and while it is awaited what is needed for that. */
struct conn_told {
	struct timer timer;
	struct conn *conn;
	conn_told_fn *done;
	struct tls *tls; /* implicit TLS, to begin after it */
	struct conn_addr raw_peer;
	struct conn_addr local; /* family 0: not told */
	char *name;             /* of a verified client certificate; NULL: none */
	char *authority;
	char *unique_id;
	bool is_secure;
};

struct conn {
	struct loop_io io;
	struct loop *loop;
	union {
		conn_fn *fn;
		conn_raw_fn *raw;
	};
	void *owner;
	struct list link; /* in loop->conns */
	struct list todo; /* in loop->todo, loop->again, or none */
	SSL *ssl;
	struct tls *tls; /* as long as ssl: OpenSSL asks it during handshakes */
	struct buf in;
	struct buf out;
	struct slice view; /* input that still lies in the loop's scratch; then `in` is empty */
	uint64_t bytes_in, bytes_out;
	union {
		struct dial *dial; /* until opened; NULL on accepted connections */
		struct conn_linger *linger;
	};
	struct listener *listener; /* counts this connection; NULL: none does */
	const char *error_detail;
	struct conn_names *names;     /* of the peer's certificate; NULL: not asked yet */
	struct conn_told *told;       /* NULL: no PROXY header */
	struct conn_deflate *deflate; /* NULL: no compression */
	int fd;
	int passed_fd; /* with takes_fds: what the peer passed; -1: nothing */
	uint32_t input_limit, high, low;
	uint32_t clear_left; /* CONN_CLEAR_FIRST: bytes of `out` that go in clear */
	int16_t error;
	uint16_t part; /* of the listener */
	uint8_t phase;
	bool is_raw : 1;
	bool is_tls_client : 1;
	bool sock_in : 1;  /* recv may give something */
	bool sock_out : 1; /* send may take something */
	bool sock_hup : 1; /* the peer ended or broke: read until 0 or error */
	bool sock_eof : 1; /* recv gave 0 */
	bool readable : 1; /* the stream (TLS or plain) may give something */
	bool has_out_interest : 1;
	bool in_work : 1;
	bool is_paused : 1;
	bool has_eof : 1;
	bool was_high : 1;
	bool wants_drained : 1;
	bool wants_shutdown : 1;
	bool has_shutdown : 1;
	bool data_due : 1;
	bool failure_due : 1;
	bool is_starttls : 1;
	bool sends_more : 1;    /* what is sent waits in the kernel for what follows at once */
	bool is_closing : 1;    /* conn_close() */
	bool takes_fds : 1;     /* conn_take_fds() */
	bool is_in_flows : 1;   /* counted in the listener's flows */
	uint8_t flows : 3;      /* in which of them its peer is */
	bool is_out_broken : 1; /* raw only: writing failed, reading may still give the peer's last words */
	struct conn_addr peer;
};

/* Makes a connection without descriptor. */
struct conn *conn_new(struct loop *loop, conn_fn *fn, void *owner);
/* Gives it its connected socket. */
MUST_CHECK int conn_attach(struct conn *c, int fd, uint32_t extra_events);
/* As conn_open_fd, for a socket that is non-blocking, close-on-exec and without Nagle already; peer may be
 * NULL. */
MUST_CHECK int conn_open_accepted(struct loop *loop, int fd, struct tls *tls,
	const struct sockaddr_storage *peer, conn_fn *fn, void *owner, struct conn **conn_out);
/* Dial is done: TLS or CONN_OPENED. */
void conn_connected(struct conn *c, struct tls *tls, const char *server_name);
/* Marks it broken; CONN_FAILED comes at the turn's end. detail is a fixed text. */
void conn_fail(struct conn *c, int error, const char *detail);
/* Writing to the plain socket failed: the end for an owner with events; a raw one may read on
 * (is_out_broken). */
void conn_fail_output(struct conn *c, int error);
void conn_schedule(struct conn *c);
/* Goes on in the next turn. */
void conn_schedule_again(struct conn *c);
/* Closes at once and frees at the turn's end. */
void conn_destroy(struct conn *c);
void conn_set_raw(struct conn *c, conn_raw_fn *raw, void *owner);
/* Input in the loop's scratch moves to a buffer of the connection's own. */
void conn_keep_input(struct conn *c);

/* n > 0: bytes; 0: end; ERR_MORE: not now (readable or sock_out is false then); other ERR_*: broken,
 * conn_fail() was called. */
ssize_t conn_stream_read(struct conn *c, char *p, size_t size);
ssize_t conn_stream_write(struct conn *c, const char *p, size_t len);
/* Plain socket only: the same, and the bookkeeping of readiness. */
ssize_t conn_sock_recv(struct conn *c, char *p, size_t size);
ssize_t conn_sock_send(struct conn *c, const char *p, size_t len);
/* Asks for writability, once and for all. */
void conn_want_out(struct conn *c);
/* Sends output as far as it goes. True: all is sent. */
bool conn_send_output(struct conn *c);
void conn_finish_output(struct conn *c);

/* conn_tls.c */
MUST_CHECK int conn_tls_start(struct conn *c, struct tls *tls, const char *server_name);
/* 0: done; ERR_MORE; else failed and conn_fail() was called. */
int conn_tls_handshake(struct conn *c);
ssize_t conn_tls_read(struct conn *c, char *p, size_t size);
ssize_t conn_tls_write(struct conn *c, const char *p, size_t len);
void conn_tls_shutdown(struct conn *c);
void conn_tls_free(struct conn *c);
const char *conn_tls_name(const struct conn *c, char *text, size_t size);

/* conn_deflate.c */
ssize_t conn_inflate_read(struct conn *c, char *p, size_t size);
/* What is to be written next: compresses a piece of `out` when nothing waits. */
struct buf *conn_deflate_fill(struct conn *c);
/* Compressed octets that wait. */
size_t conn_deflate_waiting(const struct conn *c);
void conn_deflate_drop(struct conn *c);
void conn_deflate_free(struct conn *c);

/* conn_certificate.c */
void conn_names_free(struct conn_names **names);

/* conn_told.c: waits for the header on a connection just accepted (phase CONN_OPEN, no TLS yet); done comes once, from a later
 * turn of the loop. */
void conn_told_begin(struct conn *c, uint64_t timeout_ms, struct tls *tls, conn_told_fn *done);
void conn_told_work(struct conn *c);
void conn_told_free(struct conn *c);

/* dial.c */
void dial_on_io(struct conn *c, uint32_t events);
void dial_done(struct conn *c);
/* listener.c */
void listener_gone(struct listener *listener, const struct conn *conn);
