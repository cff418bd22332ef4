/*
 *	GSSAPI_ACCEPTING  tokens go to and fro until the context stands
 *	GSSAPI_OFFERED    we have said: no security layer (RFC 4752 section 3.3); the client answers with his choice and an
 *	                  authorisation identity
 *	GSSAPI_ENDED
 */
#include "common/auth/gssapi.h"

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define LAYER_NONE 1

enum gssapi_state {
	GSSAPI_ACCEPTING,
	GSSAPI_ACCEPTED, /* its last token is on the way; the client's empty answer comes next */
	GSSAPI_OFFERED,
	GSSAPI_ENDED
};

struct gssapi {
	enum gssapi_state state;
	char *service, *host, *keytab;
	gss_cred_id_t credential;
	gss_ctx_id_t context;
	char *principal, *authzid;
};

struct gssapi *gssapi_new(const char *service, const char *host, const char *keytab)
{
	struct gssapi *g = xcalloc(1, sizeof(*g));

	g->service = xstrdup(service);
	g->host = xstrdup(host);
	g->keytab = xstrdup(keytab ? keytab : "");
	g->credential = GSS_C_NO_CREDENTIAL;
	g->context = GSS_C_NO_CONTEXT;
	return g;
}

void gssapi_free(struct gssapi **gssapi)
{
	struct gssapi *g = *gssapi;
	OM_uint32 minor;

	*gssapi = NULL;
	if (!g)
		return;
	if (g->context != GSS_C_NO_CONTEXT)
		(void)gss_delete_sec_context(&minor, &g->context, GSS_C_NO_BUFFER);
	if (g->credential != GSS_C_NO_CREDENTIAL)
		(void)gss_release_cred(&minor, &g->credential);
	free(g->service);
	free(g->host);
	free(g->keytab);
	free(g->principal);
	free(g->authzid);
	free(g);
}

/* The library's words, of the call and of Kerberos below it. */
static void say(struct buf *why, const char *what, OM_uint32 major, OM_uint32 minor)
{
	const struct {
		OM_uint32 code;
		int type;
	} codes[] = {{major, GSS_C_GSS_CODE}, {minor, GSS_C_MECH_CODE}};

	buf_printf(why, "%s:", what);
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
		OM_uint32 more = 0, ignored;

		if (!gss_display_status(&ignored, codes[i].code, codes[i].type, GSS_C_NO_OID, &more, &text))
			buf_printf(why, " %.*s", (int)text.length, (const char *)text.value);
		(void)gss_release_buffer(&ignored, &text);
	}
}

/* All keys of the keytab: which one the ticket was for is looked at afterwards, so that no name is asked of DNS. */
static int credential_get(struct gssapi *g, struct buf *why)
{
	gss_key_value_element_desc element = {.key = "keytab", .value = g->keytab};
	gss_key_value_set_desc store = {.count = 1, .elements = &element};
	gss_OID_set_desc mechanisms = {.count = 1, .elements = (gss_OID)(uintptr_t)gss_mech_krb5};
	OM_uint32 minor, major;

	if (g->credential != GSS_C_NO_CREDENTIAL)
		return 0;
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, &mechanisms, GSS_C_ACCEPT,
		g->keytab[0] ? &store : NULL, &g->credential, NULL, NULL);
	if (!GSS_ERROR(major))
		return 0;
	say(why, "the keytab cannot be used", major, minor);
	return ERR_NOT_NOW;
}

static char *name_text(gss_name_t name)
{
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor;
	char *copy = NULL;

	if (!GSS_ERROR(gss_display_name(&minor, name, &text, NULL)) && text.length <= GSSAPI_PRINCIPAL_MOST &&
		!memchr(text.value, 0, text.length))
		copy = xmemdup0(text.value, text.length);
	(void)gss_release_buffer(&minor, &text);
	return copy;
}

/* imap/mail.example.com@REALM, whatever the realm. */
static bool is_ours(const struct gssapi *g, const char *target)
{
	struct slice t = slice_str(target);
	ptrdiff_t at = slice_find_last(t, '@'), slash = slice_find(t, '/');

	return slash > 0 && at > slash && slice_is_str(slice_sub(t, 0, (size_t)slash), g->service) &&
	       slice_is_str_nocase(slice_sub(t, (size_t)slash + 1, (size_t)(at - slash) - 1), g->host);
}

/* The context stands: between whom? */
static int names_take(struct gssapi *g, struct buf *why)
{
	gss_name_t source = GSS_C_NO_NAME, target = GSS_C_NO_NAME;
	gss_OID mechanism = GSS_C_NO_OID;
	OM_uint32 minor, flags = 0;
	OM_uint32 major = gss_inquire_context(
		&minor, g->context, &source, &target, NULL, &mechanism, &flags, NULL, NULL);
	char *ours = GSS_ERROR(major) ? NULL : name_text(target);
	int error = ERR_DENIED;

	if (GSS_ERROR(major))
		say(why, "the context cannot be asked", major, minor);
	else if (!mechanism || mechanism->length != gss_mech_krb5->length ||
		 memcmp(mechanism->elements, gss_mech_krb5->elements, mechanism->length) != 0)
		buf_add_str(why, "not Kerberos 5");
	else if (!(flags & GSS_C_INTEG_FLAG))
		buf_add_str(why, "a context without integrity");
	else if (!ours || !is_ours(g, ours))
		buf_printf(why, "the ticket is for %s and not for %s/%s", ours ? ours : "?", g->service,
			g->host);
	else
		g->principal = name_text(source);
	if (g->principal)
		error = 0;
	free(ours);
	(void)gss_release_name(&minor, &source);
	(void)gss_release_name(&minor, &target);
	return error;
}

