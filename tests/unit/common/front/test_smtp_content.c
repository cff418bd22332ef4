/*
 * The content stage in a session: a fake tier writes down what it is told, stages do what the test's script says. What flow tests
 * cannot see: that the tier hears nothing of a message before the stages are done, that cancelling meets each stage once, and what
 * the octets are to the last.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/crypto/digest.h"
#include "common/front/smtp_content.h"
#include "common/front/smtp_policy.h"
#include "common/net/timer.h"

#define WAIT_MS 3000

static struct loop_group *group;
static struct smtp_service service;

/* One session at a time; touched on its loop, read when the client has its answer. */
static struct {
	struct buf calls, body;
	struct smtp_mark mark;
	char held[64];
	bool refuses_added, holds;
	struct smtp_front *front;
	_Atomic unsigned ends, cancels, begins, cuts;
} tier;

/* ---- the fake tier ---- */

static void end(struct smtp_front *f)
{
	(void)f;
	tier.front = NULL;
	tier.ends++;
}

static void mail(struct smtp_front *f, const struct smtp_mail *m)
{
	tier.front = f;
	buf_printf(&tier.calls, "mail %.*s;", SLICE_ARG(m->path.address));
	smtp_front_answer_mail(f, SMTP_ANSWER(250, "", "ok"));
}

static void rcpt(struct smtp_front *f, unsigned index, const struct smtp_rcpt *r)
{
	bool no = tier.refuses_added && slice_has_prefix(r->path.local, "added");

	buf_printf(&tier.calls, "rcpt%u %.*s;", index, SLICE_ARG(r->path.address));
	smtp_front_answer_rcpt(f, index, no ? SMTP_ANSWER(550, "", "no") : SMTP_ANSWER(250, "", "ok"));
}

static void data_begin(struct smtp_front *f)
{
	const char *held = smtp_front_held(f);

	buf_add_str(&tier.calls, "data;");
	smtp_front_mark(f, &tier.mark);
	snprintf(tier.held, sizeof(tier.held), "%s", held ? held : "");
	smtp_front_answer_data(f, SMTP_ANSWER(354, "", ""));
}

static void let_go(void *arg)
{
	if (tier.front == arg)
		smtp_front_hold_data(arg, false);
}

static void data_chunk(struct smtp_front *f, struct slice bytes)
{
	buf_add_slice(&tier.body, bytes);
	if (!tier.holds)
		return;
	smtp_front_hold_data(f, true);
	loop_defer(smtp_front_loop(f), let_go, f);
}

static void data_end(struct smtp_front *f)
{
	buf_add_str(&tier.calls, "end;");
	smtp_front_answer_end(f, 0, SMTP_ANSWER(250, "2.0.0", "done"));
}

static void data_cut(struct smtp_front *f)
{
	(void)f;
	tier.cuts++;
	buf_add_str(&tier.calls, "cut;");
}

static void reset(struct smtp_front *f, enum smtp_reset how)
{
	(void)f;
	buf_add_str(&tier.calls, how == SMTP_RESET_ORDER ? "reset;" : "lost;");
}

static const struct smtp_ops ops = {.end = end,
	.mail = mail,
	.rcpt = rcpt,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.reset = reset};

/* ---- the scripted stages ---- */

static void (*script)(struct smtp_content *c);
static struct smtp_verdict verdict;

static void begin_edits(struct smtp_content *c, void *settings)
{
	(void)settings;
	if (script)
		script(c);
	smtp_content_done(c, &verdict);
}

/* Answers in a later turn. */
struct late {
	struct smtp_content *content;
	struct timer timer;
};

static void late_answer(void *arg)
{
	struct late *l = arg;
	struct smtp_content *c = l->content;

	free(l);
	smtp_content_done(c, SMTP_GO_ON);
}

static uint64_t late_ms = 10;

static void begin_late(struct smtp_content *c, void *settings)
{
	struct late *l = malloc(sizeof(*l));

	(void)settings;
	require(l);
	l->content = c;
	timer_init(&l->timer, late_answer, l);
	timer_set(&l->timer, smtp_content_loop(c), late_ms);
	smtp_content_set_own(c, l);
	tier.begins++;
}

static void cancel_late(struct smtp_content *c, void *settings)
{
	struct late *l = smtp_content_own(c);

	(void)settings;
	timer_stop(&l->timer);
	free(l);
	tier.cancels++;
}

