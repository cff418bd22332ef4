/*
 * Annotations as IMAP asks for and tells them (RFC 5464), for GETMETADATA and for LIST's RETURN (METADATA ...)
 * (RFC 9590). Reading arguments on the loop, writing responses in a job.
 */
#pragma once

#include "backend/session/imap_core.h"
#include "backend/store/store_metadata.h"

#define IMAP_METADATA_ASKED_MAX 100 /* entries of one command */

struct imap_metadata_query {
	struct slice names[IMAP_METADATA_ASKED_MAX]; /* lower case */
	unsigned count;
	unsigned depth; /* levels below; UINT_MAX: all */
	bool has_maxsize;
	uint32_t maxsize;
	uint64_t longest; /* of what MAXSIZE held back; 0: nothing */
};

/* An entry's name, in lower case into the arena; has_value: it is to be set, and must have all its components.
 * ERR_SYNTAX: none; ERR_TOO_BIG: too long, or the arena is full. */
MUST_CHECK int imap_metadata_read_name(
	const struct imap_arg *arg, bool has_value, struct arena *arena, struct slice *name_out);
/* Is this a list of options (MAXSIZE, DEPTH), and not one of entries? */
bool imap_metadata_is_options(const struct imap_arg *arg);
MUST_CHECK int imap_metadata_read_options(const struct imap_arg *list, struct imap_metadata_query *query);
/* One entry or a list of them; the options are known already. */
MUST_CHECK int imap_metadata_read_entries(
	const struct imap_arg *arg, struct arena *arena, struct imap_metadata_query *query);

/* The user whose private entries this session sees. */
uint64_t imap_metadata_user(const struct imap_session *s);
/* Writes "* METADATA name (...)" to s->out, in a job. mailbox NULL: of the server. */
MUST_CHECK int imap_metadata_write(struct imap_session *s, struct store_txn *txn,
	const struct store_mailbox *mailbox, struct slice name, struct imap_metadata_query *query);
/* RFC 5464 section 3.3: may this session see and set annotations of the mailbox of this name? */
MUST_CHECK int imap_metadata_find(
	struct imap_session *s, struct store_txn *txn, struct slice name, struct store_mailbox *mailbox_out);
/* The same of a mailbox of this transaction: ERR_NOT_FOUND, ERR_FORBIDDEN: it may not. */
MUST_CHECK int imap_metadata_check(
	struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox);

/* ---- what the operator says of the server: constant, shared by sessions ---- */

struct imap_notes;
/* NULL texts: no such entry. */
struct imap_notes *imap_notes_new(const char *comment, const char *admin);
struct imap_notes *imap_notes_ref(struct imap_notes *notes);
/* Accepts NULL, sets NULL. */
void imap_notes_unref(struct imap_notes **notes);
