/* First a read job finds the mailbox, then an add stores the message there, \Seen. */
#include "backend/session/smtp_sent.h"

#include <stdlib.h>

#include "backend/store/store_mailbox.h"
#include "backend/store/store_message.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/spool.h"

#define SPOOL_MEMORY_MOST ((size_t)64 * 1024)
#define LIST_ARENA_MOST ((size_t)16 << 20)

struct smtp_sent {
	struct spool *spool;
	bool is_broken;
	struct store_work *work;
	struct loop *loop;
	struct store_account account;
	uint32_t mailbox;
};

struct smtp_sent *smtp_sent_new(void)
{
	struct smtp_sent *s = xcalloc(1, sizeof(*s));

	s->spool = spool_new(SPOOL_MEMORY_MOST, 0);
	return s;
}

void smtp_sent_free(struct smtp_sent **sent)
{
	struct smtp_sent *s = *sent;

	*sent = NULL;
	if (!s)
		return;
	spool_free(&s->spool);
	free(s);
}

void smtp_sent_add(struct smtp_sent *s, struct slice bytes)
{
	s->is_broken = s->is_broken || spool_add(s->spool, bytes);
}

static void complain(const struct smtp_sent *s, int err)
{
	log_warn(
		"submission", "no copy of what was sent: %s account=%s", error_text(err), s->account.address);
}

static void added(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct smtp_sent *s = arg;

	if (!err && count)
		err = results[0].error;
	if (err)
		complain(s, err);
}

static void drop(void *arg)
{
	struct smtp_sent *s = arg;

	smtp_sent_free(&s);
}

static int find(struct store_txn *txn, void *arg)
{
	struct smtp_sent *s = arg;
	struct store_mailbox *list;
	struct arena arena;
	size_t count;
	int err;

	arena_init(&arena, LIST_ARENA_MOST);
	err = store_mailbox_list(txn, s->account.id, &arena, &list, &count);
	s->mailbox = 0;
	for (size_t i = 0; !err && i < count; i++) {
		if (list[i].use == STORE_USE_SENT && list[i].id && !list[i].noselect)
			s->mailbox = list[i].id;
	}
	arena_deinit(&arena);
	return err;
}

static void found(void *arg, int err)
{
	struct smtp_sent *s = arg;
	struct store_work_target target = {
		.account = s->account.id, .mailbox = s->mailbox, .flags = STORE_SEEN, .date = clock_wall_s()};
	struct store_work_add add = {.slot = s->account.slot,
		.spool = s->spool,
		.targets = &target,
		.target_count = 1,
		.done = added,
		.drop = drop,
		.arg = s,
		.loop = s->loop};

	if (err || !s->mailbox) {
		if (err)
			complain(s, err);
		smtp_sent_free(&s);
		return;
	}
	(void)store_work_add(s->work, &add);
}

void smtp_sent_store(struct smtp_sent **sent_take, struct store_work *work, struct loop *loop,
	const struct store_account *account)
{
	struct smtp_sent *s = *sent_take;
	struct store_work_call call = {
		.run = find, .done = found, .arg = s, .loop = loop, .name = "find sent"};

	*sent_take = NULL;
	s->work = work;
	s->loop = loop;
	s->account = *account;
	if (s->is_broken) {
		complain(s, ERR_IO);
		smtp_sent_free(&s);
		return;
	}
	(void)store_work_read(work, account->slot, &call);
}
