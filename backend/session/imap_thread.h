/*
 * THREAD (RFC 5256): messages into trees, by the algorithms ORDEREDSUBJECT and REFERENCES. Messages are linked
 * as they are added, sorted by date in steps, then gathered to threads; the answer is written in pieces. One
 * command's; any thread, one at a time.
 */
#pragma once

#include "backend/session/imap_sort.h"

struct imap_thread;

struct imap_thread *imap_thread_new(enum imap_thread_algorithm algorithm);
void imap_thread_free(struct imap_thread **t);
/* In the order of the mailbox. ERR_TOO_BIG. */
MUST_CHECK int imap_thread_add(struct imap_thread *t, uint32_t number, const struct store_entry *entry,
	const struct mail_keys *keys);
/* Until the clock (clock_mono_us()) reaches `until`; 1: done, 0: call again, ERR_TOO_BIG. */
MUST_CHECK int imap_thread_step(struct imap_thread *t, uint64_t until);
/* Writes threads "(1)(2 3)" until out holds `most` or all are written: true. */
bool imap_thread_write(struct imap_thread *t, struct buf *out, size_t most);
