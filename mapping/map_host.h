/*
 * Hosts as maps name them: an address, a name with a dot in it, a port perhaps. Pure.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

/* "10.0.0.12", "mail.example.com:1143", "[2001:db8::1]:143": cuts host (without brackets) and port, 0 without one.
 * ERR_SYNTAX. */
MUST_CHECK int map_host_split(struct slice s, struct slice *host_out, uint16_t *port_out);
