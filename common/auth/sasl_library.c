/*
 * Cyrus SASL as a process has it: it reads no file (SASL_CB_VERIFYFILE refuses its configuration), loads only the plug-ins of our
 * rows, asks no directory (its one auxprop plug-in is ours and knows what sasl.c fetched for the step that is running), and
 * resolves no name (the host's name is given). DIGEST-MD5 never takes a nonce twice: its memory of them is off.
 */
#include "common/auth/sasl_private.h"

#include <pthread.h>
#include <sasl/saslplug.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/random.h"

#define AREA "auth"
#define PLUGIN_NAME "mailtier"

static const struct sasl_row rows[SASL_MECHANISM_COUNT] = {
	{.name = "PLAIN", .base = "PLAIN", .plugin = "libplain.", .traits = SASL_HANDS_PASSWORD, .nul = true},
	{.name = "LOGIN", .base = "LOGIN", .plugin = "liblogin.", .traits = SASL_HANDS_PASSWORD},
	{.name = "CRAM-MD5",
		.base = "CRAM-MD5",
		.plugin = "libcrammd5.",
		.traits = SASL_WANTS_CLEAR,
		.server_first = true},
	{.name = "DIGEST-MD5",
		.base = "DIGEST-MD5",
		.plugin = "libdigestmd5.",
		.traits = SASL_WANTS_CLEAR,
		.server_first = true},
	{.name = "SCRAM-SHA-1",
		.base = "SCRAM-SHA-1",
		.plugin = "libscram.",
		.traits = SASL_WANTS_KEYS,
		.digest = DIGEST_SHA1},
	{.name = "SCRAM-SHA-1-PLUS",
		.base = "SCRAM-SHA-1",
		.plugin = "libscram.",
		.traits = SASL_WANTS_KEYS | SASL_BINDS_CHANNEL,
		.digest = DIGEST_SHA1},
	{.name = "SCRAM-SHA-256",
		.base = "SCRAM-SHA-256",
		.plugin = "libscram.",
		.traits = SASL_WANTS_KEYS,
		.digest = DIGEST_SHA256},
	{.name = "SCRAM-SHA-256-PLUS",
		.base = "SCRAM-SHA-256",
		.plugin = "libscram.",
		.traits = SASL_WANTS_KEYS | SASL_BINDS_CHANNEL,
		.digest = DIGEST_SHA256},
	{.name = "EXTERNAL", .base = "EXTERNAL", .traits = SASL_SHOWS_CERTIFICATE},
	{.name = "GSSAPI", .traits = SASL_SHOWS_TICKET, .nul = true},
};

/* The library's own view of the process: set once by sasl_init(), constant afterwards. */
static char host_name[256];
static char mechanism_list[160];
static uint8_t process_key[32];
static sasl_auxprop_plug_t plugin;

static _Thread_local struct {
	const char *clear, *keys;
} secret;

typedef int callback_fn(void);
#define CALLBACK(fn) ((callback_fn *)(void (*)(void))(fn))

/* ---- the library's global callbacks ---- */

/* No configuration file, and of the plug-ins those of our rows. */
static int on_verify_file(void *context, const char *file, sasl_verify_type_t type)
{
	const char *base = strrchr(file, '/');

	(void)context;
	if (type != SASL_VRFY_PLUGIN)
		return SASL_CONTINUE;
	base = base ? base + 1 : file;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].plugin && slice_has_prefix(slice_str(base), rows[i].plugin))
			return SASL_OK;
	}
	return SASL_CONTINUE;
}

static int on_getopt(
	void *context, const char *plugin_name, const char *option, const char **result, unsigned *len)
{
	const struct {
		const char *option, *value;
	} options[] = {
		{"mech_list", mechanism_list},
		{"auxprop_plugin", PLUGIN_NAME},
		{"canon_user_plugin", "INTERNAL"},
		{"log_level", "0"},
		{"auto_transition", "no"},
		{"reauth_timeout", "0"},
	};

	(void)context;
	(void)plugin_name;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (strcmp(option, options[i].option))
			continue;
		*result = options[i].value;
		if (len)
			*len = (unsigned)strlen(options[i].value);
		return SASL_OK;
	}
	return SASL_FAIL;
}

static int on_log(void *context, int level, const char *message)
{
	(void)context;
	log_debug(AREA, "sasl level=%d: %s", level, message ? message : "");
	return SASL_OK;
}

