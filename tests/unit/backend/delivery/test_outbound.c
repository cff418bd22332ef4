/* Tries against a scripted server, over real connections on one loop. */
#include "tests/unit/backend/delivery/smtp_sink.h"

#include <unistd.h>

#define MESSAGE "From: <from@here.example>\r\nSubject: hello\r\n\r\nhello\r\n.dot\r\n"
#define WORDS "PIPELINING SIZE_1000000 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES DSN"

static struct loop *loop;
static struct sink sink;
static struct sender sender;
static struct sending sending;

static void open_with(const char *words, const struct sink_rule *rules, const char *keys, const char *more)
{
	sink_open(&sink, loop, words, rules);
	sender_open_to(&sender, loop, sink.port, keys, more);
}

static void end(void)
{
	sender_free(&sender);
	sink_free(&sink);
}

static void send_to(size_t count)
{
	sending_init(&sending, &sender, "example.com", count, MESSAGE);
	sending_start(&sending);
	sending_finish(&sending);
}

static void test_one_message(void **state)
{
	static const char *const words[] = {"", "PIPELINING", WORDS, WORDS " CHUNKING", "CHUNKING"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		bool is_chunked = strstr(words[i], "CHUNKING") != NULL;

		open_with(words[i], NULL, "", "");
		send_to(3);
		for (size_t n = 0; n < 3; n++) {
			assert_int_equal(sending.results[n].verdict, OUTBOUND_SENT);
			assert_int_equal(sending.results[n].code, 250);
			assert_string_equal(sending.results[n].enhanced, "2.0.0");
			assert_string_equal(sending.results[n].text, "queued as 1");
			assert_int_equal(sending.results[n].has_dsn, strstr(words[i], "DSN") != NULL);
			assert_string_equal(sending.results[n].tls, "none");
			assert_non_null(strstr(sending.results[n].relay, "127.0.0.1[127.0.0.1]:"));
		}
		assert_string_equal(
			buf_str_view(&sink.raw), is_chunked ? MESSAGE
							    : "From: <from@here.example>\r\nSubject: "
							      "hello\r\n\r\nhello\r\n..dot\r\n.\r\n");
		assert_false(sending.is_unreachable);
		end();
	}
}

static void test_hello_falls_back(void **state)
{
	static const struct sink_rule rules[] = {{"EHLO", "502 5.5.1 what?", 0, 0}, {NULL, NULL, 0, 0}};

	(void)state;
	open_with(WORDS, rules, "", "");
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	assert_string_equal(buf_str_view(&sink.dialogue),
		"EHLO mail.here.example\nHELO mail.here.example\nMAIL FROM:<from@here.example>\n"
		"RCPT TO:<u0@example.com>\nDATA\n");
	end();
}

static void test_parameters(void **state)
{
	(void)state;
	open_with(WORDS, NULL, "", "");
	sending_init(&sending, &sender, "example.com", 1, MESSAGE);
	sending.request.is_8bit = sending.request.is_utf8 = true;
	sending.request.ret = SMTP_RET_HDRS;
	sending.request.envid = SLICE_LIT("QQ+2B");
	sending.recipients[0].notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_DELAY;
	sending.recipients[0].orcpt = SLICE_LIT("rfc822;u@x.example");
	sending_start(&sending);
	sending_finish(&sending);
	assert_non_null(strstr(buf_str_view(&sink.dialogue),
		"MAIL FROM:<from@here.example> SIZE=58 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B\n"));
	assert_non_null(strstr(buf_str_view(&sink.dialogue),
		"RCPT TO:<u0@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;u@x.example\n"));
	end();
}

