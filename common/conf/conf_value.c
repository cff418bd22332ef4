/*
 * Words of a file into typed values, and the files that paths and secrets name. A fault is told with place
 * and key, and the value stays as it was: the configuration is refused as a whole anyway.
 */
#include "common/conf/conf_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/num.h"

/* A secret is a line; more is a mistake. */
#define SECRET_MOST 4096

void conf_value_clear(struct conf_value *value)
{
	value->count = 0;
	value->words = NULL;
	value->room = 0;
}

void conf_value_add(struct conf *conf, struct conf_value *value, struct slice word)
{
	if (value->count + 2 > value->room) {
		size_t room = value->room ? value->room * 2 : 4;
		const char **words = arena_calloc(&conf->arena, room, sizeof(*words));

		require(words);
		if (value->count)
			memcpy(words, value->words, value->count * sizeof(*words));
		value->words = words;
		value->room = room;
	}
	value->words[value->count] = arena_copy_str(&conf->arena, word);
	require(value->words[value->count]);
	value->words[++value->count] = NULL;
}

static void fault(struct conf *conf, const struct conf_value *value, const char *reason, const char *word)
{
	conf_fault(conf, value->file, value->line, value->key->name, "\"%s\" %s", word, reason);
}

static int parse_bool(const char *word, uint64_t *number_out)
{
	static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcmp(word, yes[i]) == 0) {
			*number_out = 1;
			return 0;
		}
		if (strcmp(word, no[i]) == 0) {
			*number_out = 0;
			return 0;
		}
	}
	return ERR_SYNTAX;
}

