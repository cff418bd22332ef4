/*
 * A scripted SMTP server on the test's own loop: says what rules tell it to, and keeps every octet that it gets. And a sender with a
 * configuration of its own, whose tries are recorded.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/delivery/outbound.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/net/listener.h"
#include "common/net/timer.h"

struct sink_rule {
	const char *prefix; /* of a command line; "." the end of data; "" the greeting */
	const char *
		reply; /* without line end; "DROP": closes; "SILENCE": says nothing any more; "TLS": 220 and a handshake; NULL ends */
	unsigned from, to; /* which of its kind: from the from-th (0) to the to-th; to 0: all */
};

#define SINK_CONNS_MOST 64

struct sink;
struct sink_conn {
	struct sink *sink;
	struct conn *conn;
	bool in_data, has_tls, is_silent;
	uint64_t bdat_left;
	bool is_last;
};

struct sink {
	struct loop *loop;
	struct listener *listener;
	uint16_t port;
	const char *words;     /* of EHLO, separated by blanks */
	const char *tls_words; /* under TLS; NULL: the same */
	const struct sink_rule *rules;
	unsigned seen[32]; /* of each rule */
	struct tls *tls;
	struct buf raw;      /* all octets of bodies as they came */
	struct buf dialogue; /* command lines */
	unsigned conns_count, messages, open;
	struct sink_conn conns[SINK_CONNS_MOST];
};

static inline void sink_close(struct sink_conn *c)
{
	if (c->conn)
		c->sink->open--;
	conn_close(&c->conn);
}

static inline bool sink_by_rule(struct sink_conn *c, const char *command, size_t len)
{
	struct sink *s = c->sink;

	for (size_t i = 0; s->rules && s->rules[i].reply; i++) {
		const struct sink_rule *r = &s->rules[i];
		size_t n = strlen(r->prefix);
		unsigned at;

		if (n > len || strncmp(r->prefix, command, n) != 0 || (n == 0) != (len == 0))
			continue;
		at = s->seen[i]++;
		if (at < r->from || (r->to && at >= r->to))
			continue;
		if (strcmp(r->reply, "DROP") == 0)
			sink_close(c);
		else if (strcmp(r->reply, "TLS") == 0) {
			conn_write_str(c->conn, "220 go\r\n");
			c->has_tls = true;
			assert_int_equal(conn_start_tls_server(c->conn, s->tls), 0);
		} else if (strcmp(r->reply, "SILENCE") == 0)
			c->is_silent = true;
		else
			conn_printf(c->conn, "%s\r\n", r->reply);
		return true;
	}
	return false;
}

static inline void sink_command(struct sink_conn *c, const char *line, size_t len)
{
	struct sink *s = c->sink;

	buf_add(&s->dialogue, line, len);
	buf_add_char(&s->dialogue, '\n');
	if (len > 5 && strncmp(line, "BDAT ", 5) == 0) {
		c->bdat_left = strtoull(line + 5, NULL, 10);
		c->is_last = len > 9 && strncmp(line + len - 4, "LAST", 4) == 0;
		return;
	}
	if (sink_by_rule(c, line, len))
		return;
	if (strncmp(line, "EHLO", 4) == 0) {
		char words[512], *save = NULL;

		snprintf(words, sizeof(words), "%s", c->has_tls && s->tls_words ? s->tls_words : s->words);
		conn_write_str(c->conn, "250-sink.example\r\n");
		for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
			for (char *p = w; *p; p++)
				if (*p == '_')
					*p = ' ';
			conn_printf(c->conn, "250-%s\r\n", w);
		}
		conn_write_str(c->conn, "250 HELP\r\n");
	} else if (strncmp(line, "DATA", 4) == 0) {
		conn_write_str(c->conn, "354 go on\r\n");
		c->in_data = true;
	} else if (strncmp(line, "QUIT", 4) == 0) {
		conn_write_str(c->conn, "221 2.0.0 bye\r\n");
		sink_close(c);
	} else {
		conn_write_str(c->conn, "250 2.0.0 fine\r\n");
	}
}

static inline void sink_end(struct sink_conn *c)
{
	c->sink->messages++;
	if (!sink_by_rule(c, ".", 1))
		conn_write_str(c->conn, "250 2.0.0 queued as 1\r\n");
}