static const struct smtp_stage edits = {.name = "edits", .begin = begin_edits};
static const struct smtp_stage late = {.name = "late", .begin = begin_late, .cancel = cancel_late};

/* ---- the client ---- */

struct start {
	int fd;
};

static void no_event(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

static void start(void *arg)
{
	struct start *s = arg;
	struct conn *conn;

	require(conn_open_fd(loop_current(), s->fd, NULL, no_event, NULL, &conn) == 0);
	smtp_front_start(&service, conn, 0);
	free(s);
}

static void say(int fd, struct slice text)
{
	while (text.len) {
		ssize_t n = write(fd, text.p, text.len);

		assert_true(n > 0);
		text = slice_from(text, (size_t)n);
	}
}

/* Reads up to a line that begins with `until`; false: the connection ended. The last line is in got. */
static bool wait_for(int fd, const char *until, char *got, size_t most)
{
	struct pollfd p = {fd, POLLIN, 0};
	size_t n = 0;

	while (poll(&p, 1, WAIT_MS) == 1) {
		if (read(fd, got + n, 1) != 1)
			return false;
		if (got[n] == '\n' && strncmp(got, until, strlen(until)) == 0) {
			got[n + 1] = 0;
			return true;
		}
		n = got[n] == '\n' || n + 2 == most ? 0 : n + 1;
	}
	return false;
}

static int open_session(void)
{
	struct start *s = malloc(sizeof(*s));
	char line[512];
	int pair[2];

	require(s && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	s->fd = pair[0];
	buf_deinit(&tier.calls);
	buf_deinit(&tier.body);
	tier.ends = tier.cancels = tier.begins = tier.cuts = 0;
	loop_post(loop_group_at(group, 0), start, s);
	say(pair[1],
		SLICE_LIT("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<one@x>\r\nRCPT TO:<two@x>\r\nDATA\r\n"));
	assert_true(wait_for(pair[1], "354", line, sizeof(line)));
	return pair[1];
}

static void close_session(int fd)
{
	close(fd);
	for (int i = 0; i < WAIT_MS && !tier.ends; i++)
		usleep(1000);
	assert_int_equal(tier.ends, 1);
}

static void use_stages(const struct smtp_stage *const *stages, unsigned count)
{
	smtp_policy_unref(&service.policy);
	service.policy = smtp_policy_of_stages(stages, count);
	verdict = (struct smtp_verdict){0};
	script = NULL;
}

/* One message: its answer (without the line's end) into answer. */
static void send_message(const char *text, char *answer, size_t most)
{
	int fd = open_session();

	say(fd, slice_str(text));
	say(fd, SLICE_LIT(".\r\n"));
	assert_true(wait_for(fd, "", answer, most));
	answer[strcspn(answer, "\r\n")] = 0;
	say(fd, SLICE_LIT("QUIT\r\n"));
	close_session(fd);
}

/* ---- edits ---- */

#define OK(call) assert_int_equal((call), 0)
#define S(text) SLICE_LIT(text)

static void add_at_top(struct smtp_content *c)
{
	OK(smtp_content_insert(c, 0, S("X-Two"), S("2")));
	OK(smtp_content_insert(c, 0, S("X-One"), S("a\n\tb")));
}

static void change_and_delete(struct smtp_content *c)
{
	size_t i = smtp_content_find(c, S("subject"), 0);

	OK(smtp_content_change(c, i, S("new")));
	smtp_content_delete(c, smtp_content_find(c, S("X-Away"), 1));
	OK(smtp_content_insert(c, SIZE_MAX, S("X-Last"), S("z")));
}

static void replace_body(struct smtp_content *c)
{
	struct spool *body = spool_new(4096, 0);

	OK(spool_add(body, S("other\r\n")));
	smtp_content_set_body(c, body);
}

static void refused_edits(struct smtp_content *c)
{
	static const struct {
		const char *name, *value;
	} rows[] = {
		{"X", "a\nBcc: evil"},
		{"X", "a\r\nBcc: evil"},
		{"X", "a\rb"},
		{"X", "a\n \nb"},
		{"X", "a\n \n b"},
		{"X:", "a"},
		{"X Y", "a"},
		{"", "a"},
		{"X\r\nY", "a"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(smtp_content_insert(c, 0, slice_str(rows[i].name), slice_str(rows[i].value)),
			ERR_SYNTAX);
	assert_int_equal(smtp_content_insert(c, 0, S("X"), slice_of("a\0b", 3)), ERR_SYNTAX);
	assert_int_equal(smtp_content_add_recipient(c, S("a@b>\r\nDATA")), ERR_SYNTAX);
	assert_int_equal(smtp_content_set_sender(c, S("a@b> X=")), ERR_SYNTAX);
	assert_int_equal(smtp_content_remove_recipient(c, S("nobody@x")), ERR_NOT_FOUND);
}

static void too_many_edits(struct smtp_content *c)
{
	int err = 0, n = 0;

	while (!err && n <= SMTP_CONTENT_EDITS_MOST) {
		err = smtp_content_insert(c, 0, S("X"), S("1"));
		n += !err;
	}
	assert_int_equal(err, ERR_TOO_BIG);
	assert_int_equal(n, SMTP_CONTENT_EDITS_MOST);
	while (smtp_content_field_count(c) > 1)
		smtp_content_delete(c, 0);
}

static void add_recipient(struct smtp_content *c)
{
	OK(smtp_content_add_recipient(c, S("added@x")));
	OK(smtp_content_add_recipient(c, S("one@X"))); /* is there */
	smtp_content_hold(c, S("looks\r\nbad"));
}

static void remove_recipient(struct smtp_content *c)
{
	OK(smtp_content_remove_recipient(c, S("one@x")));
	OK(smtp_content_set_sender(c, S("")));
}

static void remove_all(struct smtp_content *c)
{
	OK(smtp_content_remove_recipient(c, S("one@x")));
	OK(smtp_content_remove_recipient(c, S("two@x")));
	assert_null(smtp_content_recipient(c, 0));
}

#define PLAIN "mail a@b;rcpt0 one@x;rcpt1 two@x;data;end;reset;"

static void test_edits(void **state)
{
	static const struct {
		void (*script)(struct smtp_content *c);
		const char *in, *out, *calls, *held;
		uint64_t prefix;
		bool has_digest;
	} rows[] = {
		{NULL, "A: 1\r\nb: 2\r\n  c\r\n\r\nbody\r\n", "A: 1\r\nb: 2\r\n  c\r\n\r\nbody\r\n", PLAIN,
			"", 0, false},
		{add_at_top, "A: 1\r\n\r\nbody\r\n", "X-One: a\r\n\tb\r\nX-Two: 2\r\nA: 1\r\n\r\nbody\r\n",
			PLAIN, "", 24, false},
		{change_and_delete,
			"Subject: old\r\nX-Away: 1\r\nno field\r\nX-AWAY: 2\r\n more\r\n\r\nbody\r\n",
			"Subject: new\r\nX-Away: 1\r\nno field\r\nX-Last: z\r\n\r\nbody\r\n", PLAIN, "", 0,
			true},
		{replace_body, "A: 1\r\n\r\nbody\r\n", "A: 1\r\n\r\nother\r\n", PLAIN, "", 0, true},
		{replace_body, "A: 1\r\n", "A: 1\r\n\r\nother\r\n", PLAIN, "", 0, true},
		{refused_edits, "A: 1\r\n\r\nb\r\n", "A: 1\r\n\r\nb\r\n", PLAIN, "", 0, false},
		{too_many_edits, "A: 1\r\n\r\nb\r\n", "A: 1\r\n\r\nb\r\n", PLAIN, "", 3000, true},
		{NULL, "\r\nonly body\r\n", "\r\nonly body\r\n", PLAIN, "", 0, false},
		{add_at_top, "\r\nb\r\n", "X-One: a\r\n\tb\r\nX-Two: 2\r\n\r\nb\r\n", PLAIN, "", 24, false},
		{NULL, "", "", PLAIN, "", 0, false},
		{add_recipient, "A: 1\r\n\r\n", "A: 1\r\n\r\n",
			"mail a@b;rcpt0 one@x;rcpt1 two@x;rcpt2 added@x;data;end;reset;", "looks??bad", 0,
			false},
		{remove_recipient, "A: 1\r\n\r\n", "A: 1\r\n\r\n",
			"mail a@b;rcpt0 one@x;rcpt1 two@x;reset;mail ;rcpt0 two@x;data;end;reset;", "", 0,
			false},
		{remove_all, "A: 1\r\n\r\n", "", "mail a@b;rcpt0 one@x;rcpt1 two@x;reset;", "", 0, false},
	};
	static const struct smtp_stage *const stages[] = {&edits, &late};

	(void)state;
	for (unsigned both = 1; both <= 2; both++) {
		use_stages(stages, both);
		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			char got[512];

			script = rows[i].script;
			tier.mark = (struct smtp_mark){0};
			tier.held[0] = 0;
			send_message(rows[i].in, got, sizeof(got));
			assert_string_equal(
				got, rows[i].script == remove_all ? "250 2.0.0 Ok" : "250 2.0.0 done");
			assert_string_equal(buf_str_view(&tier.body), rows[i].out);
			assert_string_equal(buf_str_view(&tier.calls), rows[i].calls);
			assert_string_equal(tier.held, rows[i].held);
			assert_int_equal(tier.mark.has_digest, rows[i].has_digest);
			if (!rows[i].has_digest)
				assert_int_equal(tier.mark.prefix, rows[i].prefix);
			else
				assert_true(tier.mark.is_set);
		}
	}
}

/* An edited message carries the digest of what its client sent. */
static void test_digest(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits};
	static const char in[] = "Subject: old\r\nX-Away: 1\r\nX-Away: 1\r\n\r\nbody\r\n";
	uint8_t want[SMTP_DIGEST_LEN];
	char got[512];

	(void)state;
	use_stages(stages, 1);
	script = change_and_delete;
	send_message(in, got, sizeof(got));
	digest_once(DIGEST_SHA256, slice_str(in), want);
	assert_memory_equal(tier.mark.digest, want, sizeof(want));
}

/* ---- verdicts ---- */

static void test_verdicts(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits, &late};
	static const struct {
		struct smtp_verdict verdict;
		const char *want;
	} rows[] = {
		{{SMTP_VERDICT_REJECT, {554, {"5.7.9", 5}, {"go away", 7}}}, "554 5.7.9 go away"},
		{{SMTP_VERDICT_REJECT, {550, {"", 0}, {"a\r\n250 b", 8}}}, "550 a??250 b"},
		{{SMTP_VERDICT_REJECT, {250, {"", 0}, {"yes", 3}}}, "550 5.7.1 Not accepted"},
		{{SMTP_VERDICT_REJECT, {0}}, "550 5.7.1 Not accepted"},
		{{SMTP_VERDICT_TEMPFAIL, {452, {"4.1.1", 5}, {"later", 5}}}, "452 4.1.1 later"},
		{{SMTP_VERDICT_TEMPFAIL, {550, {"", 0}, {"never", 5}}}, "451 4.3.0 Not now"},
		{{SMTP_VERDICT_DISCARD, {0}}, "250 2.0.0 Ok"},
	};
	char got[512];

	(void)state;
	use_stages(stages, 2);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		verdict = rows[i].verdict;
		send_message("A: 1\r\n\r\nbody\r\n", got, sizeof(got));
		assert_string_equal(got, rows[i].want);
		assert_string_equal(buf_str_view(&tier.calls), "mail a@b;rcpt0 one@x;rcpt1 two@x;reset;");
		assert_int_equal(tier.begins, 0); /* the second stage saw nothing */
	}
}

