/*
 * A ticket: | key's name 16 | IV 16 | AES-256-CBC of the session | HMAC-SHA-256 |; OpenSSL puts it together and asks us for the keys
 * alone. What a ticket is good for (service, certificate, asking for client certificates) is in the session id context of
 * tls.c, inside the encrypted part.
 */
#include "common/net/tls_tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/net/conn_private.h"
#include "common/net/timer.h"
#include "common/net/tls_private.h"

#define NAME_LEN 16
#define IV_LEN 16
#define KEY_LEN 32

struct key {
	uint8_t name[NAME_LEN], mac[KEY_LEN], cipher[KEY_LEN];
};
_Static_assert(sizeof(struct key) == TLS_TICKET_KEY_LEN, "as in the file");

struct tls_tickets {
	atomic_uint refs;
	size_t count;
	struct key keys[TLS_TICKET_KEYS_MOST];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct tls_tickets *of_process; /* constant once made */
static EVP_CIPHER *cipher;

/* ---- sets ---- */

static struct tls_tickets *tickets_new(void)
{
	struct tls_tickets *t = xcalloc(1, sizeof(*t));

	atomic_store(&t->refs, 1);
	return t;
}

struct tls_tickets *tls_tickets_random(void)
{
	struct tls_tickets *t = tickets_new();

