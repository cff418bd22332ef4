/*
 * A filter that a thread plays over a unix socket: it notes the letters of the packets that come, and answers each by a table. The
 * milter runs on a loop of the test's own thread.
 */
#include <pthread.h>
#include <sys/un.h>

#include "common/base/attr.h"
#include "common/base/bytes.h"
#include "common/front/milter.h"
#include "tests/unit/common/net/net_test.h"

struct reply {
	char to;
	struct slice packet; /* empty: none; p NULL: the connection is closed */
};
#define PACKET(text) SLICE_LIT(text)
#define CONTINUE                                                                                             \
	PACKET("\0\0\0\x01"                                                                                  \
	       "c")

struct filter {
	int listener;
	char dir[64], path[96];
	pthread_t thread;
	uint32_t actions, protocol;
	const struct reply *replies;
	size_t count;
	char last_letter;               /* behind the answer to it the connection is closed; 0: never */
	struct buf letters, body, last; /* last: the latest packet of macros */
};

static bool read_exactly(int fd, char *to, size_t len)
{
	while (len) {
		ssize_t n = read(fd, to, len);

		if (n <= 0)
			return false;
		to += n;
		len -= (size_t)n;
	}
	return true;
}

static struct slice reply_to(const struct filter *f, char letter)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->replies[i].to == letter)
			return f->replies[i].packet;
	return letter == 'D' || letter == 'A' || letter == 'Q' ? SLICE_LIT("") : CONTINUE;
}

/* What was agreed: no answer to that. */
static bool is_silent(const struct filter *f, char letter)
{
	static const struct {
		char letter;
		uint32_t bit;
	} rows[] = {{'L', MILTER_SILENT_HEADERS}, {'C', MILTER_SILENT_CONNECT}, {'H', MILTER_SILENT_HELO},
		{'M', MILTER_SILENT_MAIL}, {'R', MILTER_SILENT_RCPT}, {'T', MILTER_SILENT_DATA},
		{'N', MILTER_SILENT_EOH}, {'B', MILTER_SILENT_BODY}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].letter == letter)
			return f->protocol & rows[i].bit;
	return false;
}

static void *play(void *arg)
{
	struct filter *f = arg;
	int fd = accept(f->listener, NULL, NULL);
	static _Thread_local char packet[70000];
	char head[4];

	while (read_exactly(fd, head, 4)) {
		uint32_t len = bytes_get_u32be(head);
		struct slice reply;
		struct buf out = {0};

		if (len > sizeof(packet) || !read_exactly(fd, packet, len))
			break;
		buf_add_char(&f->letters, packet[0]);
		if (packet[0] == 'B')
			buf_add(&f->body, packet + 1, len - 1);
		if (packet[0] == 'D') {
			buf_clear(&f->last);
			buf_add(&f->last, packet + 1, len - 1);
		}
		if (packet[0] == 'Q')
			break;
		reply = reply_to(f, packet[0]);
		if (!reply.p)
			break;
		if (packet[0] == 'O')
			milter_write_negotiation(&out, 6, f->actions, f->protocol);
		else if (!is_silent(f, packet[0]))
			buf_add_slice(&out, reply);
		if (buf_len(&out) && write(fd, buf_view(&out).p, buf_len(&out)) < 0)
			break;
		buf_deinit(&out);
		if (f->last_letter && packet[0] == f->last_letter)
			break;
	}
	close(fd);
	return NULL;
}

static void filter_start(struct filter *f)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	snprintf(f->dir, sizeof(f->dir), "/tmp/milter-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, play, f), 0);
}

/* Its thread has ended. */
static void filter_stop(struct filter *f)
{
	close(f->listener);
	unlink(f->path);
	rmdir(f->dir);
	buf_deinit(&f->letters);
	buf_deinit(&f->body);
	buf_deinit(&f->last);
}

/* What came of the questions. */
struct seen {
	unsigned answers;
	enum milter_outcome outcome;
	unsigned code;
	char text[200];
	struct buf edits;
	size_t body_len; /* of the message that is shown */
};

static void on_answer(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct seen *s = arg;

	s->answers++;
	s->outcome = outcome;
	s->code = answer ? answer->code : 0;
	if (answer)
		snprintf(s->text, sizeof(s->text), "%.*s %.*s", SLICE_ARG(answer->enhanced),
			SLICE_ARG(answer->text));
}

