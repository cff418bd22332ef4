/*
 * Kinds of packets are the letters of sendmail's mfdef.h. A reply's strings are taken by one cursor that never leaves the packet.
 */
#include "common/proto/milter.h"

#include "common/base/bytes.h"
#include "common/base/num.h"
#include "common/proto/smtp_reply.h"

#define LENGTH_LEN 4

/* ---- writing ---- */

static size_t begin(struct buf *out, char kind)
{
	static const char zero[LENGTH_LEN];
	size_t start = buf_len(out);

	buf_add(out, zero, sizeof(zero));
	buf_add_char(out, kind);
	return start;
}

static void end(struct buf *out, size_t start)
{
	if (!out->failed)
		bytes_put_u32be(
			out->data + out->start + start, (uint32_t)(buf_len(out) - start - LENGTH_LEN));
}

static void add_u32(struct buf *out, uint32_t n)
{
	char octets[4];

	bytes_put_u32be(octets, n);
	buf_add(out, octets, sizeof(octets));
}

/* Without NULs, and one behind it. */
static void add_string(struct buf *out, struct slice s)
{
	while (s.len) {
		const char *nul = memchr(s.p, '\0', s.len);
		size_t n = nul ? (size_t)(nul - s.p) : s.len;

		buf_add(out, s.p, n);
		s = slice_from(s, nul ? n + 1 : n);
	}
	buf_add_char(out, '\0');
}

static void write_plain(struct buf *out, char kind)
{
	end(out, begin(out, kind));
}

static void write_string(struct buf *out, char kind, struct slice s)
{
	size_t start = begin(out, kind);

	add_string(out, s);
	end(out, start);
}

void milter_write_negotiation(struct buf *out, uint32_t version, uint32_t actions, uint32_t protocol)
{
	size_t start = begin(out, 'O');

	add_u32(out, version);
	add_u32(out, actions);
	add_u32(out, protocol);
	end(out, start);
}

void milter_write_connect(
	struct buf *out, struct slice host, enum milter_family family, uint16_t port, struct slice address)
{
	size_t start = begin(out, 'C');

	add_string(out, host);
	buf_add_char(out, (char)family);
	if (family != MILTER_FAMILY_UNKNOWN) {
		buf_add_char(out, (char)(port >> 8));
		buf_add_char(out, (char)(port & 0xff));
		add_string(out, address);
	}
	end(out, start);
}

void milter_write_helo(struct buf *out, struct slice name)
{
	write_string(out, 'H', name);
}

/* The path, and each parameter as a string of its own. */
static void write_path(struct buf *out, char kind, struct slice path, struct slice params)
{
	size_t start = begin(out, kind);

	add_string(out, path);
	while ((params = slice_trim(params)).len) {
		ptrdiff_t blank = slice_find(params, ' ');
		size_t n = blank < 0 ? params.len : (size_t)blank;

		add_string(out, slice_sub(params, 0, n));
		params = slice_from(params, n);
	}
	end(out, start);
}

void milter_write_mail(struct buf *out, struct slice path, struct slice params)
{
	write_path(out, 'M', path, params);
}

void milter_write_rcpt(struct buf *out, struct slice path, struct slice params)
{
	write_path(out, 'R', path, params);
}

void milter_write_data(struct buf *out)
{
	write_plain(out, 'T');
}

void milter_write_unknown(struct buf *out, struct slice line)
{
	write_string(out, 'U', line);
}

void milter_write_header(struct buf *out, struct slice name, struct slice value, bool keeps_space)
{
	size_t start = begin(out, 'L');

	add_string(out, name);
	if (!keeps_space && value.len && (value.p[0] == ' ' || value.p[0] == '\t'))
		value = slice_from(value, 1);
	for (size_t i = 0; i < value.len; i++) {
		char c = value.p[i];

		if (c != '\0' && !(c == '\r' && i + 1 < value.len && value.p[i + 1] == '\n'))
			buf_add_char(out, c);
	}
	buf_add_char(out, '\0');
	end(out, start);
}

void milter_write_eoh(struct buf *out)
{
	write_plain(out, 'N');
}

void milter_write_body(struct buf *out, struct slice piece)
{
	size_t start = begin(out, 'B');

	buf_add_slice(out, slice_sub(piece, 0, MILTER_BODY_MOST));
	end(out, start);
}

