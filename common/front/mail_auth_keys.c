/*
 * Keys are read once, when a configuration is made: a file that is gone or broken refuses the configuration and never a message.
 * Old keys stay in the configuration as long as they like; only what is in force signs.
 */
#include "common/front/mail_auth_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/secret.h"
#include "common/proto/address.h"
#include "common/proto/date.h"

#define DAY_S 86400

/* ---- reading ---- */

static bool read_digits(struct slice *s, size_t len, char behind, int *n_out)
{
	uint32_t n;

	if (s->len < len || num_parse_u32(slice_sub(*s, 0, len), &n) != 0)
		return false;
	*s = slice_from(*s, len);
	*n_out = (int)n;
	if (!behind)
		return true;
	if (!s->len || s->p[0] != behind)
		return false;
	*s = slice_from(*s, 1);
	return true;
}

int mail_auth_keys_time(struct slice text, int64_t *unix_s_out)
{
	struct slice s = text;
	int year, month, day, hour = 0, minute = 0;
	int64_t days;
	bool has_time;

	if (!read_digits(&s, 4, '-', &year) || !read_digits(&s, 2, '-', &month))
		return ERR_SYNTAX;
	has_time = s.len != 2;
	if (!read_digits(&s, 2, has_time ? 'T' : 0, &day))
		return ERR_SYNTAX;
	if (has_time && (!read_digits(&s, 2, ':', &hour) || !read_digits(&s, 2, 0, &minute) || s.len))
		return ERR_SYNTAX;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59)
		return ERR_SYNTAX;
	days = date_days(year, month, day);
	if (day > 28 && days >= (month == 12 ? date_days(year + 1, 1, 1) : date_days(year, month + 1, 1)))
		return ERR_SYNTAX;
	*unix_s_out = days * DAY_S + hour * 3600 + minute * 60;
	return 0;
}

static int read_key(const char *path, struct signature_key **key_out)
{
	char *text;
	struct stat st;
	ssize_t n = -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return ERR_IO;
	text = xmalloc(MAIL_AUTH_KEYS_FILE_MOST);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = read(fd, text, MAIL_AUTH_KEYS_FILE_MOST);
	close(fd);
	err = n < 0 ? ERR_IO : signature_key_private(slice_of(text, (size_t)n), key_out);
	secret_wipe(text, MAIL_AUTH_KEYS_FILE_MOST);
	free(text);
	return err;
}

static const char *key_fault(int err)
{
	switch (err) {
	case ERR_IO:
		return "cannot be read";
	case ERR_UNSUPPORTED:
		return "holds a key that is neither RSA nor Ed25519";
	case ERR_DENIED:
		return "holds an RSA key that has less than 1024 or more than 4096 bits";
	default:
		return "holds no private key in PEM, or one with a password";
	}
}

/* A name as DNS questions take it, or NULL. */
static struct slice read_name(struct arena *a, const char *text)
{
	struct slice name, head = slice_str(text);
	char probe[512];

	if (address_normalise_domain(a, head, &name) != 0)
		return slice_of(NULL, 0);
	/* The same check that signatures of others get. */
	if (snprintf(probe, sizeof(probe), "i=1;a=rsa-sha256;d=%.*s;s=s;cv=none;b=AAAA", SLICE_ARG(name)) <
		(int)sizeof(probe)) {
		struct dkim_signature sig;

		if (dkim_signature_parse(a, slice_str(probe), DKIM_FIELD_SEAL, &sig, NULL) == 0)
			return name;
	}
	return slice_of(NULL, 0);
}

struct fault {
	const char *key;
	struct buf text;
};

static int fail(struct fault *fault, const char *key, const char *what, const char *text)
{
	fault->key = key;
	buf_printf(&fault->text, "%s%s%s", what, *what ? ": " : "", text);
	return ERR_CONFIG;
}

static int read_section(const struct conf *conf, const char *title, struct arena *a,
	struct mail_auth_signing_key *key, struct fault *fault)
{
	const char *const *domains = conf_get_list(conf, "dkim", title, "domains", &key->domain_count);
	const char *selector = conf_get_string(conf, "dkim", title, "selector");
	const char *from = conf_get_string(conf, "dkim", title, "sign-from");
	const char *path = conf_get_string(conf, "dkim", title, "key");
	int form = conf_get_enum(conf, "dkim", title, "canonicalization"), err;

	key->title = title;
	key->domains = arena_calloc(a, key->domain_count + 1, sizeof(*key->domains));
	require(key->domains);
	if (key->domain_count == 0)
		return fail(fault, "domains", "", "must name a domain");
	for (size_t i = 0; i < key->domain_count; i++) {
		key->domains[i] = read_name(a, domains[i]);
		if (!key->domains[i].p)
			return fail(fault, "domains", domains[i], "is no domain");
	}
	key->selector = read_name(a, selector);
	if (!key->selector.p)
		return fail(fault, "selector", selector, "is no selector");
	if (*from && mail_auth_keys_time(slice_str(from), &key->from) != 0)
		return fail(fault, "sign-from", from, "is no time such as 2026-12-01 or 2026-12-01T12:00");
	key->covers_subdomains = conf_get_bool(conf, "dkim", title, "subdomains");
	key->is_header_relaxed = form < 2;
	key->is_body_relaxed = form == 0 || form == 3;
	err = read_key(path, &key->key);
	return err ? fail(fault, "key", path, key_fault(err)) : 0;
}