/* An added recipient whom the tier refuses: the client comes again, and nobody is lost. */
static void test_added_is_refused(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits};
	char got[512];

	(void)state;
	use_stages(stages, 1);
	script = add_recipient;
	tier.refuses_added = true;
	send_message("A: 1\r\n\r\nbody\r\n", got, sizeof(got));
	tier.refuses_added = false;
	assert_string_equal(got, "451 4.3.0 Not now");
	assert_string_equal(
		buf_str_view(&tier.calls), "mail a@b;rcpt0 one@x;rcpt1 two@x;rcpt2 added@x;reset;");
}

/* ---- clients that go ---- */

static void close_now(void *arg)
{
	smtp_front_close(arg, true);
}

static void test_client_goes(void **state)
{
	static const struct smtp_stage *const stages[] = {&late};
	int fd;

	(void)state;
	use_stages(stages, 1);
	/* Amid the body. */
	fd = open_session();
	say(fd, S("A: 1\r\n\r\nbody"));
	close_session(fd);
	assert_string_equal(buf_str_view(&tier.calls), "mail a@b;rcpt0 one@x;rcpt1 two@x;lost;");
	assert_int_equal(tier.begins, 0);
	/* While a stage is at work: the session is ended by us. */
	late_ms = 60000;
	fd = open_session();
	say(fd, S("A: 1\r\n\r\nbody\r\n.\r\n"));
	for (int i = 0; i < WAIT_MS && !tier.begins; i++)
		usleep(1000);
	loop_post(loop_group_at(group, 0), close_now, tier.front);
	late_ms = 10;
	for (int i = 0; i < WAIT_MS && !tier.ends; i++)
		usleep(1000);
	assert_int_equal(tier.ends, 1);
	close(fd);
	assert_int_equal(tier.cancels, 1);
	assert_string_equal(buf_str_view(&tier.calls), "mail a@b;rcpt0 one@x;rcpt1 two@x;lost;");
}

