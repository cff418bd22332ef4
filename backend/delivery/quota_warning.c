/*
 * Accounts and folders wait in a ring; one is worked on at a time:
 *
 *	writer's thread  fn() -> ring                       full: it is left out, and a line in the log
 *	loop             next -> job: store_quota_warn()    which threshold, and it counts as told: before the message is
 *	                      -> store_work_add() -> next   stored, since a warning lost is better than one without end
 *
 * Those who administer a public folder get their messages one after the other.
 */
#include "backend/delivery/quota_warning.h"

#include <pthread.h>
#include <stdlib.h>

#include "backend/store/store_account.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_mailbox.h"
#include "backend/store_work/store_work.h"
#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/random.h"
#include "common/net/loop.h"
#include "common/proto/date.h"

#define RING 1024
#define WORD_OCTETS 45 /* of one encoded word, before base64 */

static const char built_in[] =
	"Subject: Your mailbox is ${percent}% full\n"
	"\n"
	"The mailbox ${user} is ${percent}% full.\n"
	"\n"
	"Used: ${used} of ${limit}, ${messages} messages of ${messages_limit}.\n"
	"\n"
	"When it is full, no more mail can be delivered to it. Please delete what is no longer needed;\n"
	"what is in Trash counts, too.\n";

static const char built_in_folder[] =
	"Subject: A folder is ${percent}% full\n"
	"\n"
	"The folder ${user}, with those below it, is ${percent}% full.\n"
	"\n"
	"Used: ${used} of ${limit}, ${messages} messages of ${messages_limit}.\n"
	"\n"
	"When it is full, nothing more can be put into it. Please delete what is no longer needed.\n";

struct place {
	unsigned slot;
	uint32_t account, mailbox; /* mailbox 0: the account's own limits */
};

struct quota_warning {
	struct store_work *work;
	struct loop *loop;
	struct metric *sent;
	struct quota_warning_settings settings; /* its texts are owned: */
	struct buf template, from, host;
	/* The one that is worked on. */
	bool is_busy, is_ended;
	struct place at;
	unsigned threshold;
	struct store_quota_use use;
	struct buf folder, message;
	struct store_who told[QUOTA_WARNING_TOLD_MAX];
	size_t told_count, told_at;
	pthread_mutex_t lock; /* over what follows */
	struct place ring[RING];
	unsigned first, waiting;
	bool is_posted;
};

/* ---- the text ---- */

static const char *const words[] = {
	"user", "domain", "percent", "threshold", "used", "limit", "messages", "messages_limit"};

static void write_size(uint64_t octets, bool is_limit, struct buf *out)
{
	static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
	unsigned unit = 0;
	uint64_t tenths = octets * 10;

	if (is_limit && octets == 0) {
		buf_add_str(out, "no limit");
		return;
	}
	if (octets > UINT64_MAX / 10)
		tenths = UINT64_MAX;
	while (tenths >= 10240 && unit + 1 < ARRAY_LEN(units)) {
		tenths /= 1024;
		unit++;
	}
	buf_add_u64(out, tenths / 10);
	if (unit && tenths < 1000)
		buf_printf(out, ".%u", (unsigned)(tenths % 10));
	buf_printf(out, " %s", units[unit]);
}

/* A folder as verbs name it, ADDRESS/FOLDER; it may be called anything. */
static void write_name(const struct quota_warning_of *of, struct buf *out)
{
	buf_add_str(out, of->address);
	if (of->folder.len)
		buf_add_char(out, '/');
	for (size_t i = 0; i < of->folder.len; i++) {
		unsigned char c = (unsigned char)of->folder.p[i];

		buf_add_char(out, (char)(c < ' ' || c == 0x7f ? '?' : c));
	}
}

static void write_word(
	struct slice word, const struct quota_warning_of *of, unsigned threshold, struct buf *out)
{
	const struct store_quota_use *use = &of->use;
	const char *at = strrchr(of->address, '@');

