/*
 * A login goes: names -> account (name table in memory) -> stored password (read job) -> check (cache, hash
 * workers) -> session. Where a section `users` has a connector: names -> directory -> account, which may be made
 * then -> session. A proxy's login skips the account's password and checks the proxy's own. The front's
 * views of the credentials live until the login is answered, so that nothing is copied but the stored
 * password.
 *
 * Whoever is not trusted gets the answer of a wrong password for a foreign authorisation identity, whether or
 * not the credential would have been right, and nothing is checked.
 */
#include "backend/login.h"

#include <stdlib.h>

#include "backend/store/store_account.h"
#include "backend/admin/accounts_ensure.h"
#include "backend/session/smtp_in.h"
#include "backend/users.h"
#include "common/auth/auth_name.h"
#include "common/front/imap_front.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define LOGIN_ARENA_MOST (8 * 1024)

struct login {
	/* who asks, one of the two; both NULL once answered or cancelled */
	struct front *front;
	struct smtp_front *smtp;
	struct loop *loop;
	const struct login_tier *tier;
	struct front_credentials credentials;
	struct arena arena;
	struct slice user; /* normalised */
	struct store_account account;
	bool has_account;
	struct store_job *job;
	struct credential_check *check;
	bool is_vouched;                  /* a proxy, credentials.authcid, says who it is */
	const struct config_users *users; /* the section of the user's domain, NULL: none */
	struct directory_login_request *question;
	struct accounts_ensure *ensure;
	unsigned refs; /* itself, the job */
	/* the job's */
	char stored[STORE_PASSWORD_MAX + 1];
	size_t stored_len;
};

static void unref(struct login *l)
{
	if (--l->refs)
		return;
	secret_wipe(l->stored, sizeof(l->stored));
	arena_deinit(&l->arena);
	loop_free_later(l->loop, l);
}

/* ---- who asks ---- */

static struct conn *conn_of(const struct login *l)
{
	return l->front ? front_conn(l->front) : smtp_front_conn(l->smtp);
}

static const char *session_of(const struct login *l)
{
	return l->front ? front_session(l->front) : smtp_front_session(l->smtp);
}

static const char *domain_of(const struct login *l)
{
	return l->front ? front_service(l->front)->domain : smtp_front_service(l->smtp)->domain;
}

/* The front knows this login no more. */
static void detach(struct login *l)
{
	if (l->front)
		front_set_login(l->front, NULL);
	else
		smtp_in_set_login(l->smtp, NULL);
}

/* The login is answered, or nobody waits for it any more. */
static void finish(struct login *l)
{
	l->front = NULL;
	l->smtp = NULL;
	store_work_cancel(&l->job);
	directory_login_cancel(&l->question);
	accounts_ensure_cancel(&l->ensure);
	credential_check_cancel(&l->check);
	unref(l);
}

/* The texts that are stored, with the NUL that ends them, go to the front, which puts a challenge: to those who are not there, too. */
static void give(struct login *l, struct slice stored, bool is_known)
{
	struct front *front = l->front;
	struct smtp_front *smtp = l->smtp;

	detach(l);
	l->refs++; /* stored may be ours */
	finish(l);
	if (front)
		front_give_stored(front, stored, is_known);
	else
		smtp_front_give_stored(smtp, stored, is_known);
	unref(l);
}

static void refuse(struct login *l, enum front_result result, const char *detail)
{
	struct front *front = l->front;
	struct smtp_front *smtp = l->smtp;

	detach(l);
	finish(l);
	if (front)
		front_refuse(front, result, detail);
	else
		smtp_front_answer_login(smtp, result, slice_of("", 0), detail);
}

/* ---- the session ---- */

/*
 * A connection on its way from its session back to a front: of the same service as before, at the end of the turn, so that a client
 * who sends UNAUTHENTICATE and AUTHENTICATE a thousand times at once does not nest a thousand sessions.
 */
struct returning {
	struct front_service *service;
	struct conn *conn; /* NULL: still the session's */
	struct loop *loop;
	bool is_ended, is_failed;
};

static void return_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct returning *r = owner;

	(void)conn;
	r->is_ended |= event == CONN_EOF;
	r->is_failed |= event == CONN_FAILED;
}

