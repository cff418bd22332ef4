/*
 * The decoder is a small machine over octets; runs of ordinary octets are copied whole. What follows a CR, or a dot at the start
 * of a line, is not known yet: these octets are held in the state and written when it is.
 *
 *	LINE        inside a line
 *	CR          inside a line, a CR is held
 *	START       after CRLF (or at the very beginning)
 *	DOT         after CRLF, "." is held
 *	DOT_CR      after CRLF, ".CR" is held: LF ends the data
 *	BARE        after a bare LF
 *	BARE_DOT    after a bare LF, "." is held
 */
#include "common/proto/smtp_data.h"

enum {
	LINE,
	CR,
	START,
	DOT,
	DOT_CR,
	BARE,
	BARE_DOT
};

void smtp_data_decode_init(struct smtp_decoder *d, enum smtp_bare bare, bool has_dots)
{
	*d = (struct smtp_decoder){.bare = bare, .has_dots = has_dots, .state = START};
}

static void set_fault(struct smtp_decoder *d, enum smtp_data_fault fault)
{
	if (d->fault == SMTP_DATA_OK)
		d->fault = fault;
}

static void put(struct smtp_decoder *d, struct buf *out, const char *p, size_t n)
{
	d->line += n;
	if (d->line > SMTP_DATA_LINE_MOST)
		set_fault(d, SMTP_DATA_LONG_LINE);
	if (d->fault == SMTP_DATA_OK)
		buf_add(out, p, n);
}

static void put_line_end(struct smtp_decoder *d, struct buf *out)
{
	if (d->fault == SMTP_DATA_OK)
		buf_add(out, "\r\n", 2);
	d->line = 0;
}

static void put_bare_cr(struct smtp_decoder *d, struct buf *out)
{
	if (d->bare == SMTP_BARE_REJECT)
		set_fault(d, SMTP_DATA_BARE_NEWLINE);
	put(d, out, "\r", 1);
}

/* A LF without CR before it: a line end in the text, and nothing more. */
static void put_bare_lf(struct smtp_decoder *d, struct buf *out)
{
	if (d->bare == SMTP_BARE_REJECT)
		set_fault(d, SMTP_DATA_BARE_NEWLINE);
	put_line_end(d, out);
	d->state = BARE;
}

/* An octet inside a line, nothing held. */
static void line_octet(struct smtp_decoder *d, char c, struct buf *out)
{
	d->state = LINE;
	if (c == '\r') {
		d->state = CR;
	} else if (c == '\n') {
		put_bare_lf(d, out);
	} else if (c == 0) {
		set_fault(d, SMTP_DATA_NUL);
	} else {
		put(d, out, &c, 1);
	}
}

static void cr_octet(struct smtp_decoder *d, char c, struct buf *out)
{
	if (c == '\n') {
		put_line_end(d, out);
		d->state = START;
		return;
	}
	put_bare_cr(d, out);
	line_octet(d, c, out);
}

/* After CRLF "." CR: the one way to the end. Otherwise the dot was a doubled one, and the CR is held on. */
static void dot_cr_octet(struct smtp_decoder *d, char c, struct buf *out)
{
	if (c == '\n') {
		d->is_ended = true;
		return;
	}
	cr_octet(d, c, out);
}

static void octet(struct smtp_decoder *d, char c, struct buf *out)
{
	switch (d->state) {
	case CR:
		cr_octet(d, c, out);
		return;
	case START:
	case BARE:
		if (c == '.' && d->has_dots)
			d->state = d->state == START ? DOT : BARE_DOT;
		else
			line_octet(d, c, out);
		return;
	case DOT:
		if (c == '\r')
			d->state = DOT_CR;
		else
			line_octet(d, c, out);
		return;
	case DOT_CR:
		dot_cr_octet(d, c, out);
		return;
	case BARE_DOT:
		put(d, out, ".", 1);
		if (c == '.')
			d->state = LINE;
		else
			line_octet(d, c, out);
		return;
	default:
		line_octet(d, c, out);
		return;
	}
}

#define OCTETS(c) (UINT64_C(0x0101010101010101) * (c))

/* Length of the run of octets without CR, LF and NUL. Eight at a time while none of them is below SO, which only tabs and the like
 * are besides. */
static size_t plain_run(const char *p, size_t n)
{
	size_t i = 0;
	uint64_t eight;

	for (; n - i >= sizeof(eight); i += sizeof(eight)) {
		memcpy(&eight, p + i, sizeof(eight));
		if ((eight - OCTETS('\r' + 1)) & ~eight & OCTETS(0x80))
			break;
	}
	while (i < n && p[i] != '\r' && p[i] != '\n' && p[i] != 0)
		i++;
	return i;
}

/* Length of what means itself, over whole lines: no dot at their beginning, CRLF at their end; it ends before a line that is too long. For the
 * states LINE and START. */
static size_t clean_run(struct smtp_decoder *d, const char *p, size_t n)
{
	size_t i = 0;

	for (;;) {
		size_t run;

		if (d->state == START && d->has_dots && i < n && p[i] == '.')
			return i;
		run = plain_run(p + i, n - i);
		if (d->line + run > SMTP_DATA_LINE_MOST && d->fault == SMTP_DATA_OK) {
			d->fault = SMTP_DATA_LONG_LINE;
			return i;
		}
		if (run)
			d->state = LINE;
		d->line += run;
		i += run;
		if (n - i < 2 || p[i] != '\r' || p[i + 1] != '\n')
			return i;
		d->line = 0;
		d->state = START;
		i += 2;
	}
}

