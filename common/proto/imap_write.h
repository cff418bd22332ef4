/*
 * The one encoder of IMAP: whatever goes into a response or into a command towards a back-end is written by
 * these. No value can end a line or a string: what a quoted string cannot carry becomes a literal, what text
 * cannot carry is replaced. Appends to the caller's buf (its sticky `failed` says that its limit was
 * reached). Pure; any thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* ---- server side ---- */

/* string: quoted where possible, else literal. NUL octets are left out: no IMAP4rev1 string can carry one. */
void imap_write_string(struct buf *out, struct slice s);
/* nstring: NIL for a NULL pointer. */
void imap_write_nstring(struct buf *out, struct slice s);
/* nstring or literal8 (RFC 5464): what has NUL octets goes as "~{n}", with all of them. */
void imap_write_binary(struct buf *out, struct slice s);
/* astring: an atom where possible. */
void imap_write_astring(struct buf *out, struct slice s);
/* A mailbox name given in UTF-8: modified UTF-7, as an astring. */
void imap_write_mailbox(struct buf *out, struct slice utf8);
/* The same two for a client that has enabled IMAP4rev2 or UTF8=ACCEPT: UTF-8 stands in quoted strings, names are what they are. */
void imap_write_utf8_string(struct buf *out, struct slice s);
void imap_write_utf8_mailbox(struct buf *out, struct slice utf8);
/* Human text of a response: controls and 8-bit octets become '?', a leading '[' too; never empty. */
void imap_write_text(struct buf *out, struct slice text);
/* "{n}\r\n": the caller sends exactly n octets after it. */
void imap_write_literal(struct buf *out, uint64_t n);

/* A set of ascending numbers given one after the other, as 1:3,5 with runs joined. */
struct imap_write_set {
	struct buf *out;
	uint32_t from, to; /* the run not yet written; from 0: none */
	bool has_any;
};
void imap_write_set_start(struct imap_write_set *set, struct buf *out);
void imap_write_set_add(struct imap_write_set *set, uint32_t n);
/* Writes the last run. Nothing was added: nothing is written. */
void imap_write_set_end(struct imap_write_set *set);

/* True if s is a legal atom of at least one character. */
bool imap_write_is_atom(struct slice s);
/* True if s is a legal flag or keyword: an atom, or one behind a backslash. */
bool imap_write_is_flag(struct slice s);

/* ---- client side, for commands to a back-end ---- */

/* A string of a command: quoted, or {n+} if the server takes LITERAL+. ERR_SYNTAX: it has NUL, or it has CR,
 * LF and the server does not take LITERAL+; nothing is added then. */
MUST_CHECK int imap_write_command_string(struct buf *out, struct slice s, bool has_literal_plus);
/* ("name" "value" ...) of ID (RFC 2971); a value with controls or beyond 1,024 octets is ERR_SYNTAX; NULL:
 * NIL. */
MUST_CHECK int imap_write_id_pair(struct buf *out, struct slice name, struct slice value);