static void return_end(void *arg)
{
	struct returning *r = arg;

	if (r->conn && r->is_failed)
		conn_close(&r->conn);
	else if (r->conn)
		imap_front_start(r->service, r->conn, FRONT_RETURNED | (r->is_ended ? FRONT_HALF_CLOSED : 0));
	front_service_unref(&r->service);
	free(r);
}

static void return_take(void *arg, struct conn *conn_take, bool is_ended)
{
	struct returning *r = arg;

	r->conn = conn_take;
	r->is_ended = is_ended;
	conn_set_owner(conn_take, return_event, r);
}

/* The session has ended, with or without giving its connection back. */
static void return_drop(void *arg)
{
	struct returning *r = arg;

	loop_defer(r->loop, return_end, r);
}

/* RFC 8437 section 8: whom a proxy logged in must not get past it. */
static struct imap_return way_back(const struct login *l)
{
	const struct config *config = l->tier->config;
	struct returning *r;

	if (!config->offers_unauthenticate || l->is_vouched || front_is_proxied(l->front) ||
		config_is_trusted(config, front_conn(l->front)))
		return (struct imap_return){0};
	r = xcalloc(1, sizeof(*r));
	r->service = front_service_ref(front_service(l->front));
	r->loop = l->loop;
	return (struct imap_return){.take = return_take, .drop = return_drop, .arg = r};
}

static void start_imap(struct login *l)
{
	struct front_handover h;
	struct store_account account = l->account;
	struct backend *b = l->tier->backend;
	struct front *front = l->front;
	struct imap_return back = way_back(l);

	front_set_login(front, NULL);
	finish(l);
	front_hand_over(front, &h);
	imap_session_start(&(struct imap_session_start){
		.service = b->admin.imap,
		.conn = h.conn,
		.tag = h.tag,
		.account = &account,
		.session = h.session,
		.client = h.client,
		.is_ended = h.is_ended,
		.back = back,
	});
}

static void start_pop3(struct login *l)
{
	struct front_handover h;
	struct store_account account = l->account;
	struct backend *b = l->tier->backend;
	struct front *front = l->front;
	struct pop3_lock *lock;

	if (pop3_lock_take(b->admin.pop3, &account, &lock)) {
		refuse(l, FRONT_IN_USE, "another session holds the maildrop");
		return;
	}
	front_set_login(front, NULL);
	finish(l);
	front_hand_over(front, &h);
	pop3_session_start(&(struct pop3_session_start){
		.service = b->admin.pop3,
		.conn = h.conn,
		.lock = lock,
		.account = &account,
		.session = h.session,
		.client = h.client,
		.is_ended = h.is_ended,
		.is_utf8 = h.is_utf8,
	});
}

/* has_account false: a user whom a proxy vouches for, and who has no mailbox here. */
static void start_smtp(struct login *l)
{
	struct store_account account = l->account;
	bool has_account = l->has_account, is_vouched = l->is_vouched;
	struct smtp_front *smtp = l->smtp;
	char *user = slice_copy_str(l->user);

	detach(l);
	finish(l);
	if (smtp_in_logged_in(smtp, has_account ? &account : NULL, slice_str(user), is_vouched))
		smtp_front_answer_login(
			smtp, FRONT_NO_ACCOUNT, slice_of("", 0), "there is no such account here");
	free(user);
}

static void enter(struct login *l);

static void on_ensured(void *arg, int err)
{
	struct login *l = arg;

	l->ensure = NULL;
	if (!err)
		err = store_find_account(l->tier->backend->admin.store, l->user, &l->account);
	if (err == ERR_NOT_FOUND || err == ERR_TOO_BIG) {
		refuse(l, FRONT_NO_ACCOUNT, "its domain has no place for the account");
		return;
	}
	if (err) {
		refuse(l, FRONT_NOT_NOW, error_text(err));
		return;
	}
	l->has_account = true;
	enter(l);
}

/* NULL: the account may be used this way. */
static const char *objection(const struct login *l)
{
	static const uint32_t refusals[] = {[CONFIG_IMAP] = STORE_ACCOUNT_NO_IMAP,
		[CONFIG_POP3] = STORE_ACCOUNT_NO_POP3,
		[CONFIG_LMTP] = 0,
		[CONFIG_SMTP] = 0,
		[CONFIG_SUBMISSION] = 0};

	if (l->account.flags & STORE_ACCOUNT_SUSPENDED)
		return "the account is suspended";
	if (l->account.flags & STORE_ACCOUNT_DISABLED)
		return "the account is disabled";
	if (l->account.flags & refusals[l->tier->service])
		return "the account may not use this protocol";
	return NULL;
}