/* ---- size ---- */

static void test_big(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits, &late};
	struct buf in = {0}, want = {0};
	char got[512];

	(void)state;
	use_stages(stages, 2); /* 64 KiB in memory: the rest is in a file */
	script = add_at_top;
	buf_add_str(&in, "A: 1\r\n\r\n");
	while (buf_len(&in) < 900 * 1000)
		buf_printf(&in, "line %zu of a body that is longer than what is kept in memory\r\n",
			buf_len(&in));
	buf_add_str(&want, "X-One: a\r\n\tb\r\nX-Two: 2\r\n");
	buf_add_slice(&want, buf_view(&in));
	for (int holds = 0; holds < 2; holds++) {
		tier.holds = holds;
		send_message(buf_str_view(&in), got, sizeof(got));
		assert_string_equal(got, "250 2.0.0 done");
		assert_int_equal(buf_len(&tier.body), buf_len(&want));
		assert_true(slice_is_equal(buf_view(&tier.body), buf_view(&want)));
	}
	tier.holds = false;
	buf_deinit(&in);
	buf_deinit(&want);
}

/* Security class 12: a header without end, and one of very many fields. */
static void test_security_12_huge_header(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits};
	struct buf in = {0};
	char got[512];

	(void)state;
	use_stages(stages, 1);
	service.limits.message_size = 10 << 20;
	while (buf_len(&in) < (1 << 20) + 100)
		buf_add_str(&in, "X: 123456789012345678901234567890123456789012345678901234567890123\r\n");
	send_message(buf_str_view(&in), got, sizeof(got));
	assert_string_equal(got, "552 5.3.4 The header is too big");
	buf_clear(&in);
	for (int i = 0; i <= SMTP_CONTENT_FIELDS_MOST; i++)
		buf_add_str(&in, "X:\r\n");
	buf_add_str(&in, "\r\n");
	send_message(buf_str_view(&in), got, sizeof(got));
	assert_string_equal(got, "552 5.3.4 The header is too big");
	service.limits.message_size = 1000000;
	buf_deinit(&in);
}

