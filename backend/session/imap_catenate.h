/*
 * The octets that a URL of CATENATE names (RFC 4469), copied from the store into a spool: by read jobs of the session, a part at a
 * time. The mailbox is found as for FETCH, so that nothing comes into reach that was not.
 */
#pragma once

#include "backend/session/imap_core.h"
#include "common/proto/imap_url.h"
#include "common/proto/section.h"

struct imap_catenate {
	struct spool *spool;
	uint64_t most; /* octets that may come */
	/* ERR_NOT_FOUND: the URL names nothing; ERR_SYNTAX: a NUL; ERR_TOO_BIG; of the store or spool. */
	void (*done)(struct imap_session *s, int err);

	/* its own */
	struct imap_url url;
	struct section section;
	struct slice *names; /* of HEADER.FIELDS */
	size_t name_count;
	uint32_t mailbox; /* 0: not yet found */
	uint64_t at, left;
};

/* The URL's text into c, in the command's arena. ERR_NOT_FOUND: none that this server has. */
MUST_CHECK int imap_catenate_parse(struct imap_session *s, struct slice text, struct imap_catenate *c);
/* c lives until done. */
void imap_catenate_start(struct imap_session *s, struct imap_catenate *c);