size_t smtp_data_decode(struct smtp_decoder *d, struct slice in, struct buf *out)
{
	size_t at = 0;

	while (at < in.len && !d->is_ended) {
		bool is_wanted = d->fault == SMTP_DATA_OK;
		size_t run = 0;

		if (d->state == LINE || d->state == START)
			run = clean_run(d, in.p + at, in.len - at);
		if (is_wanted)
			buf_add(out, in.p + at, run);
		at += run;
		if (at < in.len)
			octet(d, in.p[at++], out);
	}
	return at;
}

void smtp_data_decode_end(struct smtp_decoder *d, struct buf *out)
{
	if (d->state == CR)
		put_bare_cr(d, out);
	if (d->state == LINE || d->state == CR)
		put_line_end(d, out);
	d->state = START;
}

/* ---- writing ---- */

void smtp_data_encode_init(struct smtp_encoder *e, bool splits_cr)
{
	*e = (struct smtp_encoder){.splits_cr = splits_cr, .is_line_begin = true};
}

/* A CR that no LF followed. */
static void end_bare_cr(struct smtp_encoder *e, struct buf *out)
{
	e->is_after_cr = false;
	if (e->splits_cr) {
		buf_add(out, "\r\n", 2);
		e->is_line_begin = true;
	} else {
		buf_add_char(out, '\r');
		e->is_line_begin = false;
	}
}

static void encode_octet(struct smtp_encoder *e, char c, struct buf *out)
{
	if (c == '\n') {
		buf_add(out, "\r\n", 2);
		e->is_after_cr = false;
		e->is_line_begin = true;
		return;
	}
	if (e->is_after_cr)
		end_bare_cr(e, out);
	if (c == '\r') {
		e->is_after_cr = true;
		return;
	}
	if (c == '.' && e->is_line_begin && !e->keeps_dots)
		buf_add_char(out, '.');
	buf_add_char(out, c);
	e->is_line_begin = false;
}

void smtp_data_encode(struct smtp_encoder *e, struct slice piece, struct buf *out)
{
	size_t at = 0;

	while (at < piece.len) {
		size_t run = 0;

		if (!e->is_after_cr && !e->is_line_begin)
			run = plain_run(piece.p + at, piece.len - at);
		if (run) {
			buf_add(out, piece.p + at, run);
			at += run;
		} else {
			encode_octet(e, piece.p[at++], out);
		}
	}
}

void smtp_data_encode_end(struct smtp_encoder *e, struct buf *out)
{
	if (e->is_after_cr)
		end_bare_cr(e, out);
	if (!e->is_line_begin)
		buf_add(out, "\r\n", 2);
	if (!e->keeps_dots)
		buf_add(out, ".\r\n", 3);
	e->is_line_begin = true;
}

/* ---- Received fields ---- */

static bool is_gap(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Within a Received field: blanks (folds too), "by", blanks, our host, and then no more of a name. by: 1 after a blank, 2 and 3 after
 * the letters, from 4 on octets of the host. */
static void match_by(struct smtp_hops *h, char c)
{
	size_t len = strlen(h->host);

	if (h->by >= 4 && h->by - 4 == len) {
		h->own += is_gap(c) || c == ';' || c == '(';
		h->by = is_gap(c) ? 1 : 0;
	} else if (h->by >= 4 && ascii_lower(c) == ascii_lower(h->host[h->by - 4])) {
		h->by++;
	} else if (is_gap(c)) {
		h->by = h->by == 3 || h->by == 4 ? 4 : 1;
	} else if (h->by == 1 && ascii_lower(c) == 'b') {
		h->by = 2;
	} else if (h->by == 2 && ascii_lower(c) == 'y') {
		h->by = 3;
	} else {
		h->by = 0;
	}
}

static void begin_line(struct smtp_hops *h, char c)
{
	/* A fold goes on with the field. */
	if (h->matched == 0 && !h->is_skipping && (c == ' ' || c == '\t')) {
		h->is_skipping = true;
		return;
	}
	h->is_received = false;
}

void smtp_data_count_hops(struct smtp_hops *h, struct slice piece)
{
	static const char name[] = "received:";

	for (size_t i = 0; i < piece.len && !h->is_past_header; i++) {
		bool is_looked_into = h->is_received && h->host && *h->host;
		char c;

		if (h->is_skipping && !is_looked_into) {
			const char *end = memchr(piece.p + i, '\n', piece.len - i);

			if (!end)
				return;
			i = (size_t)(end - piece.p);
		}
		c = piece.p[i];
		if (h->matched == 0 && !h->is_skipping && c != '\n' && c != '\r')
			begin_line(h, c);
		if (is_looked_into && h->is_received)
			match_by(h, c);
		if (c == '\n') {
			h->is_past_header = !h->is_skipping && h->matched == 0;
			h->is_skipping = false;
			h->matched = 0;
		} else if (c != '\r' && !h->is_skipping) {
			if (ascii_lower(c) != name[h->matched]) {
				h->is_skipping = true;
			} else if (!name[++h->matched]) {
				h->count++;
				h->is_skipping = h->is_received = true;
				h->by = 1;
			}
		}
	}
}