void milter_write_end(struct buf *out)
{
	write_plain(out, 'E');
}

void milter_write_abort(struct buf *out)
{
	write_plain(out, 'A');
}

void milter_write_quit(struct buf *out)
{
	write_plain(out, 'Q');
}

void milter_macros_begin(struct milter_macros *m, struct buf *out, enum milter_stage stage)
{
	static const char kinds[MILTER_STAGES] = {'C', 'H', 'M', 'R', 'T', 'E', 'N'};

	m->out = out;
	m->start = begin(out, 'D');
	buf_add_char(out, kinds[stage]);
}

void milter_macros_add(struct milter_macros *m, const char *name, struct slice value)
{
	if (!value.len)
		return;
	if (name[1] == '\0') {
		add_string(m->out, slice_str(name));
	} else {
		buf_add_char(m->out, '{');
		buf_add_str(m->out, name);
		buf_add(m->out, "}", 2);
	}
	add_string(m->out, value);
}

void milter_macros_end(struct milter_macros *m)
{
	/* The length, 'D' and the kind alone. */
	if (buf_len(m->out) == m->start + LENGTH_LEN + 2)
		buf_cut(m->out, m->start);
	else
		end(m->out, m->start);
}

bool milter_macros_has(struct slice list, const char *name)
{
	size_t at = 0;

	while (at < list.len) {
		size_t from = at;
		struct slice word;

		while (at < list.len && list.p[at] != ' ' && list.p[at] != ',')
			at++;
		word = slice_sub(list, from, at - from);
		if (word.len > 2 && word.p[0] == '{' && word.p[word.len - 1] == '}')
			word = slice_sub(word, 1, word.len - 2);
		if (slice_is_str(word, name))
			return true;
		at++;
	}
	return false;
}

/* ---- reading ---- */

static int take_u32(struct slice *in, uint32_t *n_out)
{
	if (in->len < 4)
		return ERR_SYNTAX;
	*n_out = bytes_get_u32be(in->p);
	*in = slice_from(*in, 4);
	return 0;
}

static int take_string(struct slice *in, struct slice *s_out)
{
	const char *nul = in->len ? memchr(in->p, '\0', in->len) : NULL;

	if (!nul)
		return ERR_SYNTAX;
	*s_out = slice_sub(*in, 0, (size_t)(nul - in->p));
	*in = slice_from(*in, s_out->len + 1);
	return 0;
}

static int read_nothing(struct slice in, struct milter_reply *r)
{
	(void)in;
	(void)r;
	return 0;
}

static int read_negotiation(struct slice in, struct milter_reply *r)
{
	if (take_u32(&in, &r->version) || take_u32(&in, &r->actions) || take_u32(&in, &r->protocol))
		return ERR_SYNTAX;
	while (in.len) {
		uint32_t stage;
		struct slice list;

		if (take_u32(&in, &stage) || take_string(&in, &list))
			return ERR_SYNTAX;
		if (stage < MILTER_STAGES)
			r->macros[stage] = list;
	}
	return 0;
}

/* "550 5.7.1 text", of several lines the first. */
static int read_code(struct slice in, struct milter_reply *r)
{
	struct slice line, word;
	uint32_t code;
	size_t n = 0;

	if (take_string(&in, &line) || line.len < 3 || (line.len > 3 && line.p[3] != ' ' && line.p[3] != '-'))
		return ERR_SYNTAX;
	if (num_parse_u32(slice_sub(line, 0, 3), &code) != 0 || code < 400 || code > 599)
		return ERR_SYNTAX;
	r->code = code;
	line = slice_from(line, 4);
	while (n < line.len && line.p[n] != '\r' && line.p[n] != '\n')
		n++;
	line = slice_sub(line, 0, n);
	for (n = 0; n < line.len && line.p[n] != ' ';)
		n++;
	word = slice_sub(line, 0, n);
	if (smtp_reply_is_enhanced(word, code)) {
		r->enhanced = word;
		line = slice_from(line, n + 1);
	}
	r->text = line;
	return 0;
}

static int read_field(struct slice in, struct milter_reply *r)
{
	return take_string(&in, &r->name) || take_string(&in, &r->value) ? ERR_SYNTAX : 0;
}