	if (slice_is_str(word, "user"))
		write_name(of, out);
	else if (slice_is_str(word, "domain"))
		buf_add_str(out, at ? at + 1 : "");
	else if (slice_is_str(word, "percent"))
		buf_add_u64(out, store_quota_percent(use));
	else if (slice_is_str(word, "threshold"))
		buf_add_u64(out, threshold);
	else if (slice_is_str(word, "used"))
		write_size(use->bytes_used, false, out);
	else if (slice_is_str(word, "limit"))
		write_size(use->bytes_limit, true, out);
	else if (slice_is_str(word, "messages"))
		buf_add_u64(out, use->count_used);
	else if (slice_is_str(word, "messages_limit") && use->count_limit)
		buf_add_u64(out, use->count_limit);
	else if (slice_is_str(word, "messages_limit"))
		buf_add_str(out, "any number");
}

/* The name in "${name}" that text begins with; empty: it is none. */
static struct slice word_of(struct slice text)
{
	ptrdiff_t end;

	if (!slice_has_prefix(text, "${"))
		return slice_of(NULL, 0);
	end = slice_find(text, '}');
	return end < 0 ? slice_of(NULL, 0) : slice_sub(text, 2, (size_t)end - 2);
}

static bool is_known(struct slice word)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (slice_is_str(word, words[i]))
			return true;
	return false;
}

const char *quota_warning_check(struct slice template, unsigned *line_out)
{
	bool is_head = true, has_text = false;

	*line_out = 1;
	if (template.len > QUOTA_WARNING_TEMPLATE_MAX)
		return "is too large";
	if (!slice_is_utf8(template))
		return "is no UTF-8";
	if (!slice_has_prefix_nocase(template, "Subject:"))
		return "must begin with a line Subject: ...";
	for (size_t i = 0; i < template.len; i++) {
		struct slice rest = slice_from(template, i);

		if (template.p[i] == '$' && slice_has_prefix(rest, "${") && !is_known(word_of(rest)))
			return "has a ${word} that is none of user, domain, percent, threshold, used, limit, "
			       "messages, "
			       "messages_limit";
		if (template.p[i] != '\n') {
			has_text |= !is_head && template.p[i] != '\r';
			continue;
		}
		++*line_out;
		rest = slice_from(template, i + 1);
		if (is_head && !slice_has_prefix(rest, "\n") && !slice_has_prefix(rest, "\r\n"))
			return "must have an empty line behind the Subject";
		is_head = false;
	}
	return has_text ? NULL : "has no text behind the Subject";
}

static void expand(struct slice text, const struct quota_warning_of *of, unsigned threshold, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		struct slice word = word_of(slice_from(text, i));

		if (word.len) {
			write_word(word, of, threshold, out);
			i += word.len + 2;
		} else if (text.p[i] == '\n') {
			buf_add_str(out, "\r\n");
		} else if (text.p[i] != '\r') {
			buf_add_char(out, text.p[i]);
		}
	}
}

/* RFC 2047, where it is not ASCII: words of whole characters, one a line. */
static void write_subject(struct slice text, struct buf *out)
{
	buf_add_str(out, "Subject: ");
	if (slice_is_ascii(text)) {
		buf_add_slice(out, text);
		buf_add_str(out, "\r\n");
		return;
	}
	for (size_t at = 0, end; at < text.len; at = end) {
		end = at + WORD_OCTETS < text.len ? at + WORD_OCTETS : text.len;
		while (end < text.len && ((unsigned char)text.p[end] & 0xc0) == 0x80)
			end--;
		buf_add_str(out, at ? "\r\n =?UTF-8?B?" : "=?UTF-8?B?");
		base64_encode(out, slice_sub(text, at, end - at));
		buf_add_str(out, "?=");
	}
	buf_add_str(out, "\r\n");
}

