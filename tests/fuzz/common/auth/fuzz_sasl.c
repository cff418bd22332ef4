/*
 * A client of any kind: the first octet chooses the mechanism and whether there is an initial response, lines
 * follow. What is parsed obeys the rules for names and passwords; nothing is kept from one client to the
 * next.
 */
#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/auth/password.h"
#include "common/auth/sasl.h"
#include "common/base/base64.h"

static const char *const all[] = {"PLAIN", "LOGIN", NULL};

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

static void check_result(struct sasl_session *s)
{
	struct sasl_result *r = sasl_session_result(s);

	require(r->authcid.len && r->authcid.len <= SASL_NAME_MOST && r->authzid.len <= SASL_NAME_MOST);
	require(slice_is_utf8(r->authcid) && !slice_has_control(r->authcid));
	require(slice_is_utf8(r->authzid) && !slice_has_control(r->authzid));
	require(password_is_acceptable(secret_view(&r->password)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	struct buf challenge = {0}, text = {0}, why = {0};
	struct slice in = slice_of(data, size);
	struct sasl_session *s;
	unsigned steps = 0;
	int rc;

	if (!begun) {
		rc = sasl_init("fuzz", &why);
		require(rc == 0);
		begun = true;
	}
	if (!size || sasl_session_new("imap", slice_str(all[data[0] & 1]), all, &s))
		return 0;
	in = slice_from(in, 1);
	rc = sasl_session_start(
		s, data[0] & 2 ? next_line(&in, data[0] & 4, &text) : slice_of(NULL, 0), &challenge);
	while (rc == ERR_MORE) {
		require(++steps <= SASL_STEPS_MOST);
		rc = sasl_session_step(s, next_line(&in, data[0] & 4, &text), &challenge);
	}
	if (rc == 0)
		check_result(s);
	else
		require(sasl_session_step(s, SLICE_LIT(""), &challenge) != 0);
	sasl_session_free(&s);
	buf_deinit(&challenge);
	buf_deinit(&text);
	return 0;
}