static void test_results_differ(void **state)
{
	static const struct sink_rule rules[] = {{"RCPT TO:<u1@", "550 5.1.1 who is that?", 0, 0},
		{"RCPT TO:<u2@", "451-4.7.1 come\r\n451 4.7.1 later", 0, 0},
		{"RCPT TO:<u3@", "553 no code", 0, 0}, {NULL, NULL, 0, 0}};
	static const struct {
		enum outbound_verdict verdict;
		const char *enhanced, *text;
	} want[] = {{OUTBOUND_SENT, "2.0.0", "queued as 1"}, {OUTBOUND_FAILED, "5.1.1", "who is that?"},
		{OUTBOUND_NOT_NOW, "4.7.1", "come later"}, {OUTBOUND_FAILED, "5.0.0", "no code"}};
	static const char *const words[] = {"", WORDS, WORDS " CHUNKING"};

	(void)state;
	for (size_t w = 0; w < ARRAY_LEN(words); w++) {
		open_with(words[w], rules, "", "");
		send_to(4);
		for (size_t i = 0; i < ARRAY_LEN(want); i++) {
			assert_int_equal(sending.results[i].verdict, want[i].verdict);
			assert_string_equal(sending.results[i].enhanced, want[i].enhanced);
			assert_string_equal(sending.results[i].text, want[i].text);
		}
		assert_int_equal(sink.messages, 1);
		end();
	}
}

/* Whoever says yes to DATA has not got the message; what he says next belongs to nothing. */
static void test_no_yes_but_the_last_counts(void **state)
{
	static const struct {
		const char *reply;
		enum outbound_verdict verdict;
	} rows[] = {{"200 fine", OUTBOUND_NOT_NOW}, {"220 hello", OUTBOUND_NOT_NOW},
		{"221 bye", OUTBOUND_NOT_NOW}, {"250 2.0.0 queued", OUTBOUND_NOT_NOW},
		{"251 forwarded", OUTBOUND_NOT_NOW}, {"252 perhaps", OUTBOUND_NOT_NOW},
		{"334 go on", OUTBOUND_NOT_NOW}, {"451 later", OUTBOUND_NOT_NOW},
		{"554 never", OUTBOUND_FAILED}};
	static const char *const words[] = {"", WORDS};

	(void)state;
	for (size_t w = 0; w < ARRAY_LEN(words); w++) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			const struct sink_rule rules[] = {{"DATA", rows[i].reply, 0, 1}, {NULL, NULL, 0, 0}};
			bool is_sense = rows[i].reply[0] == '4' || rows[i].reply[0] == '5';

			open_with(words[w], rules, "", "");
			send_to(2);
			assert_int_equal(sending.results[0].verdict, rows[i].verdict);
			assert_int_equal(sending.results[1].verdict, rows[i].verdict);
			assert_string_not_equal(sending.results[0].enhanced, "2.0.0");
			send_to(1);
			assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
			assert_int_equal(sink.conns_count, is_sense ? 1 : 2);
			end();
		}
	}
}

/* A yes that comes along with 354, and a server that wants more when all is said: nothing after it counts. */
static void test_answers_to_nothing(void **state)
{
	static const struct sink_rule rules[][2] = {
		{{"DATA", "354 go on\r\n250 2.0.0 queued", 0, 1}, {NULL, NULL, 0, 0}},
		{{".", "354 and?", 0, 1}, {NULL, NULL, 0, 0}},
		{{"MAIL", "334 who?", 0, 1}, {NULL, NULL, 0, 0}}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		open_with("PIPELINING", rules[i], "", "");
		send_to(1);
		assert_int_equal(sending.results[0].verdict, OUTBOUND_NOT_NOW);
		send_to(1);
		assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
		assert_int_equal(sink.conns_count, 2);
		end();
	}
}

/* TLS is offered, and the connection is cut when it is asked for: done without, as when the handshake fails. */
static void test_starttls_that_cuts(void **state)
{
	static const struct sink_rule rules[] = {{"STARTTLS", "DROP", 0, 0}, {NULL, NULL, 0, 0}};

	(void)state;
	open_with(WORDS " STARTTLS", rules, "", "");
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	assert_int_equal(sink.conns_count, 2);
	end();
	open_with(WORDS " STARTTLS", rules, "tls = encrypt\n", "");
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_NOT_NOW);
	end();
}

/* Nobody is taken, and DATA is all the same (RFC 2920 section 3.1); the connection is good for another message. */
static void test_nobody_taken(void **state)
{
	static const struct sink_rule rules[] = {{"RCPT", "550 5.1.1 no", 0, 1}, {NULL, NULL, 0, 0}};

	(void)state;
	open_with(WORDS, rules, "", "");
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_FAILED);
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	assert_int_equal(sink.conns_count, 1);
	assert_int_equal(sink.messages, 2); /* one for nobody */
	end();
}