void quota_warning_write(const struct quota_warning_settings *settings, const struct quota_warning_of *of,
	unsigned threshold, int64_t now, struct buf *out)
{
	struct slice text = slice_str(of->folder.len ? built_in_folder : built_in), subject;
	const char *at = strrchr(of->address, '@');
	struct buf line = {0};
	char id[27];
	ptrdiff_t end;

	if (settings->template.len)
		text = settings->template;
	end = slice_find(text, '\n');
	subject = slice_trim(
		slice_from(slice_sub(text, 0, end < 0 ? text.len : (size_t)end), sizeof("Subject:") - 1));
	expand(subject, of, threshold, &line);
	random_id(id, sizeof(id) - 1);
	if (settings->from[0])
		buf_printf(out, "From: <%s>\r\n", settings->from);
	else
		buf_printf(out, "From: <postmaster@%s>\r\n", at ? at + 1 : settings->host);
	buf_printf(out, "To: <%s>\r\n", of->to);
	write_subject(buf_view(&line), out);
	buf_add_str(out, "Date: ");
	date_write_rfc5322(now, 0, out);
	buf_printf(out, "\r\nMessage-ID: <%s@%s>\r\n", id, settings->host);
	buf_add_str(out,
		"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
	/* Behind the empty line. */
	text = slice_from(text, end < 0 ? text.len : (size_t)end + 1);
	end = slice_find(text, '\n');
	expand(slice_from(text, end < 0 ? text.len : (size_t)end + 1), of, threshold, out);
	buf_deinit(&line);
}

/* ---- one account or folder ---- */

static void next(void *arg);
static void tell_next(struct quota_warning *w);

static void go_on(struct quota_warning *w)
{
	w->is_busy = false;
	buf_deinit(&w->folder);
	if (!w->is_ended)
		next(w);
}

static void stored(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct quota_warning *w = arg;

	if (!err && count)
		err = results[0].error;
	if (err)
		log_warn("quota", "a warning could not be stored slot=%u account=%u: %s", w->at.slot,
			w->at.account, error_text(err));
	else
		metric_add(w->sent, 1);
	buf_deinit(&w->message);
	tell_next(w);
}

static void store_message(
	struct quota_warning *w, const struct store_account *of, const struct store_account *account)
{
	const struct quota_warning_of warning = {of->address, buf_view(&w->folder), w->use, account->address};
	struct store_work_target target = {.account = account->id,
		.date = clock_wall_s(),
		.trace = SLICE_LIT("Return-Path: <>\r\n"),
		.ignore_quota = true};
	struct store_work_add add = {.slot = account->slot,
		.targets = &target,
		.target_count = 1,
		.done = stored,
		.arg = w,
		.loop = w->loop};

	quota_warning_write(&w->settings, &warning, w->threshold, target.date, &w->message);
	add.memory = buf_view(&w->message);
	if (w->at.mailbox)
		log_info("quota", "user=%s is warned at %u percent of limits of a folder of %s",
			account->address, w->threshold, of->address);
	else
		log_info("quota", "user=%s is warned at %u percent", account->address, w->threshold);
	(void)store_work_add(w->work, &add);
}

/* The next of those who are to be told; one that has gone meanwhile is passed over. */
static void tell_next(struct quota_warning *w)
{
	struct store *store = store_work_store(w->work);
	struct store_account of, to;

	while (!w->is_ended && w->told_at < w->told_count) {
		const struct store_who *who = &w->told[w->told_at++];

		if (store_get_account(store, w->at.slot, w->at.account, &of) == 0 &&
			store_get_account(store, who->slot, who->account, &to) == 0) {
			store_message(w, &of, &to);
			return;
		}
	}
	go_on(w);
}

/* Who administers the folder, as its ACL has it. */
static int gather_admins(struct quota_warning *w, struct store_txn *txn)
{
	struct store_acl_entry *entries = xcalloc(STORE_ACL_ENTRIES_MAX, sizeof(*entries));
	size_t count = 0;
	int err = store_acl_get(txn, w->at.account, w->at.mailbox, entries, &count);

	for (size_t i = 0; i < count && !err && w->told_count < ARRAY_LEN(w->told); i++) {
		if (entries[i].who.account && entries[i].rights & ~entries[i].denied & STORE_RIGHT_ADMIN)
			w->told[w->told_count++] = entries[i].who;
	}
	free(entries);
	return err;
}

static int gather(struct quota_warning *w, struct store_txn *txn)
{
	struct store_account_record owner;
	struct store_mailbox mailbox;
	int err = store_account_get(txn, w->at.account, &owner);

	if (!err && w->at.mailbox) {
		err = store_mailbox_get(txn, w->at.account, w->at.mailbox, &mailbox);
		if (!err)
			buf_add_slice(&w->folder, mailbox.name);
	}
	if (!err && w->at.mailbox && store_account_is_public(owner.address))
		return gather_admins(w, txn);
	w->told[0] = (struct store_who){w->at.slot, w->at.account};
	w->told_count = 1;
	return err;
}

static int warn_run(struct store_txn *txn, void *arg)
{
	struct quota_warning *w = arg;
	int err;

	buf_clear(&w->folder);
	w->told_count = w->told_at = 0;
	err = store_quota_warn(txn, w->at.account, w->at.mailbox, w->settings.thresholds, w->settings.count,
		w->settings.interval_s, clock_wall_s(), &w->threshold);
	if (err || !w->threshold)
		return err;
	err = store_quota_use(txn, w->at.account, w->at.mailbox, &w->use);
	return err ? err : gather(w, txn);
}

static void warn_done(void *arg, int err)
{
	struct quota_warning *w = arg;

	if (!err && w->threshold && !w->told_count)
		log_warn("quota",
			"a public folder is at %u percent of its limits, and nobody administers it "
			"slot=%u account=%u folder=%.*s",
			w->threshold, w->at.slot, w->at.account, SLICE_ARG(buf_view(&w->folder)));
	if (err || !w->threshold)
		w->told_count = 0;
	tell_next(w);
}

/* On the loop. */
static void next(void *arg)
{
	struct quota_warning *w = arg;
	const struct store_work_call call = {.run = warn_run, .done = warn_done, .arg = w, .loop = w->loop};
	bool has = false;

	pthread_mutex_lock(&w->lock);
	w->is_posted = false;
	if (!w->is_busy && !w->is_ended && w->waiting) {
		w->at = w->ring[w->first];
		w->first = (w->first + 1) % RING;
		w->waiting--;
		has = true;
	}
	pthread_mutex_unlock(&w->lock);
	if (!has)
		return;
	w->is_busy = true;
	(void)store_work_write(w->work, w->at.slot, &call);
}

/* `lock` is held. */
static bool waits(const struct quota_warning *w, const struct place *p)
{
	for (unsigned i = 0; i < w->waiting; i++) {
		const struct place *at = &w->ring[(w->first + i) % RING];

		if (at->slot == p->slot && at->account == p->account && at->mailbox == p->mailbox)
			return true;
	}
	return false;
}

/* On a writer's thread. */
static void on_threshold(void *arg, unsigned slot, uint32_t account, uint32_t mailbox)
{
	const struct place place = {slot, account, mailbox};
	struct quota_warning *w = arg;
	bool is_full, posts = false;

	pthread_mutex_lock(&w->lock);
	is_full = w->waiting == RING;
	if (!is_full && !waits(w, &place)) {
		w->ring[(w->first + w->waiting++) % RING] = place;
		posts = !w->is_posted;
		w->is_posted = true;
	}
	pthread_mutex_unlock(&w->lock);
	if (posts)
		loop_post(w->loop, next, w);
	if (is_full)
		log_warn("quota", "too many warnings at once; left out slot=%u account=%u", slot, account);
}

/* ---- begin and end ---- */

struct quota_warning *quota_warning_new(struct store_work *work, struct loop *loop)
{
	struct quota_warning *w = xcalloc(1, sizeof(*w));

	w->work = work;
	w->loop = loop;
	w->sent = metrics_counter(
		"mailtier_quota_warnings", NULL, "Warnings that were put into users' mailboxes");
	w->settings.from = w->settings.host = "";
	pthread_mutex_init(&w->lock, NULL);
	return w;
}

static const char *copy_str(struct buf *to, const char *text)
{
	buf_clear(to);
	buf_add_str(to, text);
	return buf_str_view(to);
}

void quota_warning_set(struct quota_warning *w, const struct quota_warning_settings *settings)
{
	w->settings = *settings;
	buf_clear(&w->template);
	buf_add_slice(&w->template, settings->template);
	w->settings.template = buf_view(&w->template);
	w->settings.from = copy_str(&w->from, settings->from);
	w->settings.host = copy_str(&w->host, settings->host);
	store_quota_watch(store_work_store(w->work), settings->thresholds, settings->count,
		settings->interval_s, on_threshold, w);
}

void quota_warning_end(struct quota_warning *w)
{
	if (!w)
		return;
	store_quota_watch(store_work_store(w->work), NULL, 0, 0, NULL, NULL);
	w->is_ended = true;
}

void quota_warning_free(struct quota_warning **warning)
{
	struct quota_warning *w = *warning;

	if (!w)
		return;
	*warning = NULL;
	buf_deinit(&w->template);
	buf_deinit(&w->from);
	buf_deinit(&w->host);
	buf_deinit(&w->folder);
	buf_deinit(&w->message);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