/* The credential is right. */
static void enter(struct login *l)
{
	const char *why;

	if (!l->has_account && users_may_create(l->users, l->user)) {
		l->ensure = accounts_ensure(&l->tier->backend->admin, l->loop, l->user, on_ensured, l);
		return;
	}
	if (!l->has_account && l->is_vouched && l->smtp) {
		start_smtp(l);
		return;
	}
	if (!l->has_account) {
		refuse(l, FRONT_NO_ACCOUNT, "there is no such account here");
		return;
	}
	/* As it is now: while the password was checked an operator may have changed it, and ended its sessions. */
	if (store_get_account(l->tier->backend->admin.store, l->account.slot, l->account.id, &l->account)) {
		refuse(l, FRONT_NO_ACCOUNT, "the account has just gone");
		return;
	}
	why = objection(l);
	if (why) {
		/* [AUTH] of POP3 would tell a proxy that it is not believed itself. */
		refuse(l, l->is_vouched ? FRONT_NO_ACCOUNT : FRONT_NOT_PERMITTED, why);
		return;
	}
	log_info("backend", "%s: login user=%s service=%s proxy=%.*s", session_of(l), l->account.address,
		config_service_name(l->tier->service),
		SLICE_ARG(l->is_vouched ? l->credentials.authcid : SLICE_LIT("none")));
	switch (l->tier->service) {
	case CONFIG_IMAP:
		start_imap(l);
		return;
	case CONFIG_POP3:
		start_pop3(l);
		return;
	case CONFIG_SMTP:
	case CONFIG_SUBMISSION:
		start_smtp(l);
		return;
	case CONFIG_LMTP:
		refuse(l, FRONT_NOT_PERMITTED, "LMTP has no logins");
		return;
	}
}

/* ---- the credential ---- */

static void on_verdict(void *arg, int verdict)
{
	struct login *l = arg;

	l->check = NULL;
	if (verdict == 0) {
		enter(l);
	} else if (verdict == ERR_DENIED) {
		refuse(l, FRONT_WRONG, "wrong password");
	} else {
		refuse(l, FRONT_NOT_NOW, "the password cannot be checked now");
	}
}

static void check(struct login *l, struct slice realm, struct slice name, struct slice stored)
{
	const struct credential credential = {
		.realm = realm,
		.service = slice_str(config_service_name(l->tier->service)),
		.user = name,
		.stored = stored,
		.password = l->credentials.password,
	};
	struct backend *b = l->tier->backend;
	int verdict = 0, n = credential_check(b->credentials, b->admin.hash_pool, l->loop, &credential,
				 on_verdict, l, &verdict, &l->check);

	if (n > 0)
		on_verdict(l, verdict);
	else if (n < 0)
		on_verdict(l, ERR_NOT_NOW);
}

/* ---- a proxy ---- */

static void login_as_proxy(struct login *l)
{
	const struct config_proxy *proxy;
	int err;

	if (!config_is_trusted(l->tier->config, conn_of(l))) {
		refuse(l, FRONT_WRONG, "a foreign authorisation identity from a peer that is not trusted");
		return;
	}
	proxy = config_find_proxy(l->tier->config, l->credentials.authcid);
	if (!proxy) {
		refuse(l, FRONT_WRONG, "no proxy has this name");
		return;
	}
	err = store_find_account(l->tier->backend->admin.store, l->user, &l->account);
	if (err && err != ERR_NOT_FOUND) {
		refuse(l, FRONT_NOT_NOW, error_text(err));
		return;
	}
	l->has_account = err == 0;
	l->is_vouched = true;
	check(l, SLICE_LIT("proxy"), slice_str(proxy->name), proxy->stored);
}

/* ---- a directory ---- */

