/* Sessions of all kinds: shown to the operator's verbs, and ended by a drain. */
#include "backend/admin/sessions.h"

#include <stdlib.h>

#include "backend/session/lmtp.h"
#include "backend/session/smtp_in.h"
#include "common/base/mem.h"
#include "common/front/front.h"

#define KICK_TEXT "Ended by the operator."
#define DRAIN_TEXT "The server goes down for a moment."

/* ---- the operator's verbs ---- */

static bool take(struct session_walk *walk, const char *service, const struct mailbox_session_info *i)
{
	return session_walk_take(walk, &(struct session_info){
					       .number = i->number,
					       .id = i->session,
					       .service = service,
					       .user = i->user,
					       .client = i->client,
					       .state = i->state,
					       .since = (int64_t)(i->since_ms / 1000),
				       });
}

static bool take_imap(void *arg, const struct mailbox_session_info *i)
{
	return take(arg, "imap", i);
}

static bool take_pop3(void *arg, const struct mailbox_session_info *i)
{
	return take(arg, "pop3", i);
}

static void each_imap(void *arg, struct loop *loop, struct session_walk *walk)
{
	const struct admin *admin = arg;

	imap_service_each(admin->imap, loop, take_imap, walk, KICK_TEXT);
}

static void each_pop3(void *arg, struct loop *loop, struct session_walk *walk)
{
	const struct admin *admin = arg;

	pop3_service_each(admin->pop3, loop, take_pop3, walk, KICK_TEXT);
}

static void each_lmtp(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	lmtp_each(loop, walk);
}

static void each_smtp(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	smtp_in_each(loop, walk);
}

static void each_front(void *arg, struct loop *loop, struct session_walk *walk)
{
	(void)arg;
	(void)loop;
	front_each(walk);
}

void sessions_register(struct admin *admin)
{
	static session_each_fn *const each[] = {each_imap, each_pop3, each_lmtp, each_smtp, each_front, NULL};

	admin->sessions = (struct session_kinds){.each = each, .group = admin->group, .arg = admin};
	session_verbs_register(admin->control, &admin->sessions);
}

/* ---- drain ---- */

struct bye {
	struct admin *admin;
	struct loop *loop;
	bool is_now;
};

static void say_bye(void *arg)
{
	struct bye *bye = arg;

	imap_service_bye(bye->admin->imap, bye->loop, DRAIN_TEXT);
	pop3_service_bye(bye->admin->pop3, bye->loop, DRAIN_TEXT);
	lmtp_close_all(bye->loop, bye->is_now);
	smtp_in_close_all(bye->loop, bye->is_now);
	free(bye);
}

void sessions_bye(struct admin *admin, bool is_now)
{
	for (unsigned i = 0; i < loop_group_count(admin->group); i++) {
		struct bye *bye = xcalloc(1, sizeof(*bye));

		*bye = (struct bye){.admin = admin, .loop = loop_group_at(admin->group, i), .is_now = is_now};
		loop_post(bye->loop, say_bye, bye);
	}
}

/* ---- who may not go on ---- */

#define RECHECK_TEXT "This account may not be used any more."
/* Sessions that are looked at in one turn. */
#define RECHECK_MOST 1000

struct recheck {
	struct admin *admin;
	struct loop *loop;
	uint64_t after; /* the number of the last one looked at */
	unsigned looked;
	bool is_pop3;
};

static bool is_same_domain(const char *a, const char *b)
{
	const char *x = strrchr(a, '@'), *y = strrchr(b, '@');

	return x && y && slice_is_equal_nocase(slice_str(x), slice_str(y));
}

/*
 * The name that the session goes by must still lead to its account, not to another that has it now, and the account must still be in
 * the domain whose public folders and whose "anyone" the session was given. Sessions are walked in the order of their numbers.
 */
static bool must_end(struct recheck *r, const struct mailbox_session_info *i, uint32_t refusal)
{
	struct store_account account;
	int err;

	if (i->number <= r->after || r->looked >= RECHECK_MOST)
		return false;
	r->after = i->number;
	r->looked++;
	err = store_find_account(r->admin->store, slice_str(i->user), &account);
	if (err)
		return err == ERR_NOT_FOUND;
	return account.slot != i->slot || account.id != i->account ||
	       !is_same_domain(account.address, i->user) ||
	       (account.flags & (refusal | STORE_ACCOUNT_DISABLED));
}

static bool recheck_imap(void *arg, const struct mailbox_session_info *i)
{
	return must_end(arg, i, STORE_ACCOUNT_NO_IMAP);
}

static bool recheck_pop3(void *arg, const struct mailbox_session_info *i)
{
	return must_end(arg, i, STORE_ACCOUNT_NO_POP3);
}

static bool recheck_smtp(void *arg, const struct store_account *known)
{
	struct recheck *r = arg;
	struct store_account account;
	int err = store_get_account(r->admin->store, known->slot, known->id, &account);

	if (err)
		return err == ERR_NOT_FOUND;
	return strcmp(account.address, known->address) != 0 ||
	       (account.flags & (STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED));
}

static void recheck_step(void *arg)
{
	struct recheck *r = arg;

	r->looked = 0;
	if (r->is_pop3)
		pop3_service_each(r->admin->pop3, r->loop, recheck_pop3, r, RECHECK_TEXT);
	else
		imap_service_each(r->admin->imap, r->loop, recheck_imap, r, RECHECK_TEXT);
	if (r->looked < RECHECK_MOST && r->is_pop3) {
		smtp_in_recheck(r->loop, recheck_smtp, r);
		free(r);
		return;
	}
	if (r->looked < RECHECK_MOST) {
		r->is_pop3 = true;
		r->after = 0;
	}
	loop_post(r->loop, recheck_step, r);
}

void sessions_recheck(struct admin *admin)
{
	for (unsigned i = 0; admin->imap && admin->pop3 && i < loop_group_count(admin->group); i++) {
		struct recheck *r = xcalloc(1, sizeof(*r));

		*r = (struct recheck){.admin = admin, .loop = loop_group_at(admin->group, i)};
		loop_post(r->loop, recheck_step, r);
	}
}

static void end_fronts(void *arg)
{
	(void)arg;
	front_end_all();
}

void sessions_end_fronts(struct admin *admin)
{
	for (unsigned i = 0; i < loop_group_count(admin->group); i++)
		loop_post(loop_group_at(admin->group, i), end_fronts, NULL);
}

unsigned sessions_count(const struct admin *admin)
{
	return imap_service_count(admin->imap) + pop3_service_count(admin->pop3) + lmtp_count() +
	       smtp_in_count();
}