static void test_reuse(void **state)
{
	(void)state;
	open_with(WORDS, NULL, "", "sending {\nmessages = 3\n}\n");
	for (unsigned i = 0; i < 7; i++)
		send_to(1);
	assert_int_equal(sink.conns_count, 3);
	assert_int_equal(sink.messages, 7);
	end();
}

/* A connection that has gone while it was idle costs nothing but a new one. */
static void test_idle_connection_goes(void **state)
{
	static const struct sink_rule rules[] = {{"MAIL", "DROP", 1, 2}, {NULL, NULL, 0, 0}};

	(void)state;
	open_with(WORDS, rules, "", "");
	send_to(1);
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	assert_int_equal(sink.conns_count, 2);
	end();
}

static void test_many_recipients(void **state)
{
	static const struct sink_rule rules[] = {
		{"RCPT TO:<u7@", "452 4.5.3 too many", 0, 1}, {NULL, NULL, 0, 0}};

	(void)state;
	open_with("PIPELINING LIMITS_RCPTMAX=20", rules, "", "sending {\nrecipients = 30\n}\n");
	send_to(50);
	for (size_t i = 0; i < 50; i++)
		assert_int_equal(sending.results[i].verdict, OUTBOUND_SENT);
	assert_int_equal(sink.messages, 3);
	end();
}

