/*
 * A large store for tests/bench/scale: store_scale DIR MESSAGES MAILBOXES ACCOUNTS makes
 *
 *	big@scale.test     MESSAGES messages in INBOX, each different
 *	tenth@scale.test   a tenth of them
 *	many@scale.test    MAILBOXES mailboxes in a tree
 *	aNNNNNN@scale.test ACCOUNTS accounts with their default mailboxes
 *
 * all with the password "secret". It prints how long each took.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/store/store_account.h"
#include "backend/store/store_message.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/num.h"

#define SLOTS 2
#define MESSAGES_A_STEP 1000
#define ROWS_A_STEP 500

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "store_scale: %s: %s\n", what, error_text(err));
	exit(1);
}

static void said(const char *what, uint32_t count, uint64_t began)
{
	printf("%s %u in %.1f s\n", what, count, (double)(clock_mono_us() - began) / 1e6);
	fflush(stdout);
}

static uint32_t make_account(struct store *store, unsigned slot, const char *address)
{
	const struct store_account_new new = {
		.address = slice_str(address), .password = SLICE_LIT("{PLAIN}secret")};
	struct store_txn *txn;
	uint32_t account;

	must(store_begin_write(store, slot, &txn), "begin");
	must(store_account_create(txn, &new, &account), address);
	must(store_commit(&txn), "commit");
	return account;
}

static struct slice make_message(uint32_t n, char *room, size_t size)
{
	return slice_of(room,
		(size_t)snprintf(room, size,
			"From: Sender %u <sender%u@example.org>\r\nTo: Somebody <big@scale.test>\r\n"
			"Subject: message %u of many\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n"
			"Message-ID: <%u@scale.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
			"This is message number %u, and it says no more than that.\r\n",
			(unsigned)(n % 1000), (unsigned)(n % 1000), (unsigned)n, (unsigned)n, (unsigned)n));
}

static void append(
	struct store_txn *txn, struct store_press *press, uint32_t account, uint32_t mailbox, uint32_t n)
{
	char room[1024];
	struct store_source source = {.memory = make_message(n, room, sizeof(room))};
	struct store_append a = {.account = account,
		.mailbox = mailbox,
		.date = 1700000000 + n,
		.save_date = 1700000000 + n,
		.flags = n % 3 ? STORE_SEEN : 0};
	struct store_appended out;
	struct store_draft *draft;
	bool done;

	must(store_draft_new(&source, &draft), "draft");
	must(store_draft_fill(draft, press, &done), "fill");
	a.texts = store_draft_texts(draft);
	must(store_draft_finish(txn, draft, &a.blob), "finish");
	must(store_message_append(txn, &a, &out), "append");
	store_draft_free(&draft);
}

static void fill(struct store *store, const char *address, uint32_t count)
{
	uint32_t account = make_account(store, 0, address);
	struct store_press *press = store_press_new();
	uint64_t began = clock_mono_us();
	struct store_mailbox inbox;
	struct store_txn *txn;

	must(store_begin_read(store, 0, &txn), "read");
	must(store_mailbox_find(txn, account, SLICE_LIT("INBOX"), &inbox), "INBOX");
	store_end_read(&txn);
	for (uint32_t n = 1; n <= count;) {
		must(store_begin_write(store, 0, &txn), "begin");
		for (uint32_t i = 0; i < MESSAGES_A_STEP && n <= count; i++, n++)
			append(txn, press, account, inbox.id, n);
		must(store_commit(&txn), "commit");
	}
	store_press_free(&press);
	said(address, count, began);
}

static void make_mailboxes(struct store *store, uint32_t count)
{
	uint32_t account = make_account(store, 1, "many@scale.test"), id;
	uint64_t began = clock_mono_us();

	/* The default ones, and the parents, count too. */
	for (uint32_t n = 0; n < count;) {
		struct store_txn *txn;

		must(store_begin_write(store, 1, &txn), "begin");
		for (uint32_t i = 0; i < ROWS_A_STEP && n < count; i++, n++) {
			char name[40];
			struct slice s =
				slice_of(name, (size_t)snprintf(name, sizeof(name), "tree%02u/box%05u",
						       (unsigned)(n % 40), (unsigned)n));

			must(store_mailbox_create(txn, account, s, STORE_USE_NONE, &id), "mailbox");
		}
		must(store_commit(&txn), "commit");
	}
	said("many@scale.test", count, began);
}

static void make_accounts(struct store *store, uint32_t count)
{
	uint64_t began = clock_mono_us();

	for (uint32_t n = 0; n < count;) {
		struct store_txn *txn;
		unsigned slot = n / ROWS_A_STEP % SLOTS;

		must(store_begin_write(store, slot, &txn), "begin");
		for (uint32_t i = 0; i < ROWS_A_STEP && n < count; i++, n++) {
			char address[40];
			const struct store_account_new new = {
				.address = slice_of(address, (size_t)snprintf(address, sizeof(address),
								     "a%06u@scale.test", (unsigned)n)),
				.password = SLICE_LIT("{PLAIN}secret")};
			uint32_t account;

			must(store_account_create(txn, &new, &account), "account");
		}
		must(store_commit(&txn), "commit");
	}
	said("accounts", count, began);
}

int main(int argc, char **argv)
{
	uint32_t messages, mailboxes, accounts;
	struct store *store;
	struct store_options options = {.slots = SLOTS};

	if (argc != 5 || num_parse_u32(slice_str(argv[2]), &messages) ||
		num_parse_u32(slice_str(argv[3]), &mailboxes) ||
		num_parse_u32(slice_str(argv[4]), &accounts)) {
		fprintf(stderr, "usage: store_scale DIR MESSAGES MAILBOXES ACCOUNTS\n");
		return 64;
	}
	mem_init();
	options.dir = argv[1];
	must(store_open(&options, &store, NULL), "open");
	fill(store, "tenth@scale.test", messages / 10);
	fill(store, "big@scale.test", messages);
	make_mailboxes(store, mailboxes);
	make_accounts(store, accounts);
	store_close(&store);
	return 0;
}
