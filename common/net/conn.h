/*
 * A connection: a non-blocking byte stream over TCP or a unix socket, plain or with TLS inside, with an input
 * buffer that the owner consumes and an output buffer with marks. It belongs to one loop. Buffers exist only
 * while bytes are in them.
 *
 * Words: the *owner* is the session that set the callback. The callback gets one event at a time, and may do
 * anything to the connection, conn_close() too; after calling out, the connection's code assumes that it is
 * gone (memory is freed at the end of the loop's turn).
 *
 * Back-pressure: input stops being read while `input limit` bytes wait unconsumed, or while paused. Output is
 * accepted always (conn_write never fails, a broken connection swallows it and reports CONN_FAILED); who
 * produces asks conn_is_congested() (more than the high mark waits) and goes on at CONN_DRAINED (below the
 * low mark).
 *
 * Writes are gathered and sent at the end of the callback or turn; conn_flush() sends at once.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/tls.h"

struct conn;

enum conn_event {
	CONN_OPENED,  /* dial: connected, and TLS done where asked. Accepted connection: TLS handshake done
			 (implicit TLS) */
	CONN_SECURED, /* the handshake begun by conn_start_tls_*() is done */
	CONN_DATA,    /* conn_input() has grown; comes again only when more arrives: consume or remember */
	CONN_DRAINED, /* output has fallen to the low mark after having been above the high mark, or
			 conn_want_drained() */
	CONN_EOF,     /* the peer will send no more; input that is left stays readable */
	CONN_FAILED   /* conn_error() says why; nothing more will come. Also: handshake failed, dial failed */
};
typedef void conn_fn(void *owner, struct conn *conn, enum conn_event event);

/* Default marks; bytes. */
#define CONN_INPUT_LIMIT (16 * 1024)
#define CONN_HIGH_MARK (64 * 1024)
#define CONN_LOW_MARK (16 * 1024)

/* Replaces owner and callback (at hand-overs). Input that waits is announced by no new event: look at
 * conn_input(). */
void conn_set_owner(struct conn *conn, conn_fn *fn, void *owner);
/*
 * The peer of a unix socket may pass descriptors with its octets; before any input. The last one that came is kept until it is asked
 * for (conn_passed_fd(): the caller's then; -1: none came) or the connection is freed; others are closed.
 */
void conn_take_fds(struct conn *conn);
MUST_CHECK int conn_passed_fd(struct conn *conn);
void conn_set_input_limit(struct conn *conn, size_t bytes);
void conn_set_marks(struct conn *conn, size_t high, size_t low);

/* Unconsumed input: a view, valid until the next call on the connection or the callback's end. */
struct slice conn_input(struct conn *conn);
void conn_consume(struct conn *conn, size_t n);
/* No CONN_DATA, and nothing is read, until resumed. Resuming with input at hand brings CONN_DATA in the same
 * turn's end. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

void conn_write(struct conn *conn, struct slice bytes);
void conn_write_str(struct conn *conn, const char *text);
void conn_printf(struct conn *conn, const char *format, ...) PRINTF_LIKE(2, 3);
/* The output buffer itself, to append to directly (then conn_written()). */
struct buf *conn_output(struct conn *conn);
void conn_written(struct conn *conn);
/* Moves the content of b to the output without copying where it can; b is empty then. */
void conn_write_take(struct conn *conn, struct buf *b);
size_t conn_output_len(const struct conn *conn);
bool conn_is_congested(const struct conn *conn);
/* CONN_DRAINED will come once the output is at or below the low mark (at the turn's end if it is already). */
void conn_want_drained(struct conn *conn);
void conn_flush(struct conn *conn);

/* STARTTLS as server: input that is already buffered is an attack: ERR_DENIED, and the caller closes (RFC
 * 3207 §6 and CVE-2011-0411). Output written before goes out in clear first. Then CONN_SECURED or
 * CONN_FAILED. */
MUST_CHECK int conn_start_tls_server(struct conn *conn, struct tls *tls);
/* STARTTLS as client; server_name for SNI and verification. */
MUST_CHECK int conn_start_tls_client(struct conn *conn, struct tls *tls, const char *server_name);
/*
 * The same with TLSA records in the place of authorities: usages 2 and 3 (RFC 7672 section 3.1), the strongest digest of each (RFC 7671
 * section 9). tls: made with uses_dane. ERR_UNSUPPORTED: no record can be used, and nothing has changed.
 */
MUST_CHECK int conn_start_tls_dane(struct conn *conn, struct tls *tls, const struct tls_dane *dane);
/* As client, after the handshake: the server's certificate is verified, chain and name or by TLSA. With a lenient context it may not
 * be. */