static void test_faults(void **state)
{
	static const struct {
		const char *prefix, *reply;
		enum outbound_verdict verdict;
		unsigned code;
		const char *enhanced, *text;
		bool is_unreachable;
	} rows[] = {
		{"", "554 5.7.1 go away", OUTBOUND_NOT_NOW, 554, "4.0.0", "go away", true},
		{"", "421 4.3.2 full", OUTBOUND_NOT_NOW, 421, "4.3.2", "full", true},
		{"", "DROP", OUTBOUND_NOT_NOW, 0, "4.4.2", "the server closed the connection", true},
		{"", "junk", OUTBOUND_NOT_NOW, 0, "4.4.2", "the server's reply makes no sense", true},
		{"", "SILENCE", OUTBOUND_NOT_NOW, 0, "4.4.2", "no greeting in time", true},
		{"EHLO", "421 no", OUTBOUND_NOT_NOW, 421, "4.0.0", "no", true},
		{"MAIL", "550 5.7.1 not you", OUTBOUND_FAILED, 550, "5.7.1", "not you", false},
		{"MAIL", "451 4.7.1 not yet", OUTBOUND_NOT_NOW, 451, "4.7.1", "not yet", false},
		{"MAIL", "SILENCE", OUTBOUND_NOT_NOW, 0, "4.4.2",
			"no reply in time (before the message was sent)", false},
		{"RCPT", "DROP", OUTBOUND_NOT_NOW, 0, "4.4.2",
			"the server closed the connection (before the message was sent)", false},
		{"DATA", "451 4.3.0 no room", OUTBOUND_NOT_NOW, 451, "4.3.0", "no room", false},
		{"DATA", "DROP", OUTBOUND_NOT_NOW, 0, "4.4.2",
			"the server closed the connection (before the message was sent)", false},
		{".", "554 5.6.0 spam", OUTBOUND_FAILED, 554, "5.6.0", "spam", false},
		{".", "452 4.3.1 full", OUTBOUND_NOT_NOW, 452, "4.3.1", "full", false},
		{".", "DROP", OUTBOUND_NOT_NOW, 0, "4.4.2",
			"the server closed the connection (after the message was sent)", false},
		{".", "250-2.0.0 ok\r\n251 2.0.0 differs", OUTBOUND_NOT_NOW, 0, "4.4.2",
			"the server's reply makes no sense (after the message was sent)", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sink_rule rules[] = {{rows[i].prefix, rows[i].reply, 0, 0}, {NULL, NULL, 0, 0}};

		open_with(WORDS, rules, "", "sending {\ncommand-timeout = 1s\ngreeting-timeout = 1s\n}\n");
		send_to(1);
		if (sending.results[0].verdict != rows[i].verdict ||
			strcmp(sending.results[0].text, rows[i].text) != 0)
			print_error("row %zu: %s\n", i, sending.results[0].text);
		assert_int_equal(sending.results[0].verdict, rows[i].verdict);
		assert_int_equal(sending.results[0].code, rows[i].code);
		assert_string_equal(sending.results[0].enhanced, rows[i].enhanced);
		assert_string_equal(sending.results[0].text, rows[i].text);
		assert_int_equal(sending.is_unreachable, rows[i].is_unreachable);
		end();
	}
}

static void test_cannot_take(void **state)
{
	static const struct {
		const char *words;
		bool is_8bit, is_utf8, requires_tls;
		const char *sender, *enhanced;
	} rows[] = {
		{"PIPELINING", true, false, false, "a@b.example", "5.6.3"},
		{"PIPELINING", false, true, false, "a@b.example", "5.6.7"},
		{"PIPELINING 8BITMIME", false, false, false, "\xc3\xa4@b.example", "5.6.7"},
		{"SIZE_10", false, false, false, "a@b.example", "5.3.4"},
		{"PIPELINING", false, false, false, "a@b\r\nRCPT TO:<x@y>", "5.1.7"},
		{WORDS, false, false, true, "a@b.example", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		open_with(rows[i].words, NULL, "", "");
		sending_init(&sending, &sender, "example.com", 1, MESSAGE);
		sending.request.is_8bit = rows[i].is_8bit;
		sending.request.is_utf8 = rows[i].is_utf8;
		sending.request.requires_tls = rows[i].requires_tls;
		sending.request.sender = slice_str(rows[i].sender);
		sending_start(&sending);
		sending_finish(&sending);
		assert_int_not_equal(sending.results[0].verdict, OUTBOUND_SENT);
		if (rows[i].enhanced)
			assert_string_equal(sending.results[0].enhanced, rows[i].enhanced);
		assert_int_equal(sink.messages, 0);
		assert_null(strstr(buf_str_view(&sink.dialogue), "MAIL"));
		end();
	}
}

/* Every variant of line ends and dots, cut anywhere, by DATA and by BDAT: nothing but CRLF arrives, and no end of data but ours. */
static void test_security_03_no_bare_line_ends_leave(void **state)
{
	static const char *const bodies[] = {"a\nb", "a\rb", "a\r\r\nb", "a\n.\nMAIL FROM:<x@y>\nb",
		"a\r.\rb", "a\r\n.\rb\r\n", "a\n.\r\nb", "a\r.\r\nb", "\n.\n", "\r.\r", ".\r\n", ".", "\r",
		"\n", "a\r\n.\n.\r\r\n.\r\n..\r\n", "a\r\n\r.\r\n", "a\n\r.\n\rb"};
	static const char *const words[] = {"PIPELINING", "PIPELINING CHUNKING"};

	(void)state;
	for (size_t w = 0; w < ARRAY_LEN(words); w++) {
		open_with(words[w], NULL, "", "");
		for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
			for (size_t piece = 1; piece < 4; piece++) {
				struct slice raw;

				buf_clear(&sink.raw);
				sink.messages = 0;
				sending_init(&sending, &sender, "example.com", 1, bodies[i]);
				sending.piece = piece;
				sending_start(&sending);
				sending_finish(&sending);
				assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
				assert_int_equal(sink.messages, 1);
				raw = buf_view(&sink.raw);
				for (size_t n = 0; n < raw.len; n++) {
					if (raw.p[n] == '\r')
						assert_true(n + 1 < raw.len && raw.p[n + 1] == '\n');
					if (raw.p[n] == '\n')
						assert_true(n > 0 && raw.p[n - 1] == '\r');
				}
			}
		assert_null(strstr(buf_str_view(&sink.dialogue), "MAIL FROM:<x@y>"));
		end();
	}
}

/* A large message: pieces, back-pressure, both ways of sending; and its octets are all there. */
static void test_large_message(void **state)
{
	static const char *const words[] = {"PIPELINING", "PIPELINING CHUNKING", "CHUNKING"};
	const size_t lines = 40000;
	struct buf text = {0};

	(void)state;
	for (size_t i = 0; i < lines; i++)
		buf_printf(&text,
			"%zu some text that fills a line of a large message, and then some more\r\n", i);
	for (size_t w = 0; w < ARRAY_LEN(words); w++) {
		open_with(words[w], NULL, "", "");
		sending_init(&sending, &sender, "example.com", 2, "");
		sending.message = buf_view(&text);
		sending.request.size = sending.message.len;
		sending_start(&sending);
		sending_finish(&sending);
		assert_int_equal(sending.results[1].verdict, OUTBOUND_SENT);
		assert_int_equal(buf_len(&sink.raw), buf_len(&text) + (w == 0 ? 3 : 0));
		assert_memory_equal(buf_view(&sink.raw).p, buf_view(&text).p, buf_len(&text));
		end();
	}
	buf_deinit(&text);
}

/* A reply without end, one of a megabyte, and one that comes by single octets: each costs its deadline or its limit. */
static void test_security_04_hostile_replies(void **state)
{
	struct buf endless = {0}, line = {0};
	struct sink_rule rules[] = {{"MAIL", NULL, 0, 0}, {NULL, NULL, 0, 0}};

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_add_str(&endless, "250-2.0.0 more and more and more and more and more\r\n");
	buf_add_str(&endless, "250-");
	buf_add_str(&line, "250 ");
	while (buf_len(&line) < 1024 * 1024)
		buf_add_str(&line, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	const char *replies[] = {buf_str_view(&endless), buf_str_view(&line),
		"550 5.7.1 a\x01\x1b[31mred\x7f \xff\xfe bare\rcr"};
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		rules[0].reply = replies[i];
		open_with(WORDS, rules, "", "");
		send_to(1);
		if (i < 2) {
			assert_int_equal(sending.results[0].verdict, OUTBOUND_NOT_NOW);
			assert_non_null(strstr(sending.results[0].text, "too long"));
		} else {
			assert_int_equal(sending.results[0].verdict, OUTBOUND_FAILED);
			assert_string_equal(sending.results[0].text, "a??[31mred? ?? bare?cr");
		}
		end();
	}
	buf_deinit(&endless);
	buf_deinit(&line);
}

/* ---- a server that says anything ---- */

#define MAD_CONNS 256

static struct conn *mad[MAD_CONNS];
static unsigned mad_count;
static uint32_t mad_seed;

static uint32_t mad_random(void)
{
	mad_seed = mad_seed * 1664525u + 1013904223u;
	return mad_seed >> 16;
}

static void mad_say(struct conn **conn)
{
	static const char *const words[] = {"250 2.0.0 ok\r\n", "250 ok\r\n",
		"250-PIPELINING\r\n250 CHUNKING\r\n", "250 ok\r\n", "354 go\r\n", "421 4.3.2 bye\r\n",
		"550 5.1.1 no\r\n", "452 4.5.3 many\r\n", "334 \r\n", "999 x\r\n", "250", "\r\n",
		"250-a\r\n251 b\r\n", "\xff\x01\r\n", "250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n", ""};
	uint32_t n = mad_random() % (ARRAY_LEN(words) + 1);

	if (n == ARRAY_LEN(words))
		conn_close(conn);
	else
		conn_write_str(*conn, words[n]);
}

static void mad_on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct conn **slot = owner;
	struct slice in;

	if (event == CONN_EOF || event == CONN_FAILED) {
		conn_close(slot);
	} else if (event == CONN_DATA) {
		in = conn_input(conn);
		conn_consume(conn, in.len);
		for (unsigned n = 1 + mad_random() % 3; n && *slot; n--)
			mad_say(slot);
	}
}

static void mad_on_accept(void *arg, struct conn *conn)
{
	struct conn **slot = &mad[mad_count++ % MAD_CONNS];

	(void)arg;
	conn_abort(slot);
	*slot = conn;
	conn_set_owner(conn, mad_on_event, slot);
	conn_write_str(conn, mad_random() % 8 ? "220 hello\r\n" : "nonsense\r\n");
}

/* Whatever is said, in whatever order: every recipient has one result, in time. */
static void test_security_04_servers_that_say_anything(void **state)
{
	static struct sending many[64];
	struct listener_options options = {.name = "mad"};
	struct listener *listener;
	struct buf why = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, mad_on_accept, NULL, &why, &listener), 0);
	sender_open_to(&sender, loop, addr_port(listener_addr(listener)),
		"connections-first = 32\nconnections-most = 32",
		"sending {\ncommand-timeout = 1s\ngreeting-timeout = 1s\nend-timeout = 1s\ndata-timeout = "
		"1s\n}\n");
	for (uint32_t round = 0; round < 2; round++) {
		size_t begun = 0;

		mad_seed = round;
		for (; begun < ARRAY_LEN(many); begun++) {
			sending_init(&many[begun], &sender, "example.com", 3, MESSAGE);
			if (outbound_start(sender.o, &many[begun].request, &many[begun].t) != 0)
				break;
		}
		assert_true(begun > 0);
		for (size_t i = 0; i < begun; i++)
			sending_finish(&many[i]);
	}
	sender_free(&sender);
	listener_close(&listener);
	for (size_t i = 0; i < MAD_CONNS; i++)
		conn_abort(&mad[i]);
	sink_run_short(loop);
}