static int read_seal(const struct conf *conf, struct mail_auth_keys *keys, struct fault *fault)
{
	const char *text = conf_get_string(conf, "mail-auth", NULL, "arc-seal");
	struct mail_auth_choice choices[MAIL_AUTH_KEYS_SIGN];

	if (!*text)
		return 0;
	keys->seal_domain = read_name(keys->arena, text);
	if (!keys->seal_domain.p)
		return fail(fault, "arc-seal", text, "is no domain");
	if (mail_auth_keys_find(keys, keys->seal_domain, INT64_MAX, choices) == 0)
		return fail(fault, "arc-seal", text, "no dkim section has a key for this domain");
	return 0;
}

/* Reads all; the first fault ends it, with its section's title (NULL: mail-auth). */
static int read_all(
	const struct conf *conf, struct mail_auth_keys *keys, struct fault *fault, const char **title_out)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "dkim", &count);
	int err = 0;

	keys->list = xcalloc(count + 1, sizeof(*keys->list));
	for (size_t i = 0; !err && i < count; i++) {
		*title_out = titles[i];
		err = read_section(conf, titles[i], keys->arena, &keys->list[keys->count++], fault);
	}
	if (err)
		return err;
	*title_out = NULL;
	return read_seal(conf, keys, fault);
}

static struct mail_auth_keys *keys_new(void)
{
	struct mail_auth_keys *keys = xcalloc(1, sizeof(*keys));

	atomic_init(&keys->refs, 1);
	keys->arena = xcalloc(1, sizeof(*keys->arena));
	arena_init(keys->arena, 0);
	return keys;
}

static bool verifies(const struct conf *conf, const char *what)
{
	size_t count;
	const char *const *words = conf_get_list(conf, "mail-auth", NULL, "verify", &count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i], what) == 0)
			return true;
	return false;
}

static void check_verify(struct conf *conf)
{
	if (verifies(conf, "dmarc") && !verifies(conf, "dkim"))
		conf_error(conf, "mail-auth", NULL, "verify", "dmarc needs dkim beside it");
	if (*conf_get_string(conf, "mail-auth", NULL, "arc-seal") && !verifies(conf, "arc"))
		conf_error(conf, "mail-auth", NULL, "arc-seal",
			"needs arc in verify: a seal says whether the chain before it is good");
}

void mail_auth_keys_check(struct conf *conf)
{
	struct mail_auth_keys *keys = keys_new();
	struct fault fault = {0};
	const char *title = NULL;

	check_verify(conf);
	if (read_all(conf, keys, &fault, &title) != 0)
		conf_error(conf, title ? "dkim" : "mail-auth", title, fault.key, "%s",
			buf_str_view(&fault.text));
	buf_deinit(&fault.text);
	mail_auth_keys_unref(&keys);
}

int mail_auth_keys_new(const struct conf *conf, struct buf *why, struct mail_auth_keys **keys_out)
{
	struct mail_auth_keys *keys = keys_new();
	struct fault fault = {0};
	const char *title = NULL;
	int err = read_all(conf, keys, &fault, &title);

	if (err) {
		buf_printf(why, "%s: %s: %s\n",
			conf_where(conf, title ? "dkim" : "mail-auth", title, fault.key), fault.key,
			buf_str_view(&fault.text));
		mail_auth_keys_unref(&keys);
	} else {
		*keys_out = keys;
	}
	buf_deinit(&fault.text);
	return err;
}

struct mail_auth_keys *mail_auth_keys_ref(struct mail_auth_keys *keys)
{
	if (keys)
		atomic_fetch_add_explicit(&keys->refs, 1, memory_order_relaxed);
	return keys;
}

void mail_auth_keys_unref(struct mail_auth_keys **keys)
{
	struct mail_auth_keys *k = *keys;

	*keys = NULL;
	if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < k->count; i++)
		signature_key_unref(&k->list[i].key);
	free(k->list);
	arena_deinit(k->arena);
	free(k->arena);
	free(k);
}

/* ---- choosing ---- */

static bool has_domain(const struct mail_auth_signing_key *key, struct slice domain)
{
	for (size_t i = 0; i < key->domain_count; i++)
		if (slice_is_equal(key->domains[i], domain))
			return true;
	return false;
}

static unsigned find_at(const struct mail_auth_keys *keys, struct slice domain, bool is_parent, int64_t now,
	struct mail_auth_choice choices[MAIL_AUTH_KEYS_SIGN])
{
	const struct mail_auth_signing_key *best[MAIL_AUTH_KEYS_SIGN] = {NULL};
	unsigned count = 0;

	for (size_t i = 0; i < keys->count; i++) {
		const struct mail_auth_signing_key *k = &keys->list[i];
		const struct mail_auth_signing_key **place = &best[signature_key_kind(k->key)];

		if (k->from <= now && (!is_parent || k->covers_subdomains) && has_domain(k, domain) &&
			(!*place || k->from >= (*place)->from))
			*place = k;
	}
	for (unsigned i = 0; i < MAIL_AUTH_KEYS_SIGN; i++)
		if (best[i])
			choices[count++] = (struct mail_auth_choice){.key = best[i], .domain = domain};
	return count;
}

unsigned mail_auth_keys_find(const struct mail_auth_keys *keys, struct slice domain, int64_t now,
	struct mail_auth_choice choices_out[MAIL_AUTH_KEYS_SIGN])
{
	struct slice at = domain;
	ptrdiff_t dot;
	unsigned count = 0;

	while (at.len && count == 0) {
		count = find_at(keys, at, at.len != domain.len, now, choices_out);
		dot = slice_find(at, '.');
		at = dot < 0 ? slice_of(NULL, 0) : slice_from(at, (size_t)dot + 1);
	}
	return count;
}