/* True: something was taken. */
static inline bool sink_step(struct sink_conn *c)
{
	struct slice in = conn_input(c->conn);
	const char *end;

	if (!in.len || c->is_silent)
		return false;
	if (c->bdat_left || c->is_last) {
		size_t n = in.len < c->bdat_left ? in.len : (size_t)c->bdat_left;

		buf_add(&c->sink->raw, in.p, n);
		c->bdat_left -= n;
		conn_consume(c->conn, n);
		if (!c->bdat_left) {
			if (c->is_last)
				sink_end(c);
			else if (!sink_by_rule(c, "BDAT", 4))
				conn_write_str(c->conn, "250 chunk\r\n");
			c->is_last = false;
		}
		return c->conn != NULL;
	}
	end = memchr(in.p, '\n', in.len);
	if (c->in_data) {
		size_t n = end ? (size_t)(end - in.p) + 1 : in.len;
		bool is_end = n == 3 && memcmp(in.p, ".\r\n", 3) == 0;

		if (!end)
			return false;
		buf_add(&c->sink->raw, in.p, n);
		conn_consume(c->conn, n);
		if (is_end) {
			c->in_data = false;
			sink_end(c);
		}
		return c->conn != NULL;
	}
	if (!end)
		return false;
	size_t n = (size_t)(end - in.p);
	char line[4096];

	assert_true(n > 0 && n < sizeof(line) && in.p[n - 1] == '\r');
	memcpy(line, in.p, n - 1);
	line[n - 1] = '\0';
	conn_consume(c->conn, n + 1);
	sink_command(c, line, n - 1);
	return c->conn != NULL;
}

static inline void sink_on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct sink_conn *c = owner;

	(void)conn;
	if (event == CONN_DATA) {
		while (sink_step(c))
			;
	} else if (event == CONN_EOF || event == CONN_FAILED) {
		sink_close(c);
	}
}

static inline void sink_on_accept(void *arg, struct conn *conn)
{
	struct sink *s = arg;
	struct sink_conn *c = &s->conns[s->conns_count++ % SINK_CONNS_MOST];

	assert_null(c->conn);
	*c = (struct sink_conn){.sink = s, .conn = conn};
	s->open++;
	conn_set_owner(conn, sink_on_event, c);
	conn_set_input_limit(conn, 1024 * 1024);
	if (!sink_by_rule(c, "", 0))
		conn_write_str(conn, "220 sink.example ESMTP\r\n");
}

static inline void sink_open_at(struct sink *s, struct loop *loop, const char *host, uint16_t port,
	const char *words, const struct sink_rule *rules)
{
	struct listener_options options = {.name = "sink"};
	struct buf why = {0};

	*s = (struct sink){.loop = loop, .words = words, .rules = rules};
	assert_int_equal(addr_parse(slice_str(host), port, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, sink_on_accept, s, &why, &s->listener), 0);
	s->port = addr_port(listener_addr(s->listener));
}

static inline void sink_open(
	struct sink *s, struct loop *loop, const char *words, const struct sink_rule *rules)
{
	sink_open_at(s, loop, "127.0.0.1", 0, words, rules);
}

static inline void sink_stop_loop(void *arg)
{
	loop_stop(arg);
}

static inline void sink_run_short(struct loop *loop)
{
	struct timer timer;

	timer_init(&timer, sink_stop_loop, loop);
	timer_set(&timer, loop, 2);
	loop_run(loop);
	timer_stop(&timer);
}

#define SINK_UNTIL(loop, condition)                                                                          \
	do {                                                                                                 \
		for (int round_ = 0; !(condition) && round_ < 640; round_++)                                 \
			sink_run_short(loop);                                                                \
		assert_true(condition);                                                                      \
	} while (0)

static inline void sink_free(struct sink *s)
{
	listener_close(&s->listener);
	for (size_t i = 0; i < SINK_CONNS_MOST; i++)
		conn_abort(&s->conns[i].conn);
	sink_run_short(s->loop);
	buf_deinit(&s->raw);
	buf_deinit(&s->dialogue);
	tls_unref(&s->tls);
}

/* ---- the sender ---- */

static const struct conf_section sink_sections[] = {
	{"", 0, NULL, ""}, OUTBOUND_CONF_SECTIONS, {NULL, 0, NULL, NULL}};
static const struct conf_key *const sink_tables[] = {outbound_keys, NULL};
static const struct conf_table sink_table = {.program = "test",
	.file = "/nowhere",
	.sections = sink_sections,
	.keys = sink_tables,
	.check = outbound_check};

struct sender {
	struct loop *loop;
	struct conf *conf;
	struct outbound *o;
	unsigned rooms;
};

static inline void sender_on_room(void *arg, const char *next_hop)
{
	struct sender *s = arg;

	(void)next_hop;
	s->rooms++;
}