/* One hop that does not answer takes its window and no more; the others go on. */
static void test_dead_hop_keeps_to_itself(void **state)
{
	static const struct sink_rule rules[] = {{"", "SILENCE", 0, 0}, {NULL, NULL, 0, 0}};
	static struct sending dead[10];
	struct sink other;
	struct buf text = {0};
	unsigned begun = 0;

	(void)state;
	sink_open(&sink, loop, WORDS, rules);
	sink_open(&other, loop, WORDS, NULL);
	buf_printf(&text,
		"sending {\nconnections = 4\n}\n"
		"route a {\ndomains = {dead.example}\nhosts = {\"[127.0.0.1]:%u\"}\nconnections-first = "
		"2\n}\n"
		"route b {\ndomains = {live.example}\nhosts = {\"[127.0.0.1]:%u\"}\n}\n",
		sink.port, other.port);
	sender_open(&sender, loop, buf_str_view(&text));
	for (size_t i = 0; i < ARRAY_LEN(dead); i++) {
		sending_init(&dead[i], &sender, "dead.example", 1, MESSAGE);
		if (outbound_start(sender.o, &dead[i].request, &dead[i].t) == 0)
			begun++;
	}
	assert_int_equal(begun, 4); /* two connections, two that wait */
	for (size_t i = 0; i < 20; i++) {
		sending_init(&sending, &sender, "live.example", 1, MESSAGE);
		sending_start(&sending);
		sending_finish(&sending);
		assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	}
	assert_int_equal(sink.conns_count, 2);
	for (size_t i = 0; i < begun; i++)
		outbound_cancel(&dead[i].t);
	sink_free(&other);
	end();
	buf_deinit(&text);
}

