/*
 * Health probes: each host of each back-end of the configuration is tried at its interval, for each protocol that a service uses: connect, TLS,
 * greeting, capabilities, goodbye (LMTP: to the greeting). A failure marks the protocol as down, logins that wait for it fail at once, and
 * new ones are refused without trying; a success brings it back and remembers the capabilities. All on the main loop.
 */
#pragma once

#include "proxy/config.h"

/* Begins to probe what this configuration has, ends what an older one had. */
void probe_set_config(struct loop *loop, struct config *config);
/* True once each back-end that is probed has been tried, at the start. */
bool probe_is_settled(void);
void probe_end(void);
