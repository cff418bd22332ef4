/*
 * IMAP URLs of messages and their parts on this server, as CATENATE has them (RFC 4469 section 3, RFC 5092): relative ones alone.
 * Pure; memory from the caller's arena.
 *
 *	/Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=1.2/;PARTIAL=0.1024
 *	/;UID=20, ;UID=20          of the selected mailbox
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

struct imap_url {
	struct slice mailbox; /* UTF-8 as far as it was; empty: the selected one */
	uint32_t uidvalidity; /* 0: none was named */
	uint32_t uid;
	struct slice section; /* what stands between the brackets of BODY[]; empty: all */
	uint64_t from;        /* PARTIAL */
	uint64_t length;      /* UINT64_MAX: to the end */
};

/* ERR_SYNTAX: no such URL (absolute ones are none); ERR_TOO_BIG: the arena is full. */
MUST_CHECK int imap_url_parse(struct slice text, struct arena *arena, struct imap_url *url_out);
