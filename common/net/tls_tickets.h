/*
 * Keys of session tickets (RFC 5077, RFC 8446 §4.6.1): the first key of a set makes tickets, all of them open tickets. With a file that
 * all proxies share, a client resumes at any of them. A set is constant and counted; each loop has its own pointer to the set in
 * force, so that looking up takes no lock.
 *
 * The file: one to TLS_TICKET_KEYS_MOST keys of 80 octets (name 16, HMAC-SHA-256 key 32, AES-256 key 32), mode 0600.
 */
#pragma once

#include "common/base/buf.h"
#include "common/net/loop.h"

#define TLS_TICKET_KEYS_MOST 16
#define TLS_TICKET_KEY_LEN 80

struct tls_tickets;

/* ERR_IO, ERR_CONFIG with file and reason in why. Any thread. */
MUST_CHECK int tls_tickets_read(const char *path, struct buf *why, struct tls_tickets **tickets_out);
struct tls_tickets *tls_tickets_random(void);
struct tls_tickets *tls_tickets_ref(struct tls_tickets *tickets);
/* The last one wipes the keys. */
void tls_tickets_unref(struct tls_tickets **tickets);
/* The handshakes of that loop use this set from its next turn on. A loop that was never told uses keys of the process, made at
 * random. Any thread. */
void tls_tickets_set(struct loop *loop, struct tls_tickets *tickets);

/*
 * The set that a file has, or random keys where no file is named, on all loops of a group. The file is looked at every
 * TLS_TICKET_FILE_MS and read again when it has changed; one that cannot be used is an ERROR line, and the keys in force stay. Main
 * loop's thread.
 */
#define TLS_TICKET_FILE_MS 10000
struct tls_ticket_file;
/* path "": random keys. */
MUST_CHECK int tls_ticket_file_open(struct loop *loop, struct loop_group *group, const char *path,
	struct buf *why, struct tls_ticket_file **file_out);
/* Reads again, from this path from now on. On failure nothing is changed but the path. */
MUST_CHECK int tls_ticket_file_reload(struct tls_ticket_file *file, const char *path, struct buf *why);
void tls_ticket_file_close(struct tls_ticket_file **file);