bool conn_tls_is_verified(const struct conn *conn);
/* As client, when the handshake has failed: what is wrong with the server's certificate. */
enum conn_tls_fault {
	CONN_TLS_FAILED, /* nothing that is known: the handshake broke, or no TLSA record fits */
	CONN_TLS_EXPIRED,
	CONN_TLS_WRONG_NAME,
	CONN_TLS_UNTRUSTED
};
enum conn_tls_fault conn_tls_fault(const struct conn *conn);
/*
 * From here on both directions are raw deflate (RFC 1951), inside TLS where that is on; what was written before goes out as it
 * is. The input never makes more than 250 octets of one in the long run (beyond 32 MiB), else CONN_FAILED. ERR_DENIED: input
 * waits already, of which nobody knows what it is; ERR_UNSUPPORTED: it is on already.
 */
MUST_CHECK int conn_start_deflate(struct conn *conn);
bool conn_is_deflated(const struct conn *conn);
/*
 * From here on neither direction is compressed (RFC 8437 section 4.1); what was written before goes out as it would have. The peer ends
 * his stream by deflate's last block, and what he sends behind it is input as it is; or he waits for what was written before he sends
 * more. ERR_DENIED: input waits of which nobody knows what it is, and nothing has changed; ERR_UNSUPPORTED: it is not on.
 */
MUST_CHECK int conn_stop_deflate(struct conn *conn);
bool conn_is_tls(const struct conn *conn);
/* "TLSv1.3 TLS_AES_128_GCM_SHA256", or NULL on a plain connection. View. */
const char *conn_tls_text(const struct conn *conn);
/* What the two ends of a TLS connection alone know, for SCRAM's -PLUS: gives the type, "tls-exporter" (RFC 9266) under TLS 1.3,
 * "tls-unique" (RFC 5929) under TLS 1.2 with the extended master secret; NULL otherwise, and where TLS does not end here. */
const char *conn_channel_binding(struct conn *conn, char *out, size_t most, size_t *len_out);
/* The client's way to us is encrypted: by TLS here, or at a balancer whose PROXY header says so. */
bool conn_is_secure(const struct conn *conn);
/* The name that the client asked for: by SNI, or told by a balancer's PROXY header; "" if none. View. */
const char *conn_authority(const struct conn *conn);
/* The id that a balancer's PROXY header gave to the connection: printable ASCII, at most 64 octets; "" if none. View. */
const char *conn_unique_id(const struct conn *conn);

/* True if the peer showed a certificate that was verified and has not expired: here, or (without TLS here) to a balancer whose
 * PROXY header says so. */
bool conn_has_peer_certificate(const struct conn *conn);
enum conn_certificate_field {
	CONN_CERTIFICATE_CN,
	CONN_CERTIFICATE_EMAIL, /* alternative names of type rfc822Name */
	CONN_CERTIFICATE_UPN    /* alternative names of type otherName 1.3.6.1.4.1.311.20.2.3 */
};
#define CONN_CERTIFICATE_FIELDS (CONN_CERTIFICATE_UPN + 1)
/* Of one field; further ones are not seen. */
#define CONN_CERTIFICATE_VALUES_MOST 8
/* The index-th value of a field of a certificate as above: UTF-8 without controls. NULL beyond the last, and without such a
 * certificate. A balancer tells the common name alone. View of the connection. */
const char *conn_peer_certificate_field(struct conn *conn, enum conn_certificate_field field, size_t index);
/* The common name, "" if none. View of the connection. */
const char *conn_peer_certificate_name(struct conn *conn);

/* Views, overwritten when eight more have been asked for on this loop. len 0: not connected (any more). */
const struct addr *conn_peer(const struct conn *conn);
const struct addr *conn_local(const struct conn *conn);
/* The other end of the socket: a balancer's address where conn_peer() gives what its PROXY header told. View as above. */
const struct addr *conn_raw_peer(const struct conn *conn);
struct loop *conn_loop(const struct conn *conn);
/* ERR_* and a fixed text for the log after CONN_FAILED. */
int conn_error(const struct conn *conn);
const char *conn_error_detail(const struct conn *conn);
uint64_t conn_bytes_in(const struct conn *conn);
uint64_t conn_bytes_out(const struct conn *conn);

/* Sends what waits, then FIN (TLS: close_notify); the input side goes on. */
void conn_shutdown(struct conn *conn);
/* No more events; sends what waits (at most `linger` 5 s in the background), then closes. *conn is NULL then.
 */
void conn_close(struct conn **conn);
/* Closes at once, unsent output is lost. */
void conn_abort(struct conn **conn);

/* Wraps a connected socket (accepted or one end of socketpair); takes the descriptor. tls: implicit TLS as
 * server. */
MUST_CHECK int conn_open_fd(
	struct loop *loop, int fd, struct tls *tls, conn_fn *fn, void *owner, struct conn **conn_out);