/* RFC 4752 section 3.1: which layers there are (none), and the largest message (0). */
static int layer_offer(struct gssapi *g, struct buf *reply, struct buf *why)
{
	char offer[4] = {LAYER_NONE, 0, 0, 0};
	gss_buffer_desc in = {.length = sizeof(offer), .value = offer}, out = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor, major;

	major = gss_wrap(&minor, g->context, 0, GSS_C_QOP_DEFAULT, &in, NULL, &out);
	if (GSS_ERROR(major)) {
		say(why, "wrapping", major, minor);
		return ERR_DENIED;
	}
	buf_add(reply, out.value, out.length);
	(void)gss_release_buffer(&minor, &out);
	g->state = GSSAPI_OFFERED;
	return ERR_MORE;
}

static int accept_token(struct gssapi *g, struct slice token, struct buf *reply, struct buf *why)
{
	gss_buffer_desc in = {.length = token.len, .value = (void *)(uintptr_t)token.p};
	gss_buffer_desc out = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor = 0, ignored, major;
	int error = credential_get(g, why);

	if (error)
		return error;
	major = gss_accept_sec_context(&minor, &g->context, g->credential, &in, GSS_C_NO_CHANNEL_BINDINGS,
		NULL, NULL, &out, NULL, NULL, NULL);
	if (GSS_ERROR(major)) {
		say(why, "the ticket is not taken", major, minor);
		error = ERR_DENIED;
	} else if (major & GSS_S_CONTINUE_NEEDED) {
		buf_add(reply, out.value, out.length);
		error = ERR_MORE;
	} else {
		error = names_take(g, why);
		if (!error && out.length) {
			buf_add(reply, out.value, out.length);
			g->state = GSSAPI_ACCEPTED;
			error = ERR_MORE;
		} else if (!error) {
			error = layer_offer(g, reply, why);
		}
	}
	(void)gss_release_buffer(&ignored, &out);
	return error;
}

/* The client's choice: one octet of layer, three of size, and his authorisation identity. */
static int choice_take(struct gssapi *g, struct slice token, struct buf *why)
{
	gss_buffer_desc in = {.length = token.len, .value = (void *)(uintptr_t)token.p};
	gss_buffer_desc out = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor, major;
	struct slice choice;
	int error = 0;

	major = gss_unwrap(&minor, g->context, &in, &out, NULL, NULL);
	if (GSS_ERROR(major)) {
		say(why, "unwrapping", major, minor);
		return ERR_DENIED;
	}
	choice = slice_of(out.value, out.length);
	if (choice.len < 4 || choice.p[0] != LAYER_NONE)
		error = ERR_SYNTAX;
	else if (choice.len > 4 + GSSAPI_PRINCIPAL_MOST)
		error = ERR_TOO_BIG;
	else if (memchr(choice.p + 4, 0, choice.len - 4))
		error = ERR_SYNTAX;
	else
		g->authzid = xmemdup0(choice.p + 4, choice.len - 4);
	(void)gss_release_buffer(&minor, &out);
	return error;
}

int gssapi_step(struct gssapi *g, bool has_token, struct slice token, struct buf *reply, struct buf *why)
{
	int error = ERR_SYNTAX;

	buf_clear(reply);
	switch (g->state) {
	case GSSAPI_ACCEPTING:
		if (!has_token)
			return ERR_MORE;
		error = token.len ? accept_token(g, token, reply, why) : ERR_SYNTAX;
		break;
	case GSSAPI_ACCEPTED:
		error = token.len ? ERR_SYNTAX : layer_offer(g, reply, why);
		break;
	case GSSAPI_OFFERED:
		error = choice_take(g, token, why);
		break;
	case GSSAPI_ENDED:
		break;
	}
	if (error != ERR_MORE)
		g->state = GSSAPI_ENDED;
	return error;
}

struct slice gssapi_principal(const struct gssapi *g)
{
	return slice_str(g->principal ? g->principal : "");
}

struct slice gssapi_authzid(const struct gssapi *g)
{
	return slice_str(g->authzid ? g->authzid : "");
}

int gssapi_user(struct slice principal, const char *const *realms, struct buf *user_out)
{
	ptrdiff_t at = slice_find_last(principal, '@');
	struct slice name, realm;

	if (at <= 0 || slice_find(principal, '/') >= 0 || slice_find(principal, '\\') >= 0)
		return ERR_DENIED;
	name = slice_sub(principal, 0, (size_t)at);
	realm = slice_from(principal, (size_t)at + 1);
	if (slice_find(name, '@') >= 0)
		return ERR_DENIED;
	for (; realms && *realms; realms++) {
		const char *equals = strchr(*realms, '=');

		if (!equals || !slice_is_equal(realm, slice_of(*realms, (size_t)(equals - *realms))))
			continue;
		buf_add_slice(user_out, name);
		buf_add_char(user_out, '@');
		buf_add_str(user_out, equals + 1);
		return 0;
	}
	return ERR_DENIED;
}