static void enter_entry(struct login *l, const struct directory_login_answer *answer)
{
	struct slice account = arena_copy(&l->arena, slice_str(answer->entry.account));
	int err = account.p ? store_find_account(l->tier->backend->admin.store, account, &l->account)
			    : ERR_TOO_BIG;

	/* What a section's directory says of other domains is not its to say. */
	if (users_find(l->tier->config, account) != l->users) {
		log_warn("backend", "%s: the directory of users %s names an account of another domain: %.*s",
			session_of(l), l->users->title, SLICE_ARG(account));
		refuse(l, FRONT_NO_ACCOUNT, "the directory names an account of another domain");
		return;
	}
	if (err && err != ERR_NOT_FOUND) {
		refuse(l, FRONT_NOT_NOW, error_text(err));
		return;
	}
	l->user = account;
	l->has_account = err == 0;
	if (!l->has_account && answer->is_stale)
		refuse(l, FRONT_NOT_NOW, "no account is made while the directory cannot say");
	else
		enter(l);
}

/* None where users are bound as. */
static void give_entry(struct login *l, const struct directory_login_answer *answer)
{
	struct secret texts = {0};

	directory_login_texts(answer, &texts);
	give(l, secret_view(&texts), answer->verdict == DIRECTORY_LOGIN_HIT);
	secret_deinit(&texts);
}

static void answered(struct login *l, const struct directory_login_answer *answer)
{
	enum front_shown shown = l->credentials.shown;

	if (shown == FRONT_SHOWN_FETCH && answer->verdict != DIRECTORY_LOGIN_NOT_NOW) {
		give_entry(l, answer);
		return;
	}
	switch (answer->verdict) {
	case DIRECTORY_LOGIN_HIT:
		if (answer->entry.is_checked || shown == FRONT_SHOWN_PROVEN)
			enter_entry(l, answer);
		else
			refuse(l, FRONT_WRONG, "the directory has no password of this user");
		break;
	case DIRECTORY_LOGIN_NONE:
		refuse(l, FRONT_WRONG, "no such user in the directory");
		break;
	case DIRECTORY_LOGIN_WRONG:
		refuse(l, FRONT_WRONG, "wrong password, says the directory");
		break;
	case DIRECTORY_LOGIN_NOT_NOW:
		refuse(l, FRONT_NOT_NOW, "the directory cannot say");
		break;
	}
}

static void on_answer(void *arg, const struct directory_login_answer *answer)
{
	struct login *l = arg;

	l->question = NULL;
	answered(l, answer);
}

static void login_by_directory(struct login *l)
{
	static const enum directory_login_want wants[] = {[FRONT_SHOWN_PASSWORD] = DIRECTORY_LOGIN_CHECK,
		[FRONT_SHOWN_FETCH] = DIRECTORY_LOGIN_FETCH,
		[FRONT_SHOWN_PROVEN] = DIRECTORY_LOGIN_USER};
	const struct directory_login_question question = {
		.want = wants[l->credentials.shown],
		.service = slice_str(config_service_name(l->tier->service)),
		.name = l->user,
		.password = l->credentials.password,
	};
	struct directory_login_answer answer;

	if (directory_login_ask(l->users->login, &question, l->loop, on_answer, l, &answer, &l->question) ==
		1)
		answered(l, &answer);
}

/* ---- an account's own password ---- */

static int run_read(struct store_txn *txn, void *arg)
{
	struct login *l = arg;
	struct store_account_record record;
	int err = store_account_get(txn, l->account.id, &record);

	if (err)
		return err;
	if (record.password.len > STORE_PASSWORD_MAX)
		return ERR_CORRUPT;
	l->stored_len = record.password.len;
	if (record.password.len)
		memcpy(l->stored, record.password.p, record.password.len);
	l->stored[l->stored_len] = 0;
	return 0;
}

/* Neither yes nor no; somebody must set it anew. */
static void refuse_malformed(struct login *l, const char *why)
{
	log_error("backend", "the stored password of %s is malformed: %s", l->account.address, why);
	refuse(l, FRONT_NOT_NOW, "the stored password is malformed");
}

static void done_read(void *arg, int err)
{
	struct login *l = arg;
	const char *why = "";

	l->job = NULL;
	if (l->credentials.shown == FRONT_SHOWN_FETCH) {
		if (err && err != ERR_NOT_FOUND)
			refuse(l, FRONT_NOT_NOW, error_text(err));
		else
			give(l, slice_of(l->stored, err || !l->stored_len ? 0 : l->stored_len + 1), !err);
		return;
	}
	if (err == ERR_NOT_FOUND || (err == 0 && l->stored_len == 0))
		refuse(l, FRONT_WRONG,
			err ? "the account has just gone" : "the account has no password here");
	else if (err)
		refuse(l, FRONT_NOT_NOW, error_text(err));
	else if (password_stored_check(slice_of(l->stored, l->stored_len), &why))
		refuse_malformed(l, why);
	else
		check(l, SLICE_LIT("account"), slice_str(l->account.address),
			slice_of(l->stored, l->stored_len));
}

