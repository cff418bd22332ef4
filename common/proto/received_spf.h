/*
 * The trace field Received-SPF (RFC 7208 section 9.1), written through common/proto/field_text.h.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"

/* Views; an empty text is left out. */
struct received_spf {
	const char *result;    /* "pass" */
	const char *identity;  /* "mailfrom", "helo" */
	struct slice receiver; /* our name */
	struct slice client_ip;
	struct slice domain;        /* whose record was looked at */
	struct slice envelope_from; /* "<>": the null sender */
	struct slice helo;
	struct slice mechanism; /* that matched; empty: "default" */
	struct slice problem;   /* of temperror and permerror */
};

/* Appends the whole field, folded, with its CRLF. */
void received_spf_write(struct buf *out, const struct received_spf *field);