	require(RAND_bytes((unsigned char *)t->keys, sizeof(t->keys[0])) == 1);
	t->count = 1;
	return t;
}

struct tls_tickets *tls_tickets_ref(struct tls_tickets *t)
{
	atomic_fetch_add(&t->refs, 1);
	return t;
}

void tls_tickets_unref(struct tls_tickets **tickets)
{
	struct tls_tickets *t = *tickets;

	*tickets = NULL;
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	secret_wipe(t->keys, sizeof(t->keys));
	free(t);
}

static int refuse(struct buf *why, const char *path, const char *reason, int error)
{
	buf_printf(why, "%s: %s\n", path, reason);
	return error;
}

/* The mode of what was opened; one octet more than may be there, to see that there are no more. */
static int read_keys(const char *path, int fd, struct tls_tickets *t, struct buf *why)
{
	uint8_t room[sizeof(t->keys) + 1];
	struct stat st;
	size_t len = 0;
	ssize_t n = 1;

	if (fstat(fd, &st) != 0 || !tls_is_private_file(&st))
		return refuse(
			why, path, "others may read the ticket keys: mode 0600 is asked for", ERR_CONFIG);
	while (n > 0 && len < sizeof(room)) {
		n = read(fd, room + len, sizeof(room) - len);
		if (n > 0)
			len += (size_t)n;
	}
	if (n >= 0 && len > 0 && len <= sizeof(t->keys) && len % TLS_TICKET_KEY_LEN == 0) {
		memcpy(t->keys, room, len);
		t->count = len / TLS_TICKET_KEY_LEN;
	}
	secret_wipe(room, sizeof(room));
	if (n < 0)
		return refuse(why, path, strerror(errno), ERR_IO);
	if (t->count == 0)
		return refuse(why, path, "no ticket keys: 1 to 16 times 80 octets are asked for", ERR_CONFIG);
	return 0;
}

int tls_tickets_read(const char *path, struct buf *why, struct tls_tickets **tickets_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct tls_tickets *t;
	int rc;

	if (fd < 0)
		return refuse(why, path, strerror(errno), ERR_IO);
	t = tickets_new();
	rc = read_keys(path, fd, t, why);
	close(fd);
	if (rc)
		tls_tickets_unref(&t);
	else
		*tickets_out = t;
	return rc;
}

struct change {
	struct loop *loop;
	struct tls_tickets *tickets;
};

static void make_change(void *arg)
{
	struct change *change = arg;
	struct tls_tickets *old = change->loop->tickets;

	change->loop->tickets = change->tickets;
	tls_tickets_unref(&old);
	free(change);
}

void tls_tickets_set(struct loop *loop, struct tls_tickets *tickets)
{
	struct change *change = xmalloc(sizeof(*change));

	change->loop = loop;
	change->tickets = tls_tickets_ref(tickets);
	loop_post(loop, make_change, change);
}

/* ---- what OpenSSL asks ---- */

static void init(void)
{
	of_process = tls_tickets_random();
	cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	require(cipher);
}

static bool set_mac(EVP_MAC_CTX *mac, const struct key *key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac, KEY_LEN),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* 1: done, 2: done, and a new ticket is to be sent, 0: no key for it (a full handshake follows), -1: failure. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac,
	int is_making)
{
	const struct conn *c = BIO_get_data(SSL_get_rbio(ssl));
	const struct tls_tickets *t = c->loop->tickets ? c->loop->tickets : of_process;
	size_t at = 0;

	if (is_making) {
		memcpy(name, t->keys[0].name, NAME_LEN);
		if (RAND_bytes(iv, IV_LEN) != 1)
			return -1;
		return EVP_EncryptInit_ex2(ctx, cipher, t->keys[0].cipher, iv, NULL) == 1 &&
				       set_mac(mac, &t->keys[0])
			       ? 1
			       : -1;
	}
	while (at < t->count && memcmp(name, t->keys[at].name, NAME_LEN) != 0)
		at++;
	if (at == t->count)
		return 0;
	if (EVP_DecryptInit_ex2(ctx, cipher, t->keys[at].cipher, iv, NULL) != 1 ||
		!set_mac(mac, &t->keys[at]))
		return -1;
	/* TLS 1.3: a ticket is for one use (RFC 8446 appendix C.4), so the next one goes out. */
	return at == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

void tls_tickets_attach(SSL_CTX *ctx)
{
	pthread_once(&once, init);
	require(SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1);
}

/* ---- the file ---- */

struct tls_ticket_file {
	struct loop *loop;
	struct loop_group *group;
	struct timer timer;
	char *path; /* "": random keys */
	struct stat seen;
};

static void give(struct tls_ticket_file *f, struct tls_tickets *tickets_take)
{
	for (unsigned i = 0; i < loop_group_count(f->group); i++)
		tls_tickets_set(loop_group_at(f->group, i), tickets_take);
	tls_tickets_unref(&tickets_take);
}

static bool has_changed(const struct stat *a, const struct stat *b)
{
	return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size ||
	       a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	       a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static int read_and_give(struct tls_ticket_file *f, struct buf *why)
{
	struct tls_tickets *tickets;
	int rc;

	/* Seen first: a change while it is read is noticed the next time. */
	if (stat(f->path, &f->seen) != 0)
		memset(&f->seen, 0, sizeof(f->seen));
	rc = tls_tickets_read(f->path, why, &tickets);
	if (rc == 0)
		give(f, tickets);
	return rc;
}

static void on_look(void *arg)
{
	struct tls_ticket_file *f = arg;
	struct buf why = {0};
	struct stat now;

	timer_set(&f->timer, f->loop, TLS_TICKET_FILE_MS);
	if (!f->path[0] || stat(f->path, &now) != 0 || !has_changed(&now, &f->seen))
		return;
	if (read_and_give(f, &why) == 0)
		log_info("net", "ticket keys read again file=%s", f->path);
	else
		log_error("net", "ticket keys refused, the old ones stay: %.*s",
			SLICE_ARG(slice_trim(buf_view(&why))));
	buf_deinit(&why);
}

int tls_ticket_file_reload(struct tls_ticket_file *f, const char *path, struct buf *why)
{
	bool was_random = !f->path[0];

	free(f->path);
	f->path = xstrdup(path);
	if (path[0])
		return read_and_give(f, why);
	if (!was_random)
		give(f, tls_tickets_random());
	return 0;
}

int tls_ticket_file_open(struct loop *loop, struct loop_group *group, const char *path, struct buf *why,
	struct tls_ticket_file **file_out)
{
	struct tls_ticket_file *f = xcalloc(1, sizeof(*f));
	int rc;

	f->loop = loop;
	f->group = group;
	f->path = xstrdup("");
	timer_init(&f->timer, on_look, f);
	rc = tls_ticket_file_reload(f, path, why);
	if (rc) {
		tls_ticket_file_close(&f);
		return rc;
	}
	timer_set(&f->timer, loop, TLS_TICKET_FILE_MS);
	*file_out = f;
	return 0;
}

void tls_ticket_file_close(struct tls_ticket_file **file)
{
	struct tls_ticket_file *f = *file;

	*file = NULL;
	if (!f)
		return;
	timer_stop(&f->timer);
	free(f->path);
	free(f);
}
