/*
 * Logins on the back-end: an account by its own password, or a proxy on behalf of an account that it has
 * checked (AUTHENTICATE PLAIN with authorisation identity = account, authentication identity = the proxy's
 * name, its own credential; believed from trusted-proxies alone). Runs on the connection's loop.
 */
#pragma once

#include "backend/backend.h"
#include "common/front/front.h"

/* What a front's service points to (front_service->tier). */
struct login_tier {
	struct backend *backend;
	struct config *config; /* counted */
	enum config_service service;
};

extern const struct front_ops login_ops;

/* The same for the back-end's own services smtp and submission (struct smtp_in_settings): tier is a struct login_tier. A user without an
 * account here, whom a proxy vouches for, is a guest. */
struct smtp_front;
void login_smtp(void *tier, struct smtp_front *front, const struct front_credentials *credentials);
void login_smtp_cancel(void *tier, struct smtp_front *front);
