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
