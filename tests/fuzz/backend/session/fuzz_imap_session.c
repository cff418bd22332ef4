/*
 * Whole IMAP sessions over a real store: the input is what one client sends, cut into writes at 0xff octets.
 * The session must end when its client has gone, within the deadline, whatever came before; a second session
 * of another account must still see its own mailbox untouched. State is kept from run to run (mailboxes grow
 * and go), as on a server.
 */
#include <stdlib.h>

/* The rig speaks cmocka; here a failed assertion ends the program. */
#define assert_true(x) require(x)
#define assert_non_null(x) require((x) != NULL)
#define assert_int_equal(a, b) require((a) == (b))
#define fail_msg(...) (fprintf(stderr, __VA_ARGS__), abort())

#include "tests/fuzz/ready.h"
#include "tests/unit/backend/session/imap_rig.h"

/* A commit may wait for a disk that others keep busy. */
#define WAIT_MS 60000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rig rig;
static struct rig_client witness;
static char *witness_says;

/* The untagged line alone. */
static struct slice witness_status(void)
{
	const char *got = rig_command(&witness, "STATUS INBOX (MESSAGES UIDNEXT HIGHESTMODSEQ SIZE)");

	return slice_of(got, (size_t)(strchr(got, '\n') - got));
}

static void stop(void)
{
	rig_disconnect(&witness);
	rig_stop(&rig);
	free(witness_says);
}

static void start(void)
{
	rig_start(&rig, imap_limits_default);
	rig_add_account(&rig, "alice@example.com", 50u << 20, 300); /* COPY doubles a mailbox */
	rig_add_account(&rig, "bob@example.com", 0, 0);
	rig_connect(&witness, &rig, "bob@example.com");
	(void)rig_append(&witness, "INBOX", "", "Subject: bob's\r\n\r\nbody\r\n");
	witness_says = slice_copy_str(witness_status());
	atexit(stop);
}

/* Reads until the session has closed. */
static void drain(struct rig_client *c)
{
	static char piece[65536];

	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN};

		require(ready(&p, WAIT_MS) > 0);
		if (read(c->fd, piece, sizeof(piece)) <= 0)
			return;
	}
}

static void send_some(struct rig_client *c, struct slice bytes)
{
	static char piece[65536];

	while (bytes.len) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLOUT};
		ssize_t n;

		require(ready(&p, WAIT_MS) > 0);
		if (p.revents & POLLIN && read(c->fd, piece, sizeof(piece)) <= 0)
			return;
		if (!(p.revents & POLLOUT))
			continue;
		n = send(c->fd, bytes.p, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return;
		bytes = slice_from(bytes, (size_t)n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned runs;
	struct slice in = slice_of(data, size);
	struct rig_client c;

	if (!witness_says)
		start();
	rig_connect(&c, &rig, "alice@example.com");
	while (in.len) {
		ptrdiff_t cut = slice_find(in, (char)0xff);
		size_t n = cut < 0 ? in.len : (size_t)cut;

		send_some(&c, slice_sub(in, 0, n));
		in = slice_from(in, n + 1);
	}
	shutdown(c.fd, SHUT_WR);
	drain(&c);
	rig_disconnect(&c);
	if (++runs % 64 == 0)
		require(slice_is_str(witness_status(), witness_says));
	return 0;
}
