/*
 * Version 1 is a line:   PROXY TCP4|TCP6 source destination port port CR LF   or   PROXY UNKNOWN anything CR LF
 *
 * Version 2:
 *
 *	| signature 12 | version 4 bits, command 4 bits | family 4 bits, transport 4 bits | length 2 | addresses | additions |
 *
 * An addition: | type 1 | length 2 | value |, numbers in network order. The value of type SSL: | client 1 | verify 4 | additions |.
 */
#include "common/proto/proxy_protocol.h"

#include <arpa/inet.h>

#include "common/base/attr.h"
#include "common/base/bytes.h"
#include "common/base/num.h"

#define SIGNATURE SLICE_LIT("\r\n\r\n\0\r\nQUIT\n")
#define HEAD_LEN 16
#define TEXT_MOST 255
#define SSL_FIXED 5

enum type {
	TYPE_ALPN = 0x01,
	TYPE_AUTHORITY = 0x02,
	TYPE_CRC32C = 0x03,
	TYPE_UNIQUE_ID = 0x05,
	TYPE_SSL = 0x20,
	TYPE_SSL_VERSION = 0x21,
	TYPE_SSL_CN = 0x22,
	TYPE_SSL_CIPHER = 0x23
};

/* ---- version 1 ---- */

static int parse_port(struct slice word, uint16_t *port_out)
{
	uint32_t port;

	if (num_parse_u32(word, &port) != 0 || port > 65535 || (word.len > 1 && word.p[0] == '0'))
		return ERR_SYNTAX;
	*port_out = (uint16_t)port;
	return 0;
}

static int parse_ip(struct slice word, int family, uint8_t ip_out[16])
{
	char text[INET6_ADDRSTRLEN];

	if (word.len == 0 || word.len >= sizeof(text) || slice_find(word, '\0') >= 0)
		return ERR_SYNTAX;
	memcpy(text, word.p, word.len);
	text[word.len] = '\0';
	return inet_pton(family, text, ip_out) == 1 ? 0 : ERR_SYNTAX;
}

/* The words after "PROXY ", parted by one blank each. */
static int parse_words(struct slice line, struct proxy_protocol *h)
{
	struct slice words[5];
	int family;

	for (size_t i = 0; i < 5; i++) {
		ptrdiff_t blank = slice_find(line, ' ');

		if ((blank < 0) != (i == 4))
			return ERR_SYNTAX;
		words[i] = slice_sub(line, 0, blank < 0 ? line.len : (size_t)blank);
		line = slice_from(line, words[i].len + 1);
	}
	if (slice_is_str(words[0], "TCP4"))
		h->family = PROXY_PROTOCOL_TCP4;
	else if (slice_is_str(words[0], "TCP6"))
		h->family = PROXY_PROTOCOL_TCP6;
	else
		return ERR_SYNTAX;
	family = h->family == PROXY_PROTOCOL_TCP4 ? AF_INET : AF_INET6;
	if (parse_ip(words[1], family, h->source) != 0 || parse_ip(words[2], family, h->destination) != 0 ||
		parse_port(words[3], &h->source_port) != 0 || parse_port(words[4], &h->destination_port) != 0)
		return ERR_SYNTAX;
	return 0;
}

static ssize_t parse_line(struct slice in, struct proxy_protocol *h)
{
	struct slice seen = slice_sub(in, 0, PROXY_PROTOCOL_LINE_MOST);
	ptrdiff_t end = slice_find(seen, '\n');
	struct slice rest;

	/* A CR that no LF follows can become nothing good. */
	if (end < 0) {
		ptrdiff_t cr = slice_find(seen, '\r');

		if (seen.len == PROXY_PROTOCOL_LINE_MOST || (cr >= 0 && (size_t)cr + 1 < seen.len))
			return ERR_SYNTAX;
		return 0;
	}
	if (end < 1 || slice_find(seen, '\r') != end - 1)
		return ERR_SYNTAX;
	rest = slice_sub(seen, 6, (size_t)end - 7);
	h->version = 1;
	if (slice_is_str(rest, "UNKNOWN") || slice_has_prefix(rest, "UNKNOWN "))
		return end + 1;
	return parse_words(rest, h) != 0 ? ERR_SYNTAX : end + 1;
}

/* ---- version 2 ---- */

static uint16_t get_u16(const char *p)
{
	return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
}

/* Castagnoli's polynomial, reflected; headers are short and checksums rare, so it needs no table. */
static uint32_t crc32c(uint32_t crc, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		crc ^= (uint8_t)s.p[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
	}
	return crc;
}

/* Of the whole header, with the four octets of the checksum itself taken as 0. */
static bool is_checksum_right(struct slice header, struct slice value)
{
	uint32_t crc = UINT32_MAX;

	if (value.len != 4)
		return false;
	crc = crc32c(crc, slice_sub(header, 0, (size_t)(value.p - header.p)));
	crc = crc32c(crc, SLICE_LIT("\0\0\0\0"));
	crc = crc32c(crc, slice_from(header, (size_t)(value.p - header.p) + 4));
	return ~crc == bytes_get_u32be(value.p);
}

