/*
 * A whole session: the octets of a client against smtp_front over a socket pair, with a tier that says yes,
 * no or later by the first octets of what it is asked. The first input octet chooses SMTP or LMTP, and
 * whether the peer is trusted, and whether acceptance rules and a stage of content look at it all. At the end every accepted MAIL has been
 * reset exactly once, and every body that began has come to one end.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auth/sasl.h"
#include "common/base/log.h"
#include "common/front/smtp_content.h"
#include "common/front/smtp_front.h"
#include "common/front/smtp_policy.h"
#include "tests/fuzz/common/front/mechanisms.h"

static struct loop *loop;
static struct work_pool *pool;
static struct smtp_service services[3]; /* SMTP, LMTP, SMTP with rules and a stage */
static bool trusts;
static unsigned open_mails, open_bodies;

static const struct smtp_answer *choose(char c)
{
	static const struct smtp_answer yes = {250, {"2.0.0", 5}, {"yes", 3}},
					no = {550, {"5.0.0", 5}, {"no\r\n250 yes", 11}},
					later = {451, {"", 0}, {"later", 5}};

	return c == 'n' ? &no : c == 'l' ? &later : &yes;
}

static void end(struct smtp_front *f)
{
	(void)f;
	require(open_mails == 0 && open_bodies == 0);
	loop_stop(loop);
}

static bool is_trusted(struct smtp_front *f)
{
	(void)f;
	return trusts;
}

static void login(struct smtp_front *f, const struct front_credentials *c)
{
	if (c->shown == FRONT_SHOWN_FETCH && c->authcid.p[0] != 'n') {
		smtp_front_give_stored(
			f, mechanisms_stored(c->authcid.p[0]), mechanisms_is_known(c->authcid.p[0]));
		return;
	}
	require(c->shown != FRONT_SHOWN_PROVEN); /* nobody meets a challenge by guessing */
	smtp_front_answer_login(f, c->authcid.p[0] == 'n' ? FRONT_NOT_NOW : FRONT_OK, c->authcid, NULL);
}

static bool is_own(struct smtp_front *f, struct slice address)
{
	(void)f;
	return address.len % 2;
}

static void mail(struct smtp_front *f, const struct smtp_mail *m)
{
	const struct smtp_answer *answer = choose(m->path.local.len ? *m->path.local.p : 'y');

	if (answer->code == 250)
		open_mails++;
	smtp_front_answer_mail(f, answer);
}

static void rcpt(struct smtp_front *f, unsigned index, const struct smtp_rcpt *rcpt)
{
	require(open_mails == 1);
	smtp_front_answer_rcpt(f, index, choose(*rcpt->path.local.p));
}

static void data_begin(struct smtp_front *f)
{
	require(open_mails == 1 && open_bodies == 0);
	open_bodies++;
	smtp_front_answer_data(f, SMTP_ANSWER(354, "", ""));
}

static void data_chunk(struct smtp_front *f, struct slice bytes)
{
	(void)f;
	require(open_bodies == 1 && bytes.len && !memchr(bytes.p, 0, bytes.len));
}

static void data_end(struct smtp_front *f)
{
	require(open_bodies == 1);
	open_bodies--;
	for (unsigned i = 0; i < (smtp_front_service(f)->is_lmtp ? 1100 : 1); i++)
		smtp_front_answer_end(f, i, choose('y'));
}

static void data_cut(struct smtp_front *f)
{
	(void)f;
	require(open_bodies == 1);
	open_bodies--;
}

static void reset(struct smtp_front *f, enum smtp_reset how)
{
	(void)f;
	(void)how;
	require(open_mails == 1 && open_bodies == 0);
	open_mails--;
}

static const struct smtp_ops ops = {.end = end,
	.is_trusted = is_trusted,
	.login = login,
	.is_own = is_own,
	.mail = mail,
	.rcpt = rcpt,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.reset = reset};

/* ---- rules and a stage ---- */

static const char rules[] =
	"mail-auth { verify = {} }\n"
	"policy { header-size = \"16K\" spool-memory = \"4K\" }\n"
	"rule a { at = \"helo\" when = {\"helo r*\"} then = {\"reject\"} }\n"
	"rule b { at = \"mail\" when = {\"sender a*\"} then = {\"add-header X-A: b\", \"quarantine\"} }\n"
	"rule c { at = \"mail\" when = {\"sender r*\", \"size <100\"} then = {\"tempreject\"} }\n"
	"rule d { at = \"rcpt\" when = {\"recipient r*\"} then = {\"redirect x@y.example\"} }\n"
	"rule e { at = \"rcpt\" when = {\"recipients >3\"} then = {\"reject\"} }\n"
	"rule f { at = \"header\" when = {\"header A /x+y/\"} then = {\"remove-header A\", \"add-recipient "
	"z@y.example\"} }\n"
	"rule g { at = \"header\" when = {\"header B\"} then = {\"redirect n@y.example\"} }\n"
	"rule h { at = \"data\" when = {\"header C\"} then = {\"discard\"} }\n"
	"rule i { at = \"data\" when = {\"header D\"} then = {\"reject 554 5.7.1 no\"} }\n";

