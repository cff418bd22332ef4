/*
 * The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): the header by which a balancer tells whose connection it
 * passes on. Pure: bytes in, struct out, struct to bytes. Views point into the input; no memory of its own; any thread. Whether a
 * header is wanted, and from whom, is the caller's to know: a header must never be guessed.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/error.h"

/* Octets of a whole header; the format of version 2 would allow 64 KiB. */
#define PROXY_PROTOCOL_MOST 4096
/* Of a line of version 1, with its CR LF. */
#define PROXY_PROTOCOL_LINE_MOST 107
#define PROXY_PROTOCOL_UNIQUE_ID_MOST 128
#define PROXY_PROTOCOL_AUTHORITY_MOST 255

enum proxy_protocol_family {
	PROXY_PROTOCOL_UNKNOWN, /* no addresses that we know: those of the connection itself count */
	PROXY_PROTOCOL_TCP4,
	PROXY_PROTOCOL_TCP6
};

/* Bits of ssl_client. */
enum proxy_protocol_client {
	PROXY_PROTOCOL_CLIENT_SSL = 1,       /* the client came over TLS */
	PROXY_PROTOCOL_CLIENT_CERT_CONN = 2, /* and showed a certificate in this connection */
	PROXY_PROTOCOL_CLIENT_CERT_SESS = 4  /* or in the TLS session that this one resumes */
};

struct proxy_protocol {
	unsigned version; /* 1 or 2 */
	bool is_local; /* LOCAL: the balancer speaks for itself (a health check); nothing else is set then */
	enum proxy_protocol_family family;
	uint8_t source[16], destination[16]; /* network order; IPv4: the first four octets */
	uint16_t source_port, destination_port;
	/* Version 2's additions. Texts are UTF-8 without controls; empty: not told. */
	struct slice authority; /* the name that the client asked for (SNI) */
	struct slice unique_id; /* any octets */
	struct slice alpn;      /* any octets */
	bool has_ssl;           /* the rest was told */
	uint8_t ssl_client;     /* enum proxy_protocol_client */
	uint32_t
		ssl_verify; /* 0: the client's certificate was verified (says nothing where none was shown) */
	struct slice ssl_version, ssl_cipher;
	struct slice ssl_cn; /* of the client's certificate */
};

/*
 * Octets of the header, 0 when more are needed. ERR_SYNTAX: no header, or one that breaks the specification; said as soon as it
 * shows, so that a client that sends something else is not waited for. ERR_TOO_BIG beyond PROXY_PROTOCOL_MOST. ERR_UNSUPPORTED:
 * datagrams. A checksum (CRC-32c) that is there is verified. An addition that is cut, or twice where once is meant, is ERR_SYNTAX;
 * those that are not named above are passed over.
 */
ssize_t proxy_protocol_parse(struct slice in, struct proxy_protocol *header_out);
/* Did the client come over TLS to the balancer? */
bool proxy_protocol_is_secure(const struct proxy_protocol *header);
/* The common name of a client certificate that was shown and verified there; empty otherwise. View. */
struct slice proxy_protocol_verified_name(const struct proxy_protocol *header);
/*
 * Appends a header of version 2 (`version` does not matter): LOCAL, or PROXY with addresses and what else is set. Texts that are
 * too long are left out: an authority or unique id beyond its limit, others beyond 255 octets.
 */
void proxy_protocol_write(struct buf *out, const struct proxy_protocol *header);