static bool on_field(void *arg, size_t i, struct slice *name_out, struct slice *value_out)
{
	static const struct {
		const char *name, *value;
	} fields[] = {{"From", " a@example"}, {"Subject", " one\r\n two"}};

	(void)arg;
	if (i >= ARRAY_LEN(fields))
		return false;
	*name_out = slice_str(fields[i].name);
	*value_out = slice_str(fields[i].value);
	return true;
}

static ssize_t on_body(void *arg, uint64_t offset, void *out, size_t size)
{
	const struct seen *s = arg;
	size_t n = s->body_len - (size_t)offset;

	if (n > size)
		n = size;
	for (size_t i = 0; i < n; i++)
		((char *)out)[i] = (char)('a' + (offset + i) % 26);
	return (ssize_t)n;
}

static void on_edit(void *arg, const struct milter_reply *edit)
{
	struct seen *s = arg;

	if (!edit) {
		buf_add_str(&s->edits, "forget;");
		return;
	}
	buf_printf(&s->edits, "%d/%u/%.*s/%.*s;", (int)edit->kind, edit->index, SLICE_ARG(edit->name),
		SLICE_ARG(edit->value));
}

enum step {
	STEP_CONNECT,
	STEP_HELO,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_MESSAGE,
	STEPS
};

static const struct milter_settings usual = {.name = "t",
	.failure = MILTER_FAILURE_TEMPFAIL,
	.connect_ms = 5000,
	.command_ms = 5000,
	.end_ms = 5000};

/* Asks all questions until one is not "go on"; returns where that was, STEPS if nowhere. */
static enum step run_session(struct filter *f, const struct milter_settings *settings, struct seen *s)
{
	struct milter_settings own = *settings;
	struct milter_message message = {on_field, on_body, on_edit, s};
	struct addr client;
	struct milter_facts facts = {.host = SLICE_LIT("mx.example"),
		.service = SLICE_LIT("smtp"),
		.session = SLICE_LIT("id7"),
		.client = &client,
		.helo = SLICE_LIT("client.example"),
		.user = SLICE_LIT("alice")};
	struct loop *loop;
	struct milter *m;
	unsigned step;

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.7"), 1234, &client), 0);
	filter_start(f);
	own.host = f->path;
	m = milter_new(&own, loop);
	for (step = STEP_CONNECT; step < STEPS; step++) {
		unsigned before = s->answers;

		switch ((enum step)step) {
		case STEP_CONNECT:
			milter_connect(m, &facts, on_answer, s);
			break;
		case STEP_HELO:
			milter_helo(m, &facts, on_answer, s);
			break;
		case STEP_MAIL:
			milter_mail(m, &facts, SLICE_LIT("a@example"), SLICE_LIT("SIZE=1"), on_answer, s);
			break;
		case STEP_RCPT:
			milter_rcpt(m, &facts, SLICE_LIT("b@example"), SLICE_LIT(""), on_answer, s);
			break;
		case STEP_DATA:
			milter_data(m, &facts, on_answer, s);
			break;
		case STEP_MESSAGE:
			milter_message(m, &facts, &message, on_answer, s);
			break;
		case STEPS:
			break;
		}
		RUN_UNTIL(loop, s->answers == before + 1);
		if (s->outcome != MILTER_GO_ON)
			break;
	}
	milter_abort(m);
	run_short(loop);
	milter_free(&m);
	run_short(loop);
	loop_free(&loop);
	return (enum step)step;
}