/* One addition off the front. */
static int next_addition(struct slice *rest, uint8_t *type_out, struct slice *value_out)
{
	size_t len;

	if (rest->len < 3)
		return ERR_SYNTAX;
	len = get_u16(rest->p + 1);
	if (len > rest->len - 3)
		return ERR_SYNTAX;
	*type_out = (uint8_t)rest->p[0];
	*value_out = slice_sub(*rest, 3, len);
	*rest = slice_from(*rest, 3 + len);
	return 0;
}

/* Text that will go to logs, comparisons and other protocols. */
static int set_text(struct slice *field, struct slice value, size_t most)
{
	if (field->p || value.len > most || slice_has_control(value) || !slice_is_utf8(value))
		return ERR_SYNTAX;
	*field = value;
	return 0;
}

static int set_octets(struct slice *field, struct slice value, size_t most)
{
	if (field->p || value.len > most)
		return ERR_SYNTAX;
	*field = value;
	return 0;
}

static int parse_ssl(struct slice value, struct proxy_protocol *h)
{
	uint8_t type;
	int rc = 0;

	if (h->has_ssl || value.len < SSL_FIXED)
		return ERR_SYNTAX;
	h->has_ssl = true;
	h->ssl_client = (uint8_t)value.p[0];
	h->ssl_verify = bytes_get_u32be(value.p + 1);
	for (struct slice rest = slice_from(value, SSL_FIXED), text; rc == 0 && rest.len;) {
		rc = next_addition(&rest, &type, &text);
		if (rc == 0 && type == TYPE_SSL_VERSION)
			rc = set_text(&h->ssl_version, text, TEXT_MOST);
		else if (rc == 0 && type == TYPE_SSL_CN)
			rc = set_text(&h->ssl_cn, text, TEXT_MOST);
		else if (rc == 0 && type == TYPE_SSL_CIPHER)
			rc = set_text(&h->ssl_cipher, text, TEXT_MOST);
	}
	return rc;
}

static int parse_additions(struct slice header, struct slice rest, struct proxy_protocol *h)
{
	struct slice value, checksum = {0};
	uint8_t type;
	int rc = 0;

	while (rc == 0 && rest.len) {
		rc = next_addition(&rest, &type, &value);
		if (rc)
			break;
		if (type == TYPE_ALPN)
			rc = set_octets(&h->alpn, value, TEXT_MOST);
		else if (type == TYPE_AUTHORITY)
			rc = set_text(&h->authority, value, PROXY_PROTOCOL_AUTHORITY_MOST);
		else if (type == TYPE_UNIQUE_ID)
			rc = set_octets(&h->unique_id, value, PROXY_PROTOCOL_UNIQUE_ID_MOST);
		else if (type == TYPE_SSL)
			rc = parse_ssl(value, h);
		else if (type == TYPE_CRC32C)
			rc = set_octets(&checksum, value, 4);
	}
	if (rc == 0 && checksum.p && !is_checksum_right(header, checksum))
		rc = ERR_SYNTAX;
	return rc;
}

static const struct family {
	uint8_t code;
	enum proxy_protocol_family family;
	size_t addresses; /* octets of both with their ports */
	size_t ip;
	bool is_datagram;
} families[] = {
	{0x00, PROXY_PROTOCOL_UNKNOWN, 0, 0, false},
	{0x11, PROXY_PROTOCOL_TCP4, 12, 4, false},
	{0x12, PROXY_PROTOCOL_UNKNOWN, 12, 0, true},
	{0x21, PROXY_PROTOCOL_TCP6, 36, 16, false},
	{0x22, PROXY_PROTOCOL_UNKNOWN, 36, 0, true},
	{0x31, PROXY_PROTOCOL_UNKNOWN, 216, 0,
		false}, /* unix sockets: paths of another machine tell us nothing */
	{0x32, PROXY_PROTOCOL_UNKNOWN, 216, 0, true},
};

static int parse_proxied(struct slice header, struct proxy_protocol *h)
{
	const struct family *family = NULL;
	struct slice body = slice_from(header, HEAD_LEN);

	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		if (families[i].code == (uint8_t)header.p[13])
			family = &families[i];
	if (!family || body.len < family->addresses)
		return ERR_SYNTAX;
	if (family->is_datagram)
		return ERR_UNSUPPORTED;
	h->family = family->family;
	if (family->ip) {
		memcpy(h->source, body.p, family->ip);
		memcpy(h->destination, body.p + family->ip, family->ip);
		h->source_port = get_u16(body.p + 2 * family->ip);
		h->destination_port = get_u16(body.p + 2 * family->ip + 2);
	} else if (family->code == 0) {
		/* What follows an unspecified family has no known length before additions: all of it is passed over. */
		return 0;
	}
	return parse_additions(header, slice_from(body, family->addresses), h);
}