/* AUTH by what is offered; the password's file is read by the configuration. A login that is refused is not for good. */
static void test_logins(void **state)
{
	static const struct {
		const char *words;
		struct sink_rule rules[4];
		enum outbound_verdict verdict;
		const char *said;
	} rows[] = {
		{"AUTH_PLAIN_LOGIN", {{"AUTH", "235 2.7.0 in", 0, 0}, {NULL, NULL, 0, 0}}, OUTBOUND_SENT,
			"AUTH PLAIN AG1lAHNlY3JldA==\n"},
		{"AUTH_LOGIN",
			{{"AUTH", "334 VXNlcm5hbWU6", 0, 0}, {"bWU=", "334 UGFzc3dvcmQ6", 0, 0},
				{"c2VjcmV0", "235 2.7.0 in", 0, 0}, {NULL, NULL, 0, 0}},
			OUTBOUND_SENT, "AUTH LOGIN\nbWU=\nc2VjcmV0\n"},
		{"AUTH_PLAIN", {{"AUTH", "535 5.7.8 wrong", 0, 0}, {NULL, NULL, 0, 0}}, OUTBOUND_NOT_NOW,
			"AUTH PLAIN"},
		/* SCRAM alone where it is offered. A server that takes us without its proof, or answers another, has not the password. */
		{"AUTH_SCRAM-SHA-256_PLAIN", {{"AUTH SCRAM", "535 5.7.8 wrong", 0, 0}, {NULL, NULL, 0, 0}},
			OUTBOUND_NOT_NOW, "AUTH SCRAM-SHA-256 biwsbj1tZSxyP"},
		{"AUTH_SCRAM-SHA-256_PLAIN", {{"AUTH SCRAM", "235 2.7.0 in", 0, 0}, {NULL, NULL, 0, 0}},
			OUTBOUND_NOT_NOW, "AUTH SCRAM"},
		{"AUTH_SCRAM-SHA-256_PLAIN",
			{{"AUTH SCRAM", "334 cj1mb3JlaWduLHM9QUFBQSxpPTQwOTY=", 0, 0}, {NULL, NULL, 0, 0}},
			OUTBOUND_NOT_NOW, "AUTH SCRAM"},
		{"AUTH_SCRAM-SHA-256_PLAIN", {{"AUTH SCRAM", "334 !", 0, 0}, {NULL, NULL, 0, 0}},
			OUTBOUND_NOT_NOW, "AUTH SCRAM"},
		{"AUTH_CRAM-MD5", {{NULL, NULL, 0, 0}}, OUTBOUND_NOT_NOW, "EHLO"},
		{"PIPELINING", {{NULL, NULL, 0, 0}}, OUTBOUND_NOT_NOW, "EHLO"},
	};
	char path[] = "/tmp/mailtier-password-XXXXXX", keys[128];
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, "secret\n", 7), 7);
	close(fd);
	snprintf(keys, sizeof(keys), "user = me\npassword = \"%s\"", path);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		open_with(rows[i].words, rows[i].rules, keys, "");
		send_to(1);
		assert_int_equal(sending.results[0].verdict, rows[i].verdict);
		assert_non_null(strstr(buf_str_view(&sink.dialogue), rows[i].said));
		if (strstr(rows[i].words, "SCRAM"))
			assert_null(strstr(buf_str_view(&sink.dialogue), "AUTH PLAIN"));
		assert_int_equal(sink.messages, rows[i].verdict == OUTBOUND_SENT);
		end();
	}
	unlink(path);
}