/* text: sections; the host is mail.here.example. */
static inline void sender_open(struct sender *s, struct loop *loop, const char *text)
{
	struct buf why = {0};
	int err;

	/* No authorities of the system: reading them is most of what a test would take. */
	setenv("SSL_CERT_FILE", "/nonexistent", 1);
	setenv("SSL_CERT_DIR", "/nonexistent", 1);
	*s = (struct sender){.loop = loop};
	err = conf_load_text(&sink_table, "test.conf", slice_str(text), &why, &s->conf);
	if (!err)
		err = outbound_new(loop, s->conf, "mail.here.example", NULL, sender_on_room, s, &why, &s->o);
	if (err)
		print_error("%s\n", buf_str_view(&why));
	assert_int_equal(err, 0);
	buf_deinit(&why);
}

/* All mail to that sink; more: further keys of the route, and further sections. */
static inline void sender_open_to(
	struct sender *s, struct loop *loop, uint16_t port, const char *keys, const char *more)
{
	struct buf text = {0};

	buf_printf(&text, "route all {\ndomains = {\"*\"}\nhosts = {\"[127.0.0.1]:%u\"}\n%s\n}\n%s\n", port,
		keys, more);
	sender_open(s, loop, buf_str_view(&text));
	buf_deinit(&text);
}

static inline void sender_free(struct sender *s)
{
	outbound_cut(s->o);
	sink_run_short(s->loop);
	sink_run_short(s->loop);
	outbound_free(&s->o);
	conf_free(&s->conf);
}

#define SENDING_RECIPIENTS 600

struct sending {
	struct sender *sender;
	struct outbound_try *t;
	struct outbound_request request;
	struct outbound_recipient recipients[SENDING_RECIPIENTS];
	char addresses[SENDING_RECIPIENTS][64];
	char next_hop[OUTBOUND_NEXT_HOP_MAX];
	struct slice message;
	size_t piece; /* octets given at once; 0: all that is asked for */
	bool is_done, is_unreachable;
	unsigned reads;
	struct {
		enum outbound_verdict verdict;
		unsigned code, count;
		char enhanced[16], text[600], relay[300], tls[100], host[100];
		bool has_dsn;
	} results[SENDING_RECIPIENTS];
};

static inline void sending_read(void *arg, struct outbound_try *t, uint64_t offset, size_t most)
{
	struct sending *s = arg;

	s->reads++;
	assert_true(most > 0 && offset + most <= s->message.len);
	if (s->piece && most > s->piece)
		most = s->piece;
	outbound_octets(t, 0, slice_sub(s->message, (size_t)offset, most));
}

static inline void sending_result(void *arg, size_t i, const struct outbound_result *r)
{
	struct sending *s = arg;

	s->results[i].count++;
	s->results[i].verdict = r->verdict;
	s->results[i].code = r->code;
	s->results[i].has_dsn = r->has_dsn;
	snprintf(s->results[i].enhanced, 16, "%s", r->enhanced);
	snprintf(s->results[i].text, 600, "%s", r->text);
	snprintf(s->results[i].relay, 300, "%s", r->relay);
	snprintf(s->results[i].tls, 100, "%s", r->tls);
	snprintf(s->results[i].host, 100, "%s", r->host);
}

static inline void sending_done(void *arg, const struct outbound_facts *facts)
{
	struct sending *s = arg;

	s->is_done = true;
	s->is_unreachable = facts->is_unreachable;
	s->t = NULL;
}

/* count recipients u0@example.com ... of a domain; the caller may change the request before sending_start(). */
static inline void sending_init(
	struct sending *s, struct sender *sender, const char *domain, size_t count, const char *message)
{
	*s = (struct sending){.sender = sender, .message = slice_str(message)};
	assert_int_equal(outbound_next_hop(sender->o, slice_str(domain), s->next_hop), 0);
	for (size_t i = 0; i < count; i++) {
		snprintf(s->addresses[i], 64, "u%zu@%s", i, domain);
		s->recipients[i] = (struct outbound_recipient){.address = slice_str(s->addresses[i])};
	}
	s->request = (struct outbound_request){.next_hop = s->next_hop,
		.session = "test",
		.sender = SLICE_LIT("from@here.example"),
		.size = s->message.len,
		.recipients = s->recipients,
		.recipient_count = count,
		.read = sending_read,
		.result = sending_result,
		.done = sending_done,
		.arg = s};
}

static inline void sending_start(struct sending *s)
{
	assert_int_equal(outbound_start(s->sender->o, &s->request, &s->t), 0);
}

static inline void sending_finish(struct sending *s)
{
	SINK_UNTIL(s->sender->loop, s->is_done);
	for (size_t i = 0; i < s->request.recipient_count; i++)
		assert_int_equal(s->results[i].count, 1);
}