static const struct conf_section sections[] = {SMTP_POLICY_SECTIONS, {NULL, 0, NULL, NULL}};

static void check(struct conf *conf)
{
	smtp_policy_check(conf, NULL);
}

/* Does what the octets of the first field's value say; what is refused may not harm. */
static void begin_stage(struct smtp_content *c, void *settings)
{
	struct slice words = {NULL, 0};
	struct smtp_verdict verdict = {SMTP_VERDICT_GO_ON, {0}};
	int err = 0;

	(void)settings;
	require(open_bodies == 0);
	if (smtp_content_field_count(c))
		words = slice_sub(smtp_content_field(c, 0)->value, 0, 20);
	for (size_t i = 0; i < words.len; i++) {
		struct slice text = slice_from(words, i + 1);
		size_t n = smtp_content_field_count(c);

		switch (words.p[i]) {
		case 'i':
			err |= smtp_content_insert(c, i % 3, SLICE_LIT("X"), text);
			break;
		case 'c':
			err |= n ? smtp_content_change(c, i % n, text) : 0;
			break;
		case 'd':
			if (n)
				smtp_content_delete(c, i % n);
			words = slice_sub(words, 0, 0); /* perhaps its own octets went */
			break;
		case 's':
			err |= smtp_content_set_sender(c, text);
			break;
		case 'a':
			err |= smtp_content_add_recipient(c, text);
			break;
		case 'r':
			err |= smtp_content_remove_recipient(c,
				smtp_content_recipient(c, 0) ? smtp_content_recipient(c, 0)->address : text);
			break;
		case 'h':
			smtp_content_hold(c, text);
			break;
		case 'R':
			verdict.kind = SMTP_VERDICT_REJECT;
			break;
		case 'T':
			verdict.kind = SMTP_VERDICT_TEMPFAIL;
			break;
		default:
			break;
		}
	}
	(void)err;
	smtp_content_done(c, &verdict);
}
static const struct smtp_stage stage = {.name = "fuzz", .begin = begin_stage};

static struct smtp_policy *make_policy(void)
{
	static const struct conf_key *const tables[] = {smtp_policy_keys, NULL};
	static const struct conf_table table = {"fuzz", "fuzz.conf", sections, tables, check};
	struct smtp_policy *policy = NULL;
	struct conf *conf = NULL;
	struct buf why = {0};

	require(conf_load_text(&table, "fuzz.conf", slice_str(rules), &why, &conf) == 0);
	require(smtp_policy_new(conf, "smtp", &why, &policy) == 0);
	policy->stages[policy->stage_count++].stage = &stage;
	conf_free(&conf);
	return policy;
}

static void no_event(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

static const struct smtp_complete_options completes = {
	.adds_missing = true, .removes_bcc = true, .from = SMTP_COMPLETE_FROM_MARK};

static void set_up(void)
{
	struct buf why = {0};

	log_set_level(LOG_ERROR);
	require(sasl_init("fuzz", &why) == 0 && loop_new(&loop) == 0);
	require(work_pool_new("fuzz-hash", 1, 100, &pool) == 0);
	for (int i = 0; i < 3; i++) {
		smtp_service_init(&services[i], i == 1 ? "lmtp" : "smtp", &ops, NULL);
		services[i].is_lmtp = i == 1;
		services[i].allows_clear = true;
		services[i].auth = mechanisms_all(pool);
		services[i].limits.failed_delay_ms = 0;
		services[i].limits.message_size = 20000;
		services[i].offers_dsn = services[i].offers_requiretls = services[i].takes_marks = true;
		services[i].is_strict = i != 2; /* all of its octets come at once */
		services[i].complete = &completes;
	}
	services[2].policy = make_policy();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn *conn;
	int pair[2];

	if (!loop)
		set_up();
	if (size < 1 || size > 60000)
		return 0;
	trusts = data[0] & 2 || data[0] & 1;
	require(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	require(conn_open_fd(loop, pair[0], NULL, no_event, NULL, &conn) == 0);
	smtp_front_start(&services[data[0] & 4 ? 2 : data[0] & 1], conn, 0);
	/* A greeting is read first: who talks before it is sent away. */
	require(write(pair[1], data + 1, size - 1) == (ssize_t)size - 1);
	shutdown(pair[1], SHUT_WR);
	loop_run(loop);
	close(pair[1]);
	return 0;
}
