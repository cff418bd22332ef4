/*
 * A client of any kind: the first octet chooses the mechanism (bits 0, 3-5), whether there is an initial response (1), whether lines
 * are base64 already (2), and what is stored for whoever he says he is (6, 7); lines follow. What is parsed obeys the rules for
 * names and passwords; nobody proves a name by a secret that is not there; nothing is kept from one client to the next.
 */
#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/auth/password.h"
#include "common/auth/sasl.h"
#include "common/base/base64.h"

static const char *const all[] = {"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1",
	"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL", "GSSAPI", NULL};
#define COUNT (ARRAY_LEN(all) - 1)

static const struct {
	struct slice text;
	bool is_known;
} stored[] = {
	{{"", 0}, false},
	{{"", 0}, true},
	{{"{PLAIN}secret", sizeof("{PLAIN}secret")}, true},
	{{"{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
		 sizeof("{SCRAM-SHA-1}4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+"
			"qs2/fTE=")},
		true},
};

static struct loop *loop;
static struct work_pool *pool;
static int came_rc;

static void on_came(void *arg, int rc, struct slice challenge)
{
	struct buf *text = arg;

	buf_clear(text);
	buf_add_slice(text, challenge);
	came_rc = rc;
	loop_stop(loop);
}

/* Whatever must be waited for or fetched. */
static int settle(struct sasl_session *s, unsigned kind, int rc, struct buf *challenge)
{
	if (rc == SASL_WANTS) {
		require(sasl_session_name(s).len);
		rc = sasl_session_give(s, stored[kind].text, stored[kind].is_known, challenge);
		require(rc != SASL_WANTS);
	}
	if (rc == SASL_LATER) {
		loop_run(loop);
		rc = came_rc;
	}
	return rc;
}

/* The next line; every other input octet pattern is given as base64, so that the mechanisms see more than its
 * errors. */
static struct slice next_line(struct slice *in, bool encode, struct buf *text)
{
	ptrdiff_t end = slice_find(*in, '\n');
	struct slice line = end < 0 ? *in : slice_sub(*in, 0, (size_t)end);

	*in = slice_from(*in, end < 0 ? in->len : (size_t)end + 1);
	if (!encode)
		return slice_of(line.p ? line.p : "", line.len);
	buf_clear(text);
	base64_encode(text, line);
	return slice_of(buf_str_view(text), buf_len(text));
}

static void check_result(struct sasl_session *s, unsigned kind)
{
	struct sasl_result *r = sasl_session_result(s);

	require(r->authcid.len && r->authcid.len <= SASL_NAME_MOST && r->authzid.len <= SASL_NAME_MOST);
	require(slice_is_utf8(r->authcid) && !slice_has_control(r->authcid));
	require(slice_is_utf8(r->authzid) && !slice_has_control(r->authzid));
	if (r->shown == SASL_SHOWN_PASSWORD)
		require(password_is_acceptable(secret_view(&r->password)));
	else
		require(!sasl_session_is_unserved(s) &&
			(kind >= 2 || slice_is_str(r->authcid, "carol@example.com")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(void)
{
	struct buf why = {0};

	require(sasl_init("fuzz", &why) == 0 && loop_new(&loop) == 0);
	require(work_pool_new("fuzz-hash", 1, 100, &pool) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf challenge = {0}, text = {0};
	struct slice in = slice_of(data, size);
	unsigned head = size ? data[0] : 0, kind = head >> 6, steps = 0;
	const struct sasl_options options = {.service = "imap",
		.mechanism = slice_str(all[((head & 1) + (head >> 2 & 14)) % COUNT]),
		.allowed = all,
		.host = "mail.example.com",
		.binding = head & 4 ? "tls-exporter" : NULL,
		.binding_data = SLICE_LIT("0123456789abcdef"),
		.external = "carol@example.com",
		.keytab = "/nonexistent",
		.pool = pool,
		.loop = loop,
		.fn = on_came,
		.arg = &challenge};
	struct sasl_session *s;
	int rc;

	if (!loop) {
		set_up();
		return LLVMFuzzerTestOneInput(data, size);
	}
	if (!size || sasl_session_new(&options, &s))
		return 0;
	in = slice_from(in, 1);
	rc = settle(s, kind,
		sasl_session_start(
			s, head & 2 ? next_line(&in, head & 4, &text) : slice_of(NULL, 0), &challenge),
		&challenge);
	while (rc == ERR_MORE) {
		require(++steps <= SASL_STEPS_MOST);
		rc = settle(s, kind, sasl_session_step(s, next_line(&in, head & 4, &text), &challenge),
			&challenge);
	}
	if (rc == 0)
		check_result(s, kind);
	else
		require(sasl_session_step(s, SLICE_LIT(""), &challenge) != 0);
	sasl_session_free(&s);
	buf_deinit(&challenge);
	buf_deinit(&text);
	return 0;
}