static int read_indexed(struct slice in, struct milter_reply *r)
{
	return take_u32(&in, &r->index) ? ERR_SYNTAX : read_field(in, r);
}

static int read_body(struct slice in, struct milter_reply *r)
{
	r->value = in;
	return 0;
}

static int read_path(struct slice in, struct milter_reply *r)
{
	if (take_string(&in, &r->name))
		return ERR_SYNTAX;
	/* Parameters may be absent. */
	return in.len ? take_string(&in, &r->value) : 0;
}

static int read_reason(struct slice in, struct milter_reply *r)
{
	return take_string(&in, &r->value);
}

static const struct row {
	char letter;
	enum milter_reply_kind kind;
	int (*read)(struct slice in, struct milter_reply *r);
} rows[] = {
	{'O', MILTER_REPLY_NEGOTIATION, read_negotiation},
	{'c', MILTER_REPLY_CONTINUE, read_nothing},
	{'a', MILTER_REPLY_ACCEPT, read_nothing},
	{'r', MILTER_REPLY_REJECT, read_nothing},
	{'t', MILTER_REPLY_TEMPFAIL, read_nothing},
	{'d', MILTER_REPLY_DISCARD, read_nothing},
	{'s', MILTER_REPLY_SKIP, read_nothing},
	{'p', MILTER_REPLY_PROGRESS, read_nothing},
	{'y', MILTER_REPLY_CODE, read_code},
	{'4', MILTER_REPLY_SHUTDOWN, read_nothing},
	{'f', MILTER_REPLY_FAIL, read_nothing},
	{'h', MILTER_REPLY_ADD_HEADER, read_field},
	{'i', MILTER_REPLY_INSERT_HEADER, read_indexed},
	{'m', MILTER_REPLY_CHANGE_HEADER, read_indexed},
	{'b', MILTER_REPLY_BODY, read_body},
	{'+', MILTER_REPLY_ADD_RECIPIENT, read_path},
	{'2', MILTER_REPLY_ADD_RECIPIENT, read_path},
	{'-', MILTER_REPLY_DELETE_RECIPIENT, read_path},
	{'e', MILTER_REPLY_CHANGE_FROM, read_path},
	{'q', MILTER_REPLY_QUARANTINE, read_reason},
};

ssize_t milter_parse(struct slice in, struct milter_reply *reply_out)
{
	struct milter_reply r = {0};
	uint32_t len;

	if (in.len < LENGTH_LEN)
		return 0;
	len = bytes_get_u32be(in.p);
	if (len == 0)
		return ERR_SYNTAX;
	if (len > MILTER_PACKET_MOST)
		return ERR_TOO_BIG;
	if (in.len < LENGTH_LEN + (size_t)len)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].letter != in.p[LENGTH_LEN])
			continue;
		r.kind = rows[i].kind;
		if (rows[i].read(slice_sub(in, LENGTH_LEN + 1, len - 1), &r) != 0)
			return ERR_SYNTAX;
		*reply_out = r;
		return LENGTH_LEN + (ssize_t)len;
	}
	return ERR_SYNTAX;
}

/* ---- texts of filters ---- */

void milter_field_text(struct buf *out, struct slice value, bool has_space)
{
	/* An end of line at the end is no fold. */
	while (value.len && (value.p[value.len - 1] == '\n' || value.p[value.len - 1] == '\r'))
		value.len--;
	if (!has_space)
		buf_add_char(out, ' ');
	for (size_t i = 0; i < value.len; i++) {
		char c = value.p[i];

		if (c == '\r' && i + 1 < value.len && value.p[i + 1] == '\n')
			continue;
		if (c == '\n') {
			/* Of several the last: an empty line would end the header. */
			if (value.p[i + 1] == '\n' || value.p[i + 1] == '\r')
				continue;
			buf_add_str(out, "\r\n");
			if (value.p[i + 1] != ' ' && value.p[i + 1] != '\t')
				buf_add_char(out, '\t');
		} else {
			buf_add_char(out, ((unsigned char)c < 32 && c != '\t') || c == 127 ? '?' : c);
		}
	}
}

bool milter_field_is_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.p[i] < 33 || name.p[i] > 126 || name.p[i] == ':')
			return false;
	return name.len > 0 && name.len <= 998;
}
