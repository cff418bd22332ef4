/* The decoder is strict, so that each credential has one spelling only. */
#include "common/base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *out, struct slice raw)
{
	const unsigned char *p = (const unsigned char *)raw.p;

	for (size_t i = 0; i < raw.len; i += 3) {
		size_t left = raw.len - i;
		uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
				(left > 2 ? (uint32_t)p[i + 2] : 0);
		char four[4] = {alphabet[bits >> 18], alphabet[bits >> 12 & 63],
			left > 1 ? alphabet[bits >> 6 & 63] : '=', left > 2 ? alphabet[bits & 63] : '='};

		buf_add(out, four, 4);
	}
}

int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes one group of four; returns how many bytes it made, or -1. */
static int decode_group(const char *p, bool is_last, char *three)
{
	int pad = is_last ? (p[3] == '=') + (p[3] == '=' && p[2] == '=') : 0;
	uint32_t bits = 0;

	for (int i = 0; i < 4; i++) {
		int v = i < 4 - pad ? base64_digit(p[i]) : 0;

		if (v < 0)
			return -1;
		bits = bits << 6 | (uint32_t)v;
	}
	if ((pad == 1 && (bits & 0xff)) || (pad == 2 && (bits & 0xffff)))
		return -1;
	three[0] = (char)(bits >> 16);
	three[1] = (char)(bits >> 8);
	three[2] = (char)bits;
	return 3 - pad;
}

int base64_decode(struct buf *out, struct slice text)
{
	size_t before = buf_len(out);

	if (text.len % 4)
		return ERR_SYNTAX;
	for (size_t i = 0; i < text.len; i += 4) {
		char three[3];
		int n = decode_group(text.p + i, i + 4 == text.len, three);

		if (n < 0) {
			buf_cut(out, before);
			return ERR_SYNTAX;
		}
		buf_add(out, three, (size_t)n);
	}
	return out->failed ? ERR_TOO_BIG : 0;
}