/* A number in the words of its type, for messages and documentation. */
static void add_number(struct buf *out, enum conf_type type, uint64_t n)
{
	static const struct {
		uint64_t factor;
		const char *unit;
	} sizes[] = {{1ull << 40, "T"}, {1ull << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}},
	  times[] = {{7 * 86400000ull, "w"}, {86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};

	if (type == CONF_DURATION) {
		for (size_t i = 0; i < ARRAY_LEN(times); i++)
			if (n && n % times[i].factor == 0) {
				buf_printf(out, "%llu%s", (unsigned long long)(n / times[i].factor),
					times[i].unit);
				return;
			}
		buf_printf(out, n ? "%llums" : "%llu", (unsigned long long)n);
		return;
	}
	for (size_t i = 0; type == CONF_SIZE && i < ARRAY_LEN(sizes); i++)
		if (n && n % sizes[i].factor == 0) {
			buf_printf(out, "%llu%s", (unsigned long long)(n / sizes[i].factor), sizes[i].unit);
			return;
		}
	buf_add_u64(out, n);
}

static void check_range(struct conf *conf, const struct conf_value *value, uint64_t n)
{
	const struct conf_key *key = value->key;
	struct buf text = {0};

	if ((key->min == 0 && key->max == 0) || (n >= key->min && (n <= key->max || key->max == 0)))
		return;
	buf_add_str(&text, n < key->min ? "is below the least, " : "is above the most, ");
	add_number(&text, key->type, n < key->min ? key->min : key->max);
	fault(conf, value, buf_str_view(&text), value->words[0]);
	buf_deinit(&text);
}

static void finish_number(struct conf *conf, struct conf_value *value)
{
	struct slice word = slice_str(value->words[0]);
	uint64_t n = 0;
	int error = ERR_SYNTAX;
	const char *reason = "is no number";

	if (value->key->type == CONF_INT) {
		error = num_parse_u64(word, &n);
	} else if (value->key->type == CONF_SIZE) {
		error = num_parse_size(word, &n);
		reason = "is no size (write 4096, 64K, 10M, 1G)";
	} else if (value->key->type == CONF_DURATION) {
		error = num_parse_duration(word, &n);
		reason = "is no time (write 500ms, 30s, 5m, 2h, 7d)";
	} else {
		error = parse_bool(value->words[0], &n);
		reason = "is neither yes nor no";
	}
	if (error) {
		fault(conf, value, reason, value->words[0]);
		return;
	}
	check_range(conf, value, n);
	value->number = n;
}

/* host:port, [v6]:port, *:port, /path. */
static int parse_address(struct conf *conf, const char *word, struct conf_address *address_out)
{
	struct slice all = slice_str(word), host = all, port = {0};
	unsigned char bin[16];
	uint32_t n = 0;
	ptrdiff_t colon = slice_find_last(all, ':');

	if (all.len == 0 || all.len > 255)
		return ERR_SYNTAX;
	if (word[0] == '/') {
		address_out->host = word;
		address_out->port = 0;
		return 0;
	}
	if (word[0] == '[') {
		ptrdiff_t end = slice_find(all, ']');

		if (end < 0)
			return ERR_SYNTAX;
		host = slice_sub(all, 1, (size_t)end - 1);
		port = slice_from(all, (size_t)end + 1);
		if (port.len && port.p[0] != ':')
			return ERR_SYNTAX;
		port = slice_from(port, 1);
		if ((size_t)end + 2 == all.len)
			return ERR_SYNTAX;
	} else if (colon >= 0 && slice_find(all, ':') == colon) {
		host = slice_sub(all, 0, (size_t)colon);
		port = slice_from(all, (size_t)colon + 1);
		if (port.len == 0)
			return ERR_SYNTAX;
	} else if (colon >= 0 && inet_pton(AF_INET6, word, bin) != 1) {
		return ERR_SYNTAX;
	}
	if (host.len == 0 || (port.len && (num_parse_u32(port, &n) || n == 0 || n > 65535)))
		return ERR_SYNTAX;
	address_out->host = arena_copy_str(&conf->arena, host);
	require(address_out->host);
	address_out->port = (uint16_t)n;
	if (word[0] != '[' && (slice_is_str(host, "*") || inet_pton(AF_INET, address_out->host, bin) == 1))
		return 0;
	return inet_pton(AF_INET6, address_out->host, bin) == 1 ? 0 : ERR_SYNTAX;
}

static void finish_addresses(struct conf *conf, struct conf_value *value)
{
	struct conf_address *all = arena_calloc(&conf->arena, 2 * value->count + 1, sizeof(*all));
	size_t n = 0;

	require(all);
	for (size_t i = 0; i < value->count; i++) {
		struct conf_address *one = &all[n++];

		if (parse_address(conf, value->words[i], one)) {
			fault(conf, value,
				"is no address (write 192.0.2.1:143, [2001:db8::1]:143, *:143 or /unix/path)",
				value->words[i]);
		} else if (value->key->min && one->port == 0 && one->host[0] != '/') {
			fault(conf, value, "needs a port", value->words[i]);
		} else if (one->host[0] == '*') {
			one->host = "0.0.0.0";
			all[n++] = (struct conf_address){.host = "::", .port = one->port, .may_lack = true};
		}
	}
	value->addresses = all;
	value->address_count = n;
}

static bool is_network(const char *word)
{
	unsigned char bin[16];
	char base[64];
	const char *slash = strchr(word, '/');
	size_t len = slash ? (size_t)(slash - word) : strlen(word);
	uint32_t bits;
	unsigned most;

	if (strcmp(word, "unix") == 0)
		return true;
	if (len >= sizeof(base))
		return false;
	memcpy(base, word, len);
	base[len] = '\0';
	if (inet_pton(AF_INET, base, bin) == 1)
		most = 32;
	else if (inet_pton(AF_INET6, base, bin) == 1)
		most = 128;
	else
		return false;
	if (!slash)
		return true;
	if (num_parse_u32(slice_str(slash + 1), &bits) || bits > most)
		return false;
	for (unsigned i = bits; i < most; i++)
		if (bin[i / 8] & (0x80 >> i % 8))
			return false;
	return true;
}

static const char *full_path(struct conf *conf, const struct conf_value *value, const char *word)
{
	const char *slash = value->file ? strrchr(value->file, '/') : NULL;
	struct buf text = {0};
	char *path;

	if (word[0] == '/' || word[0] == '\0' || !slash)
		return word;
	buf_add(&text, value->file, (size_t)(slash - value->file) + 1);
	buf_add_str(&text, word);
	path = arena_copy_str(&conf->arena, buf_view(&text));
	require(path);
	buf_deinit(&text);
	return path;
}

void conf_value_finish(struct conf *conf, struct conf_value *value)
{
	const struct conf_key *key = value->key;

	for (size_t i = 0; i < value->count; i++)
		if (slice_has_control(slice_str(value->words[i])) ||
			!slice_is_utf8(slice_str(value->words[i]))) {
			fault(conf, value, "has control characters or is no UTF-8", "value");
			return;
		}
	switch (key->type) {
	case CONF_BOOL:
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION:
		finish_number(conf, value);
		break;
	case CONF_STRING:
		break;
	case CONF_ENUM:
		if (!conf_has_word(key->choices, value->words[0], &value->choice))
			conf_fault(conf, value->file, value->line, key->name, "\"%s\" is none of: %s",
				value->words[0], key->choices);
		break;
	case CONF_LIST:
		for (size_t i = 0; key->choices && i < value->count; i++)
			if (!conf_has_word(key->choices, value->words[i], NULL))
				conf_fault(conf, value->file, value->line, key->name, "\"%s\" is none of: %s",
					value->words[i], key->choices);
		break;
	case CONF_ADDRESSES:
		finish_addresses(conf, value);
		break;
	case CONF_NETWORKS:
		for (size_t i = 0; i < value->count; i++)
			if (!is_network(value->words[i]))
				fault(conf, value,
					"is no network (write 10.0.0.0/8, 2001:db8::/32, 192.0.2.7)",
					value->words[i]);
		break;
	case CONF_PATH:
	case CONF_SECRET:
		value->path = full_path(conf, value, value->words[0]);
		/* An empty name takes back what a file before has set. */
		if (!value->path[0])
			value->is_set = false;
		break;
	}
}

/* Opens a file that a key names; -1 after a fault that has been told. */
static int open_named(struct conf *conf, struct conf_value *value, bool is_private)
{
	int fd = open(value->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0) {
		fault(conf, value, strerror(errno), value->path);
		return -1;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		fault(conf, value, "is no plain file", value->path);
	} else if (is_private && (st.st_mode & 077)) {
		fault(conf, value, "can be read by others than its owner; its mode must be 0600 or tighter",
			value->path);
	} else {
		return fd;
	}
	close(fd);
	return -1;
}

static void read_secret(struct conf *conf, struct conf_value *value, int fd)
{
	char text[SECRET_MOST + 1];
	ssize_t n = read(fd, text, sizeof(text));
	size_t len = n > 0 ? (size_t)n : 0;
	char *end = memchr(text, '\n', len);

	if (end)
		len = (size_t)(end - text);
	if (len && text[len - 1] == '\r')
		len--;
	if (n < 0)
		fault(conf, value, strerror(errno), value->path);
	else if (len == 0)
		fault(conf, value, "has no secret in its first line", value->path);
	else if (len > SECRET_MOST || memchr(text, '\0', len))
		fault(conf, value, "is too long or has a NUL", value->path);
	else
		secret_set(&value->secret, slice_of(text, len));
	secret_wipe(text, sizeof(text));
}

void conf_value_look(struct conf *conf, struct conf_value *value)
{
	const struct conf_key *key = value->key;
	bool is_secret = key->type == CONF_SECRET;
	int fd;

	if ((!is_secret && key->type != CONF_PATH) || !value->path || !value->path[0])
		return;
	if (!is_secret && !(key->flags & (CONF_EXISTS | CONF_PRIVATE)))
		return;
	fd = open_named(conf, value, is_secret || (key->flags & CONF_PRIVATE));
	if (fd < 0)
		return;
	if (is_secret)
		read_secret(conf, value, fd);
	close(fd);
}

void conf_value_describe(struct buf *out, const struct conf_key *key)
{
	static const char *const names[] = {
		[CONF_BOOL] = "yes or no",
		[CONF_INT] = "number",
		[CONF_SIZE] = "size",
		[CONF_DURATION] = "time",
		[CONF_STRING] = "text",
		[CONF_ENUM] = "one of",
		[CONF_LIST] = "list",
		[CONF_ADDRESSES] = "list of addresses",
		[CONF_NETWORKS] = "list of networks",
		[CONF_PATH] = "file name",
		[CONF_SECRET] = "name of a file of mode 0600",
	};
	bool has_range = key->type != CONF_ADDRESSES && (key->min || key->max);

	if (key->type == CONF_LIST && key->choices)
		buf_printf(out, "list of %s", key->choices);
	else if (key->type == CONF_ENUM)
		buf_printf(out, "one of %s", key->choices);
	else
		buf_add_str(out, names[key->type]);
	if (has_range && key->max) {
		buf_add_str(out, ", ");
		add_number(out, key->type, key->min);
		buf_add_str(out, " to ");
		add_number(out, key->type, key->max);
	} else if (has_range) {
		buf_add_str(out, ", at least ");
		add_number(out, key->type, key->min);
	}
}
