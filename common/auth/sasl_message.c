/* Three small grammars; none of them goes back. */
#include "common/auth/sasl_message.h"

#include <string.h>

#include "common/base/bytes.h"

#define DIRECTIVES_MOST 32

static bool has_nul(struct slice s)
{
	return s.len && memchr(s.p, 0, s.len);
}

static int finish(struct buf *name)
{
	return name->failed ? ERR_TOO_BIG : buf_len(name) ? 0 : ERR_SYNTAX;
}

int sasl_message_cram(struct slice message, struct buf *name)
{
	ptrdiff_t blank = slice_find_last(message, ' ');

	if (blank <= 0 || has_nul(message) || message.len - (size_t)blank - 1 != 32)
		return ERR_SYNTAX;
	buf_add_slice(name, slice_sub(message, 0, (size_t)blank));
	return finish(name);
}

/* ---- DIGEST-MD5 ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip(struct slice *in, bool commas)
{
	while (in->len && (is_blank(in->p[0]) || (commas && in->p[0] == ',')))
		*in = slice_from(*in, 1);
}

/* Letters that no reader takes for the end of a directive's name: the library ends it at octets that RFC 2831's tokens may not hold, and
 * would find a second "username" where we see a name that means nothing. */
static bool is_name(struct slice key)
{
	for (size_t i = 0; i < key.len; i++) {
		char c = ascii_lower(key.p[i]);

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return false;
	}
	return key.len > 0;
}

/* A token or a quoted string; its content without quotes and backslashes goes to out. */
static int take_value(struct slice *in, struct buf *out)
{
	if (!slice_has_prefix(*in, "\"")) {
		for (; in->len && in->p[0] != ',' && !is_blank(in->p[0]); *in = slice_from(*in, 1))
			buf_add_char(out, in->p[0]);
		return 0;
	}
	for (*in = slice_from(*in, 1); in->len; *in = slice_from(*in, 1)) {
		if (in->p[0] == '"') {
			*in = slice_from(*in, 1);
			return 0;
		}
		if (in->p[0] == '\\')
			*in = slice_from(*in, 1);
		if (in->len)
			buf_add_char(out, in->p[0]);
	}
	return ERR_SYNTAX;
}

/* One "name=value" into its place, or past it. */
static int take_directive(struct slice *in, struct buf *name, struct buf *realm, unsigned *seen)
{
	static const char *const names[] = {"username", "realm", "nonce", "cnonce", "nc", "qop", "digest-uri",
		"response", "maxbuf", "charset", "cipher", "authzid"};
	struct buf other = {.limit = 4096};
	struct slice key;
	struct buf *out = &other;
	size_t n = 0;
	int error;

	while (n < in->len && in->p[n] != '=' && in->p[n] != ',' && !is_blank(in->p[n]))
		n++;
	key = slice_sub(*in, 0, n);
	*in = slice_from(*in, n);
	skip(in, false);
	if (!is_name(key) || !slice_has_prefix(*in, "="))
		return ERR_SYNTAX;
	*in = slice_from(*in, 1);
	skip(in, false);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		if (!slice_is_str_nocase(key, names[i]))
			continue;
		if (*seen & 1u << i)
			return ERR_SYNTAX;
		*seen |= 1u << i;
		out = i == 0 ? name : i == 1 ? realm : &other;
	}
	error = take_value(in, out);
	buf_deinit(&other);
	return error;
}

int sasl_message_digest(struct slice message, struct slice offered_realm, struct buf *name)
{
	struct buf realm = {.limit = name->limit};
	unsigned seen = 0, count = 0;
	int error = has_nul(message) ? ERR_SYNTAX : 0;

	for (skip(&message, true); !error && message.len; skip(&message, true))
		error = ++count > DIRECTIVES_MOST ? ERR_SYNTAX
						  : take_directive(&message, name, &realm, &seen);
	if (!error && realm.failed)
		error = ERR_TOO_BIG;
	if (!error && buf_len(&realm) && buf_len(name) && slice_find(buf_view(name), '@') < 0 &&
		!slice_is_equal(buf_view(&realm), offered_realm)) {
		buf_add_char(name, '@');
		buf_add_slice(name, buf_view(&realm));
	}
	buf_deinit(&realm);
	return error ? error : finish(name);
}

/* ---- SCRAM ---- */

/* saslname: "=2C" is a comma, "=3D" an equals sign, and no other "=" may stand there. */
static int take_saslname(struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		struct slice rest = slice_from(text, i);

		if (text.p[i] != '=') {
			buf_add_char(out, text.p[i]);
			continue;
		}
		if (!slice_has_prefix(rest, "=2C") && !slice_has_prefix(rest, "=3D"))
			return ERR_SYNTAX;
		buf_add_char(out, rest.p[1] == '2' ? ',' : '=');
		i += 2;
	}
	return 0;
}

/* Up to the next comma, which is consumed too. */
static bool take_part(struct slice *in, struct slice *part_out)
{
	ptrdiff_t comma = slice_find(*in, ',');

	if (comma < 0)
		return false;
	*part_out = slice_sub(*in, 0, (size_t)comma);
	*in = slice_from(*in, (size_t)comma + 1);
	return true;
}

int sasl_message_scram(struct slice message, struct sasl_message_scram *out, struct buf *name)
{
	struct slice flag, authzid, user;
	int error;

	if (has_nul(message) || !take_part(&message, &flag) || !take_part(&message, &authzid) ||
		!take_part(&message, &user))
		return ERR_SYNTAX;
	if (slice_is_str(flag, "n") || slice_is_str(flag, "y"))
		*out = (struct sasl_message_scram){.flag = flag.p[0]};
	else if (slice_has_prefix(flag, "p=") && flag.len > 2)
		*out = (struct sasl_message_scram){.flag = 'p', .binding = slice_from(flag, 2)};
	else
		return ERR_SYNTAX;
	/* What is mandatory and unknown ("m=") stands in the place of the name. */
	if ((authzid.len && !slice_has_prefix(authzid, "a=")) || !slice_has_prefix(user, "n="))
		return ERR_SYNTAX;
	if (!slice_has_prefix(message, "r=") || message.len < 3)
		return ERR_SYNTAX;
	if (authzid.len > SASL_MESSAGE_PART_MOST || message.len > SASL_MESSAGE_PART_MOST)
		return ERR_TOO_BIG;
	error = take_saslname(slice_from(user, 2), name);
	return error ? error : finish(name);
}
