/*
 * iconv does the work, from a small held-back buffer where a character is cut by the pieces. UTF-8 and
 * US-ASCII need no iconv, only their judgement.
 */
#include "common/proto/charset.h"

#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include <strings.h>

#include "common/base/mem.h"

#define NAME_MAX_LEN 40
#define HELD_MAX 32
#define REPLACEMENT "\xef\xbf\xbd"

struct charset_decoder {
	iconv_t cd;    /* from UTF-8 too: it judges the form */
	bool is_plain; /* ASCII characters mean themselves, wherever they stand */
	char held[HELD_MAX];
	size_t held_len;
};

/* Names that mail uses and libc does not know, or knows as something smaller than what is meant. */
static const struct {
	const char *name, *real;
} aliases[] = {
	{"us-ascii", "windows-1252"},
	{"ascii", "windows-1252"},
	{"ansi_x3.4-1968", "windows-1252"},
	{"iso-8859-1", "windows-1252"},
	{"latin1", "windows-1252"},
	{"utf8", "UTF-8"},
	{"unicode-1-1-utf-8", "UTF-8"},
	{"unicode-1-1-utf-7", "UTF-7"},
	{"ks_c_5601-1987", "CP949"},
	{"ks_c_5601", "CP949"},
	{"euc-kr", "CP949"},
	{"gb2312", "GB18030"},
	{"gbk", "GB18030"},
	{"x-gbk", "GB18030"},
	{"shift_jis", "CP932"},
	{"x-sjis", "CP932"},
	{"x-mac-roman", "MACINTOSH"},
	{"iso-8859-8-i", "ISO-8859-8"},
	{"iso-8859-8-e", "ISO-8859-8"},
	{"iso-8859-6-i", "ISO-8859-6"},
	{"x-unknown", "windows-1252"},
	{"unknown-8bit", "windows-1252"},
};

/* Charsets in which an octet below 128 is that character, not part of another and not a switch. */
static const char *const plain_charsets[] = {"utf-8", "utf8", "us-ascii", "ascii", "ansi_x3.4-1968", "latin1",
	"iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "koi8-r"};

/* Letters, digits and the few marks that registered names have: no slash, which iconv reads as options. */
static bool is_name(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = ascii_lower(s.p[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-_.:+()", c))))
			return false;
	}
	return s.len <= NAME_MAX_LEN;
}

static iconv_t open_iconv(struct slice charset)
{
	char name[NAME_MAX_LEN + 1];

	if (charset.len == 0)
		charset = SLICE_LIT("us-ascii");
	if (!is_name(charset))
		return (iconv_t)-1;
	memcpy(name, charset.p, charset.len);
	name[charset.len] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		if (strcasecmp(name, aliases[i].name) == 0)
			return iconv_open("UTF-8", aliases[i].real);
	return iconv_open("UTF-8", name);
}

static bool is_plain_charset(struct slice charset)
{
	for (size_t i = 0; i < ARRAY_LEN(plain_charsets); i++) {
		if (slice_is_str_nocase(charset, plain_charsets[i]))
			return true;
	}
	return charset.len == 0;
}

int charset_decoder_new(struct slice charset, struct charset_decoder **decoder_out)
{
	iconv_t cd = open_iconv(charset);
	struct charset_decoder *d;

	if (cd == (iconv_t)-1)
		return ERR_UNSUPPORTED;
	d = xcalloc(1, sizeof(*d));
	d->cd = cd;
	d->is_plain = is_plain_charset(charset);
	*decoder_out = d;
	return 0;
}

/* Length of the well-formed character at the start, NUL excluded; 0: there is none. */
static size_t character_length(const char *p, size_t len)
{
	for (size_t n = 1; n <= 4 && n <= len; n++)
		if (slice_is_utf8(slice_of(p, n)))
			return n;
	return 0;
}

/* What iconv gave, without NUL and without what libc's UTF-8 has beyond RFC 3629 (five and six bytes long). */
static void add_output(struct buf *out, const char *p, size_t len)
{
	if (slice_is_utf8(slice_of(p, len))) {
		buf_add(out, p, len);
		return;
	}
	while (len) {
		size_t n = character_length(p, len);

		if (n) {
			buf_add(out, p, n);
		} else {
			n = 1;
			if (*p)
				buf_add_str(out, REPLACEMENT);
			while (n < len && ((unsigned char)p[n] & 0xc0) == 0x80)
				n++;
		}
		p += n;
		len -= n;
	}
}

/* Converts as much as there is; returns how much was consumed: less than all only for an unfinished
 * character. */
static size_t convert(struct charset_decoder *d, const char *p, size_t len, struct buf *out)
{
	char *in = (char *)(void *)(uintptr_t)p;
	size_t left = len;

	while (left) {
		char block[4096], *to = block;
		size_t room = sizeof(block), n = iconv(d->cd, &in, &left, &to, &room);
		int err = errno;

		add_output(out, block, (size_t)(to - block));
		if (n != (size_t)-1 || err == E2BIG)
			continue;
		if (err == EINVAL)
			break;
		buf_add_str(out, REPLACEMENT);
		in++;
		left--;
	}
	return len - left;
}

void charset_decoder_feed(struct charset_decoder *d, struct slice bytes, struct buf *out)
{
	if (d->is_plain && d->held_len == 0 && slice_is_plain(bytes)) {
		buf_add_slice(out, bytes);
		return;
	}
	while (d->held_len && bytes.len) {
		size_t used;

		d->held[d->held_len++] = bytes.p[0];
		bytes = slice_from(bytes, 1);
		used = convert(d, d->held, d->held_len, out);
		memmove(d->held, d->held + used, d->held_len - used);
		d->held_len -= used;
		if (d->held_len == HELD_MAX) { /* no charset has such characters */
			buf_add_str(out, REPLACEMENT);
			d->held_len = 0;
		}
	}
	if (bytes.len) {
		size_t used = convert(d, bytes.p, bytes.len, out);

		bytes = slice_from(bytes, used);
		if (bytes.len > HELD_MAX - 1) {
			buf_add_str(out, REPLACEMENT);
			return;
		}
		memcpy(d->held, bytes.p, bytes.len);
		d->held_len = bytes.len;
	}
}

void charset_decoder_end(struct charset_decoder *d, struct buf *out)
{
	char block[64], *to = block;
	size_t room = sizeof(block);

	if (d->held_len)
		buf_add_str(out, REPLACEMENT);
	d->held_len = 0;
	(void)iconv(d->cd, NULL, NULL, &to, &room);
	add_output(out, block, (size_t)(to - block));
}

void charset_decoder_free(struct charset_decoder **d)
{
	if (!*d)
		return;
	iconv_close((*d)->cd);
	free(*d);
	*d = NULL;
}

bool charset_is_known(struct slice charset)
{
	iconv_t cd = open_iconv(charset);

	if (cd == (iconv_t)-1)
		return false;
	iconv_close(cd);
	return true;
}

int charset_to_utf8(struct slice charset, struct slice text, struct buf *out)
{
	struct charset_decoder *d;
	int err;

	if ((err = charset_decoder_new(charset, &d)))
		return err;
	charset_decoder_feed(d, text, out);
	charset_decoder_end(d, out);
	charset_decoder_free(&d);
	return 0;
}

void charset_guess_utf8(struct slice text, struct buf *out)
{
	if (slice_is_utf8(text))
		buf_add_slice(out, text);
	else if (charset_to_utf8(
			 slice_is_ascii(text) ? SLICE_LIT("us-ascii") : SLICE_LIT("windows-1252"), text, out))
		buf_add_str(out, REPLACEMENT);
}