/* The secret of the step that runs on this thread, whatever the name: sasl.c knows whose it is. */
static int plugin_lookup(
	void *context, sasl_server_params_t *params, unsigned flags, const char *user, unsigned len)
{
	(void)context;
	(void)user;
	(void)len;
	if (flags & SASL_AUXPROP_AUTHZID)
		return SASL_OK;
	if (secret.clear)
		(void)params->utils->prop_set(
			params->propctx, SASL_AUX_PASSWORD, secret.clear, (int)strlen(secret.clear));
	if (secret.keys)
		(void)params->utils->prop_set(
			params->propctx, "*authPassword", secret.keys, (int)strlen(secret.keys));
	return SASL_OK;
}

static int plugin_init(
	const sasl_utils_t *utils, int most, int *version, sasl_auxprop_plug_t **plug, const char *name)
{
	static char plugin_name[] = PLUGIN_NAME;

	(void)utils;
	(void)most;
	(void)name;
	plugin.name = plugin_name;
	plugin.auxprop_lookup = plugin_lookup;
	*version = SASL_AUXPROP_PLUG_VERSION;
	*plug = &plugin;
	return SASL_OK;
}

static void *mutex_new(void)
{
	pthread_mutex_t *m = xmalloc(sizeof(*m));

	pthread_mutex_init(m, NULL);
	return m;
}

static int mutex_lock(void *m)
{
	return pthread_mutex_lock(m) ? SASL_FAIL : SASL_OK;
}

static int mutex_unlock(void *m)
{
	return pthread_mutex_unlock(m) ? SASL_FAIL : SASL_OK;
}

static void mutex_free(void *m)
{
	pthread_mutex_destroy(m);
	free(m);
}

static bool is_installed(const char *name)
{
	const char **list = sasl_global_listmech();

	for (; list && *list; list++) {
		if (!strcmp(*list, name))
			return true;
	}
	return false;
}

int sasl_init(const char *program, struct buf *why)
{
	static const sasl_callback_t callbacks[] = {
		{SASL_CB_VERIFYFILE, CALLBACK(on_verify_file), NULL},
		{SASL_CB_GETOPT, CALLBACK(on_getopt), NULL},
		{SASL_CB_LOG, CALLBACK(on_log), NULL},
		{SASL_CB_LIST_END, NULL, NULL},
	};
	struct buf names = {0};
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].base && !(rows[i].traits & SASL_BINDS_CHANNEL))
			buf_printf(&names, "%s%s", i ? " " : "", rows[i].name);
	require(buf_len(&names) < sizeof(mechanism_list));
	memcpy(mechanism_list, buf_str_view(&names), buf_len(&names) + 1);
	buf_deinit(&names);
	random_bytes(process_key, sizeof(process_key));
	if (gethostname(host_name, sizeof(host_name) - 1) || !host_name[0])
		memcpy(host_name, "localhost", sizeof("localhost"));
	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	rc = sasl_server_init(callbacks, program);
	if (rc == SASL_OK)
		rc = sasl_auxprop_add_plugin(PLUGIN_NAME, plugin_init);
	if (rc != SASL_OK) {
		buf_printf(why, "Cyrus SASL does not start: %s", sasl_errstring(rc, NULL, NULL));
		return ERR_CONFIG;
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!rows[i].base || is_installed(rows[i].base))
			continue;
		buf_printf(why, "Cyrus SASL has no plug-in for %s (Debian: libsasl2-modules)", rows[i].name);
		sasl_deinit();
		return ERR_CONFIG;
	}
	return 0;
}

void sasl_deinit(void)
{
	sasl_server_done();
}

/* ---- for sasl.c ---- */

const struct sasl_row *sasl_library_row(struct slice name)
{
	if (name.len > SASL_MECHANISM_MOST)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (slice_is_str_nocase(name, rows[i].name))
			return &rows[i];
	}
	return NULL;
}

const char *sasl_library_host(void)
{
	return host_name;
}

struct slice sasl_library_key(void)
{
	return slice_of(process_key, sizeof(process_key));
}

void sasl_library_set_secret(const char *clear, const char *keys)
{
	secret.clear = clear;
	secret.keys = keys;
}

const char *sasl_mechanism(struct slice name)
{
	const struct sasl_row *row = sasl_library_row(name);

	return row ? row->name : NULL;
}

unsigned sasl_traits(const char *mechanism)
{
	const struct sasl_row *row = sasl_library_row(slice_str(mechanism));

	return row ? row->traits : 0;
}