/* What --check refuses. */
static void test_configuration(void **state)
{
	static const char *const bad[] = {
		"route a {\ndomains = {x.example}\nhosts = {\"[192.0.2.1]:25\"}\nuser = me\n}\n",
		"route a {\ndomains = {x.example}\nhosts = {\"[192.0.2.1\"}\n}\n",
		"route a {\ndomains = {x.example}\nhosts = {\"mx.example:0\"}\n}\n",
		"route a {\ndomains = {x.example}\nhosts = {\"mx.example:70000\"}\n}\n",
		"route a {\ndomains = {\"x y\"}\nhosts = {mx.example}\n}\n",
		"route a {\ndomains = {x.example}\n}\n",
		"route a {\ndomains = {x.example}\nhosts = {mx.example}\nimplicit-tls = yes\n}\n",
		"sending {\nsource-addresses = {nowhere}\n}\n",
	};
	struct buf why = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct conf *conf = NULL;

		assert_int_equal(
			conf_load_text(&sink_table, "test.conf", slice_str(bad[i]), &why, &conf), ERR_CONFIG);
		conf_free(&conf);
	}
	buf_deinit(&why);
}

/* How many tries of one next hop are begun now; they are taken back. */
static unsigned count_room(void)
{
	static struct sending many[64];
	unsigned count = 0;

	while (count < ARRAY_LEN(many)) {
		sending_init(&many[count], &sender, "example.com", 1, MESSAGE);
		if (outbound_start(sender.o, &many[count].request, &many[count].t) != 0)
			break;
		count++;
	}
	for (unsigned i = 0; i < count; i++)
		outbound_cancel(&many[i].t);
	sink_run_short(loop);
	return count;
}

/* The window of a next hop: twice as many tries as connections; wider with success, up to its most, and narrower with failure. */
static void test_windows(void **state)
{
	(void)state;
	open_with(WORDS, NULL, "connections-first = 1\nconnections-most = 4", "sending {\nidle = 0\n}\n");
	assert_int_equal(count_room(), 2);
	send_to(1);
	assert_int_equal(count_room(), 4);
	for (int i = 0; i < 20; i++)
		send_to(1);
	assert_int_equal(count_room(), 8);
	listener_close(&sink.listener);
	sink_run_short(loop);
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_NOT_NOW);
	assert_true(sending.is_unreachable);
	assert_int_equal(count_room(), 4);
	send_to(1);
	send_to(1);
	assert_int_equal(count_room(), 2);
	end();
}

/* What was refused room hears when there is some. */
static void test_room(void **state)
{
	static struct sending two[3];

	(void)state;
	open_with(WORDS, NULL, "connections-first = 1\nconnections-most = 1", "");
	for (size_t i = 0; i < ARRAY_LEN(two); i++) {
		sending_init(&two[i], &sender, "example.com", 1, MESSAGE);
		assert_int_equal(
			outbound_start(sender.o, &two[i].request, &two[i].t), i < 2 ? 0 : ERR_NOT_NOW);
	}
	assert_int_equal(sender.rooms, 0);
	for (size_t i = 0; i < 2; i++)
		sending_finish(&two[i]);
	assert_int_equal(sender.rooms, 1);
	assert_int_equal(sink.conns_count, 1);
	end();
}