static ssize_t parse_binary(struct slice in, struct proxy_protocol *h)
{
	size_t len;
	int rc;

	if (in.len > 12 && ((uint8_t)in.p[12] >> 4 != 2 || ((uint8_t)in.p[12] & 15) > 1))
		return ERR_SYNTAX;
	if (in.len < HEAD_LEN)
		return 0;
	len = HEAD_LEN + (size_t)get_u16(in.p + 14);
	if (len > PROXY_PROTOCOL_MOST)
		return ERR_TOO_BIG;
	if (in.len < len)
		return 0;
	h->version = 2;
	h->is_local = ((uint8_t)in.p[12] & 15) == 0;
	if (h->is_local)
		return (ssize_t)len;
	rc = parse_proxied(slice_sub(in, 0, len), h);
	return rc ? rc : (ssize_t)len;
}

/* Does the input begin with this, as far as it goes? */
static bool begins(struct slice in, struct slice with)
{
	size_t len = in.len < with.len ? in.len : with.len;

	return slice_is_equal(slice_sub(in, 0, len), slice_sub(with, 0, len));
}

ssize_t proxy_protocol_parse(struct slice in, struct proxy_protocol *header_out)
{
	struct proxy_protocol h = {0};
	struct slice word = SLICE_LIT("PROXY ");
	ssize_t n;

	if (in.len == 0)
		return 0;
	if (begins(in, word))
		n = in.len < word.len ? 0 : parse_line(in, &h);
	else if (begins(in, SIGNATURE))
		n = parse_binary(in, &h);
	else
		n = ERR_SYNTAX;
	if (n > 0)
		*header_out = h;
	return n;
}

bool proxy_protocol_is_secure(const struct proxy_protocol *h)
{
	return h->has_ssl && h->ssl_client & PROXY_PROTOCOL_CLIENT_SSL;
}

struct slice proxy_protocol_verified_name(const struct proxy_protocol *h)
{
	bool has_shown = h->ssl_client & (PROXY_PROTOCOL_CLIENT_CERT_CONN | PROXY_PROTOCOL_CLIENT_CERT_SESS);

	return proxy_protocol_is_secure(h) && has_shown && h->ssl_verify == 0 ? h->ssl_cn : slice_of(NULL, 0);
}

/* ---- writing ---- */

static void add_u16(struct buf *out, size_t n)
{
	buf_add_char(out, (char)(n >> 8));
	buf_add_char(out, (char)n);
}

static void add_addition(struct buf *out, enum type type, struct slice value, size_t most)
{
	if (value.len == 0 || value.len > most)
		return;
	buf_add_char(out, (char)type);
	add_u16(out, value.len);
	buf_add_slice(out, value);
}

static void add_ssl(struct buf *out, const struct proxy_protocol *h)
{
	struct buf value = {0};
	uint8_t fixed[SSL_FIXED] = {h->ssl_client};

	bytes_put_u32be(fixed + 1, h->ssl_verify);
	buf_add(&value, fixed, sizeof(fixed));
	add_addition(&value, TYPE_SSL_VERSION, h->ssl_version, TEXT_MOST);
	add_addition(&value, TYPE_SSL_CN, h->ssl_cn, TEXT_MOST);
	add_addition(&value, TYPE_SSL_CIPHER, h->ssl_cipher, TEXT_MOST);
	add_addition(out, TYPE_SSL, buf_view(&value), PROXY_PROTOCOL_MOST);
	buf_deinit(&value);
}

static void add_body(struct buf *out, const struct proxy_protocol *h)
{
	size_t ip = h->family == PROXY_PROTOCOL_TCP4 ? 4 : 16;

	/* After no addresses no additions can be found. */
	if (h->family == PROXY_PROTOCOL_UNKNOWN)
		return;
	buf_add(out, h->source, ip);
	buf_add(out, h->destination, ip);
	add_u16(out, h->source_port);
	add_u16(out, h->destination_port);
	add_addition(out, TYPE_ALPN, h->alpn, TEXT_MOST);
	add_addition(out, TYPE_AUTHORITY, h->authority, PROXY_PROTOCOL_AUTHORITY_MOST);
	add_addition(out, TYPE_UNIQUE_ID, h->unique_id, PROXY_PROTOCOL_UNIQUE_ID_MOST);
	if (h->has_ssl)
		add_ssl(out, h);
}

void proxy_protocol_write(struct buf *out, const struct proxy_protocol *h)
{
	static const uint8_t codes[] = {
		[PROXY_PROTOCOL_UNKNOWN] = 0x00, [PROXY_PROTOCOL_TCP4] = 0x11, [PROXY_PROTOCOL_TCP6] = 0x21};
	struct buf body = {0};

	if (!h->is_local)
		add_body(&body, h);
	buf_add_slice(out, SIGNATURE);
	buf_add_char(out, (char)(0x20 | !h->is_local));
	buf_add_char(out, (char)(h->is_local ? 0 : codes[h->family]));
	add_u16(out, buf_len(&body));
	buf_add_slice(out, buf_view(&body));
	buf_deinit(&body);
}
