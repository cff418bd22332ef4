/*
 * Tokens until the context stands; then, wrapped by it: the server says which layers it can and how much it takes (4
 * octets), we say "none" (4 octets: 1, 0, 0, 0). A ticket lives in a cache of its own in memory, as long as the struct:
 * connections are few and live long.
 */
#include "common/directory/directory_gssapi.h"

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define LAYER_NONE 1

struct directory_gssapi {
	gss_cred_id_t cred;
	gss_ctx_id_t context;
	gss_name_t target;
	bool is_open; /* the context stands */
	bool is_done;
};

static void add_status(struct buf *why, OM_uint32 code, int type)
{
	OM_uint32 minor, more = 0;
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;

	if (gss_display_status(&minor, code, type, GSS_C_NO_OID, &more, &text) == GSS_S_COMPLETE)
		buf_printf(why, ": %.*s", (int)text.length, (const char *)text.value);
	gss_release_buffer(&minor, &text);
}

static int failed(struct buf *why, const char *what, OM_uint32 major, OM_uint32 minor)
{
	buf_printf(why, "GSSAPI: %s", what);
	add_status(why, major, GSS_C_GSS_CODE);
	if (minor)
		add_status(why, minor, GSS_C_MECH_CODE);
	return ERR_NOT_NOW;
}

static int import(const char *text, gss_OID type, struct buf *why, gss_name_t *name_out)
{
	gss_buffer_desc b = {.length = strlen(text), .value = (void *)(uintptr_t)text};
	OM_uint32 minor, major = gss_import_name(&minor, &b, type, name_out);

	return GSS_ERROR(major) ? failed(why, text, major, minor) : 0;
}

static int acquire(struct directory_gssapi *g, const char *keytab, const char *principal, struct buf *why)
{
	static _Atomic unsigned number;
	gss_OID_set_desc mechs = {.count = 1, .elements = (gss_OID)(uintptr_t)gss_mech_krb5};
	char cache[40];
	gss_key_value_element_desc elements[] = {{"client_keytab", keytab}, {"ccache", cache}};
	const gss_key_value_set_desc store = {.count = ARRAY_LEN(elements), .elements = elements};
	gss_name_t name = GSS_C_NO_NAME;
	OM_uint32 minor, major;

	snprintf(cache, sizeof(cache), "MEMORY:mailtier-%u", atomic_fetch_add(&number, 1));
	if (principal && *principal && import(principal, GSS_C_NT_USER_NAME, why, &name))
		return ERR_NOT_NOW;
	major = gss_acquire_cred_from(
		&minor, name, GSS_C_INDEFINITE, &mechs, GSS_C_INITIATE, &store, &g->cred, NULL, NULL);
	if (name != GSS_C_NO_NAME)
		gss_release_name(&(OM_uint32){0}, &name);
	return GSS_ERROR(major) ? failed(why, "no credential from the keytab", major, minor) : 0;
}

int directory_gssapi_new(const char *keytab, const char *principal, const char *host, struct buf *why,
	struct directory_gssapi **gssapi_out)
{
	struct directory_gssapi *g = xcalloc(1, sizeof(*g));
	char service[300];
	int error;

	g->cred = GSS_C_NO_CREDENTIAL;
	g->context = GSS_C_NO_CONTEXT;
	g->target = GSS_C_NO_NAME;
	snprintf(service, sizeof(service), "ldap@%s", host);
	error = acquire(g, keytab, principal, why);
	if (!error)
		error = import(service, GSS_C_NT_HOSTBASED_SERVICE, why, &g->target);
	if (error)
		directory_gssapi_free(&g);
	else
		*gssapi_out = g;
	return error;
}

/* RFC 4752 section 3.1: the server must be proved. */
static int step_open(struct directory_gssapi *g, struct slice token, struct buf *out, struct buf *why)
{
	gss_buffer_desc in = {.length = token.len, .value = (void *)(uintptr_t)token.p};
	gss_buffer_desc made = GSS_C_EMPTY_BUFFER;
	const OM_uint32 wanted = GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG | GSS_C_SEQUENCE_FLAG;
	OM_uint32 flags = 0, minor, major;

	major = gss_init_sec_context(&minor, g->cred, &g->context, g->target,
		(gss_OID)(uintptr_t)gss_mech_krb5, wanted, 0, GSS_C_NO_CHANNEL_BINDINGS,
		token.len ? &in : GSS_C_NO_BUFFER, NULL, &made, &flags, NULL);
	if (GSS_ERROR(major))
		return failed(why, "no context", major, minor);
	buf_add(out, made.value, made.length);
	gss_release_buffer(&minor, &made);
	g->is_open = major == GSS_S_COMPLETE;
	if (g->is_open &&
		(flags & (GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG)) != (GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG)) {
		buf_add_str(why, "GSSAPI: the server did not prove itself");
		return ERR_NOT_NOW;
	}
	return 0;
}

static int step_layer(struct directory_gssapi *g, struct slice token, struct buf *out, struct buf *why)
{
	gss_buffer_desc in = {.length = token.len, .value = (void *)(uintptr_t)token.p};
	gss_buffer_desc plain = GSS_C_EMPTY_BUFFER, sealed = GSS_C_EMPTY_BUFFER;
	gss_buffer_desc ours = {.length = 4, .value = (char[]){LAYER_NONE, 0, 0, 0}};
	OM_uint32 minor, major = gss_unwrap(&minor, g->context, &in, &plain, NULL, NULL);
	bool can_none;

	if (GSS_ERROR(major))
		return failed(why, "the server's offer of layers", major, minor);
	can_none = plain.length == 4 && (*(const char *)plain.value & LAYER_NONE);
	gss_release_buffer(&minor, &plain);
	if (!can_none) {
		buf_add_str(why, "GSSAPI: the server wants to sign inside of TLS");
		return ERR_NOT_NOW;
	}
	major = gss_wrap(&minor, g->context, 0, GSS_C_QOP_DEFAULT, &ours, NULL, &sealed);
	if (GSS_ERROR(major))
		return failed(why, "our choice of layers", major, minor);
	buf_add(out, sealed.value, sealed.length);
	gss_release_buffer(&minor, &sealed);
	g->is_done = true;
	return 0;
}

int directory_gssapi_step(struct directory_gssapi *g, struct slice token, struct buf *out, struct buf *why)
{
	if (g->is_done) {
		buf_add_str(why, "GSSAPI: the server goes on after the end");
		return ERR_NOT_NOW;
	}
	return g->is_open ? step_layer(g, token, out, why) : step_open(g, token, out, why);
}

bool directory_gssapi_is_done(const struct directory_gssapi *g)
{
	return g->is_done;
}

void directory_gssapi_free(struct directory_gssapi **gssapi)
{
	struct directory_gssapi *g = *gssapi;
	OM_uint32 minor;

	*gssapi = NULL;
	if (!g)
		return;
	if (g->context != GSS_C_NO_CONTEXT)
		gss_delete_sec_context(&minor, &g->context, GSS_C_NO_BUFFER);
	if (g->target != GSS_C_NO_NAME)
		gss_release_name(&minor, &g->target);
	if (g->cred != GSS_C_NO_CREDENTIAL)
		gss_release_cred(&minor, &g->cred);
	free(g);
}
