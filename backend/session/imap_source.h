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
	/* Others' mailboxes that the session's account is subscribed to: imap_source_find() learns them in the own slot. */
	struct slice *subscribed;
	size_t subscribed_count;
};

/* The list behind IN. Names are the arena's. ERR_SYNTAX; ERR_TOO_BIG: too many. */
MUST_CHECK int imap_source_parse(const struct imap_session *s, const struct imap_arg *list,
	struct arena *arena, struct imap_sources *sources_out);

struct imap_source_mailbox {
	unsigned slot;
	uint32_t account;
	uint32_t id;
	struct slice name; /* as this session sees it */
};
/* They may mean mailboxes of other accounts: every slot has to be asked. */
bool imap_source_is_wide(const struct imap_session *s, const struct imap_sources *sources);
/* In a read job of the own slot first, then of every other one (imap_source_is_wide()): appends the mailboxes of this slot that
 * are meant, that are there and may be looked up and read, each once, as the store lists them (struct imap_source_mailbox);
 * names are the arena's. */
MUST_CHECK int imap_source_find(struct imap_session *s, struct store_txn *txn, struct imap_sources *sources,
	struct arena *arena, struct buf *found);
