/*
 * Which mailboxes a command means (RFC 7377 section 2.2, RFC 5465 section 6): from the parser's argument tree to
 * a list of sources, and from those to mailboxes. Used by ESEARCH.
 */
#pragma once

#include "backend/session/imap_core.h"

#define IMAP_SOURCES_MOST 100

enum imap_source_kind {
	IMAP_SOURCE_SELECTED,
	IMAP_SOURCE_PERSONAL, /* INBOXES too: mail may be delivered to every mailbox */
	IMAP_SOURCE_SUBSCRIBED,
	IMAP_SOURCE_SUBTREE,
	IMAP_SOURCE_SUBTREE_ONE, /* and its children, not theirs */
	IMAP_SOURCE_MAILBOXES
};

struct imap_sources {
	struct imap_source {
		enum imap_source_kind kind;
		struct slice name; /* as the store has it */
	} list[IMAP_SOURCES_MOST];
	size_t count;
	bool has_selected;
	bool has_others;
};

/* The list behind IN. Names are the arena's. ERR_SYNTAX; ERR_TOO_BIG: too many. */
MUST_CHECK int imap_source_parse(const struct imap_session *s, const struct imap_arg *list,
	struct arena *arena, struct imap_sources *sources_out);

struct imap_source_mailbox {
	uint32_t id;
	struct slice name;
};
/* In a read job: the mailboxes that are meant, that are there and may be read, each once, as the store lists them; in the
 * arena. selected: the mailbox of IMAP_SOURCE_SELECTED. */
MUST_CHECK int imap_source_find(struct imap_session *s, struct store_txn *txn,
	const struct imap_sources *sources, uint32_t selected, struct arena *arena,
	struct imap_source_mailbox **mailboxes_out, size_t *count_out);