static void drop_read(void *arg)
{
	unref(arg);
}

static void login_as_account(struct login *l)
{
	const struct store_work_call call = {
		.run = run_read, .done = done_read, .drop = drop_read, .arg = l, .loop = l->loop};
	int err = store_find_account(l->tier->backend->admin.store, l->user, &l->account);

	if (err == ERR_NOT_FOUND && l->credentials.shown == FRONT_SHOWN_FETCH) {
		give(l, slice_of("", 0), false);
		return;
	}
	if (err == ERR_NOT_FOUND) {
		refuse(l, FRONT_WRONG, "no such account");
		return;
	}
	if (err) {
		refuse(l, FRONT_NOT_NOW, error_text(err));
		return;
	}
	l->has_account = true;
	if (l->credentials.shown == FRONT_SHOWN_PROVEN) {
		enter(l);
		return;
	}
	l->refs++;
	l->job = store_work_read(l->tier->backend->admin.work, l->account.slot, &call);
}

/* ---- the front's questions ---- */

/* The one normal form of a name; NULL pointer: no account can have it. */
static struct slice normalise(struct login *l, struct slice name)
{
	struct slice out;

	if (auth_name_normalise(&l->arena, name, slice_str(domain_of(l)), &out))
		return (struct slice){NULL, 0};
	return out;
}

static struct login *login_new(
	struct loop *loop, const struct login_tier *tier, const struct front_credentials *credentials)
{
	struct login *l = xcalloc(1, sizeof(*l));

	l->loop = loop;
	l->tier = tier;
	l->credentials = *credentials;
	l->refs = 1;
	arena_init(&l->arena, LOGIN_ARENA_MOST);
	return l;
}

/* l->front or l->smtp is set, and knows of it. */
static void decide(struct login *l)
{
	const struct front_credentials *credentials = &l->credentials;
	struct slice authcid = normalise(l, credentials->authcid);

	l->user = credentials->authzid.len ? normalise(l, credentials->authzid) : authcid;
	if (l->user.p)
		l->users = users_find(l->tier->config, l->user);
	if (!l->user.p && credentials->shown == FRONT_SHOWN_FETCH)
		give(l, slice_of("", 0), false);
	else if (!l->user.p)
		refuse(l, FRONT_WRONG, "no account can have this name");
	else if (credentials->shown == FRONT_SHOWN_PROVEN &&
		 (!authcid.p || !slice_is_equal(l->user, authcid)))
		refuse(l, FRONT_NOT_PERMITTED, "foreign authorisation identity");
	else if (credentials->authzid.len && (!authcid.p || !slice_is_equal(l->user, authcid)))
		login_as_proxy(l);
	else if (l->users && l->users->login)
		login_by_directory(l);
	else
		login_as_account(l);
}

static void login_begin(struct front *front, const struct front_credentials *credentials)
{
	struct login *l = login_new(conn_loop(front_conn(front)), front_service(front)->tier, credentials);

	l->front = front;
	front_set_login(front, l);
	decide(l);
}

void login_smtp(void *tier, struct smtp_front *front, const struct front_credentials *credentials)
{
	struct login *l = login_new(smtp_front_loop(front), tier, credentials);

	l->smtp = front;
	smtp_in_set_login(front, l);
	decide(l);
}

void login_smtp_cancel(void *tier, struct smtp_front *front)
{
	struct login *l = smtp_in_login(front);

	(void)tier;
	smtp_in_set_login(front, NULL);
	if (l)
		finish(l);
}

static void login_cancel(struct front *front)
{
	struct login *l = front_login(front);

	front_set_login(front, NULL);
	if (l)
		finish(l);
}

static bool login_is_trusted(struct front *front)
{
	const struct login_tier *tier = front_service(front)->tier;

	return config_is_trusted(tier->config, front_conn(front));
}

const struct front_ops login_ops = {
	.login = login_begin,
	.cancel = login_cancel,
	.is_trusted = login_is_trusted,
};