static void test_dialogues(void **state)
{
	static const struct {
		const char *what;
		uint32_t actions, protocol;
		struct reply replies[3];
		enum step want;
		enum milter_outcome outcome;
		const char *letters, *text, *edits;
	} rows[] = {
		{"everything", 0x1ff, 0, {{0}}, STEPS, MILTER_GO_ON, "ODCHDMDRDTLLDNBDEQ", "", ""},
		{"nothing wanted", 0, 0x37f, {{0}}, STEPS, MILTER_GO_ON, "ODEQ", "", ""},
		{"all silent", 0, 0xff080, {{0}}, STEPS, MILTER_GO_ON, "ODCHDMDRDTLLDNBDEQ", "", ""},
		{"refused recipient", 0, 0, {{'R', PACKET("\0\0\0\x0fy550 5.1.1 who\0")}}, STEP_RCPT,
			MILTER_REFUSED, "ODCHDMDRAQ", "550 5.1.1 who", ""},
		{"rejected at connect", 0, 0, {{'C', PACKET("\0\0\0\1r")}}, STEP_CONNECT, MILTER_REFUSED,
			"ODCQ", "550 5.7.1 Refused by a filter", ""},
		{"later", 0, 0, {{'E', PACKET("\0\0\0\1t")}}, STEP_MESSAGE, MILTER_REFUSED,
			"ODCHDMDRDTLLDNBDEQ", "451 4.7.1 Not now, says a filter; try again later", ""},
		{"closing", 0, 0, {{'H', PACKET("\0\0\0\0014")}}, STEP_HELO, MILTER_REFUSED, "ODCHQ",
			"421 4.7.0 Not now, says a filter", ""},
		{"discarded", 0, 0, {{'N', PACKET("\0\0\0\1d")}}, STEP_MESSAGE, MILTER_DISCARD,
			"ODCHDMDRDTLLDNAQ", "", ""},
		{"accepted at connect", 0, 0, {{'C', PACKET("\0\0\0\1a")}}, STEPS, MILTER_GO_ON, "ODCQ", "",
			""},
		{"accepted at MAIL", 0, 0, {{'M', PACKET("\0\0\0\1a")}}, STEPS, MILTER_GO_ON, "ODCHDMAQ", "",
			""},
		{"skips the body", 0, 0x400, {{'B', PACKET("\0\0\0\1s")}}, STEPS, MILTER_GO_ON,
			"ODCHDMDRDTLLDNBDEQ", "", ""},
		{"edits", 0x1f, 0,
			{{'E', PACKET("\0\0\0\5hN\0v\0\0\0\0\x08m\0\0\0\1S\0\0\0\0\0\5+<c>"
				      "\0\0\0\0\3bxy\0\0\0\1p"
				      "\0\0\0\1a")}},
			STEPS, MILTER_GO_ON, "ODCHDMDRDTLLDNBDEQ", "",
			"11/0/N/v;13/1/S/;15/0/<c>/;14/0//xy;"},
		/* what follows is nonsense: 451 by the settings */
		{"edit not agreed on", 0, 0, {{'E', PACKET("\0\0\0\5hN\0v\0")}}, STEP_MESSAGE, MILTER_REFUSED,
			"ODCHDMDRDTLLDNBDE", "451 4.7.1 A filter does not answer; try again later",
			"forget;"},
		{"edit too early", 0x1ff, 0, {{'M', PACKET("\0\0\0\5hN\0v\0")}}, STEP_MAIL, MILTER_REFUSED,
			"ODCHDM", "451 4.7.1 A filter does not answer; try again later", ""},
		{"wants too much", 0, 0x80000000, {{0}}, STEP_CONNECT, MILTER_REFUSED, "O",
			"451 4.7.1 A filter does not answer; try again later", ""},
		{"ends", 0, 0, {{'H', {NULL, 0}}}, STEP_HELO, MILTER_REFUSED, "ODCH",
			"451 4.7.1 A filter does not answer; try again later", ""},
		{"nonsense", 0, 0, {{'H', PACKET("\0\0\0\1?")}}, STEP_HELO, MILTER_REFUSED, "ODCH",
			"451 4.7.1 A filter does not answer; try again later", ""},
		{"huge", 0, 0, {{'H', PACKET("\x7f\0\0\1c")}}, STEP_HELO, MILTER_REFUSED, "ODCH",
			"451 4.7.1 A filter does not answer; try again later", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct filter f = {.actions = rows[i].actions,
			.protocol = rows[i].protocol,
			.replies = rows[i].replies,
			.count = ARRAY_LEN(rows[i].replies)};
		struct seen s = {.body_len = 10};
		enum step where = run_session(&f, &usual, &s);
		char text[260] = "";

		pthread_join(f.thread, NULL);
		if (s.code)
			snprintf(text, sizeof(text), "%u %s", s.code, s.text);
		if (where != rows[i].want || strcmp(buf_str_view(&f.letters), rows[i].letters) != 0)
			fail_msg("%s: ended at %d, packets %s", rows[i].what, (int)where,
				buf_str_view(&f.letters));
		assert_int_equal(s.outcome, rows[i].outcome);
		assert_string_equal(text, rows[i].text);
		assert_string_equal(buf_str_view(&s.edits), rows[i].edits);
		buf_deinit(&s.edits);
		filter_stop(&f);
	}
}

/* A filter that breaks is what the settings say, for this question and all that follow. */
static void test_failure(void **state)
{
	static const struct {
		enum milter_failure failure;
		enum step want;
		unsigned code;
	} rows[] = {{MILTER_FAILURE_ACCEPT, STEPS, 0}, {MILTER_FAILURE_TEMPFAIL, STEP_HELO, 451},
		{MILTER_FAILURE_REJECT, STEP_HELO, 554}};
	static const struct reply silence[] = {{'H', PACKET("")}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct filter f = {.replies = silence, .count = 1};
		struct milter_settings settings = usual;
		struct seen s = {0};

		settings.failure = rows[i].failure;
		settings.command_ms = 50;
		assert_int_equal(run_session(&f, &settings, &s), rows[i].want);
		assert_int_equal(s.code, rows[i].code);
		pthread_join(f.thread, NULL);
		assert_string_equal(buf_str_view(&f.letters), "ODCH");
		filter_stop(&f);
	}
}

/* Nobody listens: the failure comes, and soon. */
static void test_nobody(void **state)
{
	struct milter_settings settings = usual;
	struct milter_facts facts = {0};
	struct addr client = {0};
	struct seen s = {0};
	struct loop *loop;
	struct milter *m;

	(void)state;
	facts.client = &client;
	settings.host = "/nonexistent/milter";
	assert_int_equal(loop_new(&loop), 0);
	m = milter_new(&settings, loop);
	milter_connect(m, &facts, on_answer, &s);
	RUN_UNTIL(loop, s.answers == 1);
	assert_int_equal(s.code, 451);
	milter_free(&m);
	loop_free(&loop);
}

struct owner {
	struct milter_facts facts;
	struct seen seen;
};

/* With the answer the facts are given up: what the memory holds then is no text. */
static void forget_facts(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct owner *o = arg;

	o->facts.session = slice_of((const char *)(uintptr_t)1, 64);
	on_answer(&o->seen, outcome, answer);
}

/* A filter that goes between two questions (it is started anew, say) is told of without what it was asked with: that is its owner's. */
static void test_gone_between_questions(void **state)
{
	struct filter f = {.last_letter = 'C'};
	struct milter_settings settings = usual;
	struct owner o = {.facts = {.session = SLICE_LIT("id7")}};
	struct addr client = {0};
	struct loop *loop;
	struct milter *m;

	(void)state;
	o.facts.client = &client;
	filter_start(&f);
	settings.host = f.path;
	settings.answers[1] = metrics_counter("milter_test_failures", "", "Failures");
	assert_int_equal(loop_new(&loop), 0);
	m = milter_new(&settings, loop);
	milter_connect(m, &o.facts, forget_facts, &o);
	RUN_UNTIL(loop, metric_get(settings.answers[1]) == 1);
	assert_int_equal(o.seen.answers, 1);
	assert_int_equal(o.seen.outcome, MILTER_GO_ON);
	pthread_join(f.thread, NULL);
	milter_free(&m);
	run_short(loop);
	loop_free(&loop);
	filter_stop(&f);
}

/* A large body comes whole and in order, and only as fast as the filter takes it. */
static void test_large_body(void **state)
{
	struct filter f = {.protocol = MILTER_SILENT_BODY};
	struct seen s = {.body_len = 3 * 1024 * 1024 + 7};

	(void)state;
	assert_int_equal(run_session(&f, &usual, &s), STEPS);
	pthread_join(f.thread, NULL);
	assert_int_equal(buf_len(&f.body), s.body_len);
	for (size_t i = 0; i < s.body_len; i++)
		if (buf_view(&f.body).p[i] != (char)('a' + i % 26))
			fail_msg("octet %zu differs", i);
	filter_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues),
		cmocka_unit_test(test_failure),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_gone_between_questions),
		cmocka_unit_test(test_large_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