/* After a reload what begins goes by the new configuration, and connections of the old one are not used again. */
static void test_reload(void **state)
{
	struct buf text = {0}, why = {0};
	struct conf *conf;
	struct sink other;

	(void)state;
	open_with(WORDS, NULL, "", "");
	sink_open(&other, loop, WORDS, NULL);
	send_to(1);
	buf_printf(&text, "route all {\ndomains = {\"*\"}\nhosts = {\"[127.0.0.1]:%u\"}\n}\n", other.port);
	assert_int_equal(conf_load_text(&sink_table, "new.conf", buf_view(&text), &why, &conf), 0);
	assert_int_equal(outbound_set_config(sender.o, conf, "mail.here.example", &why), 0);
	SINK_UNTIL(loop, sink.open == 0);
	conf_free(&conf);
	/* The hosts of the next hop are remembered for some seconds, by the route's name: they are looked up anew all the same. */
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	assert_int_equal(sink.messages, 1);
	assert_int_equal(other.messages, 1);
	/* And a route that is gone is told. */
	buf_clear(&text);
	buf_add_str(&text, "route other {\ndomains = {x.example}\nhosts = {\"[127.0.0.1]:1\"}\n}\n");
	assert_int_equal(conf_load_text(&sink_table, "new.conf", buf_view(&text), &why, &conf), 0);
	assert_int_equal(outbound_set_config(sender.o, conf, "mail.here.example", &why), 0);
	sink_run_short(loop);
	conf_free(&conf);
	assert_int_equal(outbound_start(sender.o, &sending.request, &sending.t), ERR_NOT_FOUND);
	sink_free(&other);
	end();
	buf_deinit(&text);
	buf_deinit(&why);
}

static void test_next_hops(void **state)
{
	static const struct {
		const char *domain, *want;
	} rows[] = {{"example.com", "route/a"}, {"EXAMPLE.com", "route/a"}, {"sub.example.com", "route/b"},
		{"b.sub.example.com", "route/b"}, {"other.example", "other.example"},
		{"b\xc3\xbc"
		 "cher.example",
			"xn--bcher-kva.example"},
		{"[192.0.2.1]", "[192.0.2.1]"}};
	char next_hop[OUTBOUND_NEXT_HOP_MAX];

	(void)state;
	sender_open(&sender, loop,
		"route a {\ndomains = {example.com}\nhosts = {smart.example}\n}\n"
		"route b {\ndomains = {.example.com}\nhosts = {\"[smart.example]:587\", \"192.0.2.7\"}\n}\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(outbound_next_hop(sender.o, slice_str(rows[i].domain), next_hop), 0);
		assert_string_equal(next_hop, rows[i].want);
	}
	assert_int_not_equal(outbound_next_hop(sender.o, SLICE_LIT(""), next_hop), 0);
	assert_int_not_equal(outbound_next_hop(sender.o, SLICE_LIT("a b"), next_hop), 0);
	sender_free(&sender);
}

/* As a program ends: the loop goes first, and nothing of a next hop that was used may still stand in it. */
static void test_the_loop_goes_first(void **state)
{
	(void)state;
	open_with(WORDS, NULL, "", "");
	send_to(1);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	outbound_cut(sender.o);
	sink_run_short(loop);
	sink_free(&sink);
	loop_free(&loop);
	outbound_free(&sender.o);
	conf_free(&sender.conf);
}

static int set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_message, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hello_falls_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parameters, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_results_differ, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_yes_but_the_last_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_taken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_answers_to_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_starttls_that_cuts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reuse, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_idle_connection_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_recipients, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_faults, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cannot_take, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_security_03_no_bare_line_ends_leave, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large_message, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_security_04_hostile_replies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_security_04_servers_that_say_anything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dead_hop_keeps_to_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_windows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reload, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_logins, set_up, tear_down),
		cmocka_unit_test(test_configuration),
		cmocka_unit_test_setup_teardown(test_next_hops, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_loop_goes_first, set_up, tear_down),
	};

	mem_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