/* Security class 3: on the spooled way too, nothing but CRLF.CRLF ends a message, and no bare LF comes out. */
static void test_security_03_bare_newlines_spooled(void **state)
{
	static const struct smtp_stage *const stages[] = {&edits};
	static const char *const rows[][2] = {
		{"A: 1\r\n\r\na\n.\nb\r\n", "A: 1\r\n\r\na\r\n.\r\nb\r\n"},
		{"A: 1\r\n\r\na\n.\r\nb\r\n", "A: 1\r\n\r\na\r\n.\r\nb\r\n"},
		{"A: 1\r\n\r\na\r.\rb\r\n", "A: 1\r\n\r\na\r.\rb\r\n"},
		{"A: 1\n\nb\r\n", "A: 1\r\n\r\nb\r\n"},
		{"A: 1\r\nB: x\r\r\n\r\nb\r\n", "A: 1\r\nB: x\r\r\n\r\nb\r\n"},
	};
	char got[512];

	(void)state;
	use_stages(stages, 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		send_message(rows[i][0], got, sizeof(got));
		assert_string_equal(got, "250 2.0.0 done");
		assert_string_equal(buf_str_view(&tier.body), rows[i][1]);
	}
}

static int set_up(void **state)
{
	(void)state;
	require(loop_group_start(1, &group) == 0);
	smtp_service_init(&service, "smtp", &ops, NULL);
	service.host = "test.example";
	service.limits.message_size = 1000000;
	return 0;
}

static int tear_down(void **state)
{
	struct smtp_service *s = &service;

	(void)state;
	loop_group_stop(&group);
	smtp_service_unref(&s);
	buf_deinit(&tier.body);
	buf_deinit(&tier.calls);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edits),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_added_is_refused),
		cmocka_unit_test(test_client_goes),
		cmocka_unit_test(test_big),
		cmocka_unit_test(test_security_12_huge_header),
		cmocka_unit_test(test_security_03_bare_newlines_spooled),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
